//! The tensors of a network, by their canonical names, and those that files hold beside them.

use super::layout::{EMBEDDING, HEAD};
use super::spec::{FeedForward, NormKind, Positions, Projections, TransformerSpec};

/// Ends of names of tensors that follow from the configuration: older versions of transformers saved the mask of
/// causal attention and the frequencies of the rotation.
const LEFTOVERS: [&str; 3] = [".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq"];

/// The names of a block's parts.
pub(crate) struct BlockNames {
    /// Before the number of a block.
    pub(crate) blocks: &'static str,
    /// The norm before attention.
    pub(crate) norm_1: &'static str,
    /// The projection of attention's result.
    pub(crate) output: &'static str,
    /// The norm before the feed-forward part.
    pub(crate) norm_2: &'static str,
    /// The final norm, which is outside the blocks.
    pub(crate) last: &'static str,
}

impl BlockNames {
    /// Those of a network.
    pub(crate) fn of(spec: &TransformerSpec) -> &'static Self {
        match spec.projections {
            Projections::Fused => {
                &Self { blocks: "h.", norm_1: "ln_1", output: "attn.c_proj", norm_2: "ln_2", last: "ln_f" }
            }
            Projections::Separate | Projections::Stacked => &Self {
                blocks: "layers.",
                norm_1: "input_layernorm",
                output: "self_attn.o_proj",
                norm_2: "post_attention_layernorm",
                last: "norm",
            },
        }
    }
}

/// Returns true if the network has a tensor, by its canonical name.
pub(super) fn is_part(spec: &TransformerSpec, name: &str) -> bool {
    let names = BlockNames::of(spec);
    let layer_norm = spec.norm == NormKind::Layer;
    let outside = || {
        let (part, end) = name.rsplit_once('.').unwrap_or_default();
        (part == names.last && (end == "weight" || end == "bias" && layer_norm))
            || (name == "wpe.weight" && spec.positions == Positions::Learned)
    };
    let in_block = || {
        let (number, rest) = name.strip_prefix(names.blocks)?.split_once('.')?;
        let (part, end) = rest.rsplit_once('.')?;
        let feed_forward = spec.feed_forward.get(index(number)?)?;
        if let FeedForward::Experts(experts) = feed_forward
            && (part, end) == ("mlp.gate", "expert_bias")
        {
            return Some(experts.bias);
        }
        let biased = match (part == names.norm_1 || part == names.norm_2, part == names.output) {
            (true, _) => layer_norm,
            (_, true) => spec.biases.output,
            _ => attention_bias(spec, part).or_else(|| feed_forward_bias(spec, *feed_forward, part))?,
        };
        Some(end == "weight" || end == "bias" && biased)
    };
    [EMBEDDING, HEAD].contains(&name) || outside() || in_block().unwrap_or(false)
}

/// A number as it is written.
fn index(number: &str) -> Option<usize> {
    number.parse().ok().filter(|parsed: &usize| parsed.to_string() == number)
}

/// Returns true if a part of attention has a bias; `None` if attention has no such part.
fn attention_bias(spec: &TransformerSpec, part: &str) -> Option<bool> {
    match (spec.projections, part) {
        (Projections::Fused, "attn.c_attn")
        | (Projections::Separate, "self_attn.q_proj" | "self_attn.k_proj" | "self_attn.v_proj") => {
            Some(spec.biases.qkv)
        }
        (Projections::Stacked, "self_attn.qkv_proj") => Some(false),
        (_, "self_attn.q_norm" | "self_attn.k_norm") if spec.head_norm => Some(false),
        _ => None,
    }
}

/// Returns true if a part of the feed-forward network has a bias; `None` if it has no such part.
fn feed_forward_bias(spec: &TransformerSpec, feed_forward: FeedForward, part: &str) -> Option<bool> {
    let dense = part.strip_prefix("mlp.").is_some_and(is_gated);
    match feed_forward {
        FeedForward::Gelu { .. } if ["mlp.c_fc", "mlp.c_proj"].contains(&part) => {
            Some(spec.biases.feed_forward)
        }
        FeedForward::SwiGlu { .. } if dense => Some(spec.biases.feed_forward),
        FeedForward::Experts(_) if part == "mlp.gate" => Some(false),
        FeedForward::Experts(experts) => {
            if let Some(matrix) = part.strip_prefix("mlp.shared_experts.") {
                return (experts.shared.is_some() && is_gated(matrix)).then_some(false);
            }
            let (number, matrix) = part.strip_prefix("mlp.experts.")?.split_once('.')?;
            (index(number)? < experts.count && is_gated(matrix)).then_some(false)
        }
        _ => None,
    }
}

/// Whether a name is the one of a matrix of a gated feed-forward network.
fn is_gated(matrix: &str) -> bool {
    ["gate_proj", "up_proj", "down_proj"].contains(&matrix)
}

/// Returns true if a tensor that the network does not have may be left unread.
pub(super) fn is_leftover(name: &str) -> bool {
    LEFTOVERS.iter().any(|end| name.ends_with(end))
}

/// Returns true for the name of a linear layer whose weight is stored as (in, out).
pub(super) fn is_in_out(name: &str) -> bool {
    [".c_attn", ".c_proj", ".c_fc"].iter().any(|end| name.ends_with(end))
}
