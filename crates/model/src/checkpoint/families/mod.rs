//! The shelf of families: everything that differs between models and is not arithmetic, one file each.
//!
//! A further family is a further file with a [`Family`] in it, and an entry of [`FAMILIES`].

mod diffugpt;
mod diffullama;
mod dream;
mod fast_dllm;
mod llada;
mod llada2;
mod llada_moe;
mod qwen2;
mod sdar;
mod stable_diffcoder;
pub mod transformers;

use std::fmt;

pub use self::diffugpt::DIFFUGPT;
pub use self::diffullama::DIFFULLAMA;
pub use self::dream::DREAM;
pub use self::fast_dllm::FAST_DLLM;
pub use self::llada::LLADA;
pub use self::llada_moe::LLADA_MOE;
pub use self::llada2::LLADA2;
pub use self::qwen2::QWEN2;
pub use self::sdar::SDAR;
pub use self::stable_diffcoder::STABLE_DIFFCODER;
use super::config::Fields;
use super::layout::Layout;
use super::spec::TransformerSpec;
use crate::error::LoadError;

/// Every family that is served, the first that answers to a file's names takes it.
pub static FAMILIES: [&Family; 10] = [
    &DIFFUGPT,
    &STABLE_DIFFCODER,
    &DIFFULLAMA,
    &LLADA_MOE,
    &LLADA,
    &LLADA2,
    &DREAM,
    &SDAR,
    &FAST_DLLM,
    &QWEN2,
];

/// A family of masked diffusion models: everything that differs between models and is not arithmetic.
///
/// A family says which files it claims, how their keys and tensor names are read, how its head is shifted,
/// how its mask and ends are spelled, and which settings its authors sample with. The network itself is a
/// [`TransformerSpec`]. A further family is one more value of this type in [`FAMILIES`].
///
/// ```
/// use unmask_model::checkpoint::Family;
///
/// let dream = Family::named("dream").expect("a family of this name");
/// assert!(dream.shift);
/// assert_eq!(dream.defaults.preset, "dream");
/// assert_eq!(dream.defaults.top_p, 0.95);
/// ```
pub struct Family {
    /// Its name, as `--family` takes it.
    pub name: &'static str,
    /// Its name in texts.
    pub title: &'static str,
    /// Values of `model_type` in `config.json` that it answers to.
    pub model_types: &'static [&'static str],
    /// Names in `architectures` that it answers to where `model_type` is not known: conversions change it.
    pub classes: &'static [&'static str],
    /// Values of `model_type` and `general.architecture` of the autoregressive models that its members were made of: a
    /// file that says one of these and spells its mask as the family does is of the family.
    pub bases: &'static [&'static str],
    /// Values of `general.architecture` in GGUF files that it answers to; without any it is read from safetensors only.
    pub gguf: &'static [&'static str],
    /// Decides whether a configuration with such a `model_type` belongs to the family.
    pub claims: fn(&Fields<'_>) -> bool,
    /// Reads the keys of `config.json`.
    pub read: fn(&Fields<'_>) -> Result<TransformerSpec, LoadError>,
    /// Names of the tensors in safetensors files; the first layout whose embedding is there is taken.
    pub layouts: &'static [Layout],
    /// True if files of this kind hold autoregressive models unless they name a mask token.
    pub adapted: bool,
    /// True if row i of the head predicts position i + 1.
    pub shift: bool,
    /// True if a document begins with its start token where the caller gives no tokens.
    pub document_start: bool,
    /// Spellings of the mask token, for files that do not name it.
    pub masks: &'static [&'static str],
    /// Spellings of tokens that end a text beside the end of document that files name.
    pub ends: &'static [&'static str],
    /// True if the family's samplers recognise open positions by the mask token, so that a drawn mask leaves
    /// its position open.
    pub redraws_masks: bool,
    /// True if the authors compute the family in bfloat16; false for f32.
    pub bfloat16: bool,
    /// Sampling settings of requests that give none.
    pub defaults: SamplingDefaults,
    /// Longest text of the training, where the files do not say.
    pub trained_length: Option<usize>,
    /// The text between the messages of a chat, for models without a chat template.
    pub separator: Option<&'static str>,
}

/// The settings of the authors' example scripts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingDefaults {
    /// The decision rule's name in requests.
    pub preset: &'static str,
    /// T.
    pub steps: u32,
    /// Divides the logits.
    pub temperature: f64,
    /// Nucleus mass.
    pub top_p: f64,
    /// True if the nucleus is found before the k most probable tokens of it are kept.
    pub nucleus_first: bool,
}

impl Family {
    /// The family of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FAMILIES.into_iter().find(|family| family.name == name)
    }

    /// Returns true if its members were made of models of a kind.
    pub(super) fn is_made_of(&self, kind: &str) -> bool {
        self.bases.iter().any(|base| base.eq_ignore_ascii_case(kind))
    }

    /// The family that was made of models of a kind and spells its mask like this.
    pub(super) fn by_mask(kind: &str, mask: &str) -> Option<&'static Self> {
        FAMILIES.into_iter().find(|family| family.is_made_of(kind) && family.masks.contains(&mask))
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Every configuration is the family's.
pub(super) fn any(_: &Fields<'_>) -> bool {
    true
}
