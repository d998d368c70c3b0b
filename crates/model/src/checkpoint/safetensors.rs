//! Safetensors files: one, or shards with an index, in the layouts of the reference and of transformers.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::TensorView;
use serde_json::{Map, Value};

use super::families::Family;
use super::files::{ModelFiles, TensorFile};
use super::layout::Layout;
use super::mistaken;
use super::tensor::StoredTensor;
use crate::error::{LoadError, one_line};

/// The prefix of the trunk in the reference's wrapper.
const WRAPPER: &str = "denoise_model.";

/// The weights when they are not sharded.
const SINGLE: &str = "model.safetensors";

/// Safetensors files in one of the layouts.
pub(super) struct Safetensors {
    files: Vec<(PathBuf, Arc<TensorFile>)>,
    /// The file of each tensor.
    index: HashMap<String, usize>,
    layout: &'static Layout,
}

impl Safetensors {
    pub(super) fn open(files: &ModelFiles, family: &Family) -> Result<Self, LoadError> {
        let mut opened: Vec<(PathBuf, Arc<TensorFile>)> = Vec::new();
        let mut index = HashMap::new();
        for name in weight_files(files)? {
            let path = files.path(&name);
            let file = files.safetensors(&name)?;
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
        // Two layouts may agree on the embedding.
        let fits = |layout: &&Layout| {
            let of_trunk = |name: &String| name != layout.embedding && name.starts_with(layout.trunk);
            index.contains_key(layout.embedding) && index.keys().any(of_trunk)
        };
        let embeds = |layout: &&Layout| index.contains_key(layout.embedding);
        let layout = family.layouts.iter().find(fits).or_else(|| family.layouts.iter().find(embeds));
        let Some(layout) = layout else {
            let path = opened.first().map_or_else(|| files.path(SINGLE), |(path, _)| path.clone());
            let name = family.layouts.first().map_or("", |layout| layout.embedding);
            let wrapped = index.keys().filter_map(|stored| stored.strip_suffix(name)).min();
            let hint = wrapped.filter(|prefix| prefix.ends_with('.')).map_or_else(String::new, |prefix| {
                let prefix = one_line(&prefix);
                format!(": the names in the file begin with `{prefix}`; save the model without its wrapper")
            });
            return Err(LoadError::TensorMissing { path, name: name.to_owned(), hint });
        };
        Ok(Self { files: opened, index, layout })
    }

    /// The canonical name of a tensor of the files; `None` outside the layout.
    pub(super) fn canonical_name(&self, stored: &str) -> Option<String> {
        self.layout.canonical(stored)
    }

    /// Returns true for the embedding under the name that it has inside the trunk. The reference's wrapper
    /// holds the embedding outside, and its trunk never receives ids.
    pub(super) fn is_copy_of_embedding(&self, name: &str) -> bool {
        let inner = name.strip_prefix(self.layout.trunk);
        self.layout.trunk == WRAPPER && matches!(inner, Some("wte.weight" | "embed_tokens.weight"))
    }

    /// The files' name for a tensor.
    pub(super) fn stored_name(&self, name: &str) -> String {
        self.layout.stored(name)
    }

    /// Names of the files.
    pub(super) fn names(&self) -> Vec<&OsStr> {
        self.files.iter().filter_map(|(path, _)| path.file_name()).collect()
    }

    /// Returns true if two tensors, by their canonical names, have the same numbers in the same type.
    pub(super) fn are_equal(&self, one: &str, other: &str) -> Result<bool, LoadError> {
        let view = |name: &str| {
            let stored = self.layout.stored(name);
            let found = self.index.get(&stored).and_then(|file| self.files[*file].1.get(&stored).ok());
            found.ok_or_else(|| self.missing(stored.clone()))
        };
        let one = view(one)?;
        let other = view(other)?;
        Ok(one.dtype() == other.dtype() && one.shape() == other.shape() && one.data() == other.data())
    }

    /// Returns true if there is a tensor, by its canonical name.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.index.contains_key(&self.layout.stored(name))
    }

    /// Every tensor with its name in the files.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (String, TensorView<'_>)> {
        self.files.iter().flat_map(|(_, file)| file.tensors())
    }

    /// A tensor by its canonical name.
    pub(super) fn load(&self, name: &str) -> Result<StoredTensor, LoadError> {
        let name = self.layout.stored(name);
        match self.index.get(&name) {
            Some(&file) => StoredTensor::in_file(&self.files[file].1, &self.files[file].0, &name),
            None => Err(self.missing(name)),
        }
    }

    fn missing(&self, name: String) -> LoadError {
        LoadError::TensorMissing { path: self.files[0].0.clone(), name, hint: String::new() }
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
