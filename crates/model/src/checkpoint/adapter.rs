//! LoRA adapters in PEFT's layout, merged into the weights when they are loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::DType;
use candle_core::safetensors::MmapedSafetensors;

use super::read_json;
use super::weights::{StoredTensor, digest, open_safetensors};
use crate::error::LoadError;

/// What PEFT puts before every name.
const WRAPPER: &str = "base_model.model.";
/// Prefixes of the trunk, as in the base's layouts. The authors train on their wrapper.
const TRUNKS: [&str; 3] = ["denoise_model.", "model.", "transformer."];

/// One adapter: merged weight = W + scale · B·A, and possibly a whole embedding.
pub struct Adapter {
    path: PathBuf,
    file: MmapedSafetensors,
    scale: f64,
    digest: String,
    /// Module name without any prefix → name in the file without `lora_A.weight`.
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
        let scale = scale(&folder.join("adapter_config.json"))?;
        let path = folder.join("adapter_model.safetensors");
        let file = open_safetensors(&path)?;
        let mut modules = BTreeMap::new();
        let mut embedding = None;
        for (name, _) in file.tensors() {
            let inner = name.strip_prefix(WRAPPER).unwrap_or(&name);
            let inner = TRUNKS.iter().find_map(|trunk| inner.strip_prefix(trunk)).unwrap_or(inner);
            if let Some(module) = inner.strip_suffix(".lora_A.weight") {
                let stem = name.trim_end_matches("lora_A.weight").to_owned();
                modules.insert(module.to_owned(), stem);
            } else if matches!(inner, "embed_tokens.weight" | "embed_tokens.modules_to_save.default.weight") {
                embedding = Some(name);
            } else if !inner.ends_with(".lora_B.weight") {
                let reason = format!("tensor `{name}` is neither a LoRA factor nor the embedding");
                return Err(LoadError::Adapter { path, reason });
            }
        }
        if modules.is_empty() && embedding.is_none() {
            return Err(LoadError::Adapter { path, reason: "holds no LoRA factors".to_owned() });
        }
        let digest = digest(&path)?;
        Ok(Self { path, file, scale, digest, modules, embedding })
    }

    /// Refuses an adapter for modules that the model does not have.
    pub(super) fn check(&self, exists: impl Fn(&str) -> bool) -> Result<(), LoadError> {
        match self.modules.keys().find(|module| !exists(module)) {
            Some(module) => {
                let reason = format!("adapts `{module}`, which this model does not have");
                Err(LoadError::Adapter { path: self.path.clone(), reason })
            }
            None => Ok(()),
        }
    }

    /// The weight of `module` with its change added, computed in f32.
    pub(super) fn merge(&self, module: &str, stored: StoredTensor) -> Result<StoredTensor, LoadError> {
        let Some(stem) = self.modules.get(module) else { return Ok(stored) };
        let factor = |part: &str| StoredTensor::load(&self.file, &self.path, &format!("{stem}{part}.weight"));
        let (a, b) = (factor("lora_A")?, factor("lora_B")?);
        let (rows, columns) = (stored.shape()[0], stored.shape()[1]);
        let rank = a.shape().first().copied().unwrap_or(0);
        a.expect_shape(&[rank, columns])?;
        b.expect_shape(&[rows, rank])?;
        let (a, b) = (a.into_f32()?, b.into_f32()?);
        stored.map(|base| base.to_dtype(DType::F32)? + (b.matmul(&a)? * self.scale)?)
    }

    /// The embedding, replaced where the adapter carries one.
    pub(super) fn embedding(&self, base: StoredTensor) -> Result<StoredTensor, LoadError> {
        let Some(name) = &self.embedding else { return Ok(base) };
        let own = StoredTensor::load(&self.file, &self.path, name)?;
        own.expect_shape(base.shape())?;
        Ok(own)
    }

    /// A hash of the adapter's weights.
    pub(super) fn fingerprint(&self) -> &str {
        &self.digest
    }
}

/// alpha/r (alpha/√r for rank-stabilised LoRA) of `adapter_config.json`.
fn scale(path: &Path) -> Result<f64, LoadError> {
    let fields = read_json(path)?;
    let error = |field: &str, reason: String| {
        LoadError::Field { path: path.to_owned(), field: field.to_owned(), reason }
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
            return Err(error(field, "is not empty; one rank and alpha for all modules is supported".to_owned()));
        }
    }
    let number = |field: &str| {
        let value = fields.get(field).and_then(|value| value.as_f64());
        value.filter(|value| *value > 0.0).ok_or_else(|| error(field, "must be a number above 0".to_owned()))
    };
    let (rank, alpha) = (number("r")?, number("lora_alpha")?);
    let stabilised = fields.get("use_rslora").and_then(|value| value.as_bool()) == Some(true);
    Ok(alpha / if stabilised { rank.sqrt() } else { rank })
}
