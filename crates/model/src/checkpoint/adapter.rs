//! LoRA adapters in PEFT's layout, merged into the weights when they are loaded.

mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::DType;
use sha2::{Digest, Sha256};

use self::settings::Settings;
use super::expected::is_in_out;
use super::families::Family;
use super::files::{ModelFiles, TensorFile};
use super::layout::{EMBEDDING, HEAD};
use super::tensor::StoredTensor;
use crate::error::LoadError;

/// PEFT's prefix of every name.
const WRAPPER: &str = "base_model.model.";
/// Prefixes of the trunk, as in the base's layouts. The authors train on their wrapper.
const TRUNKS: [&str; 4] = ["denoise_model.", "model.transformer.", "model.", "transformer."];
/// PEFT's additions to the name of a module that it saves whole.
const SAVED: [&str; 3] = [".modules_to_save.default", ".modules_to_save", ".base_layer"];
/// GPT-2's name for the embedding.
const GPT2_EMBEDDING: &str = "wte.weight";

/// Suffixes of A and B: of linear layers and of embeddings, as PEFT saves them and as they are called while it trains.
const LINEAR: [[&str; 2]; 2] =
    [[".lora_A.weight", ".lora_B.weight"], [".lora_A.default.weight", ".lora_B.default.weight"]];
const LOOKUP: [[&str; 2]; 2] =
    [[".lora_embedding_A", ".lora_embedding_B"], [".lora_embedding_A.default", ".lora_embedding_B.default"]];

const FILE: &str = "adapter_model.safetensors";

/// One adapter: weights W become W + scale · B·A, and some are replaced.
pub struct Adapter {
    files: ModelFiles,
    path: PathBuf,
    file: Arc<TensorFile>,
    settings: Settings,
    digest: String,
    /// Changed tensors, by their canonical names.
    factors: BTreeMap<String, Factors>,
    /// Replaced tensors by their canonical names, and their names in the file.
    whole: BTreeMap<String, String>,
}

/// The places of a tensor's factors.
struct Factors {
    /// The module's name in the base that the adapter was trained on.
    module: String,
    /// The name in the file, up to what tells A from B.
    stem: String,
    ends: [&'static str; 2],
}

impl Factors {
    /// True if they are those of an embedding.
    fn of_embedding(&self) -> bool {
        LOOKUP.contains(&self.ends)
    }
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Adapter");
        fields.field("path", &self.path).field("factors", &self.factors.len()).finish_non_exhaustive()
    }
}

impl Adapter {
    /// Reads `adapter_config.json` and the header of `adapter_model.safetensors`.
    ///
    /// # Errors
    /// A file is missing or damaged, or the adapter is of a kind that cannot be merged by W + s·B·A.
    pub fn open(folder: &Path, family: &Family) -> Result<Self, LoadError> {
        Self::read(ModelFiles::Folder(folder.to_owned()), family)
    }

    /// The same of files that may be in memory.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read(files: ModelFiles, family: &Family) -> Result<Self, LoadError> {
        let settings = Settings::read(&files)?;
        let pickle = "adapter_model.bin";
        if !files.exists(FILE) && files.exists(pickle) {
            return Err(LoadError::AdapterPickle { path: files.path(pickle) });
        }
        let path = files.path(FILE);
        let file = Arc::new(files.safetensors(FILE)?);
        let digest = Sha256::digest(files.read(FILE, "")?).iter().map(|byte| format!("{byte:02x}")).collect();
        let mut factors = BTreeMap::new();
        let mut whole = BTreeMap::new();
        let names: BTreeSet<String> = file.tensors().into_iter().map(|(name, _)| name).collect();
        for name in &names {
            let Some((stem, ends, other)) = factor(name) else {
                whole.insert(canonical(name, family), name.clone());
                continue;
            };
            let other = format!("{stem}{other}");
            if !names.contains(&other) {
                let reason = format!("tensor `{}` is missing", other.escape_debug());
                return Err(LoadError::Adapter { path, reason });
            }
            let module = stem.strip_prefix(WRAPPER).unwrap_or(stem).to_owned();
            let changed = canonical(&format!("{stem}.weight"), family);
            factors.insert(changed, Factors { module, stem: stem.to_owned(), ends });
        }
        if factors.is_empty() && whole.is_empty() {
            return Err(LoadError::Adapter { path, reason: "holds no LoRA factors".to_owned() });
        }
        Ok(Self { files, path, file, settings, digest, factors, whole })
    }

    /// Refuses an adapter for tensors that the model does not have. A head that is tied is there as well.
    pub(super) fn check(&self, exists: impl Fn(&str) -> bool) -> Result<(), LoadError> {
        let refuse = |reason| Err(LoadError::Adapter { path: self.path.clone(), reason });
        if !exists(HEAD) && self.parts_head_from_embedding() {
            self.settings.check_untied(&self.files)?;
        }
        let exists = |name: &str| name == HEAD || exists(name);
        for (name, factors) in &self.factors {
            if !exists(name) || (name == EMBEDDING) != factors.of_embedding() {
                let module = name.strip_suffix(".weight").unwrap_or(name).escape_debug();
                return refuse(format!("adapts `{module}`, a linear layer that this model does not have"));
            }
            self.settings.rank_and_scale(&factors.module, &self.files)?;
        }
        match self.whole.iter().find(|(name, _)| !exists(name)) {
            Some((_, name)) => {
                let name = name.escape_debug();
                refuse(format!("tensor `{name}` is neither a LoRA factor nor a part of this model"))
            }
            None => Ok(()),
        }
    }

    /// A tensor, by its canonical name, with its change: replaced, or the sum with the factors' product in f32.
    pub(super) fn apply(&self, name: &str, stored: StoredTensor) -> Result<StoredTensor, LoadError> {
        let stored = match self.whole.get(name) {
            Some(own) => {
                let own = StoredTensor::in_file(&self.file, &self.path, own)?;
                own.expect_shape(stored.shape())?;
                own
            }
            None => stored,
        };
        match self.factors.get(name) {
            Some(factors) => self.merge(name, factors, stored),
            None => Ok(stored),
        }
    }

    fn merge(&self, name: &str, factors: &Factors, stored: StoredTensor) -> Result<StoredTensor, LoadError> {
        let &[rows, columns] = stored.shape() else {
            let module = name.strip_suffix(".weight").unwrap_or(name);
            let reason = format!("adapts `{module}`, which is no linear layer");
            return Err(LoadError::Adapter { path: self.path.clone(), reason });
        };
        // GPT-2 stores its layers as (in, out), and an embedding is a layer from tokens to its columns.
        let in_out = factors.of_embedding() || is_in_out(&factors.module);
        let (inputs, outputs) = if in_out { (rows, columns) } else { (columns, rows) };
        let (rank, scale) = self.settings.rank_and_scale(&factors.module, &self.files)?;
        let factor =
            |end: &str| StoredTensor::in_file(&self.file, &self.path, &format!("{}{end}", factors.stem));
        let a = factor(factors.ends[0])?;
        let b = factor(factors.ends[1])?;
        a.expect_shape(&[rank, inputs])?;
        b.expect_shape(&[outputs, rank])?;
        let a = a.into_f32()?;
        let b = b.into_f32()?;
        stored.map(|base| {
            let change = if in_out { a.t()?.matmul(&b.t()?)? } else { b.matmul(&a)? };
            base.to_dtype(DType::F32)? + (change * scale)?
        })
    }

    /// Returns true if the adapter changes head or embedding, so that files with one tensor for both no
    /// longer suffice.
    pub(super) fn parts_head_from_embedding(&self) -> bool {
        let changes = |name: &str| self.factors.contains_key(name) || self.whole.contains_key(name);
        changes(HEAD) || changes(EMBEDDING)
    }

    /// A hash of the adapter's weights.
    pub(super) fn fingerprint(&self) -> &str {
        &self.digest
    }
}

/// A factor's name up to what tells A from B, the two ends, and the other one's end.
fn factor(name: &str) -> Option<(&str, [&'static str; 2], &'static str)> {
    let ends = LINEAR.into_iter().chain(LOOKUP);
    ends.flat_map(|ends| [(ends, ends[0], ends[1]), (ends, ends[1], ends[0])])
        .find_map(|(ends, end, other)| Some((name.strip_suffix(end)?, ends, other)))
}

/// The canonical name of a tensor, from its name in the adapter's file.
fn canonical(name: &str, family: &Family) -> String {
    let name = name.strip_prefix(WRAPPER).unwrap_or(name);
    let saved = [".weight", ".bias"].into_iter().find_map(|kind| {
        let module = name.strip_suffix(kind)?;
        SAVED.iter().find_map(|part| Some(format!("{}{kind}", module.strip_suffix(part)?)))
    });
    let name = saved.unwrap_or_else(|| name.to_owned());
    if let Some(name) = family.layouts.iter().find_map(|layout| layout.canonical(&name)) {
        return name;
    }
    let inner = TRUNKS.iter().find_map(|trunk| name.strip_prefix(trunk)).unwrap_or(&name);
    if inner == GPT2_EMBEDDING { EMBEDDING.to_owned() } else { inner.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::families::FAMILIES;

    #[test]
    fn names_of_a_training_are_those_of_a_saved_adapter() {
        let stem = "base_model.model.model.layers.0.mlp.up_proj";
        for name in ["lora_A.weight", "lora_A.default.weight", "lora_B.default.weight"] {
            assert_eq!(factor(&format!("{stem}.{name}")).unwrap().0, stem, "{name}");
        }
        assert!(
            factor(&format!("{stem}.lora_embedding_B.default")).unwrap().1[0].starts_with(".lora_embedding")
        );
        let norm = "base_model.model.transformer.h.0.ln_1";
        for family in FAMILIES {
            for kind in ["weight", "bias"] {
                let saved = canonical(&format!("{norm}.modules_to_save.default.{kind}"), family);
                assert_eq!(saved, canonical(&format!("{norm}.{kind}"), family));
            }
        }
    }
}
