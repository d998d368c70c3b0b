//! Open-dCoder and other conversions of Qwen2 that keep its `model_type`: diffusion models by their mask token alone.

use super::{Family, any, dream, transformers};
use crate::checkpoint::config::Fields;
use crate::checkpoint::spec::{Biases, TransformerSpec};
use crate::error::LoadError;

/// Qwen2 adapted to diffusion.
pub static QWEN2: Family = Family {
    name: "qwen2",
    title: "Qwen2 adapted to diffusion",
    model_types: &["qwen2"],
    classes: &[],
    bases: &[],
    gguf: &["qwen2"],
    claims: any,
    read,
    layouts: &[transformers::LAYOUT, transformers::BARE_LAYOUT],
    adapted: true,
    shift: true,
    document_start: false,
    masks: &["[MASK]"],
    ends: &["<|im_end|>"],
    redraws_masks: true,
    bfloat16: true,
    defaults: dream::DEFAULTS,
    trained_length: None,
    separator: None,
};

/// A LLaMA whose queries, keys and values have biases, which no key says.
pub(super) fn read(fields: &Fields<'_>) -> Result<TransformerSpec, LoadError> {
    let spec = transformers::read_biased(fields)?;
    Ok(TransformerSpec { biases: Biases { qkv: true, ..Biases::default() }, ..spec })
}
