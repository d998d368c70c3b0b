//! GGUF files for tests, written by candle from golden checkpoints or random weights, with the keys and
//! the order of rows that llama.cpp's converter gives them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};

const PARTS: [(&str, &str); 9] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

pub fn golden(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(model)
}

pub fn read_json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A LLaMA in transformers' names, and what a GGUF file says of it.
pub struct Model {
    pub config: serde_json::Value,
    pub tensors: BTreeMap<String, Tensor>,
    pub keys: BTreeMap<String, Value>,
}

impl Model {
    /// A golden checkpoint with its tokenizer.
    pub fn golden(model: &str) -> Self {
        let folder = golden(model);
        let mut tensors = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("model") && name.ends_with(".safetensors") {
                tensors.extend(candle_core::safetensors::load(&path, &Device::Cpu).unwrap());
            }
        }
        Self::new(read_json(&folder.join("config.json")), tensors, &folder)
    }

    /// Random weights with the tokenizer of `diffullama`: 2 layers, 4 heads, 2 for keys and values.
    pub fn random(width: usize, inner: usize) -> Self {
        let folder = golden("diffullama");
        let mut config = read_json(&folder.join("config.json"));
        for (field, value) in [
            ("hidden_size", width),
            ("intermediate_size", inner),
            ("num_hidden_layers", 2),
            ("num_key_value_heads", 2),
        ] {
            config[field] = value.into();
        }
        let mut tensors = BTreeMap::new();
        let mut add = |name: String, shape: &[usize]| {
            let salt = name.bytes().fold(7_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
            let value = |i: usize| {
                let mixed = (i as u64 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
            };
            let scale = if shape.len() == 1 { 1.0 } else { 3.0 / (shape[1] as f32).sqrt() };
            let values: Vec<f32> = (0..shape.iter().product()).map(|i| value(i) * scale).collect();
            tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
        };
        add("model.embed_tokens.weight".to_owned(), &[600, width]);
        add("lm_head.weight".to_owned(), &[600, width]);
        add("model.norm.weight".to_owned(), &[width]);
        for layer in 0..2 {
            for (part, _) in PARTS {
                let shape: &[usize] = match part {
                    "self_attn.k_proj" | "self_attn.v_proj" => &[width / 2, width],
                    "mlp.gate_proj" | "mlp.up_proj" => &[inner, width],
                    "mlp.down_proj" => &[width, inner],
                    _ if part.ends_with("norm") => &[width],
                    _ => &[width, width],
                };
                add(format!("model.layers.{layer}.{part}.weight"), shape);
            }
        }
        Self::new(config, tensors, &folder)
    }

    fn new(config: serde_json::Value, tensors: BTreeMap<String, Tensor>, tokenizer: &Path) -> Self {
        let mut keys = BTreeMap::new();
        let count = |field: &str| Value::U32(u32::try_from(config[field].as_u64().unwrap()).unwrap());
        let number = |field: &str| Value::F32(config[field].as_f64().unwrap() as f32);
        for (key, value) in [
            ("general.architecture", Value::String("llama".to_owned())),
            ("llama.block_count", count("num_hidden_layers")),
            ("llama.embedding_length", count("hidden_size")),
            ("llama.feed_forward_length", count("intermediate_size")),
            ("llama.context_length", count("max_position_embeddings")),
            ("llama.attention.head_count", count("num_attention_heads")),
            ("llama.attention.head_count_kv", count("num_key_value_heads")),
            ("llama.attention.layer_norm_rms_epsilon", number("rms_norm_eps")),
            ("llama.rope.freq_base", number("rope_theta")),
        ] {
            keys.insert(key.to_owned(), value);
        }
        add_tokenizer(&mut keys, tokenizer);
        Self { config, tensors, keys }
    }

    /// The same model under llama.cpp's name for models with full attention.
    pub fn into_llada(mut self) -> Self {
        self.keys = std::mem::take(&mut self.keys)
            .into_iter()
            .map(|(key, value)| {
                (key.replacen("llama.", "llada.", usize::from(key.starts_with("llama."))), value)
            })
            .collect();
        self.keys.insert("diffusion.shift_logits".to_owned(), Value::Bool(true));
        self.keys.insert("general.architecture".to_owned(), Value::String("llada".to_owned()));
        self
    }

    fn count(&self, field: &str) -> usize {
        self.config[field].as_u64().unwrap() as usize
    }

    /// Heads of a tensor whose rows the converter reorders.
    fn heads(&self, name: &str) -> Option<usize> {
        if name.ends_with("q_proj.weight") {
            Some(self.count("num_attention_heads"))
        } else if name.ends_with("k_proj.weight") {
            Some(self.count("num_key_value_heads"))
        } else {
            None
        }
    }

    /// The file's tensors by transformers' names, each with its name in the file.
    fn encoded(&self, encode: &dyn Fn(&str) -> GgmlDType) -> HashMap<String, (String, QTensor)> {
        let tensors = self.tensors.iter();
        tensors
            .map(|(name, tensor)| {
                let stored = stored_name(name);
                let tensor = match self.heads(name) {
                    Some(heads) => swap(tensor, heads, 2, tensor.dim(0).unwrap() / heads / 2),
                    None => tensor.clone(),
                };
                let dtype = if tensor.rank() == 1 { GgmlDType::F32 } else { encode(&stored) };
                let tensor = tensor.to_dtype(DType::F32).unwrap();
                (name.clone(), (stored, QTensor::quantize(&tensor, dtype).unwrap()))
            })
            .collect()
    }

    /// Writes a file whose matrices are stored as `encode` says of their names there.
    pub fn write(&self, path: &Path, encode: impl Fn(&str) -> GgmlDType) {
        let encoded = self.encoded(&encode);
        let keys: Vec<(&str, &Value)> = self.keys.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<(&str, &QTensor)> =
            encoded.values().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        gguf_file::write(&mut File::create(path).unwrap(), &keys, &tensors).unwrap();
    }

    /// Writes the folder that transformers would have of the numbers in such a file, as f32.
    pub fn write_dequantised(&self, folder: &Path, encode: impl Fn(&str) -> GgmlDType) {
        let tensors = self.encoded(&encode).into_iter().map(|(name, (_, tensor))| {
            let tensor = tensor.dequantize(&Device::Cpu).unwrap();
            let tensor = match self.heads(&name) {
                Some(heads) => swap(&tensor, heads, tensor.dim(0).unwrap() / heads / 2, 2),
                None => tensor,
            };
            (name, tensor)
        });
        let tensors: HashMap<String, Tensor> = tensors.collect();
        candle_core::safetensors::save(&tensors, folder.join("model.safetensors")).unwrap();
        std::fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(golden("diffullama").join(name), folder.join(name)).unwrap();
        }
    }
}

/// Rows of each head, seen as (a, b), in the order (b, a).
pub fn swap(tensor: &Tensor, heads: usize, a: usize, b: usize) -> Tensor {
    let (rows, columns) = tensor.dims2().unwrap();
    let split = tensor.reshape((heads, a, b, columns)).unwrap();
    split.transpose(1, 2).unwrap().contiguous().unwrap().reshape((rows, columns)).unwrap()
}

fn stored_name(name: &str) -> String {
    match name {
        "model.embed_tokens.weight" => "token_embd.weight".to_owned(),
        "model.norm.weight" => "output_norm.weight".to_owned(),
        "lm_head.weight" => "output.weight".to_owned(),
        // It has no other name.
        "rope_freqs.weight" => name.to_owned(),
        _ => {
            let (number, part) = name.strip_prefix("model.layers.").unwrap().split_once('.').unwrap();
            let part = part.strip_suffix(".weight").unwrap();
            let stored = PARTS.iter().find(|(canonical, _)| *canonical == part);
            // A part that LLaMA does not have.
            let stored = stored.map_or("attn_q_norm", |(_, stored)| stored);
            format!("blk.{number}.{stored}.weight")
        }
    }
}

/// Ids and tokens of a `tokenizer.json`, by id; added tokens are not among them.
pub fn vocabulary(spec: &serde_json::Value) -> Vec<(u64, String)> {
    let vocabulary = spec["model"]["vocab"].as_object().unwrap();
    let mut tokens: Vec<(u64, String)> =
        vocabulary.iter().map(|(token, id)| (id.as_u64().unwrap(), token.clone())).collect();
    tokens.sort();
    tokens
}

/// The vocabulary with scores, as SentencePiece has it: a piece that was learned earlier scores higher.
fn add_tokenizer(keys: &mut BTreeMap<String, Value>, folder: &Path) {
    let spec = read_json(&folder.join("tokenizer.json"));
    let settings = read_json(&folder.join("tokenizer_config.json"));
    let tokens = vocabulary(&spec);
    let special = spec["added_tokens"].as_array().unwrap();
    let kind = |id: u64, token: &str| match token {
        _ if id == 0 => 2,
        _ if special.iter().any(|special| special["id"] == id) => 3,
        _ if token.starts_with("<0x") => 6,
        _ => 1,
    };
    let list = |values: Vec<Value>| Value::Array(values);
    let id = |text: &serde_json::Value| {
        let text = text.as_str().or(text["content"].as_str()).unwrap();
        Value::U32(tokens.iter().find(|(_, token)| token == text).unwrap().0 as u32)
    };
    let added = [
        ("tokenizer.ggml.model", Value::String("llama".to_owned())),
        (
            "tokenizer.ggml.tokens",
            list(tokens.iter().map(|(_, token)| Value::String(token.clone())).collect()),
        ),
        ("tokenizer.ggml.scores", list(tokens.iter().map(|(id, _)| Value::F32(-(*id as f32))).collect())),
        (
            "tokenizer.ggml.token_type",
            list(tokens.iter().map(|(id, token)| Value::I32(kind(*id, token))).collect()),
        ),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
        ("tokenizer.ggml.mask_token_id", id(&settings["mask_token"])),
        ("tokenizer.ggml.padding_token_id", id(&settings["pad_token"])),
    ];
    keys.extend(added.into_iter().map(|(key, value)| (key.to_owned(), value)));
}
