//! Stable-DiffCoder 8B, base and instruct (2601.15892): LLaMA with attention that is full within blocks and causal between
//! them.

use serde_json::Value;

use super::{Family, SamplingDefaults, transformers};
use crate::checkpoint::config::Fields;
use crate::checkpoint::spec::{TransformerSpec, Visibility};
use crate::error::LoadError;

/// Positions of a block, which no file says: those of the training.
const BLOCK: usize = 4;

/// LLaMA in blocks.
pub static STABLE_DIFFCODER: Family = Family {
    name: "stable-diffcoder",
    title: "Stable-DiffCoder",
    model_types: &["llama"],
    classes: &[],
    bases: &["llama"],
    gguf: &[],
    claims,
    read,
    layouts: &[transformers::LAYOUT],
    adapted: false,
    shift: false,
    document_start: false,
    masks: &["<[MASK_TOKEN]>"],
    ends: &[],
    redraws_masks: true,
    bfloat16: true,
    defaults: SamplingDefaults {
        preset: "stable_diffcoder",
        steps: BLOCK as u32,
        temperature: 0.0,
        top_p: 1.0,
        nucleus_first: false,
    },
    trained_length: None,
    separator: None,
};

/// Its files say `llama`. What tells them apart is the class that is to load them.
fn claims(fields: &Fields<'_>) -> bool {
    let names = |name: &str| fields.get(name).is_some_and(|value| mentions(value, "diffcoder"));
    names("architectures") || names("auto_map")
}

/// Returns true if a text in `value` contains `part`, in any case.
fn mentions(value: &Value, part: &str) -> bool {
    match value {
        Value::String(text) => text.to_ascii_lowercase().contains(part),
        Value::Array(values) => values.iter().any(|value| mentions(value, part)),
        Value::Object(fields) => fields.values().any(|value| mentions(value, part)),
        _ => false,
    }
}

fn read(fields: &Fields<'_>) -> Result<TransformerSpec, LoadError> {
    let visibility = Visibility::BlockCausal { block: BLOCK };
    Ok(TransformerSpec { visibility, ..transformers::read(fields)? })
}
