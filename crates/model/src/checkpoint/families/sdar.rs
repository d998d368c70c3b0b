//! SDAR (1.7B to 8B, 30B-A3B) and TraDo (2510.06303): Qwen3 with attention that is full within blocks and causal between
//! them.

use serde_json::Value;

use super::{Family, SamplingDefaults, any, transformers};
use crate::checkpoint::config::Fields;
use crate::checkpoint::spec::{Experts, FeedForward, TransformerSpec, Visibility};
use crate::error::LoadError;
use crate::kernel::Routing;

/// Positions of a block where the files do not say: those of the released chat models.
const BLOCK: usize = 4;

/// Qwen3, or Qwen3 with experts, in blocks.
pub static SDAR: Family = Family {
    name: "sdar",
    title: "SDAR",
    model_types: &["sdar", "sdar_moe"],
    classes: &["SDARForCausalLM", "SDARMoeForCausalLM"],
    bases: &[],
    gguf: &[],
    claims: any,
    read,
    layouts: &[transformers::LAYOUT],
    adapted: false,
    shift: false,
    document_start: false,
    masks: &["<|MASK|>", "<MASK>"],
    ends: &["<|im_end|>"],
    redraws_masks: true,
    bfloat16: true,
    defaults: SamplingDefaults {
        preset: "sdar",
        steps: BLOCK as u32,
        temperature: 1.0,
        top_p: 1.0,
        nucleus_first: false,
    },
    trained_length: None,
    separator: None,
};

fn read(fields: &Fields<'_>) -> Result<TransformerSpec, LoadError> {
    let spec = if fields.get("num_experts").is_some() {
        transformers::read_with(fields, with_experts(fields)?, &[])?
    } else {
        transformers::read(fields)?
    };
    let block = fields.optional_count("block_size")?.unwrap_or(BLOCK);
    Ok(TransformerSpec { head_norm: true, visibility: Visibility::BlockCausal { block }, ..spec })
}

/// The experts of Qwen3: the weights of those that a row uses are divided by their sum where the files say so.
fn with_experts(fields: &Fields<'_>) -> Result<Vec<FeedForward>, LoadError> {
    fields.expect_number("decoder_sparse_step", &[1.0])?;
    for name in ["mlp_only_layers", "shared_expert_intermediate_size", "num_shared_experts"] {
        if let Some(value) = fields.get(name).filter(|value| !is_nothing(value)) {
            return Err(fields.error(name, &format!("is {value}; only null is supported")));
        }
    }
    let (count, used) = transformers::experts(fields)?;
    let normalised = fields.flag("norm_topk_prob")?.unwrap_or(false);
    let experts = Experts {
        count,
        width: fields.count(&["moe_intermediate_size"])?,
        shared: None,
        bias: false,
        routing: Routing { normalised, ..Routing::softmax(used) },
    };
    Ok(vec![FeedForward::Experts(experts); fields.count(&["num_hidden_layers"])?])
}

/// An empty list or 0.
fn is_nothing(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_u64() == Some(0)
}
