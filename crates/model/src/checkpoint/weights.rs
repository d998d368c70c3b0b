//! Tensors by their canonical names, whatever files they are in.

mod source;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use self::source::Source;
use super::adapter::Adapter;
use super::config::ModelConfig;
use super::files::ModelFiles;
use super::layout::{EMBEDDING, HEAD};
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

    /// Returns true if an adapter changes them.
    #[must_use]
    pub fn is_adapted(&self) -> bool {
        self.adapter.is_some()
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
