//! Networks in the keys of transformers' LLaMA, with what its relatives add.

use crate::checkpoint::config::{Fields, rope};
use crate::checkpoint::layout::Layout;
use crate::checkpoint::spec::{
    Biases, FeedForward, NormKind, Positions, Projections, TransformerSpec, Visibility,
};
use crate::error::LoadError;

/// LLaMA's names of tensors, as released.
pub const LAYOUT: Layout = Layout::plain("model.embed_tokens.weight", "model.");

/// Keys that are read, or that change nothing in an evaluation, of those that begin like keys that do.
const KNOWN: [&str; 15] = [
    "attention_bias",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "router_aux_loss_coef",
    "router_num_group",
    "router_topk_group",
    "moe_layer_freq",
    "moe_intermediate_size",
    "moe_router_enable_expert_bias",
    "moe_router_score_function",
    "norm_topk_prob",
    "tie_word_embeddings",
];
/// Beginnings of keys that change the network.
pub const CHANGING: [&str; 8] = ["rope", "attention", "norm", "tie", "scale", "moe", "router", "logit"];

/// A network with as many feed-forward parts of `intermediate_size` as there are layers.
///
/// # Errors
/// A key is missing or has a value that is not computed.
pub fn read(fields: &Fields<'_>) -> Result<TransformerSpec, LoadError> {
    let inner = fields.count(&["intermediate_size"])?;
    let layers = fields.count(&["num_hidden_layers"])?;
    read_with(fields, vec![FeedForward::SwiGlu { width: inner }; layers])
}

/// The same with other feed-forward parts.
///
/// # Errors
/// As [`read`].
pub fn read_with(fields: &Fields<'_>, feed_forward: Vec<FeedForward>) -> Result<TransformerSpec, LoadError> {
    fields.expect_number("partial_rotary_factor", &[1.0])?;
    read_partly_rotated(fields, feed_forward)
}

/// The same, in which `partial_rotary_factor` may rotate a part of each head.
///
/// # Errors
/// As [`read`].
pub fn read_partly_rotated(
    fields: &Fields<'_>,
    feed_forward: Vec<FeedForward>,
) -> Result<TransformerSpec, LoadError> {
    fields.expect("hidden_act", &["silu", "swish"], "silu")?;
    fields.expect_flag("attention_bias", false)?;
    fields.expect_flag("mlp_bias", false)?;
    expect_full_attention(fields)?;
    fields.refuse_others(&CHANGING, &KNOWN)?;
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
        norm_epsilon: fields.number("rms_norm_eps", 1e-6)?,
        positions: Positions::Rotary(rope::read(fields, context, head_width)?),
        projections: Projections::Separate,
        biases: Biases::default(),
        head_norm: false,
        feed_forward,
        visibility: Visibility::Full,
        ties_missing_head: fields.flag("tie_word_embeddings")?.unwrap_or(false),
    })
}

/// How many experts there are, and how many of them a row uses.
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

/// Refuses attention that is not full.
fn expect_full_attention(fields: &Fields<'_>) -> Result<(), LoadError> {
    fields.expect_flag("use_sliding_window", false)?;
    fields.expect_flag("use_mrope", false)?;
    let Some(kinds) = fields.get("layer_types") else { return Ok(()) };
    let full = |kinds: &Vec<serde_json::Value>| kinds.iter().all(|kind| kind == "full_attention");
    if kinds.as_array().is_some_and(full) {
        return Ok(());
    }
    Err(fields.error("layer_types", &format!("is {kinds}; only full_attention in every layer is supported")))
}
