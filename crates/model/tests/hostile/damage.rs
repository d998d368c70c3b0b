//! Copies of golden folders, the damage done to them, and the message with which they are refused.

use crate::device;
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;
use unmask_model::checkpoint::Checkpoint;
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::error::LoadError;
use unmask_model::predictor::CandlePredictor;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const SHARD: &str = "model-00002-of-00002.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Type, shape and bytes by name.
pub(crate) type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A copy of a golden folder, to be damaged.
pub(crate) struct Copy(pub(crate) TempDir);

impl Copy {
    pub(crate) fn of(golden: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(Path::new(GOLDEN).join(golden)).unwrap() {
            let entry = entry.unwrap();
            if !entry.file_name().to_string_lossy().starts_with("golden") {
                std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
        }
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    pub(crate) fn edit_json(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&self.read(name)).unwrap();
        edit(&mut value);
        self.write(name, value.to_string());
    }

    /// Changes the header of a safetensors file and leaves the data as it is.
    pub(crate) fn edit_header(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let file = self.read(name);
        let (header, data) = split(&file);
        let mut header = serde_json::from_slice(header).unwrap();
        edit(&mut header);
        let header = header.to_string();
        self.write(name, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat());
    }

    /// Changes the tensors of a safetensors file; what is written is well formed.
    pub(crate) fn edit_tensors(&self, name: &str, edit: impl FnOnce(&mut Tensors)) {
        let file = self.read(name);
        let tensors = SafeTensors::deserialize(&file).unwrap().tensors();
        let mut tensors: Tensors = tensors
            .into_iter()
            .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
            .collect();
        edit(&mut tensors);
        let views = tensors.iter().map(|(name, (dtype, shape, data))| {
            (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        self.write(name, safetensors::serialize(views, None).unwrap());
    }

    pub(crate) fn load(&self, adapter: Option<&Path>) -> Result<CandlePredictor, LoadError> {
        load(self.0.path(), adapter)
    }

    /// The message with which it is refused.
    pub(crate) fn refusal(&self, adapter: Option<&Path>) -> String {
        message(catch_unwind(|| self.load(adapter)).expect("loading must not panic"))
    }

    #[track_caller]
    pub(crate) fn assert_refused(&self, parts: &[&str]) {
        assert_names(&self.refusal(None), parts);
    }
}

pub(crate) fn load(folder: &Path, adapter: Option<&Path>) -> Result<CandlePredictor, LoadError> {
    let checkpoint = Checkpoint::open(folder, adapter)?;
    let placement =
        Placement::new(DeviceChoice::Cpu, Precision::Auto, checkpoint.profile.family, device::cpu())?;
    CandlePredictor::load(&checkpoint, placement, 1)
}

pub(crate) fn message(result: Result<CandlePredictor, LoadError>) -> String {
    let message = result.expect_err("the checkpoint must be refused").to_string();
    assert!(!message.chars().any(char::is_control), "{message:?}");
    message
}

#[track_caller]
pub(crate) fn assert_names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

/// Header and data of a safetensors file.
fn split(file: &[u8]) -> (&[u8], &[u8]) {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    file[8..].split_at(length)
}
