//! The files of one model: found in a folder, fetched from a hub or part of the program, and understood
//! from their own contents.

mod adapter;
mod config;
#[cfg(feature = "embedded")]
pub mod embedded;
mod expected;
mod files;
mod gguf;
#[cfg(feature = "hub")]
pub mod hub;
mod mistaken;
mod profile;
mod progress;
mod random;
mod safetensors;
mod tensor;
mod weights;

use std::path::Path;

pub use self::adapter::Adapter;
pub use self::config::{Architecture, ModelConfig};
pub use self::files::ModelFiles;
pub(crate) use self::files::no_json;
pub use self::gguf::{BlockTensor, Gguf};
pub use self::profile::{Family, Profile, SamplingDefaults};
pub use self::random::StoredType;
pub use self::tensor::StoredTensor;
pub use self::weights::Weights;
use crate::error::LoadError;
use crate::tokenizer::TextTokenizer;

/// Everything that was read of a model before its weights go to a device.
#[derive(Debug)]
pub struct Checkpoint {
    /// Where it was read from.
    pub files: ModelFiles,
    /// Shapes and constants of the network.
    pub config: ModelConfig,
    /// How the family is used: shift, special tokens, defaults.
    pub profile: Profile,
    /// Text to tokens and back.
    pub tokenizer: TextTokenizer,
    /// The tensors, still in their files.
    pub weights: Weights,
}

impl Checkpoint {
    /// Reads a checkpoint folder or GGUF file, and an adapter folder to merge into it.
    ///
    /// # Errors
    /// As [`ModelFiles::open`] and [`Self::read`].
    pub fn open(path: &Path, adapter: Option<&Path>) -> Result<Self, LoadError> {
        Self::read(ModelFiles::open(path)?, adapter)
    }

    /// Reads a checkpoint from wherever its files are, and an adapter folder to merge into it.
    ///
    /// # Errors
    /// Any file that is missing, damaged, contradicts another, or describes a model of another family.
    pub fn read(files: ModelFiles, adapter: Option<&Path>) -> Result<Self, LoadError> {
        let config = ModelConfig::read(&files)?;
        let own_files = adapter.map(|folder| ModelFiles::Folder(folder.to_owned()));
        let adapter = adapter.map(Adapter::open).transpose()?;
        let weights = Weights::open(&files, &config, adapter)?;
        let rows = weights.embedding(config.width)?.shape()[0];
        let profile = Profile::read(&files, own_files.as_ref(), &config)?;
        let tokenizer = TextTokenizer::read(&files, &profile, rows)?;
        Ok(Self { files, config, profile, tokenizer, weights })
    }
}
