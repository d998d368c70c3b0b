//! The files of a repository that are wanted.

use std::path::{Path, PathBuf};

use super::super::files::read_json;
use super::super::safetensors::shard_names;
use crate::error::LoadError;

const INDEX: &str = "model.safetensors.index.json";
const PICKLES: [&str; 3] = ["pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin"];

/// The files wanted of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A checkpoint.
    Model,
    /// A LoRA adapter.
    Adapter,
}

impl Wanted {
    /// Asks `get` for each file that is wanted, given which files there are, and tells it whether the file is needed.
    pub(super) fn collect(
        self,
        repository: &str,
        listed: impl Fn(&str) -> bool,
        get: impl Fn(&str, bool) -> Result<PathBuf, LoadError>,
    ) -> Result<(), LoadError> {
        let (needed, optional, weights): (&[_], &[_], &[_]) = match self {
            // Some repositories have the parts of a tokenizer instead.
            Self::Model if !listed("tokenizer.json") && listed("vocab.json") => (
                &["config.json", "vocab.json", "merges.txt", "tokenizer_config.json"],
                &[
                    "added_tokens.json",
                    "special_tokens_map.json",
                    "generation_config.json",
                    "chat_template.jinja",
                ],
                &["model.safetensors", INDEX],
            ),
            Self::Model => (
                &["config.json", "tokenizer.json"],
                &[
                    "tokenizer_config.json",
                    "special_tokens_map.json",
                    "generation_config.json",
                    "chat_template.jinja",
                ],
                &["model.safetensors", INDEX],
            ),
            // A mask that its base lacks, and settings of its own.
            Self::Adapter => (
                &["adapter_config.json"],
                &["tokenizer_config.json", "generation_config.json"],
                &["adapter_model.safetensors"],
            ),
        };
        let first = |names: &[&'static str]| names.iter().copied().find(|name| listed(name));
        let weights = match (first(weights), first(&PICKLES)) {
            (None, Some(name)) => {
                let path = Path::new(repository).join(name);
                return Err(match self {
                    Self::Model => LoadError::Pickle { path },
                    Self::Adapter => LoadError::AdapterPickle { path },
                });
            }
            (found, _) => found.unwrap_or(weights[0]),
        };
        for name in needed {
            get(name, true)?;
        }
        for name in optional.iter().filter(|name| listed(name)) {
            get(name, false)?;
        }
        let path = get(weights, true)?;
        if weights == INDEX {
            for name in shard_names(&path, &read_json(&path)?)? {
                get(&name, true)?;
            }
        }
        Ok(())
    }

    /// The content of a repository with files of these `names` that is no model, and the way to use it.
    pub(super) fn mistaken(self, names: &[&str]) -> Option<String> {
        if self == Self::Adapter || names.contains(&"config.json") {
            return None;
        }
        if names.contains(&"adapter_config.json") {
            return Some(
                "the repository holds an adapter: name it as --adapter, beside the --model of its base"
                    .to_owned(),
            );
        }
        let gguf = names.iter().find(|name| name.ends_with(".gguf") && !name.contains("-of-"))?;
        Some(format!(
            "the repository holds GGUF files: download one, such as {}, and give the file as --model",
            gguf.escape_debug()
        ))
    }
}
