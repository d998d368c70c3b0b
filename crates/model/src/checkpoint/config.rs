//! `config.json`, or a GGUF file's keys: the shapes and constants of the network.

mod fields;
mod gguf;
mod rope;

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use self::fields::Fields;
use super::ModelFiles;
use crate::error::LoadError;
use crate::kernel::Heads;

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
    /// Whether a head that the files do not have is the embedding (`tie_word_embeddings`). GPT-2 ties it unless the
    /// configuration says otherwise, LLaMA does not, as in transformers; a GGUF file without a head always does.
    pub ties_missing_head: bool,
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
            return gguf::read(&Fields::new(file.path(), fields));
        }
        let fields = Cow::Owned(files.json("config.json")?);
        let fields = Fields::new(&files.path("config.json"), fields);
        if fields.get("quantization_config").is_some() {
            let reason = "is set; quantised weights are read from GGUF files only: give the model in bfloat16, or \
                          a GGUF file of it";
            return Err(fields.error("quantization_config", reason));
        }
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
            ties_missing_head: fields.flag("tie_word_embeddings")?.unwrap_or(true),
        })
    }

    fn llama(fields: &Fields<'_>) -> Result<Self, LoadError> {
        fields.expect("hidden_act", &["silu", "swish"], "silu")?;
        fields.expect_flag("attention_bias", false)?;
        fields.expect_flag("mlp_bias", false)?;
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
            rope_theta: rope::theta(fields)?,
            generation_length: None,
            ties_missing_head: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        })
    }
}
