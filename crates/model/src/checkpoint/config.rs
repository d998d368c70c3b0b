//! `config.json`, or a GGUF file's keys: the shapes and constants of the network.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::ModelFiles;
use crate::error::{LoadError, one_line};
use crate::kernel::Heads;

/// Larger numbers in a configuration are mistakes, and would reserve memory before any tensor
/// contradicts them.
const LARGEST: u64 = 1 << 20;

/// The trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// GPT-2: learned positions, LayerNorm, tanh-GELU.
    Gpt2,
    /// LLaMA: rotated positions, RMSNorm, SwiGLU.
    Llama,
}

/// What the architecture needs to know. The vocabulary is not part of it: the embedding's own shape
/// decides, and may differ from the configured one.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The trunk.
    pub architecture: Architecture,
    /// Number of blocks.
    pub layers: usize,
    /// Width of a hidden state.
    pub width: usize,
    /// Query heads.
    pub head_count: usize,
    /// Key and value heads.
    pub kv_head_count: usize,
    /// Width of one head.
    pub head_width: usize,
    /// Width inside the feed-forward part.
    pub mlp_width: usize,
    /// ε of the norms.
    pub norm_epsilon: f64,
    /// Longest canvas: rows of the position table, or `max_position_embeddings`.
    pub context: usize,
    /// Base of the rotation frequencies (LLaMA).
    pub rope_theta: f64,
    /// The length that the reference's example script generates, when the file names one.
    pub generation_length: Option<usize>,
}

/// The shape in words, such as `LLaMA, 3 layers, width 64, 4 heads of 16 (2 for keys), feed-forward width 172`.
impl fmt::Display for ModelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layers, width, head_count, kv_head_count, head_width, mlp_width, .. } = self;
        let architecture = match self.architecture {
            Architecture::Gpt2 => "GPT-2",
            Architecture::Llama => "LLaMA",
        };
        write!(
            f,
            "{architecture}, {layers} layers, width {width}, {head_count} heads of {head_width} ({kv_head_count} for \
             keys), feed-forward width {mlp_width}"
        )
    }
}

impl ModelConfig {
    /// Reads `config.json`, or the keys of a GGUF file.
    ///
    /// # Errors
    /// The file is missing or damaged, names another architecture, lacks a field, or asks for a variant
    /// of the architecture that this server does not compute.
    pub fn read(files: &ModelFiles) -> Result<Self, LoadError> {
        if let ModelFiles::Gguf(file) = files {
            let fields = Cow::Borrowed(file.metadata());
            return Self::gguf(&Fields { path: file.path().to_owned(), fields });
        }
        let fields = Cow::Owned(files.json("config.json")?);
        let fields = Fields { path: files.path("config.json"), fields };
        match fields.text("model_type")? {
            Some("gpt2") => Self::gpt2(&fields),
            Some("llama") => Self::llama(&fields),
            Some(other) => {
                let supported = "gpt2 (DiffuGPT) and llama (DiffuLLaMA)";
                Err(fields.unsupported(other, supported))
            }
            None => Err(fields.error("model_type", "is missing; it names the architecture")),
        }
    }

    /// The shape of an attention layer.
    #[must_use]
    pub fn heads(&self) -> Heads {
        Heads { count: self.head_count, shared: self.kv_head_count, width: self.head_width }
    }

    fn gpt2(fields: &Fields<'_>) -> Result<Self, LoadError> {
        fields.expect("activation_function", &["gelu_new", "gelu_pytorch_tanh"], "gelu_new")?;
        fields.expect_flag("scale_attn_weights", true)?;
        fields.expect_flag("scale_attn_by_inverse_layer_idx", false)?;
        let width = fields.count(&["n_embd", "hidden_size"])?;
        let head_count = fields.count(&["n_head", "num_attention_heads"])?;
        fields.divides("n_head", head_count, "n_embd", width)?;
        let generation_length = fields
            .fields
            .get("task_specific_params")
            .and_then(|value| value.pointer("/text-generation/max_length"))
            .and_then(Value::as_u64)
            .and_then(|length| usize::try_from(length).ok());
        Ok(Self {
            architecture: Architecture::Gpt2,
            layers: fields.count(&["n_layer", "num_hidden_layers"])?,
            width,
            head_count,
            kv_head_count: head_count,
            head_width: width / head_count,
            mlp_width: fields.optional_count("n_inner")?.unwrap_or(4 * width),
            norm_epsilon: fields.number("layer_norm_epsilon", 1e-5)?,
            context: fields.count(&["n_positions", "max_position_embeddings"])?,
            rope_theta: 0.0,
            generation_length,
        })
    }

    fn llama(fields: &Fields<'_>) -> Result<Self, LoadError> {
        fields.expect("hidden_act", &["silu", "swish"], "silu")?;
        fields.expect_flag("attention_bias", false)?;
        fields.expect_flag("mlp_bias", false)?;
        if fields.fields.get("rope_scaling").is_some_and(|scaling| !scaling.is_null()) {
            return Err(fields.error("rope_scaling", "is set; only null is supported"));
        }
        let width = fields.count(&["hidden_size"])?;
        let head_count = fields.count(&["num_attention_heads"])?;
        let kv_head_count = fields.optional_count("num_key_value_heads")?.unwrap_or(head_count);
        fields.divides("num_key_value_heads", kv_head_count, "num_attention_heads", head_count)?;
        let head_width = match fields.optional_count("head_dim")? {
            Some(given) => given,
            None => {
                fields.divides("num_attention_heads", head_count, "hidden_size", width)?;
                width / head_count
            }
        };
        fields.divides("2", 2, "head_dim (hidden_size / num_attention_heads)", head_width)?;
        // Or the rotation's table would be reserved before any tensor contradicts it.
        if head_width > width {
            return Err(
                fields.error("head_dim", &format!("is {head_width}, more than hidden_size = {width}"))
            );
        }
        Ok(Self {
            architecture: Architecture::Llama,
            layers: fields.count(&["num_hidden_layers"])?,
            width,
            head_count,
            kv_head_count,
            head_width,
            mlp_width: fields.count(&["intermediate_size"])?,
            norm_epsilon: fields.number("rms_norm_eps", 1e-6)?,
            context: fields.count(&["max_position_embeddings"])?,
            rope_theta: fields.number("rope_theta", 10_000.0)?,
            generation_length: None,
        })
    }

    /// A LLaMA in llama.cpp's keys. `llada` differs from `llama` in what llama.cpp does with it.
    fn gguf(fields: &Fields<'_>) -> Result<Self, LoadError> {
        let architecture = match fields.text("general.architecture")? {
            Some(name @ ("llama" | "llada")) => name,
            Some(other) => return Err(fields.unsupported(other, "llama and llada in GGUF files")),
            None => return Err(fields.error("general.architecture", "is missing; it names the architecture")),
        };
        let key = |name: &str| format!("{architecture}.{name}");
        fields.expect(&key("rope.scaling.type"), &["none"], "none")?;
        let (wide, heads) = (key("embedding_length"), key("attention.head_count"));
        let width = fields.count(&[&wide])?;
        let head_count = fields.count(&[&heads])?;
        let shared = key("attention.head_count_kv");
        let kv_head_count = fields.optional_count(&shared)?.unwrap_or(head_count);
        fields.divides(&shared, kv_head_count, &heads, head_count)?;
        let head_key = key("attention.key_length");
        let head_width = match fields.optional_count(&head_key)? {
            Some(given) => given,
            None => {
                fields.divides(&heads, head_count, &wide, width)?;
                width / head_count
            }
        };
        fields.divides("2", 2, &head_key, head_width)?;
        for name in ["rope.dimension_count", "attention.value_length"].map(key) {
            if let Some(other) = fields.optional_count(&name)?.filter(|other| *other != head_width) {
                let reason = format!("is {other}; only the width of a head, {head_width}, is supported");
                return Err(fields.error(&name, &reason));
            }
        }
        // Or the rotation's table would be reserved before any tensor contradicts it.
        if head_width > width {
            let reason = format!("is {head_width}, more than {wide} = {width}");
            return Err(fields.error(&head_key, &reason));
        }
        Ok(Self {
            architecture: Architecture::Llama,
            layers: fields.count(&[&key("block_count")])?,
            width,
            head_count,
            kv_head_count,
            head_width,
            mlp_width: fields.count(&[&key("feed_forward_length")])?,
            norm_epsilon: fields.number(&key("attention.layer_norm_rms_epsilon"), 1e-6)?,
            context: fields.count(&[&key("context_length")])?,
            rope_theta: fields.number(&key("rope.freq_base"), 10_000.0)?,
            generation_length: None,
        })
    }
}

/// The file's fields, with its path for messages.
struct Fields<'a> {
    path: PathBuf,
    fields: Cow<'a, Map<String, Value>>,
}

impl Fields<'_> {
    fn unsupported(&self, architecture: &str, supported: &'static str) -> LoadError {
        let found = one_line(&architecture);
        LoadError::UnsupportedArchitecture { path: self.path.clone(), found, supported }
    }

    fn error(&self, field: &str, reason: &str) -> LoadError {
        LoadError::Field { path: self.path.clone(), field: field.to_owned(), reason: one_line(&reason) }
    }

    /// A field that is there and not null.
    fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<&str>, LoadError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.error(name, &format!("is {other}; it must be a string"))),
        }
    }

    fn optional_count(&self, name: &str) -> Result<Option<usize>, LoadError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_u64().filter(|count| (1..=LARGEST).contains(count)) {
            Some(count) => Ok(usize::try_from(count).ok()),
            None => Err(self.error(name, &format!("is {value}; it must be an integer from 1 to {LARGEST}"))),
        }
    }

    /// The first of several names for the same count.
    fn count(&self, names: &[&str]) -> Result<usize, LoadError> {
        for name in names {
            if let Some(count) = self.optional_count(name)? {
                return Ok(count);
            }
        }
        Err(self.error(names[0], &format!("is missing; it must be an integer from 1 to {LARGEST}")))
    }

    fn number(&self, name: &str, default: f64) -> Result<f64, LoadError> {
        match self.get(name).map(|value| (value, value.as_f64())) {
            None => Ok(default),
            Some((_, Some(number))) if number > 0.0 && number.is_finite() => Ok(number),
            Some((value, _)) => Err(self.error(name, &format!("is {value}; it must be a number above 0"))),
        }
    }

    fn expect(&self, name: &str, allowed: &[&str], default: &str) -> Result<(), LoadError> {
        let found = self.text(name)?.unwrap_or(default);
        if allowed.contains(&found) {
            return Ok(());
        }
        Err(self.error(name, &format!("is `{found}`; supported: {}", allowed.join(", "))))
    }

    fn expect_flag(&self, name: &str, expected: bool) -> Result<(), LoadError> {
        match self.get(name) {
            None => Ok(()),
            Some(Value::Bool(found)) if *found == expected => Ok(()),
            Some(other) => Err(self.error(name, &format!("is {other}; only {expected} is supported"))),
        }
    }

    fn divides(&self, part: &str, count: usize, whole: &str, width: usize) -> Result<(), LoadError> {
        if width.is_multiple_of(count) {
            return Ok(());
        }
        Err(self.error(whole, &format!("is {width}, which is not a multiple of {part} = {count}")))
    }
}
