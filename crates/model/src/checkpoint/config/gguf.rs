//! A LLaMA in the keys of a GGUF file.

use super::fields::Fields;
use super::{Architecture, ModelConfig};
use crate::error::LoadError;

/// Keys that would make another network of it, each with the numbers that ask for nothing.
const NEUTRAL: [(&str, &[f64]); 13] = [
    ("rope.scaling.factor", &[0.0, 1.0]),
    ("rope.scale_linear", &[0.0, 1.0]),
    ("rope.scaling.attn_factor", &[0.0, 1.0]),
    ("expert_count", &[0.0]),
    ("attention.scale", &[0.0]),
    ("attention.sliding_window", &[0.0]),
    ("attention.max_alibi_bias", &[0.0]),
    ("attention.clamp_kqv", &[0.0]),
    ("attn_logit_softcapping", &[0.0]),
    ("final_logit_softcapping", &[0.0]),
    ("logit_scale", &[0.0, 1.0]),
    ("embedding_scale", &[0.0, 1.0]),
    ("residual_scale", &[0.0, 1.0]),
];

/// A LLaMA in llama.cpp's keys. `llada` differs from `llama` in what llama.cpp does with it.
pub(super) fn read(fields: &Fields<'_>) -> Result<ModelConfig, LoadError> {
    let architecture = match fields.text("general.architecture")? {
        Some(name @ ("llama" | "llada")) => name,
        Some(other) => return Err(fields.unsupported(other, "llama and llada in GGUF files")),
        None => return Err(fields.error("general.architecture", "is missing; it names the architecture")),
    };
    let key = |name: &str| format!("{architecture}.{name}");
    expect_plain(fields, architecture)?;
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
    Ok(ModelConfig {
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
        ties_missing_head: true,
    })
}

/// Refuses what is not computed: a scaled rotation, experts, windows, factors. A factor without a type is one of
/// `linear`, as llama.cpp has it.
fn expect_plain(fields: &Fields<'_>, architecture: &str) -> Result<(), LoadError> {
    let kind = format!("{architecture}.rope.scaling.type");
    fields.expect(&kind, &["none", "linear"], "none")?;
    NEUTRAL
        .iter()
        .try_for_each(|(name, neutral)| fields.expect_number(&format!("{architecture}.{name}"), neutral))
}
