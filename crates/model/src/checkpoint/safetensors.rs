//! Safetensors files: one, or shards with an index, in the layouts of the reference and of transformers.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::TensorView;
use serde_json::{Map, Value};

use super::config::Architecture;
use super::files::{ModelFiles, TensorFile};
use super::mistaken;
use super::tensor::StoredTensor;
use super::weights::{EMBEDDING, HEAD};
use crate::error::{LoadError, one_line};

/// The name of the embedding and the prefix of the trunk, in every layout seen: the reference's wrapper
/// (as its hub mixin and its fine-tuning save it), then the plain layouts of transformers.
const GPT2_LAYOUTS: [(&str, &str); 3] =
    [("embed_tokens.weight", WRAPPER), ("transformer.wte.weight", "transformer."), ("wte.weight", "")];
const LLAMA_LAYOUTS: [(&str, &str); 2] =
    [("model.embed_tokens.weight", "model."), ("embed_tokens.weight", WRAPPER)];

/// The prefix of the trunk in the reference's wrapper.
const WRAPPER: &str = "denoise_model.";

/// The weights when they are not sharded.
const SINGLE: &str = "model.safetensors";

/// Safetensors files in one of the layouts.
pub(super) struct Safetensors {
    files: Vec<(PathBuf, Arc<TensorFile>)>,
    /// Which file holds a tensor.
    index: HashMap<String, usize>,
    embedding: &'static str,
    prefix: &'static str,
}

impl Safetensors {
    pub(super) fn open(files: &ModelFiles, architecture: Architecture) -> Result<Self, LoadError> {
        let mut opened: Vec<(PathBuf, Arc<TensorFile>)> = Vec::new();
        let mut index = HashMap::new();
        for name in weight_files(files)? {
            let (path, file) = (files.path(&name), files.safetensors(&name)?);
            for (tensor, _) in file.tensors() {
                if let Some(other) = index.insert(tensor.clone(), opened.len()) {
                    let other = &opened[other].0;
                    let tensor = one_line(&tensor);
                    let reason =
                        format!("tensor `{tensor}` is in {} too; remove one of them", other.display());
                    return Err(LoadError::Malformed { path, reason });
                }
            }
            opened.push((path, Arc::new(file)));
        }
        let layouts = match architecture {
            Architecture::Gpt2 => &GPT2_LAYOUTS[..],
            Architecture::Llama => &LLAMA_LAYOUTS[..],
        };
        let found = layouts.iter().find(|(embedding, _)| index.contains_key(*embedding));
        let Some(&(embedding, prefix)) = found else {
            let path = opened.first().map_or_else(|| files.path(SINGLE), |(path, _)| path.clone());
            return Err(LoadError::TensorMissing { path, name: layouts[0].0.to_owned() });
        };
        Ok(Self { files: opened, index, embedding, prefix })
    }

    /// What the files call a tensor.
    pub(super) fn stored_name(&self, name: &str) -> String {
        match name {
            EMBEDDING => self.embedding.to_owned(),
            HEAD => HEAD.to_owned(),
            _ => format!("{}{name}", self.prefix),
        }
    }

    /// The canonical name of a tensor of the files; `None` outside the layout.
    pub(super) fn canonical_name(&self, stored: &str) -> Option<String> {
        match stored {
            HEAD => Some(HEAD.to_owned()),
            _ if stored == self.embedding => Some(EMBEDDING.to_owned()),
            _ => {
                let inner = stored.strip_prefix(self.prefix)?;
                (![EMBEDDING, HEAD].contains(&inner)).then(|| inner.to_owned())
            }
        }
    }

    /// Whether a tensor is the embedding under the name that it has inside the trunk. The reference's wrapper holds
    /// the embedding outside, and its trunk is never given ids.
    pub(super) fn is_copy_of_embedding(&self, name: &str) -> bool {
        let inner = name.strip_prefix(self.prefix);
        self.prefix == WRAPPER && matches!(inner, Some("wte.weight" | "embed_tokens.weight"))
    }

    /// Whether there is a tensor, by its canonical name.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.index.contains_key(&self.stored_name(name))
    }

    /// Every tensor with its name in the files.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (String, TensorView<'_>)> {
        self.files.iter().flat_map(|(_, file)| file.tensors())
    }

    /// A tensor by its canonical name.
    pub(super) fn load(&self, name: &str) -> Result<StoredTensor, LoadError> {
        let name = self.stored_name(name);
        match self.index.get(&name) {
            Some(&file) => StoredTensor::in_file(&self.files[file].1, &self.files[file].0, &name),
            None => Err(LoadError::TensorMissing { path: self.files[0].0.clone(), name }),
        }
    }
}

/// The names of the safetensors files.
fn weight_files(files: &ModelFiles) -> Result<BTreeSet<String>, LoadError> {
    let index = "model.safetensors.index.json";
    if files.exists(SINGLE) {
        return Ok(BTreeSet::from([SINGLE.to_owned()]));
    }
    if files.exists(index) {
        return shard_names(&files.path(index), &files.json(index)?);
    }
    let pickle = "pytorch_model.bin";
    if files.exists(pickle) || files.exists("pytorch_model.bin.index.json") {
        return Err(LoadError::Pickle { path: files.path(pickle) });
    }
    let other = files.folder().and_then(mistaken::other_weights).unwrap_or_default();
    let hint = format!(": weights must be safetensors, one file or shards with {index}{other}");
    Err(LoadError::FileMissing { path: files.path(SINGLE), hint })
}

/// The files that an index names; `path` is the index file's, for messages.
pub(super) fn shard_names(path: &Path, fields: &Map<String, Value>) -> Result<BTreeSet<String>, LoadError> {
    let error = |reason: &str| LoadError::Field {
        path: path.to_owned(),
        field: "weight_map".to_owned(),
        reason: reason.to_owned(),
    };
    let map = fields.get("weight_map").and_then(|map| map.as_object());
    let map = map.ok_or_else(|| error("is missing; it maps tensor names to files"))?;
    let mut names = BTreeSet::new();
    for value in map.values() {
        let name = value.as_str().filter(|name| {
            // A plain file name: an index must not reach outside its folder.
            let plain = Path::new(name).file_name().is_some_and(|file| file == std::ffi::OsStr::new(name));
            plain && !name.contains(char::is_control)
        });
        let name = name.ok_or_else(|| error(&format!("holds {value}; values must be file names")))?;
        names.insert(name.to_owned());
    }
    if names.is_empty() {
        return Err(error("is empty; it maps tensor names to files"));
    }
    Ok(names)
}
