//! Tensors by their canonical names, whatever files they are in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::adapter::Adapter;
use super::config::ModelConfig;
use super::expected;
use super::files::ModelFiles;
use super::gguf::{self, Gguf};
use super::layout::{EMBEDDING, HEAD};
use super::mistaken;
use super::progress::ByteProgress;
use super::random::{Random, StoredType};
use super::safetensors::Safetensors;
use super::tensor::StoredTensor;
use crate::error::LoadError;

/// The tensors of a checkpoint, read from their files on demand.
pub struct Weights {
    source: Source,
    adapter: Option<Adapter>,
    /// Tensors of the files that the network does not have and does not need.
    unread: Vec<String>,
    /// Shows how loading goes on.
    loading: Mutex<Option<ByteProgress>>,
}

/// The source of tensors.
enum Source {
    Safetensors(Safetensors),
    Gguf {
        file: Gguf,
        head_width: usize,
    },
    /// There are no files; tensors are made when they are asked for.
    Random(Random),
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl Weights {
    /// Opens `model.safetensors`, the shards that `model.safetensors.index.json` names, or a GGUF file.
    ///
    /// # Errors
    /// There are no such files, one is damaged, there is only a pickle, they hold a tensor that the network does not
    /// have, they lack a head that is not tied, or the adapter changes tensors that the model does not have.
    pub fn open(
        files: &ModelFiles,
        config: &ModelConfig,
        adapter: Option<Adapter>,
    ) -> Result<Self, LoadError> {
        let source = match files {
            ModelFiles::Gguf(file) => {
                file.expect_types()?;
                Source::Gguf { file: file.clone(), head_width: config.spec.head_width }
            }
            _ => Source::Safetensors(Safetensors::open(files, config.family)?),
        };
        let unread = source.unread(files, config)?;
        source.check_head(files, config)?;
        if let Some(adapter) = &adapter {
            adapter.check(|name| source.contains(name))?;
        }
        Ok(Self { source, adapter, unread, loading: Mutex::default() })
    }

    /// Random weights with `vocabulary` rows of the embedding, to measure with.
    #[must_use]
    pub fn random(vocabulary: usize, stored: StoredType) -> Self {
        let source = Source::Random(Random { vocabulary, stored });
        Self { source, adapter: None, unread: Vec::new(), loading: Mutex::default() }
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

    fn load(&self, name: &str, shape: &[usize]) -> Result<StoredTensor, LoadError> {
        let stored = self.source.load(name, shape)?;
        if let Some(progress) = self.loading().as_mut() {
            progress.advance(stored.bytes() as u64);
        }
        Ok(stored)
    }

    /// A tensor of the trunk, by its name without the layout's prefix; adapters are merged in.
    ///
    /// # Errors
    /// It is missing, has another shape, or a type that cannot be computed with.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<StoredTensor, LoadError> {
        let stored = self.load(name, shape)?;
        stored.expect_shape(shape)?;
        self.adapted(name, stored)
    }

    fn adapted(&self, name: &str, stored: StoredTensor) -> Result<StoredTensor, LoadError> {
        match &self.adapter {
            Some(adapter) => adapter.apply(name, stored),
            None => Ok(stored),
        }
    }

    /// The token embedding, (rows, `width`); its number of rows is the model's vocabulary.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn embedding(&self, width: usize) -> Result<StoredTensor, LoadError> {
        self.adapted(EMBEDDING, self.stored_embedding(width)?)
    }

    fn stored_embedding(&self, width: usize) -> Result<StoredTensor, LoadError> {
        let vocabulary = match self.source {
            Source::Random(random) => random.vocabulary,
            _ => 0,
        };
        let stored = self.load(EMBEDDING, &[vocabulary, width])?;
        let rows = stored.shape().first().copied().unwrap_or(0).max(1);
        stored.expect_shape(&[rows, width])?;
        Ok(stored)
    }

    /// The head, (rows, `width`), when it is not the embedding that is computed with. An adapter changes head and
    /// embedding apart from each other, as PEFT does, also where the files tie them.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn head(&self, rows: usize, width: usize) -> Result<Option<StoredTensor>, LoadError> {
        let stored = if self.source.contains(HEAD) {
            self.load(HEAD, &[rows, width])?
        } else if self.adapter.as_ref().is_some_and(Adapter::parts_head_from_embedding) {
            self.stored_embedding(width)?
        } else {
            return Ok(None);
        };
        stored.expect_shape(&[rows, width])?;
        self.adapted(HEAD, stored).map(Some)
    }

    /// Returns true if the files hold a head; otherwise it is the embedding.
    #[must_use]
    pub fn has_own_head(&self) -> bool {
        self.source.contains(HEAD)
    }

    /// Tensors of the files that are not read, because the configuration says the same. Ascending.
    #[must_use]
    pub fn unread(&self) -> &[String] {
        &self.unread
    }

    /// Numbers of the model, and bytes of its tensors on disk.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let mut size = (0, 0);
        self.source.each(|_, _, shape, bytes| {
            size.0 += shape.iter().product::<usize>();
            size.1 += bytes.len();
        });
        size
    }

    /// The types that its tensors are stored in, each with their number.
    #[must_use]
    pub fn types(&self) -> BTreeMap<String, usize> {
        let mut types = BTreeMap::new();
        self.source.each(|_, kind, _, _| *types.entry(kind).or_default() += 1);
        types
    }

    /// A short name for these weights: a hash of all tensor names, types and shapes and of the first
    /// bytes of each, which takes no time on 13 GB and differs between trained models.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut tensors = BTreeMap::new();
        self.source.each(|name, kind, shape, bytes| {
            tensors.insert(name.to_owned(), (kind, shape.to_vec(), bytes[..bytes.len().min(256)].to_vec()));
        });
        let mut hash = Sha256::new();
        for (name, (kind, shape, bytes)) in tensors {
            hash.update(format!("{name} {kind} {shape:?}\n"));
            hash.update(bytes);
        }
        if let Some(adapter) = &self.adapter {
            hash.update(adapter.fingerprint());
        }
        hash.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Source {
    /// A tensor by its name without the layout's prefix. `shape` is what random ones have.
    fn load(&self, name: &str, shape: &[usize]) -> Result<StoredTensor, LoadError> {
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

    fn contains(&self, name: &str) -> bool {
        match self {
            Self::Safetensors(files) => files.contains(name),
            Self::Gguf { file, .. } => file.contains(name),
            Self::Random(_) => false,
        }
    }

    /// The canonical name of a tensor of the files.
    fn canonical_name(&self, stored: &str) -> Option<String> {
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
    fn unread(&self, files: &ModelFiles, config: &ModelConfig) -> Result<Vec<String>, LoadError> {
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
    fn check_head(&self, files: &ModelFiles, config: &ModelConfig) -> Result<(), LoadError> {
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
    fn each(&self, mut visit: impl FnMut(&str, String, &[usize], &[u8])) {
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
