//! Damaged, contradictory and hostile checkpoints: refused in one line that names the file, tensor or
//! field, and never a panic.

#![expect(clippy::unwrap_used, reason = "clippy exempts functions marked as tests, and not their helpers")]

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;
use unmask_model::checkpoint::Checkpoint;
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::error::{LoadError, PredictError};
use unmask_model::predictor::{Ask, CandlePredictor, MaskPredictor, Sampling, Want};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");
const WEIGHTS: &str = "model.safetensors";
const ADAPTER: &str = "adapter_model.safetensors";
const SHARD: &str = "model-00002-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Type, shape and bytes by name.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A copy of a golden folder, to be damaged.
struct Copy(TempDir);

impl Copy {
    fn of(golden: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(Path::new(GOLDEN).join(golden)).unwrap() {
            let entry = entry.unwrap();
            if !entry.file_name().to_string_lossy().starts_with("golden") {
                std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    fn edit_json(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&self.read(name)).unwrap();
        edit(&mut value);
        self.write(name, value.to_string());
    }

    /// Changes the header of a safetensors file and leaves the data as it is.
    fn edit_header(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let file = self.read(name);
        let (header, data) = split(&file);
        let mut header = serde_json::from_slice(header).unwrap();
        edit(&mut header);
        let header = header.to_string();
        self.write(name, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat());
    }

    /// Changes the tensors of a safetensors file; what is written is well formed.
    fn edit_tensors(&self, name: &str, edit: impl FnOnce(&mut Tensors)) {
        let file = self.read(name);
        let tensors = SafeTensors::deserialize(&file).unwrap().tensors();
        let mut tensors: Tensors = tensors
            .into_iter()
            .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
            .collect();
        edit(&mut tensors);
        let views = tensors.iter().map(|(name, (dtype, shape, data))| {
            (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        self.write(name, safetensors::serialize(views, None).unwrap());
    }

    fn load(&self, adapter: Option<&Path>) -> Result<CandlePredictor, LoadError> {
        load(self.0.path(), adapter)
    }

    /// The message with which it is refused.
    fn refusal(&self, adapter: Option<&Path>) -> String {
        message(catch_unwind(|| self.load(adapter)).expect("loading must not panic"))
    }

    #[track_caller]
    fn assert_refused(&self, parts: &[&str]) {
        assert_names(&self.refusal(None), parts);
    }
}

fn load(folder: &Path, adapter: Option<&Path>) -> Result<CandlePredictor, LoadError> {
    let checkpoint = Checkpoint::open(folder, adapter)?;
    let placement = Placement::new(DeviceChoice::Cpu, Precision::Auto, checkpoint.profile.family)?;
    CandlePredictor::load(&checkpoint, placement, 1)
}

fn message(result: Result<CandlePredictor, LoadError>) -> String {
    let message = result.expect_err("the checkpoint must be refused").to_string();
    assert!(!message.chars().any(char::is_control), "{message:?}");
    message
}

#[track_caller]
fn assert_names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

/// Header and data of a safetensors file.
fn split(file: &[u8]) -> (&[u8], &[u8]) {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    file[8..].split_at(length)
}

#[test]
fn the_undamaged_copies_load() {
    for golden in ["diffugpt-s", "diffullama", "diffullama-gqa"] {
        Copy::of(golden).load(None).unwrap();
    }
    let adapter = Copy::of("diffullama-gsm-lora");
    Copy::of("diffullama").load(Some(adapter.0.path())).unwrap();
}

#[test]
fn a_folder_that_is_missing_or_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_names(&message(load(&folder.path().join("nowhere"), None)), &["nowhere", "missing"]);
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert_names(&message(load(&folder.path().join("file"), None)), &["file"]);
    assert_names(&message(load(folder.path(), None)), &["config.json", "missing"]);
}

#[test]
fn each_file_that_is_missing_is_named() {
    for name in ["config.json", "tokenizer.json", WEIGHTS] {
        let copy = Copy::of("diffugpt-s");
        copy.remove(name);
        copy.assert_refused(&[name, "missing"]);
        std::fs::create_dir(copy.path(name)).unwrap();
        copy.assert_refused(&[name]);
    }
    for name in [SHARD, INDEX] {
        let copy = Copy::of("diffullama-gqa");
        copy.remove(name);
        copy.assert_refused(&[if name == INDEX { WEIGHTS } else { SHARD }, "missing"]);
    }
}

#[test]
fn weights_that_end_early_are_refused() {
    let original = Copy::of("diffugpt-s").read(WEIGHTS);
    let copy = Copy::of("diffugpt-s");
    for length in [0, 1, 4, 7, 8, 9, 100, 3864, 3865, original.len() / 2, original.len() - 1] {
        copy.write(WEIGHTS, &original[..length]);
        copy.assert_refused(&[WEIGHTS]);
    }
    copy.write(WEIGHTS, [&original[..], b"x"].concat());
    copy.assert_refused(&[WEIGHTS]);
}

#[test]
fn headers_of_impossible_length_are_refused() {
    let copy = Copy::of("diffugpt-s");
    let original = copy.read(WEIGHTS);
    for length in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 40, 1 << 20, 100_000_000, 3857, 3855, 1, 0] {
        copy.write(WEIGHTS, [&length.to_le_bytes(), &original[8..]].concat());
        copy.assert_refused(&[WEIGHTS]);
    }
}

#[test]
fn headers_that_say_nothing_usable_are_refused() {
    let headers: [&[u8]; 9] = [
        b"no json",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"null",
        b"{\"a\":1}",
        b"{\"a\":{\"dtype\":\"F32\"}}",
        b"{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        b"{\"a\\nb\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}",
    ];
    let copy = Copy::of("diffugpt-s");
    for header in headers {
        copy.write(WEIGHTS, [&(header.len() as u64).to_le_bytes(), header].concat());
        copy.assert_refused(&[WEIGHTS]);
    }
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    copy.write(WEIGHTS, [&(deep.len() as u64).to_le_bytes(), deep.as_bytes()].concat());
    copy.assert_refused(&[WEIGHTS]);
}

#[test]
fn tensors_that_overlap_or_lie_outside_the_file_are_refused() {
    let name = "denoise_model.h.0.ln_1.bias";
    let huge = u64::MAX;
    let places = [
        json!([0, 256]),
        json!([66561, 66817]),
        json!([66816, 66560]),
        json!([10_000_000, 10_000_256]),
        json!([66560, huge]),
        json!([huge, huge]),
        json!([-1, 255]),
        json!([66560]),
        json!("0-256"),
    ];
    for place in places {
        let copy = Copy::of("diffugpt-s");
        copy.edit_header(WEIGHTS, |header| header[name]["data_offsets"] = place);
        copy.assert_refused(&[WEIGHTS]);
    }
    for shape in
        [json!([huge, huge]), json!([1_u64 << 62, 4]), json!([65]), json!([]), json!([-64]), json!("64")]
    {
        let copy = Copy::of("diffugpt-s");
        copy.edit_header(WEIGHTS, |header| header[name]["shape"] = shape);
        copy.assert_refused(&[WEIGHTS]);
    }
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let cases = [
        ("denoise_model.h.1.attn.c_attn.weight", vec![192, 64]),
        ("denoise_model.h.2.ln_2.bias", vec![8, 8]),
        ("denoise_model.h.2.mlp.c_fc.bias", vec![256, 1]),
        ("denoise_model.wpe.weight", vec![4096]),
        ("embed_tokens.weight", vec![64, 600]),
        ("embed_tokens.weight", vec![38400]),
        ("embed_tokens.weight", vec![600, 8, 8]),
    ];
    for (name, shape) in cases {
        let copy = Copy::of("diffugpt-s");
        copy.edit_tensors(WEIGHTS, |tensors| tensors.get_mut(name).unwrap().1.clone_from(&shape));
        copy.assert_refused(&[WEIGHTS, name, &format!("{shape:?}")]);
    }
    for (name, shape) in [("embed_tokens.weight", vec![0, 64]), ("denoise_model.h.0.ln_1.bias", vec![0])] {
        let copy = Copy::of("diffugpt-s");
        copy.edit_tensors(WEIGHTS, |tensors| {
            tensors.insert(name.to_owned(), (Dtype::F32, shape.clone(), vec![])).unwrap();
        });
        copy.assert_refused(&[WEIGHTS, name, &format!("{shape:?}")]);
    }
}

#[test]
fn a_tensor_of_another_type_is_named_with_its_type() {
    for name in ["embed_tokens.weight", "denoise_model.h.0.attn.c_proj.weight", "denoise_model.ln_f.weight"] {
        for (dtype, width) in [(Dtype::I64, 8), (Dtype::U8, 1), (Dtype::F64, 8), (Dtype::F8_E4M3, 1)] {
            let copy = Copy::of("diffugpt-s");
            copy.edit_tensors(WEIGHTS, |tensors| {
                let tensor = tensors.get_mut(name).unwrap();
                *tensor = (dtype, tensor.1.clone(), vec![0; tensor.2.len() / 4 * width]);
            });
            copy.assert_refused(&[WEIGHTS, name, &format!("{dtype:?}")]);
        }
    }
}

#[test]
fn every_tensor_is_needed() {
    for (golden, file, except) in [("diffugpt-s", WEIGHTS, ""), ("diffullama", WEIGHTS, "lm_head.weight")] {
        let original = Copy::of(golden).read(file);
        let tensors = SafeTensors::deserialize(&original).unwrap();
        for name in tensors.names().into_iter().filter(|name| *name != except) {
            let copy = Copy::of(golden);
            copy.edit_tensors(file, |tensors| drop(tensors.remove(name).unwrap()));
            copy.assert_refused(&[file, name, "missing"]);
        }
    }
}

#[test]
fn an_index_that_is_odd_or_reaches_outside_is_refused() {
    let maps = [
        json!({"a": "../evil"}),
        json!({"a": "/etc/passwd"}),
        json!({"a": ".."}),
        json!({"a": "sub/model.safetensors"}),
        json!({"a": ""}),
        json!({"a": 7}),
        json!({"a": null}),
        json!({}),
        json!([]),
        json!("model.safetensors"),
        Value::Null,
    ];
    for map in maps {
        let copy = Copy::of("diffullama-gqa");
        copy.edit_json(INDEX, |index| index["weight_map"] = map);
        copy.assert_refused(&[INDEX, "weight_map"]);
    }
    let copy = Copy::of("diffullama-gqa");
    copy.edit_json(INDEX, |index| index["weight_map"] = json!({"a": "evil\nname"}));
    copy.refusal(None);
    for text in ["", "no json", "[]", "7"] {
        copy.write(INDEX, text);
        copy.assert_refused(&[INDEX]);
    }
}

#[test]
fn a_shard_that_the_index_forgets_is_missed_by_its_tensors() {
    let copy = Copy::of("diffullama-gqa");
    copy.edit_json(INDEX, |index| index["weight_map"] = json!({"a": "model-00001-of-00002.safetensors"}));
    copy.assert_refused(&["tensor", "missing"]);
}

#[test]
fn other_architectures_are_refused_by_name() {
    for found in ["mistral", "bert", "a\nb", ""] {
        let copy = Copy::of("diffullama");
        copy.edit_json("config.json", |config| config["model_type"] = json!(found));
        copy.assert_refused(&["config.json", "llama"]);
    }
    let copy = Copy::of("diffullama");
    copy.edit_json("config.json", |config| config["model_type"] = json!("gpt2"));
    copy.assert_refused(&[WEIGHTS, "embed_tokens.weight"]);
    let copy = Copy::of("diffugpt-s");
    copy.edit_json("config.json", |config| config["model_type"] = json!("llama"));
    copy.assert_refused(&["config.json"]);
}

#[test]
fn counts_of_the_configuration_that_make_no_sense_are_refused_by_field() {
    let values = [
        json!(0),
        json!(-1),
        json!(1.5),
        json!("64"),
        json!(true),
        json!([]),
        json!({}),
        json!(1 << 21),
        json!(u64::MAX),
        json!(1e300),
    ];
    let gpt2 = ["n_embd", "n_head", "n_layer", "n_positions", "n_inner", "model_type"];
    let llama = [
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "num_hidden_layers",
        "intermediate_size",
        "max_position_embeddings",
        "head_dim",
        "model_type",
    ];
    for (golden, fields) in [("diffugpt-s", &gpt2[..]), ("diffullama", &llama[..])] {
        for field in fields {
            for value in values.iter().filter(|value| *field != "model_type" || !value.is_string()) {
                let copy = Copy::of(golden);
                copy.edit_json("config.json", |config| config[field] = value.clone());
                copy.assert_refused(&["config.json", field]);
            }
        }
    }
}

#[test]
fn numbers_and_flags_of_the_configuration_that_make_no_sense_are_refused_by_field() {
    let numbers = [json!(0), json!(-1e-5), json!("1e-5"), json!([]), json!(true)];
    let flags = [json!("yes"), json!(1), json!({})];
    let cases = [
        ("diffugpt-s", "layer_norm_epsilon", &numbers[..]),
        ("diffugpt-s", "scale_attn_weights", &flags[..]),
        ("diffugpt-s", "scale_attn_weights", &[json!(false)]),
        ("diffugpt-s", "scale_attn_by_inverse_layer_idx", &[json!(true)]),
        ("diffugpt-s", "activation_function", &[json!("relu"), json!("a\nb"), json!(7)]),
        ("diffullama", "rms_norm_eps", &numbers[..]),
        ("diffullama", "rope_theta", &numbers[..]),
        ("diffullama", "rope_scaling", &[json!({"type": "linear", "factor": 2.0}), json!("x"), json!(2)]),
        ("diffullama", "attention_bias", &[json!(true), json!("no")]),
        ("diffullama", "mlp_bias", &[json!(true)]),
        ("diffullama", "hidden_act", &[json!("relu"), json!(null)][..1]),
    ];
    for (golden, field, values) in cases {
        for value in values {
            let copy = Copy::of(golden);
            copy.edit_json("config.json", |config| config[field] = value.clone());
            copy.assert_refused(&["config.json", field]);
        }
    }
}

#[test]
fn fields_that_are_missing_are_named() {
    for field in ["n_embd", "n_head", "n_layer", "n_positions", "model_type"] {
        let copy = Copy::of("diffugpt-s");
        copy.edit_json("config.json", |config| drop(config.as_object_mut().unwrap().remove(field)));
        copy.assert_refused(&["config.json", field, "missing"]);
    }
}

#[test]
fn a_configuration_that_contradicts_the_weights_is_refused() {
    let cases = [
        ("diffugpt-s", "n_head", json!(7), "n_head"),
        ("diffugpt-s", "n_layer", json!(4), "h.3."),
        ("diffugpt-s", "n_layer", json!(1 << 20), "h.3."),
        ("diffugpt-s", "n_positions", json!(63), "wpe.weight"),
        ("diffugpt-s", "n_positions", json!(1 << 20), "wpe.weight"),
        ("diffugpt-s", "n_embd", json!(128), "embed_tokens.weight"),
        ("diffugpt-s", "n_embd", json!(1 << 20), "embed_tokens.weight"),
        ("diffugpt-s", "n_inner", json!(100), "mlp.c_fc"),
        ("diffugpt-s", "n_inner", json!(1 << 20), "mlp.c_fc"),
        ("diffullama", "num_attention_heads", json!(7), "num_attention_heads"),
        ("diffullama", "num_attention_heads", json!(64), "head_dim"),
        ("diffullama", "num_key_value_heads", json!(3), "num_key_value_heads"),
        ("diffullama", "num_key_value_heads", json!(2), "k_proj"),
        ("diffullama", "num_key_value_heads", json!(8), "num_key_value_heads"),
        ("diffullama", "num_hidden_layers", json!(4), "layers.3."),
        ("diffullama", "intermediate_size", json!(1 << 20), "gate_proj"),
        ("diffullama", "head_dim", json!(32), "q_proj"),
        ("diffullama", "head_dim", json!(15), "head_dim"),
        ("diffullama", "head_dim", json!(1 << 20), "head_dim"),
    ];
    for (golden, field, value, named) in cases {
        let copy = Copy::of(golden);
        copy.edit_json("config.json", |config| config[field] = value);
        copy.assert_refused(&[named]);
    }
}

#[test]
fn rotation_tables_that_no_memory_could_hold_are_not_built() {
    let copy = Copy::of("diffullama");
    copy.edit_json("config.json", |config| {
        config["head_dim"] = json!(1 << 20);
        config["max_position_embeddings"] = json!(1 << 20);
    });
    copy.assert_refused(&["config.json", "head_dim"]);
}

#[test]
fn configurations_that_are_no_json_object_are_refused() {
    let copy = Copy::of("diffugpt-s");
    let deep = "{\"a\":".repeat(100_000);
    for text in ["", "{", "[]", "7", "null", "\"gpt2\"", "{\"model_type\": \"gpt2\",}", "\u{feff}{}", &deep] {
        copy.write("config.json", text);
        copy.assert_refused(&["config.json"]);
    }
    copy.write("config.json", b"{\"model_type\": \"\xff\"}");
    copy.assert_refused(&["config.json"]);
}

#[test]
fn pickles_are_refused_with_the_way_to_convert_them() {
    for name in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        let copy = Copy::of("diffugpt-s");
        copy.remove(WEIGHTS);
        copy.write(name, b"\x80\x02");
        copy.assert_refused(&["pytorch_model.bin", "save_file", "weights_only=True"]);
    }
}

#[test]
fn tokenizers_that_are_garbage_are_refused() {
    for text in ["", "{}", "[]", "null", "no json", "{\"model\":{\"type\":\"BPE\"}}", "{\"version\":\"9\"}"] {
        let copy = Copy::of("diffugpt-s");
        copy.write("tokenizer.json", text);
        copy.assert_refused(&["tokenizer.json"]);
    }
    let edits: [(&str, Value); 10] = [
        ("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
        ("/model/merges", json!([["no such", "tokens"]])),
        ("/model/merges", json!(["a\nb c\nd"])),
        ("/model/vocab", json!({})),
        ("/model/vocab", json!({"a": -1})),
        ("/model/type", json!("Unheard")),
        ("/decoder", json!({"type": "WordPiece", "prefix": "##", "cleanup": true})),
        ("/decoder", Value::Null),
        ("/decoder", json!({"type": "Sequence", "decoders": []})),
        ("/pre_tokenizer", json!({"type": "Unheard"})),
    ];
    for (place, value) in edits {
        let copy = Copy::of("diffugpt-s");
        copy.edit_json("tokenizer.json", |spec| *spec.pointer_mut(place).unwrap() = value);
        copy.assert_refused(&["tokenizer.json"]);
    }
}

#[test]
fn ids_beyond_the_embedding_are_refused() {
    for (token, id) in [("extra", 600_u64), ("two\nlines", 601), ("last", u64::from(u32::MAX))] {
        let copy = Copy::of("diffugpt-s");
        copy.edit_json("tokenizer.json", |spec| spec["model"]["vocab"][token] = json!(id));
        copy.assert_refused(&["tokenizer.json", &id.to_string(), "600"]);
    }
    let copy = Copy::of("diffugpt-s");
    copy.edit_json("tokenizer.json", |spec| {
        let added = json!({"id": 600, "content": "<new>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true});
        spec["added_tokens"].as_array_mut().unwrap().push(added);
    });
    copy.assert_refused(&["tokenizer.json", "600"]);
}

#[test]
fn a_special_token_that_the_tokenizer_does_not_know_gets_no_id() {
    let copy = Copy::of("diffugpt-s");
    copy.edit_json("tokenizer_config.json", |config| config["pad_token"] = json!("[PAD]"));
    let checkpoint = Checkpoint::open(copy.0.path(), None).unwrap();
    let ids = checkpoint.tokenizer.encode_template("a[PAD]b", true).unwrap();
    assert!(ids.iter().all(|&id| (id as usize) < checkpoint.tokenizer.rows()), "{ids:?}");
}

#[test]
fn a_model_without_a_mask_token_is_refused() {
    let copy = Copy::of("diffugpt-s");
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        copy.edit_json(name, |config| drop(config.as_object_mut().unwrap().remove("mask_token")));
    }
    copy.assert_refused(&["tokenizer_config.json", "mask_token"]);
    for value in [json!(7), json!(null), json!({}), json!({"content": 7}), json!([])] {
        copy.edit_json("tokenizer_config.json", |config| config["mask_token"] = value);
        copy.assert_refused(&["tokenizer_config.json", "mask_token"]);
    }
    copy.remove("tokenizer_config.json");
    copy.remove("special_tokens_map.json");
    copy.assert_refused(&["tokenizer_config.json", "mask_token"]);
}

#[test]
fn a_mask_token_that_the_tokenizer_does_not_know_is_refused() {
    for mask in ["<mask>", "", "two\nlines"] {
        let copy = Copy::of("diffugpt-s");
        copy.edit_json("tokenizer_config.json", |config| config["mask_token"] = json!(mask));
        copy.assert_refused(&["tokenizer.json", "mask token"]);
    }
}

#[test]
fn tokenizer_settings_that_are_no_json_object_are_refused() {
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        for text in ["", "[]", "no json"] {
            let copy = Copy::of("diffugpt-s");
            copy.write(name, text);
            copy.assert_refused(&[name]);
        }
    }
}

/// The message with which an edited adapter for `diffullama` is refused.
fn adapter_refusal(edit: impl FnOnce(&Copy)) -> String {
    let adapter = Copy::of("diffullama-gsm-lora");
    edit(&adapter);
    Copy::of("diffullama").refusal(Some(adapter.0.path()))
}

#[test]
fn an_adapter_with_missing_or_damaged_files_is_refused() {
    let nowhere = tempfile::tempdir().unwrap();
    let message = Copy::of("diffullama").refusal(Some(&nowhere.path().join("nowhere")));
    assert_names(&message, &["nowhere"]);
    for name in ["adapter_config.json", ADAPTER] {
        assert_names(&adapter_refusal(|adapter| adapter.remove(name)), &[name, "missing"]);
        assert_names(&adapter_refusal(|adapter| adapter.write(name, "")), &[name]);
        assert_names(&adapter_refusal(|adapter| adapter.write(name, "no json, no tensors")), &[name]);
    }
    let shortened = |adapter: &Copy| adapter.write(ADAPTER, &adapter.read(ADAPTER)[..1000]);
    assert_names(&adapter_refusal(shortened), &[ADAPTER]);
}

#[test]
fn an_adapter_for_another_model_is_refused() {
    let adapter = Copy::of("diffullama-gsm-lora");
    let message = Copy::of("diffullama-gqa").refusal(Some(adapter.0.path()));
    assert_names(&message, &[ADAPTER, "lora_B"]);
    let message = Copy::of("diffugpt-s").refusal(Some(adapter.0.path()));
    assert_names(&message, &[ADAPTER, "does not have"]);
}

#[test]
fn an_adapter_of_a_kind_that_cannot_be_merged_is_refused_by_field() {
    let cases = [
        ("peft_type", json!("IA3")),
        ("peft_type", json!(null)),
        ("peft_type", json!("a\nb")),
        ("use_dora", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("bias", json!("all")),
        ("bias", json!("a\nb")),
        ("rank_pattern", json!({"q_proj": 8})),
        ("alpha_pattern", json!({"q_proj": 8})),
        ("r", json!(0)),
        ("r", json!(-4)),
        ("r", json!("4")),
        ("r", json!(null)),
        ("lora_alpha", json!(0)),
        ("lora_alpha", json!([])),
    ];
    for (field, value) in cases {
        let edit = |config: &mut Value| config[field] = value;
        let message = adapter_refusal(|adapter| adapter.edit_json("adapter_config.json", edit));
        assert_names(&message, &["adapter_config.json", field]);
    }
}

const MODULE: &str = "base_model.model.denoise_model.layers.1.mlp.up_proj";

#[test]
fn an_adapter_whose_factors_do_not_pair_is_refused() {
    for part in ["lora_A", "lora_B"] {
        let name = format!("{MODULE}.{part}.weight");
        let message = adapter_refusal(|adapter| {
            adapter.edit_tensors(ADAPTER, |tensors| drop(tensors.remove(&name).unwrap()));
        });
        assert_names(&message, &[ADAPTER, &name]);
    }
}

#[test]
fn an_adapter_whose_rank_is_not_the_configured_one_is_refused() {
    let double = |adapter: &Copy| adapter.edit_json("adapter_config.json", |config| config["r"] = json!(8));
    assert_names(&adapter_refusal(double), &[ADAPTER, "lora_A"]);
}

#[test]
fn adapter_tensors_of_other_shapes_types_and_names_are_refused() {
    let change = |name: &str, to: Option<&str>, tensor: (Dtype, Vec<usize>, Vec<u8>)| {
        adapter_refusal(|adapter| {
            adapter.edit_tensors(ADAPTER, |tensors| {
                tensors.remove(name).unwrap();
                tensors.insert(to.unwrap_or(name).to_owned(), tensor);
            });
        })
    };
    let floats = |shape: &[usize]| (Dtype::F32, shape.to_vec(), vec![0; shape.iter().product::<usize>() * 4]);
    let (a, b) = (format!("{MODULE}.lora_A.weight"), format!("{MODULE}.lora_B.weight"));
    let table = "base_model.model.embed_tokens.weight";
    for (name, tensor) in [
        (a.as_str(), floats(&[64, 4])),
        (&a, floats(&[4])),
        (&a, floats(&[])),
        (&a, floats(&[0, 64])),
        (&a, (Dtype::I64, vec![4, 64], vec![0; 2048])),
        (&b, floats(&[4, 172])),
        (&b, floats(&[172, 5])),
        (table, floats(&[601, 64])),
        (table, floats(&[64])),
        (table, (Dtype::I64, vec![600, 64], vec![0; 600 * 64 * 8])),
    ] {
        assert_names(&change(name, None, tensor), &[ADAPTER, name]);
    }
    for other in ["something", "two\nlines", "base_model.model.layers.0.mlp.up_proj.lora_magnitude_vector"] {
        let named = other.escape_debug().to_string();
        assert_names(&change(table, Some(other), floats(&[1])), &[ADAPTER, &named]);
    }
}

#[test]
fn an_adapter_for_what_is_no_linear_layer_is_refused() {
    for module in ["layers.0.input_layernorm", "norm", "embed_tokens", "layers.0.no\nthing", ""] {
        let message = adapter_refusal(|adapter| {
            adapter.edit_tensors(ADAPTER, |tensors| {
                for part in ["lora_A", "lora_B"] {
                    let tensor = tensors.remove(&format!("{MODULE}.{part}.weight")).unwrap();
                    tensors.insert(format!("base_model.model.model.{module}.{part}.weight"), tensor);
                }
            });
        });
        assert_names(&message, &[ADAPTER, &format!("`{}`", module.escape_debug())]);
    }
}

#[test]
fn an_adapter_without_any_tensor_is_refused() {
    let message = adapter_refusal(|adapter| adapter.edit_tensors(ADAPTER, BTreeMap::clear));
    assert_names(&message, &[ADAPTER]);
}

#[test]
fn weights_that_are_not_finite_fail_the_evaluation() {
    for (golden, tensor) in [
        ("diffugpt-s", "denoise_model.ln_f.weight"),
        ("diffugpt-s", "denoise_model.h.1.attn.c_attn.weight"),
        ("diffugpt-s", "embed_tokens.weight"),
        ("diffullama", "model.layers.0.mlp.up_proj.weight"),
        ("diffullama", "lm_head.weight"),
    ] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let copy = Copy::of(golden);
            copy.edit_tensors(WEIGHTS, |tensors| {
                for number in tensors.get_mut(tensor).unwrap().2.as_chunks_mut().0 {
                    *number = value.to_le_bytes();
                }
            });
            let mut predictor = copy.load(None).unwrap();
            let tokens = [5, 6, predictor.limits().mask_token];
            let wants = [Want { position: 2, uniform: 0.5, ..Want::default() }];
            let ask =
                Ask { tokens: &tokens, wants: &wants, samplings: &[Sampling::default()], ..Ask::default() };
            let result = predictor.predict(&[ask]);
            let found = matches!(result, Err(PredictError::NotFinite { ask: 0, position: 2 }));
            assert!(found, "{tensor} {value}: {result:?}");
        }
    }
}

/// Loads a copy in which some bytes of one file are others: refused in one line, or served.
fn check_flipped(name: &str, first: usize, count: usize, flips: &[(usize, u8)]) {
    let copy = Copy::of("diffugpt-s");
    let mut file = copy.read(name);
    for (place, byte) in flips {
        file[first + place % count] ^= byte;
    }
    copy.write(name, &file);
    let loaded = catch_unwind(|| {
        let checkpoint = Checkpoint::open(copy.0.path(), None)?;
        let text = "Once upon a time ☃ <|endoftext|>\n------------";
        if let Ok(tokens) = checkpoint.tokenizer.encode_template(text, true) {
            let _ = checkpoint.tokenizer.decode(&tokens, true);
        }
        copy.load(None)
    });
    if let Err(error) = loaded.expect("loading must not panic") {
        let message = error.to_string();
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
}

fn flips() -> impl Strategy<Value = Vec<(usize, u8)>> {
    // One bit or any bits, of one byte or a few.
    let byte = prop_oneof![(0_u32..8).prop_map(|bit| 1 << bit), 1..=u8::MAX];
    proptest::collection::vec((any::<usize>(), byte), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn flipped_bytes_in_the_header_of_the_weights_never_panic(flips in flips()) {
        check_flipped(WEIGHTS, 0, 3864, &flips);
    }

    #[test]
    fn flipped_bytes_in_the_configuration_never_panic(flips in flips()) {
        check_flipped("config.json", 0, 783, &flips);
    }

    #[test]
    fn flipped_bytes_in_the_tokenizer_never_panic(flips in flips()) {
        check_flipped("tokenizer.json", 0, 16921, &flips);
    }

    #[test]
    fn flipped_bytes_in_the_tokenizer_settings_never_panic(flips in flips()) {
        check_flipped("tokenizer_config.json", 0, 475, &flips);
    }
}
