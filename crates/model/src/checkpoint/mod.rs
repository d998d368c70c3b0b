//! The files of one model: found in a folder or fetched from a hub, and understood from their own
//! contents.

mod adapter;
mod config;
#[cfg(feature = "hub")]
pub mod hub;
mod profile;
mod weights;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub use self::adapter::Adapter;
pub use self::config::{Architecture, ModelConfig};
pub use self::profile::{Family, Profile, SamplingDefaults};
pub use self::weights::{StoredTensor, Weights};
use crate::error::{LoadError, one_line};
use crate::tokenizer::TextTokenizer;

/// Everything that was read of a model before its weights go to a device.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder.
    pub folder: PathBuf,
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
    /// Any file that is missing, damaged, contradicts another, or describes a model of another family.
    pub fn open(folder: &Path, adapter: Option<&Path>) -> Result<Self, LoadError> {
        if !folder.is_dir() {
            let hint = ": --model takes a folder with config.json, tokenizer.json and safetensors files";
            return Err(LoadError::FileMissing { path: folder.to_owned(), hint: hint.to_owned() });
        }
        let config = ModelConfig::read(&folder.join("config.json"))?;
        let adapter = adapter.map(Adapter::open).transpose()?;
        let weights = Weights::open(folder, config.architecture, adapter)?;
        let rows = weights.embedding(config.width)?.shape()[0];
        let profile = Profile::read(folder, &config)?;
        let tokenizer = TextTokenizer::read(folder, &profile, rows)?;
        Ok(Self { folder: folder.to_owned(), config, profile, tokenizer, weights })
    }
}

/// A JSON file whose top level is an object.
fn read_json(path: &Path) -> Result<Map<String, Value>, LoadError> {
    let bytes = read_file(path, "")?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => {
            let reason = "expected a JSON object".to_owned();
            Err(LoadError::Malformed { path: path.to_owned(), reason })
        }
        Err(error) => Err(LoadError::Malformed { path: path.to_owned(), reason: one_line(&error) }),
    }
}

/// A whole file; `hint` is added to the message when it is not there.
fn read_file(path: &Path, hint: &str) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            LoadError::FileMissing { path: path.to_owned(), hint: hint.to_owned() }
        }
        _ => LoadError::Read { path: path.to_owned(), source },
    })
}
