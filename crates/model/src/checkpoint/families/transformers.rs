//! Networks in the keys of transformers' LLaMA, with what its relatives add.

use crate::checkpoint::config::{Fields, rope};
use crate::checkpoint::layout::Layout;
use crate::checkpoint::spec::{
    Biases, FeedForward, NormKind, Positions, Projections, TransformerSpec, Visibility,
};
use crate::error::LoadError;

/// LLaMA's names of tensors, as released.
pub const LAYOUT: Layout = Layout::plain("model.embed_tokens.weight", "model.");

/// The same without the prefix: of a network that was saved without the class of its head.
pub const BARE_LAYOUT: Layout = Layout::plain("embed_tokens.weight", "");

/// Keys that are read, or that change nothing in an evaluation, of those that begin like keys that do.
const KNOWN: [&str; 18] = [
    "attention_bias",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "router_aux_loss_coef",
    "router_dtype",
    "router_num_group",
    "router_topk_group",
    "moe_layer_freq",
    "moe_intermediate_size",
    "moe_router_enable_expert_bias",
    "moe_router_score_function",
    "norm_topk_prob",
    "tie_word_embeddings",
    "partial_rotary_factor",
    "rms_norm_eps",
];
/// Beginnings of keys that change the network.
pub const BEGINNINGS: [&str; 8] = ["rope", "attention", "norm", "tie", "scale", "moe", "router", "logit"];

/// A network with as many feed-forward parts of `intermediate_size` as there are layers.
///
/// # Errors
/// A key is missing or has a value that is not computed.
pub fn read(fields: &Fields<'_>) -> Result<TransformerSpec, LoadError> {
    fields.expect_flag("attention_bias", false)?;
    read_biased(fields)
}

/// The same of networks whose biases `attention_bias` does not decide.
///
/// # Errors
/// Those of [`read`].
pub fn read_biased(fields: &Fields<'_>) -> Result<TransformerSpec, LoadError> {
    for name in ["num_experts", "num_local_experts", "n_routed_experts"] {
        fields.expect_number(name, &[0.0, 1.0])?;
    }
    let inner = fields.count(&["intermediate_size"])?;
    let layers = fields.count(&["num_hidden_layers"])?;
    rope::expect_whole(fields)?;
    read_partly_rotated(fields, vec![FeedForward::SwiGlu { width: inner }; layers], &[])
}

/// The same with other feed-forward parts. `own` are keys that the family reads.
///
/// # Errors
/// Those of [`read`].
pub fn read_with(
    fields: &Fields<'_>,
    feed_forward: Vec<FeedForward>,
    own: &[&str],
) -> Result<TransformerSpec, LoadError> {
    fields.expect_flag("attention_bias", false)?;
    rope::expect_whole(fields)?;
    read_partly_rotated(fields, feed_forward, own)
}

/// The same, in which `partial_rotary_factor` may rotate a part of each head. `own` are keys that the family reads.
///
/// # Errors
/// Those of [`read`].
pub fn read_partly_rotated(
    fields: &Fields<'_>,
    feed_forward: Vec<FeedForward>,
    own: &[&str],
) -> Result<TransformerSpec, LoadError> {
    expect_silu(fields)?;
    fields.expect_flag("mlp_bias", false)?;
    fields.expect("router_dtype", &["fp32"], "fp32")?;
    expect_full_attention(fields)?;
    fields.refuse_others(&BEGINNINGS, &[&KNOWN[..], own].concat())?;
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
        return Err(fields.error("head_dim", &format!("is {head_width}, more than hidden_size = {width}")));
    }
    let context = fields.count(&["max_position_embeddings"])?;
    Ok(TransformerSpec {
        width,
        head_count,
        kv_head_count,
        head_width,
        context,
        norm: NormKind::Rms,
        norm_epsilon: epsilon(fields, 1e-6)?,
        positions: Positions::Rotary(rope::read(fields, context, head_width)?),
        projections: Projections::Separate,
        biases: Biases::default(),
        head_norm: false,
        feed_forward,
        visibility: Visibility::Full,
        ties_missing_head: fields.flag("tie_word_embeddings")?.unwrap_or(false),
    })
}

/// The number that keeps a norm from dividing by zero. Other keys than `rms_norm_eps` are not read, so that one that
/// stands in its place is refused.
///
/// # Errors
/// It is no number above 0, or it goes by another name.
pub fn epsilon(fields: &Fields<'_>, default: f64) -> Result<f64, LoadError> {
    let other = fields.all().find(|(name, _)| name.contains("norm") && name.contains("eps"));
    match (fields.optional_number("rms_norm_eps")?, other) {
        (Some(epsilon), _) => Ok(epsilon),
        (None, None) => Ok(default),
        (None, Some((name, value))) => {
            Err(fields
                .error(name, &format!("is {value}; the epsilon of RMS norms is read from rms_norm_eps")))
        }
    }
}

/// The number of experts, and the number of them that a row uses.
///
/// # Errors
/// A key is missing, or more are used than there are.
pub fn experts(fields: &Fields<'_>) -> Result<(usize, usize), LoadError> {
    let count = fields.count(&["num_experts"])?;
    let used = fields.count(&["num_experts_per_tok"])?;
    if used > count {
        let reason = format!("is {used}, more than num_experts = {count}");
        return Err(fields.error("num_experts_per_tok", &reason));
    }
    Ok((count, used))
}

/// Refuses another activation, under any of the names that it goes by.
///
/// # Errors
/// The first such key.
pub fn expect_silu(fields: &Fields<'_>) -> Result<(), LoadError> {
    let names = ["hidden_act", "hidden_activation", "activation_function", "mlp_activation", "activation"];
    names.iter().try_for_each(|name| fields.expect(name, &["silu", "swish"], "silu"))
}

/// Refuses attention that is not full.
///
/// # Errors
/// The key that asks for it.
pub fn expect_full_attention(fields: &Fields<'_>) -> Result<(), LoadError> {
    fields.expect_flag("use_sliding_window", false)?;
    fields.expect_flag("use_mrope", false)?;
    let Some(kinds) = fields.get("layer_types") else { return Ok(()) };
    let full = |kinds: &Vec<serde_json::Value>| kinds.iter().all(|kind| kind == "full_attention");
    if kinds.as_array().is_some_and(full) {
        return Ok(());
    }
    Err(fields.error("layer_types", &format!("is {kinds}; only full_attention in every layer is supported")))
}
