//! Fast-dLLM v2 (1.5B and 7B, 2509.26328): Qwen2 with attention that is full within blocks and causal between them, and a
//! head that predicts the next position as its base does.

use super::{Family, SamplingDefaults, any, qwen2, transformers};
use crate::checkpoint::config::Fields;
use crate::checkpoint::spec::{TransformerSpec, Visibility};
use crate::error::LoadError;

/// Positions of a block where the files do not say: those of the training.
const BLOCK: usize = 32;
/// Positions of a part of a block, which are filled before the next part.
const PART: u32 = 8;

/// Qwen2 in blocks.
pub static FAST_DLLM: Family = Family {
    name: "fast-dllm-v2",
    title: "Fast-dLLM v2",
    model_types: &["Fast_dLLM_Qwen"],
    classes: &["Fast_dLLM_QwenForCausalLM"],
    bases: &["qwen2"],
    gguf: &[],
    claims: any,
    read,
    layouts: &[transformers::LAYOUT],
    adapted: false,
    shift: true,
    document_start: false,
    masks: &["|<MASK>|"],
    ends: &["<|im_end|>"],
    redraws_masks: true,
    bfloat16: true,
    defaults: SamplingDefaults {
        preset: "fast_dllm_v2",
        steps: PART,
        temperature: 0.0,
        top_p: 0.95,
        nucleus_first: false,
    },
    trained_length: None,
    separator: None,
};

fn read(fields: &Fields<'_>) -> Result<TransformerSpec, LoadError> {
    let block = fields.optional_count("bd_size")?.unwrap_or(BLOCK);
    Ok(TransformerSpec { visibility: Visibility::BlockCausal { block }, ..qwen2::read(fields)? })
}
