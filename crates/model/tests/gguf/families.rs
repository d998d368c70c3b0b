//! Files of LLaDA, Dream and LLaDA-MoE, with the names, the order of rows and the keys of llama.cpp's converter.

use crate::device;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use tempfile::tempdir;
use unmask_model::checkpoint::{Checkpoint, ModelFiles, ReadOptions};
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::predictor::{CandlePredictor, MaskPredictor};

use crate::write::{golden, read_json, swap};

/// Parts of a block in released files and in GGUF files.
const PARTS: [(&str, &str); 20] = [
    ("attn_norm", "attn_norm"),
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.o_proj", "attn_output"),
    ("q_proj", "attn_q"),
    ("k_proj", "attn_k"),
    ("v_proj", "attn_v"),
    ("attn_out", "attn_output"),
    ("ff_norm", "ffn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("ff_proj", "ffn_gate"),
    ("up_proj", "ffn_up"),
    ("ff_out", "ffn_down"),
];

fn stored_name(name: &str) -> String {
    match name {
        "model.embed_tokens.weight" | "model.transformer.wte.weight" => {
            return "token_embd.weight".to_owned();
        }
        "model.norm.weight" | "model.transformer.ln_f.weight" => return "output_norm.weight".to_owned(),
        "lm_head.weight" | "model.transformer.ff_out.weight" => return "output.weight".to_owned(),
        _ => {}
    }
    let rest = name.strip_prefix("model.transformer.blocks.").or(name.strip_prefix("model.layers."));
    let (number, inner) = rest.unwrap().split_once('.').unwrap();
    let (part, end) = inner.rsplit_once('.').unwrap();
    if part == "mlp.gate" {
        return format!("blk.{number}.ffn_gate_inp.{end}");
    }
    let (_, stored) = PARTS.iter().find(|(released, _)| *released == part).unwrap();
    format!("blk.{number}.{stored}.{end}")
}

/// The tensors of a golden checkpoint by their names in a file, experts stacked.
fn tensors(name: &str, reordered: Option<(usize, usize)>) -> BTreeMap<String, Tensor> {
    let (mut found, mut experts) =
        (BTreeMap::new(), BTreeMap::<(String, &str), BTreeMap<usize, Tensor>>::new());
    for entry in std::fs::read_dir(golden(name)).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        if !file.starts_with("model") || !file.ends_with(".safetensors") {
            continue;
        }
        for (name, tensor) in candle_core::safetensors::load(&path, &Device::Cpu).unwrap() {
            if let Some((before, after)) = name.split_once(".mlp.experts.") {
                let (expert, part) = after.split_once('.').unwrap();
                let number = before.rsplit('.').next().unwrap().to_owned();
                let part = ["gate", "up", "down"].into_iter().find(|known| part.starts_with(known)).unwrap();
                experts.entry((number, part)).or_default().insert(expert.parse().unwrap(), tensor);
                continue;
            }
            let stored = stored_name(&name);
            let heads = match reordered {
                Some((heads, _)) if stored.ends_with("attn_q.weight") => heads,
                Some((_, heads)) if stored.ends_with("attn_k.weight") => heads,
                _ => 0,
            };
            let tensor =
                if heads > 0 { swap(&tensor, heads, 2, tensor.dim(0).unwrap() / heads / 2) } else { tensor };
            found.insert(stored, tensor);
        }
    }
    for ((number, part), all) in experts {
        let all: Vec<Tensor> = all.into_values().collect();
        found.insert(format!("blk.{number}.ffn_{part}_exps.weight"), Tensor::stack(&all, 0).unwrap());
    }
    found
}

/// A byte-level vocabulary of `rows` tokens, of which those beyond the tokenizer's are there in name only.
fn vocabulary(folder: &Path, rows: usize, rule: &str) -> Vec<(String, Value)> {
    let settings = read_json(&folder.join("tokenizer_config.json"));
    let added: HashMap<u64, String> = settings["added_tokens_decoder"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(id, token)| (id.parse().unwrap(), token["content"].as_str().unwrap().to_owned()))
        .collect();
    let spec = std::fs::read(folder.join("tokenizer.json")).ok();
    let spec: Option<serde_json::Value> = spec.map(|spec| serde_json::from_slice(&spec).unwrap());
    let (words, merges) = match spec {
        Some(spec) => {
            let pair = |pair: &serde_json::Value| {
                format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap())
            };
            let merges: Vec<String> = spec["model"]["merges"].as_array().unwrap().iter().map(pair).collect();
            (spec["model"]["vocab"].clone(), merges)
        }
        None => {
            let merges = std::fs::read_to_string(folder.join("merges.txt")).unwrap();
            let merges = merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty());
            (read_json(&folder.join("vocab.json")), merges.map(str::to_owned).collect())
        }
    };
    let words: HashMap<u64, &String> =
        words.as_object().unwrap().iter().map(|(word, id)| (id.as_u64().unwrap(), word)).collect();
    let (mut tokens, mut kinds) = (Vec::new(), Vec::new());
    for id in 0..rows as u64 {
        let (text, kind) = match (added.get(&id), words.get(&id)) {
            (Some(token), _) => (token.clone(), 3),
            (None, Some(word)) => ((*word).clone(), 1),
            (None, None) => (format!("[PAD{id}]"), 5),
        };
        tokens.push(Value::String(text));
        kinds.push(Value::I32(kind));
    }
    let cases = read_json(&folder.join("golden-tokenizer.json"));
    let id = |field: &str| Value::U32(u32::try_from(cases[field].as_u64().unwrap()).unwrap());
    [
        ("model", Value::String("gpt2".to_owned())),
        ("pre", Value::String(rule.to_owned())),
        ("tokens", Value::Array(tokens)),
        ("token_type", Value::Array(kinds)),
        ("merges", Value::Array(merges.into_iter().map(Value::String).collect())),
        ("bos_token_id", id("bos_token_id")),
        ("eos_token_id", id("eos_token_id")),
        ("mask_token_id", id("mask_token_id")),
    ]
    .map(|(key, value)| (format!("tokenizer.ggml.{key}"), value))
    .into()
}

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
        let (made, own) = (&file.tokenizer, &original.tokenizer);
        assert_eq!((made.mask_id(), made.eos_id()), (own.mask_id(), own.eos_id()));
        assert_eq!(made.never_drawn(), own.never_drawn(), "{}", written.rule);
        let cases = read_json(&golden(written.golden).join("golden-tokenizer.json"));
        for case in cases["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let ids: Vec<u32> = serde_json::from_value(case["ids_no_special"].clone()).unwrap();
            assert_eq!(made.encode_template(text, false).unwrap(), ids, "{}: {text:?}", written.architecture);
        }
        let (found, expected) = (load(&file), load(&original));
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
        ("expert_count", Value::U32(7), "blk.0.ffn_gate"),
        ("expert_count", Value::U32(9), "blk.0.ffn_gate"),
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
