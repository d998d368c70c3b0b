//! Files of LLaDA, Dream and LLaDA-MoE, with the names, the order of rows and the keys of llama.cpp's converter.

use crate::device;
use std::fs::File;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Tensor};
use tempfile::tempdir;
use unmask_model::checkpoint::{Checkpoint, ModelFiles, ReadOptions};
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::predictor::{CandlePredictor, MaskPredictor};

use crate::released::{tensors, vocabulary};
use crate::write::{golden, read_json};

/// A golden checkpoint as a file of an architecture.
struct Written {
    golden: &'static str,
    architecture: &'static str,
    rule: &'static str,
    keys: Vec<(String, Value)>,
}

impl Written {
    fn new(golden_name: &'static str, architecture: &'static str, rule: &'static str) -> Self {
        let folder = golden(golden_name);
        let config = read_json(&folder.join("config.json"));
        let count = |names: &[&str]| {
            names.iter().find_map(|name| config[*name].as_u64()).map(|count| Value::U32(count as u32))
        };
        let number = |name: &str| config[name].as_f64().map(|number| Value::F32(number as f32));
        let named = [
            ("block_count", count(&["num_hidden_layers", "n_layers"])),
            ("embedding_length", count(&["hidden_size", "d_model"])),
            (
                "feed_forward_length",
                count(&["intermediate_size", "mlp_hidden_size", "dense_intermediate_size"]),
            ),
            ("context_length", count(&["max_position_embeddings", "max_sequence_length"])),
            ("attention.head_count", count(&["num_attention_heads", "n_heads"])),
            ("attention.head_count_kv", count(&["num_key_value_heads", "n_kv_heads"])),
            ("attention.layer_norm_rms_epsilon", number("rms_norm_eps")),
            ("rope.freq_base", number("rope_theta")),
            ("attention.causal", Some(Value::Bool(false))),
            ("expert_count", count(&["num_experts"])),
            ("expert_used_count", count(&["num_experts_per_tok"])),
            ("expert_feed_forward_length", count(&["expert_intermediate_size"])),
        ];
        let mut keys = vec![("general.architecture".to_owned(), Value::String(architecture.to_owned()))];
        let named =
            named.into_iter().filter_map(|(key, value)| Some((format!("{architecture}.{key}"), value?)));
        keys.extend(named);
        let rows = read_json(&folder.join("family.json"))["rows"].as_u64().unwrap() as usize;
        keys.extend(vocabulary(&folder, rows, rule));
        Self { golden: golden_name, architecture, rule, keys }
    }

    fn write(&self, path: &Path, dtype: GgmlDType) {
        let config = read_json(&golden(self.golden).join("config.json"));
        let reordered = (self.architecture == "llada").then(|| {
            (config["n_heads"].as_u64().unwrap() as usize, config["n_kv_heads"].as_u64().unwrap() as usize)
        });
        let encode = |(name, tensor): (String, Tensor)| {
            let plain = tensor.rank() == 1 || name.contains("gate_inp");
            let wide = tensor.to_dtype(DType::F32).unwrap();
            let dtype = if plain { GgmlDType::F32 } else { dtype };
            (name, QTensor::quantize(&wide, dtype).unwrap())
        };
        let tensors: Vec<(String, QTensor)> =
            tensors(self.golden, reordered).into_iter().map(encode).collect();
        let tensors: Vec<(&str, &QTensor)> =
            tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let keys: Vec<(&str, &Value)> = self.keys.iter().map(|(key, value)| (key.as_str(), value)).collect();
        gguf_file::write(&mut File::create(path).unwrap(), &keys, &tensors).unwrap();
    }
}

fn files() -> [Written; 4] {
    [
        Written::new("llada", "llada", "llada-moe"),
        Written::new("dream", "dream", "qwen2"),
        Written::new("dream", "qwen2", "qwen2"),
        Written::new("llada-moe", "llada-moe", "llada-moe"),
    ]
}

fn load(checkpoint: &Checkpoint) -> CandlePredictor {
    let family = checkpoint.profile.family;
    let placement = Placement::new(DeviceChoice::Cpu, Precision::F32, family, device::cpu()).unwrap();
    CandlePredictor::load(checkpoint, placement, 1).unwrap()
}

/// In bfloat16, which holds the released numbers exactly; the tokenizer as well.
#[test]
fn files_of_every_architecture_are_the_very_checkpoint() {
    let folder = tempdir().unwrap();
    for written in files() {
        let path = folder.path().join(format!("{}.gguf", written.architecture));
        written.write(&path, GgmlDType::BF16);
        let file =
            Checkpoint::open(&path, None).unwrap_or_else(|error| panic!("{}: {error}", written.architecture));
        let original = Checkpoint::open(&golden(written.golden), None).unwrap();
        assert_eq!(file.config.family.name, written.architecture);
        assert_eq!(file.profile.shift, original.profile.shift);
        let made = &file.tokenizer;
        let own = &original.tokenizer;
        assert_eq!((made.mask_id(), made.eos_id()), (own.mask_id(), own.eos_id()));
        assert_eq!(made.never_drawn(), own.never_drawn(), "{}", written.rule);
        let cases = read_json(&golden(written.golden).join("golden-tokenizer.json"));
        for case in cases["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let ids: Vec<u32> = serde_json::from_value(case["ids_no_special"].clone()).unwrap();
            assert_eq!(made.encode_template(text, false).unwrap(), ids, "{}: {text:?}", written.architecture);
        }
        let found = load(&file);
        let expected = load(&original);
        assert_eq!(found.limits(), expected.limits());
        let canvas: Vec<u32> = (0..40).map(|position| position * 97 % 560).collect();
        let logits = |predictor: &CandlePredictor| {
            predictor.all_logits(&[&canvas]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert!(logits(&found) == logits(&expected), "{}", written.architecture);
    }
}

/// The very same file without a mask is an autoregressive model's, unless the command line says otherwise.
#[test]
fn a_file_without_a_mask_is_autoregressive_unless_told_otherwise() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut written = Written::new("dream", "qwen2", "qwen2");
    written.keys.retain(|(key, _)| key != "tokenizer.ggml.mask_token_id" && !key.ends_with("head_count"));
    written.write(&path, GgmlDType::F16);
    let open = |options| Checkpoint::read_with(ModelFiles::open(&path).unwrap(), options);
    let refusal = open(ReadOptions::default()).unwrap_err().to_string();
    assert!(refusal.contains("`qwen2` is an autoregressive model"), "{refusal}");
    // What else is wrong with the file comes after that.
    let options = ReadOptions { mask_token: Some("<|mask|>"), ..ReadOptions::default() };
    let refusal = open(options).unwrap_err().to_string();
    assert!(refusal.contains("qwen2.attention.head_count"), "{refusal}");
    let whole = Written::new("dream", "qwen2", "qwen2");
    written.keys.extend(whole.keys.into_iter().filter(|(key, _)| key.ends_with("attention.head_count")));
    written.write(&path, GgmlDType::F16);
    let opened = open(options).unwrap();
    assert_eq!((opened.tokenizer.mask_id(), opened.profile.family.name), (604, "qwen2"));
    let dream = unmask_model::checkpoint::Family::named("dream");
    let opened = open(ReadOptions { family: dream, ..options }).unwrap();
    assert_eq!(opened.profile.family.name, "dream");
}

#[test]
fn experts_that_are_not_computed_are_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for (key, value, named) in [
        ("expert_shared_count", Value::U32(1), "expert_shared_count"),
        ("expert_weights_norm", Value::Bool(true), "expert_weights_norm"),
        ("expert_weights_scale", Value::F32(2.5), "expert_weights_scale"),
        ("expert_gating_func", Value::U32(2), "expert_gating_func"),
        ("expert_used_count", Value::U32(9), "expert_used_count"),
        ("expert_count", Value::U32(7), "_exps.weight"),
        ("expert_count", Value::U32(9), "_exps.weight"),
        ("expert_feed_forward_length", Value::U32(16), "blk.0.ffn_gate_exps"),
    ] {
        let mut written = Written::new("llada-moe", "llada-moe", "llada-moe");
        let key = format!("llada-moe.{key}");
        written.keys.retain(|(known, _)| *known != key);
        written.keys.push((key, value));
        written.write(&path, GgmlDType::F16);
        let refusal = Checkpoint::open(&path, None)
            .and_then(|checkpoint| {
                let placement = Placement::new(
                    DeviceChoice::Cpu,
                    Precision::F32,
                    checkpoint.profile.family,
                    device::cpu(),
                )?;
                CandlePredictor::load(&checkpoint, placement, 1)
            })
            .expect_err("the file must be refused")
            .to_string();
        assert!(refusal.contains(named), "{named}: {refusal}");
    }
}
