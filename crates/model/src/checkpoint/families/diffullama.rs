//! DiffuLLaMA: LLaMA adapted to diffusion (2410.17891, section 3; `model.py` of the reference).

use super::{Family, SamplingDefaults, any, transformers};
use crate::checkpoint::layout::Layout;

/// LLaMA adapted to diffusion.
pub static DIFFULLAMA: Family = Family {
    name: "diffullama",
    title: "DiffuLLaMA",
    model_types: &["llama"],
    classes: &[],
    bases: &[],
    gguf: &["llama"],
    claims: any,
    read: transformers::read,
    layouts: &[
        transformers::LAYOUT,
        Layout::plain("embed_tokens.weight", "denoise_model."),
        transformers::BARE_LAYOUT,
    ],
    adapted: true,
    shift: true,
    document_start: true,
    masks: &[],
    ends: &[],
    redraws_masks: false,
    bfloat16: true,
    defaults: SamplingDefaults {
        preset: "reference",
        steps: 64,
        temperature: 0.9,
        top_p: 0.9,
        nucleus_first: false,
    },
    trained_length: Some(2048),
    separator: Some("========"),
};
