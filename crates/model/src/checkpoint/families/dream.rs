//! Dream-7B, Dream-Coder and DiffuCoder (2508.15487, 2506.20639): Qwen2 with full attention.

use super::{Family, SamplingDefaults, any, qwen2, transformers};

/// The settings of Dream's own scripts.
pub(super) const DEFAULTS: SamplingDefaults =
    SamplingDefaults { preset: "dream", steps: 512, temperature: 0.2, top_p: 0.95, nucleus_first: true };

/// Dream and its relatives.
pub static DREAM: Family = Family {
    name: "dream",
    title: "Dream",
    model_types: &["Dream"],
    classes: &["DreamModel"],
    bases: &[],
    gguf: &["dream"],
    claims: any,
    read: qwen2::read,
    layouts: &[transformers::LAYOUT, transformers::BARE_LAYOUT],
    adapted: false,
    shift: true,
    document_start: false,
    masks: &["<|mask|>"],
    ends: &["<|im_end|>", "<|dlm_pad|>"],
    redraws_masks: true,
    bfloat16: true,
    defaults: DEFAULTS,
    trained_length: Some(2048),
    separator: None,
};
