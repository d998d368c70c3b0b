//! LLaDA-MoE-7B-A1B: experts in place of the feed-forward part, and a norm of every query and key head.

use serde_json::Value;

use super::{Family, llada, transformers};
use crate::checkpoint::config::Fields;
use crate::checkpoint::spec::{Experts, FeedForward, TransformerSpec};
use crate::error::LoadError;
use crate::kernel::Routing;

/// LLaDA with experts.
pub static LLADA_MOE: Family = Family {
    name: "llada-moe",
    title: "LLaDA-MoE",
    // The release calls itself `llada`, too; its architecture and its keys tell it apart.
    model_types: &["llada", "llada_moe", "lladamoe"],
    classes: &["LLaDAMoEModelLM"],
    bases: &[],
    gguf: &["llada-moe"],
    claims: |fields| {
        fields.get("num_experts").is_some()
            || fields.names_architecture("LLaDAMoEModelLM")
            || fields
                .text("model_type")
                .is_ok_and(|kind| !kind.unwrap_or_default().eq_ignore_ascii_case("llada"))
    },
    read,
    layouts: &[transformers::LAYOUT],
    adapted: false,
    shift: false,
    document_start: false,
    masks: &["<|mask|>"],
    ends: &["<|role_end|>"],
    redraws_masks: true,
    bfloat16: true,
    defaults: llada::DEFAULTS,
    trained_length: Some(4096),
    separator: None,
};

fn read(fields: &Fields<'_>) -> Result<TransformerSpec, LoadError> {
    fields.expect_number("shared_expert_intermediate_size", &[0.0])?;
    for name in ["router_num_group", "router_topk_group"] {
        fields.expect_number(name, &[0.0, 1.0])?;
    }
    fields.expect("moe_router_score_function", &["softmax"], "softmax")?;
    fields.expect_flag("moe_router_enable_expert_bias", false)?;
    fields.expect_flag("norm_topk_prob", false)?;
    fields.expect_number("routed_scaling_factor", &[1.0])?;
    let (count, used) = transformers::experts(fields)?;
    let experts = Experts {
        count,
        width: fields.count(&["expert_intermediate_size", "moe_intermediate_size"])?,
        shared: None,
        bias: false,
        routing: Routing::softmax(used),
    };
    let layers = fields.count(&["num_hidden_layers"])?;
    let feed_forward = match fields.get("moe_layer_freq") {
        None => vec![FeedForward::Experts(experts); layers],
        Some(Value::Array(kinds)) if kinds.len() == layers => {
            kinds.iter().map(|kind| part(fields, kind, experts)).collect::<Result<_, _>>()?
        }
        Some(other) => {
            let reason = format!("is {other}; it must be a list of {layers} numbers, 0 or 1");
            return Err(fields.error("moe_layer_freq", &reason));
        }
    };
    let spec = transformers::read_with(fields, feed_forward, &["qk_layernorm"])?;
    Ok(TransformerSpec { head_norm: fields.flag("qk_layernorm")?.unwrap_or(false), ..spec })
}

/// The feed-forward part that an entry of `moe_layer_freq` asks for.
fn part(fields: &Fields<'_>, kind: &Value, experts: Experts) -> Result<FeedForward, LoadError> {
    match kind.as_u64() {
        Some(0) => Ok(FeedForward::SwiGlu { width: fields.count(&["dense_intermediate_size"])? }),
        Some(1) => Ok(FeedForward::Experts(experts)),
        _ => Err(fields.error("moe_layer_freq", &format!("holds {kind}; supported are 0 and 1"))),
    }
}
