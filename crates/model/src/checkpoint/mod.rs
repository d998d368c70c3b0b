//! The files of one model: found in a folder, fetched from a hub or part of the program, and understood
//! from their own contents.

mod adapter;
mod config;
#[cfg(feature = "embedded")]
pub mod embedded;
mod files;
#[cfg(feature = "hub")]
pub mod hub;
mod profile;
mod progress;
mod random;
mod weights;

use std::path::Path;

pub use self::adapter::Adapter;
pub use self::config::{Architecture, ModelConfig};
pub use self::files::ModelFiles;
pub use self::profile::{Family, Profile, SamplingDefaults};
pub use self::random::StoredType;
pub use self::weights::{StoredTensor, Weights};
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
    /// Reads a checkpoint folder, and an adapter folder to merge into it.
    ///
    /// # Errors
    /// The folder is not there, and all errors of [`Self::read`].
    pub fn open(folder: &Path, adapter: Option<&Path>) -> Result<Self, LoadError> {
        if !folder.is_dir() {
            let hint = ": --model takes a folder with config.json, tokenizer.json and safetensors files";
            return Err(LoadError::FileMissing { path: folder.to_owned(), hint: hint.to_owned() });
        }
        Self::read(ModelFiles::Folder(folder.to_owned()), adapter)
    }

    /// Reads a checkpoint from wherever its files are, and an adapter folder to merge into it.
    ///
    /// # Errors
    /// Any file that is missing, damaged, contradicts another, or describes a model of another family.
    pub fn read(files: ModelFiles, adapter: Option<&Path>) -> Result<Self, LoadError> {
        let config = ModelConfig::read(&files)?;
        let adapter = adapter.map(Adapter::open).transpose()?;
        let weights = Weights::open(&files, config.architecture, adapter)?;
        let rows = weights.embedding(config.width)?.shape()[0];
        let profile = Profile::read(&files, &config)?;
        let tokenizer = TextTokenizer::read(&files, &profile, rows)?;
        Ok(Self { files, config, profile, tokenizer, weights })
    }
}
