//! Finding and reading the golden data.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use unmask_model::checkpoint::{Checkpoint, Visibility};
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::predictor::CandlePredictor;

use crate::device;

pub fn root() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "the one setting of this test")]
    let given = std::env::var("UNMASK_GOLDEN_DIR").ok();
    given.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden"), PathBuf::from)
}

/// One model folder: a base checkpoint, or an adapter with the base that it names.
pub struct Model {
    pub name: String,
    pub folder: PathBuf,
    pub base: Option<PathBuf>,
}

impl Model {
    pub fn open(&self) -> Checkpoint {
        let opened = match &self.base {
            Some(base) => Checkpoint::open(base, Some(&self.folder)),
            None => Checkpoint::open(&self.folder, None),
        };
        opened.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// With attention in blocks of a length: the files of LLaDA2 say none, and runs have their own.
    fn open_in_blocks(&self, block: Option<usize>) -> Checkpoint {
        let mut checkpoint = self.open();
        if let Some(block) = block {
            checkpoint.config.spec.visibility = Visibility::BlockCausal { block };
        }
        checkpoint
    }

    /// The length of blocks that a part of `family.json` was computed with.
    pub fn block(&self, part: &str, case: usize) -> Option<usize> {
        let family = self.family()?;
        let part = match &family[part] {
            Value::Array(cases) => cases.get(case)?.clone(),
            other => other.clone(),
        };
        part["block_length"].as_u64().map(|block| block as usize)
    }

    /// On the CPU, with one thread so that tests run side by side.
    pub fn load(&self, precision: Precision) -> CandlePredictor {
        self.load_in_blocks(precision, None)
    }

    /// The same with attention in blocks of a length, where one is given.
    pub fn load_in_blocks(&self, precision: Precision, block: Option<usize>) -> CandlePredictor {
        let checkpoint = self.open_in_blocks(block);
        let placement =
            Placement::new(DeviceChoice::Cpu, precision, checkpoint.profile.family, device::cpu()).unwrap();
        CandlePredictor::load(&checkpoint, placement, 1)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// In candle's operations, as on a GPU; on one when UNMASK_TEST_GPU names its number.
    pub fn load_in_candle(&self) -> CandlePredictor {
        self.load_in_candle_in_blocks(None)
    }

    /// The same with attention in blocks of a length, where one is given.
    pub fn load_in_candle_in_blocks(&self, block: Option<usize>) -> CandlePredictor {
        let checkpoint = self.open_in_blocks(block);
        let placement =
            Placement::new(device::tested(), Precision::F32, checkpoint.profile.family, device::cpu())
                .unwrap();
        CandlePredictor::in_candle(&checkpoint, &placement)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// `X-wrapper` holds the weights of `X` in another layout, and shares its expected values.
    pub fn expected(&self) -> PathBuf {
        match self.name.strip_suffix("-wrapper") {
            Some(twin) => self.folder.with_file_name(twin),
            None => self.folder.clone(),
        }
    }

    /// The tensors of one of its golden files; `None` when the model has no such file.
    pub fn tensors(&self, file: &str) -> Option<HashMap<String, Tensor>> {
        let path = self.expected().join(file);
        path.exists().then(|| candle_core::safetensors::load(&path, &Device::Cpu).unwrap())
    }

    /// `golden.json`.
    pub fn cases(&self) -> Option<Value> {
        json(&self.expected().join("golden.json"))
    }

    /// `family.json`.
    pub fn family(&self) -> Option<Value> {
        json(&self.expected().join("family.json"))
    }
}

fn json(path: &Path) -> Option<Value> {
    let bytes = std::fs::read(path).ok()?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

/// All model folders; every folder is one. An adapter's base is the folder named like the last part of
/// `base_model_name_or_path`.
pub fn models() -> Vec<Model> {
    let root = root();
    let entries = std::fs::read_dir(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut models = Vec::new();
    for folder in entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if let Ok(config) = std::fs::read(folder.join("adapter_config.json")) {
            let config: Value = serde_json::from_slice(&config).unwrap();
            let base = config["base_model_name_or_path"].as_str().unwrap().rsplit('/').next().unwrap();
            models.push(Model { name, base: Some(root.join(base)), folder });
        } else {
            assert!(folder.join("config.json").exists(), "{}: not understood", folder.display());
            models.push(Model { name, base: None, folder });
        }
    }
    models.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!models.is_empty(), "no model folders in {}", root.display());
    models
}

/// The models that have a golden file; at least one must.
pub fn models_with(file: &str) -> Vec<(Model, HashMap<String, Tensor>)> {
    let found: Vec<_> = models()
        .into_iter()
        .filter_map(|model| model.tensors(file).map(|tensors| (model, tensors)))
        .collect();
    assert!(!found.is_empty(), "no model in {} has {file}", root().display());
    found
}

/// (rows, columns) of integers.
pub fn ids(tensor: &Tensor) -> Vec<Vec<u32>> {
    let rows = tensor.to_dtype(DType::I64).unwrap().to_vec2::<i64>().unwrap();
    rows.into_iter().map(|row| row.into_iter().map(|id| u32::try_from(id).unwrap()).collect()).collect()
}

pub fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest absolute difference.
pub fn worst(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len(), "number of values");
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The mean absolute difference.
pub fn mean_error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len(), "number of values");
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).sum::<f32>() / found.len() as f32
}

/// Logits of equally long canvases, each row of the batch after the other.
pub fn logits(model: &CandlePredictor, canvases: &[Vec<u32>]) -> Vec<f32> {
    let canvases: Vec<&[u32]> = canvases.iter().map(Vec::as_slice).collect();
    floats(&model.all_logits(&canvases).unwrap())
}

/// −ln softmax(row)[token], in f64.
pub fn cross_entropy(row: &[f32], token: u32) -> f64 {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    sum.ln() - f64::from(row[token as usize] - largest)
}
