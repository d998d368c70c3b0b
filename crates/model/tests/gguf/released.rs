//! Tensors and tokenizers of released checkpoints, as llama.cpp's converter writes them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use candle_core::{Device, Tensor};

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
pub fn tensors(name: &str, reordered: Option<(usize, usize)>) -> BTreeMap<String, Tensor> {
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
pub fn vocabulary(folder: &Path, rows: usize, rule: &str) -> Vec<(String, Value)> {
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
    let mut tokens = Vec::new();
    let mut kinds = Vec::new();
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
