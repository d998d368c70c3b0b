//! The files of one model: found in a folder, fetched from a hub or part of the program, and understood
//! from their own contents.

mod adapter;
mod config;
#[cfg(feature = "embedded")]
pub mod embedded;
mod expected;
pub mod families;
mod files;
mod gguf;
#[cfg(feature = "hub")]
pub mod hub;
mod layout;
mod mask;
mod mistaken;
mod profile;
mod progress;
mod random;
mod rotation;
mod safetensors;
#[cfg(feature = "smollm2")]
pub mod smollm2;
mod spec;
mod tensor;
mod vocabulary;
mod weights;

use std::path::Path;

pub use self::adapter::Adapter;
use self::config::Identity;
pub use self::config::{Fields, ModelConfig};
pub(crate) use self::expected::BlockNames;
pub use self::families::{Family, SamplingDefaults};
pub use self::files::ModelFiles;
pub(crate) use self::files::no_json;
pub use self::gguf::{BlockTensor, Gguf};
pub use self::layout::Layout;
pub use self::mask::Mask;
pub use self::profile::Profile;
pub use self::random::StoredType;
pub use self::spec::{
    Biases, Experts, FeedForward, NormKind, Positions, Projections, Rotation, Scaling, TransformerSpec,
    Visibility,
};
pub use self::tensor::StoredTensor;
pub use self::weights::Weights;
use crate::error::LoadError;
use crate::tokenizer::TextTokenizer;

/// Everything that is read of a model before its weights go to a device.
///
/// [`Self::open`] reads a folder or a GGUF file: the family and shapes from its configuration, the mask
/// token, the tokenizer, and an index of the tensors, which stay in the file's memory map. A checkpoint that
/// cannot be served fails here, with an error of one line that names the file and the field.
/// [`CandlePredictor::load`](crate::predictor::CandlePredictor::load) then loads the weights.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// use unmask_model::checkpoint::{Checkpoint, embedded};
///
/// // Or `Checkpoint::open(folder, None)`.
/// let checkpoint = Checkpoint::read(embedded::FILES.clone(), None)?;
/// assert_eq!(checkpoint.config.family.name, "diffugpt");
/// let tokens = checkpoint.tokenizer.encode_piece("return x")?;
/// assert_eq!(checkpoint.tokenizer.decode(&tokens, false), "return x");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder or file that was read.
    pub files: ModelFiles,
    /// Its family, and shapes and constants of the network.
    pub config: ModelConfig,
    /// Shift, special tokens and defaults.
    pub profile: Profile,
    /// Text to tokens and back.
    pub tokenizer: TextTokenizer,
    /// The tensors, still in their files.
    pub weights: Weights,
}

/// Settings of a model beside its files.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOptions<'a> {
    /// The files of an adapter to merge into it.
    pub adapter: Option<&'a ModelFiles>,
    /// The family, whatever the files call themselves.
    pub family: Option<&'static Family>,
    /// The mask token, whatever the files say.
    pub mask_token: Option<&'a str>,
}

impl Checkpoint {
    /// Reads a checkpoint folder or GGUF file, and an adapter folder to merge into it.
    ///
    /// # Errors
    /// As [`ModelFiles::open`] and [`Self::read`].
    pub fn open(path: &Path, adapter: Option<&Path>) -> Result<Self, LoadError> {
        Self::read(ModelFiles::open(path)?, adapter)
    }

    /// Reads a checkpoint from any source of files, and an adapter folder to merge into it.
    ///
    /// # Errors
    /// As [`Self::read_with`].
    pub fn read(files: ModelFiles, adapter: Option<&Path>) -> Result<Self, LoadError> {
        let adapter = adapter.map(|folder| ModelFiles::Folder(folder.to_owned()));
        Self::read_with(files, ReadOptions { adapter: adapter.as_ref(), ..ReadOptions::default() })
    }

    /// Reads a checkpoint from any source of files, with settings beside them.
    ///
    /// # Errors
    /// The model is autoregressive, which is reported before any other error. Any file that is missing,
    /// damaged, contradicts another, or describes a model of another family.
    pub fn read_with(files: ModelFiles, options: ReadOptions<'_>) -> Result<Self, LoadError> {
        let identity = Identity::read(&files)?;
        let Some(family) = options.family.or(identity.family) else {
            let masked = options.mask_token.is_some() || Mask::is_named(&files)?;
            return Err(identity.unsupported(&files, masked));
        };
        let mask = Mask::find(&files, options.adapter, family, options.mask_token)?;
        let family = match options.family {
            Some(given) => given,
            None => Family::by_mask(&identity.kind, &mask.text).unwrap_or(family),
        };
        if let ModelFiles::Gguf(file) = &files {
            file.expect_types()?;
        }
        let config = ModelConfig::read_as(&files, family)?;
        let adapter = options.adapter.map(|files| Adapter::read(files.clone(), family)).transpose()?;
        let weights = Weights::open(&files, &config, adapter)?;
        let rows = weights.embedding(config.spec.width)?.shape()[0];
        let profile = Profile::read(&files, &config, mask)?;
        let tokenizer = TextTokenizer::read(&files, &profile, rows)?;
        Ok(Self { files, config, profile, tokenizer, weights })
    }
}
