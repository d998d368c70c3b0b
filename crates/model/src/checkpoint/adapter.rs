//! LoRA adapters in PEFT's layout, merged into the weights when they are loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::DType;
use sha2::{Digest, Sha256};

use super::files::{ModelFiles, TensorFile};
use super::tensor::StoredTensor;
use crate::error::{LoadError, one_line};

/// What PEFT puts before every name.
const WRAPPER: &str = "base_model.model.";
/// Prefixes of the trunk, as in the base's layouts. The authors train on their wrapper.
const TRUNKS: [&str; 3] = ["denoise_model.", "model.", "transformer."];

/// How the names of the two factors end, each with its counterpart.
const LORA: [[&str; 2]; 2] = [[".lora_A.weight", ".lora_B.weight"], [".lora_B.weight", ".lora_A.weight"]];

/// One adapter: merged weight = W + scale · B·A, and possibly a whole embedding.
pub struct Adapter {
    path: PathBuf,
    file: Arc<TensorFile>,
    /// Columns of B and rows of A, in all modules.
    rank: usize,
    scale: f64,
    digest: String,
    /// Module name without any prefix → name in the file without `.lora_A.weight`.
    modules: BTreeMap<String, String>,
    embedding: Option<String>,
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapter").field("path", &self.path).field("modules", &self.modules.len()).finish()
    }
}

impl Adapter {
    /// Reads `adapter_config.json` and the header of `adapter_model.safetensors`.
    ///
    /// # Errors
    /// A file is missing or damaged, or the adapter is of a kind that cannot be merged by W + s·B·A.
    pub fn open(folder: &Path) -> Result<Self, LoadError> {
        let files = ModelFiles::Folder(folder.to_owned());
        let (rank, scale) = rank_and_scale(&files, "adapter_config.json")?;
        let name = "adapter_model.safetensors";
        let (path, file) = (files.path(name), Arc::new(files.safetensors(name)?));
        let digest = Sha256::digest(files.read(name, "")?).iter().map(|byte| format!("{byte:02x}")).collect();
        let mut modules = BTreeMap::new();
        let mut embedding = None;
        let names: BTreeSet<String> = file.tensors().into_iter().map(|(name, _)| name).collect();
        for name in &names {
            let inner = name.strip_prefix(WRAPPER).unwrap_or(name);
            let inner = TRUNKS.iter().find_map(|trunk| inner.strip_prefix(trunk)).unwrap_or(inner);
            let refuse = |reason| Err(LoadError::Adapter { path: path.clone(), reason });
            let pair = LORA
                .iter()
                .find_map(|[part, other]| Some((inner.strip_suffix(part)?, name.strip_suffix(part)?, other)));
            if let Some((module, stem, other)) = pair {
                let other = format!("{stem}{other}");
                if !names.contains(&other) {
                    return refuse(format!("tensor `{}` is missing", other.escape_debug()));
                }
                modules.insert(module.to_owned(), stem.to_owned());
            } else if matches!(inner, "embed_tokens.weight" | "embed_tokens.modules_to_save.default.weight") {
                embedding = Some(name.clone());
            } else {
                let name = name.escape_debug();
                return refuse(format!("tensor `{name}` is neither a LoRA factor nor the embedding"));
            }
        }
        if modules.is_empty() && embedding.is_none() {
            return Err(LoadError::Adapter { path, reason: "holds no LoRA factors".to_owned() });
        }
        Ok(Self { path, file, rank, scale, digest, modules, embedding })
    }

    /// Refuses an adapter for modules that the model does not have.
    pub(super) fn check(&self, exists: impl Fn(&str) -> bool) -> Result<(), LoadError> {
        match self.modules.keys().find(|module| !exists(module)) {
            Some(module) => {
                let module = module.escape_debug();
                let reason = format!("adapts `{module}`, a linear layer that this model does not have");
                Err(LoadError::Adapter { path: self.path.clone(), reason })
            }
            None => Ok(()),
        }
    }

    /// The weight of `module` with its change added, computed in f32.
    pub(super) fn merge(&self, module: &str, stored: StoredTensor) -> Result<StoredTensor, LoadError> {
        let Some(stem) = self.modules.get(module) else { return Ok(stored) };
        let &[rows, columns] = stored.shape() else {
            let reason = format!("adapts `{module}`, which is no linear layer");
            return Err(LoadError::Adapter { path: self.path.clone(), reason });
        };
        let factor = |part: &str| StoredTensor::in_file(&self.file, &self.path, &format!("{stem}{part}"));
        let (a, b) = (factor(LORA[0][0])?, factor(LORA[1][0])?);
        a.expect_shape(&[self.rank, columns])?;
        b.expect_shape(&[rows, self.rank])?;
        let (a, b) = (a.into_f32()?, b.into_f32()?);
        stored.map(|base| base.to_dtype(DType::F32)? + (b.matmul(&a)? * self.scale)?)
    }

    /// The embedding, replaced where the adapter carries one.
    pub(super) fn embedding(&self, base: StoredTensor) -> Result<StoredTensor, LoadError> {
        let Some(name) = &self.embedding else { return Ok(base) };
        let own = StoredTensor::in_file(&self.file, &self.path, name)?;
        own.expect_shape(base.shape())?;
        Ok(own)
    }

    /// A hash of the adapter's weights.
    pub(super) fn fingerprint(&self) -> &str {
        &self.digest
    }
}

/// r, and alpha/r (alpha/√r for rank-stabilised LoRA), of `adapter_config.json`.
fn rank_and_scale(files: &ModelFiles, name: &str) -> Result<(usize, f64), LoadError> {
    let fields = files.json(name)?;
    let error = |field: &str, reason: String| LoadError::Field {
        path: files.path(name),
        field: field.to_owned(),
        reason: one_line(&reason),
    };
    let kind = fields.get("peft_type").and_then(|kind| kind.as_str()).unwrap_or("absent");
    if kind != "LORA" {
        return Err(error("peft_type", format!("is {kind}; only LORA is supported")));
    }
    for field in ["use_dora", "fan_in_fan_out"] {
        if fields.get(field).is_some_and(|value| value.as_bool() == Some(true)) {
            return Err(error(field, "is true; only false is supported".to_owned()));
        }
    }
    if let Some(bias) = fields.get("bias").and_then(|bias| bias.as_str()).filter(|bias| *bias != "none") {
        return Err(error("bias", format!("is {bias}; only none is supported")));
    }
    for field in ["rank_pattern", "alpha_pattern"] {
        if fields.get(field).and_then(|value| value.as_object()).is_some_and(|map| !map.is_empty()) {
            return Err(error(
                field,
                "is not empty; one rank and alpha for all modules is supported".to_owned(),
            ));
        }
    }
    let number = |field: &str| {
        let value = fields.get(field).and_then(|value| value.as_f64());
        value.filter(|value| *value > 0.0).ok_or_else(|| error(field, "must be a number above 0".to_owned()))
    };
    let (rank, alpha) = (number("r")?, number("lora_alpha")?);
    let stabilised = fields.get("use_rslora").and_then(|value| value.as_bool()) == Some(true);
    Ok((rank as usize, alpha / if stabilised { rank.sqrt() } else { rank }))
}
