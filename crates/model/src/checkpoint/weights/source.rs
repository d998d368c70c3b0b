//! The source of tensors: safetensors, a GGUF file, or random numbers.

use std::path::Path;

use super::super::config::ModelConfig;
use super::super::expected;
use super::super::files::ModelFiles;
use super::super::gguf::{self, Gguf};
use super::super::layout::{EMBEDDING, HEAD};
use super::super::mistaken;
use super::super::random::Random;
use super::super::safetensors::Safetensors;
use super::super::tensor::StoredTensor;
use crate::error::LoadError;

/// The source of tensors.
pub(super) enum Source {
    Safetensors(Safetensors),
    Gguf {
        file: Gguf,
        head_width: usize,
    },
    /// There are no files; tensors are made when they are asked for.
    Random(Random),
}

impl Source {
    /// A tensor by its name without the layout's prefix. `shape` is what random ones have.
    pub(super) fn load(&self, name: &str, shape: &[usize]) -> Result<StoredTensor, LoadError> {
        match self {
            Self::Safetensors(files) => files.load(name),
            Self::Gguf { file, head_width } => {
                let (name, tensor) = file.tensor(name, *head_width)?;
                Ok(StoredTensor::in_blocks(tensor, file.path(), name))
            }
            Self::Random(random) => {
                let tensor = random.tensor(name, shape)?;
                Ok(StoredTensor::in_memory(tensor, Path::new("random"), name.to_owned()))
            }
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        match self {
            Self::Safetensors(files) => files.contains(name),
            Self::Gguf { file, .. } => file.contains(name),
            Self::Random(_) => false,
        }
    }

    /// The canonical name of a tensor of the files.
    pub(super) fn canonical_name(&self, stored: &str) -> Option<String> {
        match self {
            Self::Safetensors(files) => files.canonical_name(stored),
            Self::Gguf { .. } => gguf::canonical_name(stored),
            Self::Random(_) => Some(stored.to_owned()),
        }
    }

    /// The tensors that are not read, ascending.
    ///
    /// # Errors
    /// One of them is part of a network, and not of the configured one.
    pub(super) fn unread(&self, files: &ModelFiles, config: &ModelConfig) -> Result<Vec<String>, LoadError> {
        let is_part =
            |name: &str| self.canonical_name(name).is_some_and(|name| expected::is_part(&config.spec, &name));
        let mut unread = Vec::new();
        self.each(|name, _, shape, _| {
            // Of a stack, every expert is read or none.
            let whole =
                !matches!(self, Self::Gguf { .. }) || gguf::holds_experts_of(name, shape, &config.spec);
            if !is_part(name) || !whole {
                unread.push(name.to_owned());
            }
        });
        unread.sort();
        let is_harmless = |name: &str| {
            let copy = matches!(self, Self::Safetensors(files) if files.is_copy_of_embedding(name));
            copy || expected::is_leftover(name)
        };
        match unread.iter().find(|name| !is_harmless(name)) {
            Some(name) => {
                let path = files.path("config.json");
                let layers = config.spec.layers();
                let way_out = match self {
                    Self::Gguf { .. } if name == "rope_freqs.weight" => {
                        "it scales the rotation as LLaMA 3.1 does, which is read from safetensors only: give the folder of the \
                         model"
                    }
                    Self::Gguf { .. } => {
                        "it is another network than the file's keys say, or one that is not supported"
                    }
                    _ => {
                        "use the configuration that the weights were saved with, or remove the tensor if it is a leftover"
                    }
                };
                Err(LoadError::TensorUnread { path, name: name.escape_debug().to_string(), layers, way_out })
            }
            None => Ok(unread),
        }
    }

    /// Checks that head and configuration agree.
    pub(super) fn check_head(&self, files: &ModelFiles, config: &ModelConfig) -> Result<(), LoadError> {
        let Self::Safetensors(source) = self else { return Ok(()) };
        let path = files.path("config.json");
        let (field, tied) = config.tied;
        if !source.contains(HEAD) {
            if config.spec.ties_missing_head {
                return Ok(());
            }
            let other = files.folder().and_then(|folder| mistaken::unlisted_weights(folder, &source.names()));
            let other = other.unwrap_or_default();
            return Err(LoadError::HeadMissing { path, field, tensor: source.stored_name(HEAD), other });
        }
        if tied == Some(true) && !source.are_equal(HEAD, EMBEDDING)? {
            let reason = format!(
                "is true, but tensor `{}` is not the embedding; set the field to false if it is the head, or remove the \
                 tensor",
                source.stored_name(HEAD)
            );
            return Err(LoadError::Field { path, field: field.to_owned(), reason });
        }
        Ok(())
    }

    /// Calls `visit` with the name, type, shape and bytes of every tensor in the files.
    pub(super) fn each(&self, mut visit: impl FnMut(&str, String, &[usize], &[u8])) {
        match self {
            Self::Safetensors(files) => {
                for (name, view) in files.tensors() {
                    visit(&name, format!("{:?}", view.dtype()), view.shape(), view.data());
                }
            }
            Self::Gguf { file, .. } => {
                for (name, tensor) in file.tensors() {
                    visit(name, tensor.encoding().to_string(), tensor.shape(), tensor.bytes());
                }
            }
            Self::Random(_) => {}
        }
    }
}
