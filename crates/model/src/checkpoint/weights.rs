//! Tensors by their canonical names, whatever layout the files have.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::adapter::Adapter;
use super::config::Architecture;
use super::files::{ModelFiles, TensorFile};
use super::progress::ByteProgress;
use super::random::{Random, StoredType};
use crate::device::Placement;
use crate::error::{LoadError, one_line};

/// The name of the embedding and the prefix of the trunk, in every layout seen: the reference's wrapper
/// (as its hub mixin and its fine-tuning save it), then the plain layouts of transformers.
const GPT2_LAYOUTS: [(&str, &str); 3] = [
    ("embed_tokens.weight", "denoise_model."),
    ("transformer.wte.weight", "transformer."),
    ("wte.weight", ""),
];
const LLAMA_LAYOUTS: [(&str, &str); 2] =
    [("model.embed_tokens.weight", "model."), ("embed_tokens.weight", "denoise_model.")];

/// The head, in every layout.
const HEAD: &str = "lm_head.weight";

/// The weights when they are not sharded.
const SINGLE: &str = "model.safetensors";

/// The tensors of a checkpoint, read from their files on demand.
pub struct Weights {
    files: Vec<(PathBuf, TensorFile)>,
    /// Which file holds a tensor.
    index: HashMap<String, usize>,
    embedding: &'static str,
    prefix: &'static str,
    adapter: Option<Adapter>,
    /// There are no files; tensors are made when they are asked for.
    random: Option<Random>,
    /// Shows how loading goes on.
    loading: Mutex<Option<ByteProgress>>,
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights").field("tensors", &self.index.len()).finish_non_exhaustive()
    }
}

/// One tensor in main memory, of the type it is stored in.
#[derive(Debug)]
pub struct StoredTensor {
    tensor: Tensor,
    path: PathBuf,
    name: String,
}

impl Weights {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// There are no such files, one is damaged, there is only a pickle, or the adapter speaks of tensors
    /// that the model does not have.
    pub fn open(
        files: &ModelFiles,
        architecture: Architecture,
        adapter: Option<Adapter>,
    ) -> Result<Self, LoadError> {
        let mut opened = Vec::new();
        let mut index = HashMap::new();
        for name in weight_files(files)? {
            let file = files.safetensors(&name)?;
            index.extend(file.tensors().into_iter().map(|(name, _)| (name, opened.len())));
            opened.push((files.path(&name), file));
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
        let weights = Self { files: opened, index, embedding, prefix, adapter, ..Self::empty() };
        if let Some(adapter) = &weights.adapter {
            adapter.check(|name| {
                let name = format!("{prefix}{name}.weight");
                // The embedding and the head are replaced or kept, and not adapted.
                weights.index.contains_key(&name) && name != embedding && name != HEAD
            })?;
        }
        Ok(weights)
    }

    /// Random weights with `vocabulary` rows of the embedding, to measure with.
    #[must_use]
    pub fn random(vocabulary: usize, stored: StoredType) -> Self {
        Self { random: Some(Random { vocabulary, stored }), ..Self::empty() }
    }

    fn empty() -> Self {
        Self {
            files: Vec::new(),
            index: HashMap::new(),
            embedding: "",
            prefix: "",
            adapter: None,
            random: None,
            loading: Mutex::default(),
        }
    }

    /// Shows the bytes that `load` reads of the tensors, if there are at least `least` of them, with a bar on
    /// a terminal and in the log elsewhere.
    pub(crate) fn watched<T, E>(&self, least: usize, load: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let (_, bytes) = self.size();
        *self.loading() =
            (bytes >= least).then(|| ByteProgress::new(["loading", "loaded"], "weights", bytes as u64));
        let loaded = load();
        if let Some(progress) = self.loading().take() {
            progress.vanish(loaded.is_ok());
        }
        loaded
    }

    pub(super) fn loading(&self) -> MutexGuard<'_, Option<ByteProgress>> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A tensor of the trunk, by its name without the layout's prefix; adapters are merged in.
    ///
    /// # Errors
    /// It is missing, has another shape, or a type that cannot be computed with.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<StoredTensor, LoadError> {
        if let Some(random) = self.random {
            return StoredTensor::random(random, name, shape);
        }
        let stored = self.load(&format!("{}{name}", self.prefix))?;
        stored.expect_shape(shape)?;
        match self.adapter.as_ref().and_then(|adapter| Some((adapter, name.strip_suffix(".weight")?))) {
            Some((adapter, module)) => adapter.merge(module, stored),
            None => Ok(stored),
        }
    }

    /// The token embedding, (rows, `width`); its number of rows is the model's vocabulary.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn embedding(&self, width: usize) -> Result<StoredTensor, LoadError> {
        if let Some(random) = self.random {
            return StoredTensor::random(random, "embedding", &[random.vocabulary, width]);
        }
        let mut stored = self.load(self.embedding)?;
        if let Some(adapter) = &self.adapter {
            stored = adapter.embedding(stored)?;
        }
        let rows = stored.shape().first().copied().unwrap_or(0).max(1);
        stored.expect_shape(&[rows, width])?;
        Ok(stored)
    }

    /// The head, (rows, `width`), when it is not tied to the embedding.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn head(&self, rows: usize, width: usize) -> Result<Option<StoredTensor>, LoadError> {
        if !self.index.contains_key(HEAD) {
            return Ok(None);
        }
        let stored = self.load(HEAD)?;
        stored.expect_shape(&[rows, width])?;
        Ok(Some(stored))
    }

    /// How many numbers the model has, and how many bytes its tensors take on disk.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let tensors = self.files.iter().flat_map(|(_, file)| file.tensors());
        tensors.fold((0, 0), |(count, bytes), (_, view)| {
            (count + view.shape().iter().product::<usize>(), bytes + view.data().len())
        })
    }

    /// A short name for these weights: a hash of all tensor names, types and shapes and of the first
    /// bytes of each, which takes no time on 13 GB and differs between trained models.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut tensors: Vec<_> = self.files.iter().flat_map(|(_, file)| file.tensors()).collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let mut hash = Sha256::new();
        for (name, view) in tensors {
            hash.update(format!("{name} {:?} {:?}\n", view.dtype(), view.shape()));
            hash.update(&view.data()[..view.data().len().min(256)]);
        }
        if let Some(adapter) = &self.adapter {
            hash.update(adapter.fingerprint());
        }
        hash.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn load(&self, name: &str) -> Result<StoredTensor, LoadError> {
        let Some(&file) = self.index.get(name) else {
            return Err(LoadError::TensorMissing { path: self.files[0].0.clone(), name: name.to_owned() });
        };
        let (path, file) = &self.files[file];
        let stored = StoredTensor::load(file, path, name)?;
        if let Some(progress) = self.loading().as_mut() {
            progress.advance((stored.tensor.elem_count() * stored.dtype().size_in_bytes()) as u64);
        }
        Ok(stored)
    }
}

impl StoredTensor {
    /// Copies a tensor out of its file.
    pub(super) fn load(file: &TensorFile, path: &Path, name: &str) -> Result<Self, LoadError> {
        let malformed = |error: candle_core::Error| LoadError::Malformed {
            path: path.to_owned(),
            reason: format!("tensor `{name}`: {}", one_line(&error)),
        };
        let view = file.get(name).map_err(malformed)?;
        if !matches!(view.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let found = format!("{:?}", view.dtype());
            return Err(LoadError::TensorType { path: path.to_owned(), name: name.to_owned(), found });
        }
        let tensor = view.load(&Device::Cpu).map_err(malformed)?;
        Ok(Self { tensor, path: path.to_owned(), name: name.to_owned() })
    }

    fn random(random: Random, name: &str, shape: &[usize]) -> Result<Self, LoadError> {
        Ok(Self { tensor: random.tensor(name, shape)?, path: PathBuf::from("random"), name: name.to_owned() })
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        self.tensor.dims()
    }

    /// The type it is stored in: F32, F16 or BF16.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.tensor.dtype()
    }

    /// Refuses another shape.
    ///
    /// # Errors
    /// The shape differs; the message names both.
    pub fn expect_shape(&self, expected: &[usize]) -> Result<(), LoadError> {
        if self.shape() == expected {
            return Ok(());
        }
        Err(LoadError::TensorShape {
            path: self.path.clone(),
            name: self.name.clone(),
            expected: expected.to_owned(),
            found: self.shape().to_owned(),
        })
    }

    /// Its elements, row-major.
    ///
    /// # Errors
    /// The conversion failed.
    pub fn to_f32(&self) -> Result<Vec<f32>, LoadError> {
        let flat = self.tensor.to_dtype(DType::F32).and_then(|tensor| tensor.flatten_all()?.to_vec1());
        flat.map_err(|source| self.failed(source))
    }

    /// The tensor on a device, in the type that is computed in there.
    ///
    /// # Errors
    /// The device failed.
    pub fn to_device(&self, placement: &Placement) -> Result<Tensor, LoadError> {
        let moved = self.tensor.to_device(&placement.device);
        moved.and_then(|tensor| tensor.to_dtype(placement.dtype)).map_err(|source| self.failed(source))
    }

    /// The tensor in f32.
    pub(super) fn into_f32(self) -> Result<Tensor, LoadError> {
        self.tensor.to_dtype(DType::F32).map_err(|source| self.failed(source))
    }

    /// The same tensor with other elements.
    pub(super) fn map(
        self,
        change: impl FnOnce(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Self, LoadError> {
        let tensor = change(self.tensor.clone()).map_err(|source| self.failed(source))?;
        Ok(Self { tensor, ..self })
    }

    /// A failure of the tensor library while this tensor was handled.
    pub(crate) fn failed(&self, source: candle_core::Error) -> LoadError {
        LoadError::Device { device: format!("tensor `{}`", self.name), source }
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
    let hint = ": weights must be safetensors, one file or shards with model.safetensors.index.json";
    Err(LoadError::FileMissing { path: files.path(SINGLE), hint: hint.to_owned() })
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
