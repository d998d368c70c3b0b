//! Adapters that PEFT wrote, against what PEFT computes with them (`record.py`).
#![expect(clippy::unwrap_used, reason = "clippy exempts functions marked as tests, and not their helpers")]

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use unmask_model::checkpoint::Checkpoint;
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::kernel::CpuFeatures;
use unmask_model::predictor::CandlePredictor;

/// The tolerance of the golden logits.
const TOLERANCE: f32 = 5e-4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adapters")
}

/// The base that an adapter names.
fn base(adapter: &str) -> PathBuf {
    let config = std::fs::read(folder().join(adapter).join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    folder().join("../../../../tests/golden").join(config["base_model_name_or_path"].as_str().unwrap())
}

fn logits(predictor: &CandlePredictor, ids: &Tensor) -> Vec<f32> {
    let ids: Vec<u32> = ids.to_dtype(DType::U32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    predictor.all_logits(&[&ids]).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn adapters_give_the_logits_of_peft() {
    let recorded =
        candle_core::safetensors::load(folder().join("expected.safetensors"), &Device::Cpu).unwrap();
    let mut compared = 0;
    for (key, ids) in &recorded {
        let Some(name) = key.strip_suffix(".input_ids") else { continue };
        let checkpoint = Checkpoint::open(&base(name), Some(&folder().join(name))).unwrap();
        let placement = Placement::new(
            DeviceChoice::Cpu,
            Precision::F32,
            checkpoint.profile.family,
            CpuFeatures::detect(),
        )
        .unwrap();
        let expected: Vec<f32> =
            recorded[&format!("{name}.logits")].flatten_all().unwrap().to_vec1().unwrap();
        for predictor in [
            CandlePredictor::load(&checkpoint, placement.clone(), 1),
            CandlePredictor::in_candle(&checkpoint, &placement),
        ] {
            let found = logits(&predictor.unwrap(), ids);
            assert_eq!(found.len(), expected.len());
            let error = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(error < TOLERANCE, "{name}: {error}");
        }
        compared += 1;
    }
    assert_eq!(compared, 9);
}
