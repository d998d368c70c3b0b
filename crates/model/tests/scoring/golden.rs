//! The mode `Reference` against the authors' `eval_forward` with its random numbers replayed.

use crate::device;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use unmask_model::checkpoint::Checkpoint;
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::diffusion::{Noise, RecordedDraws, ScoreMode, ScoreSpec};
use unmask_model::predictor::{CandlePredictor, MaskPredictor, TokenId};

use super::{Trace, trace};

const TOLERANCE: f64 = 5e-4;

fn folder(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(model)
}

fn load(model: &str) -> CandlePredictor {
    let checkpoint = Checkpoint::open(&folder(model), None).unwrap();
    let placement =
        Placement::new(DeviceChoice::Cpu, Precision::F32, checkpoint.profile.family, device::cpu()).unwrap();
    CandlePredictor::load(&checkpoint, placement, 1).unwrap()
}

fn ids(tensor: &Tensor) -> Vec<Vec<TokenId>> {
    tensor.to_dtype(DType::U32).unwrap().to_vec2().unwrap()
}

/// One recorded score.
struct Case {
    texts: Vec<Vec<TokenId>>,
    given: Vec<Vec<u32>>,
    /// By step, then by text of the batch.
    shown: Vec<Vec<Vec<TokenId>>>,
    uniforms: Vec<Vec<Vec<f32>>>,
    per_step: Vec<f32>,
    value: f64,
}

impl Case {
    fn find(tensors: &HashMap<String, Tensor>, number: usize) -> Option<Self> {
        let tensor = |part: &str| &tensors[&format!("score.{number}.{part}")];
        tensors.contains_key(&format!("score.{number}.input_ids")).then(|| Self {
            texts: ids(tensor("input_ids")),
            given: ids(tensor("src_mask")),
            shown: tensor("x_t").to_dtype(DType::U32).unwrap().to_vec3().unwrap(),
            uniforms: tensor("u_mask").to_vec3().unwrap(),
            per_step: tensor("per_step").to_vec1().unwrap(),
            value: f64::from(tensor("value").to_vec1::<f32>().unwrap()[0]),
        })
    }

    fn spec(&self, row: usize) -> ScoreSpec {
        let from = self.given[row].iter().sum::<u32>();
        assert!(self.given[row].iter().is_sorted_by(|a, b| a >= b), "what is given comes first");
        let uniforms = self.uniforms.iter().map(|rows| rows[row].iter().map(|&u| f64::from(u)).collect());
        let draws = RecordedDraws { tokens: uniforms.collect(), ..RecordedDraws::default() };
        ScoreSpec {
            tokens: self.texts[row].clone(),
            from,
            mode: ScoreMode::Reference { steps: self.per_step.len() as u32 },
            noise: Noise::Recorded(Arc::new(draws)),
            ..ScoreSpec::default()
        }
    }

    /// The steps at which a text shows a mask that its model predicts; the others need no evaluation.
    fn evaluated(&self, row: usize, mask: TokenId) -> Vec<usize> {
        (0..self.shown.len()).filter(|&step| self.shown[step][row][1..].contains(&mask)).collect()
    }

    /// The reference pools the masked positions of its batch before it takes their mean.
    fn pooled(&self, traces: &[Trace], mask: TokenId) -> Vec<f64> {
        let mut sums = vec![(0.0, 0.0); self.per_step.len()];
        for (row, trace) in traces.iter().enumerate() {
            let steps = self.evaluated(row, mask);
            assert_eq!(trace.len(), steps.len(), "a step that masks nothing is not evaluated");
            for (&step, (canvas, reads)) in steps.iter().zip(trace) {
                assert_eq!(*canvas, self.shown[step][row], "step {step}");
                let (sum, count) = &mut sums[step];
                *sum -= reads.iter().map(|read| f64::from(read.target.unwrap())).sum::<f64>();
                *count += reads.len() as f64;
            }
        }
        sums.into_iter().map(|(sum, count)| sum / f64::max(count, 1.0)).collect()
    }
}

#[test]
fn golden_reference_scores() {
    let mut compared = 0;
    let mut with_mask_id = 0;
    let mut unevaluated = 0;
    for model in ["diffugpt-s", "diffugpt-m", "diffullama", "diffullama-gqa"] {
        let mut predictor = load(model);
        let mask = predictor.limits().mask_token;
        let file = folder(model).join("golden-loss.safetensors");
        let tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
        for (number, case) in (0..).map_while(|number| Some((number, Case::find(&tensors, number)?))) {
            let runs: Vec<_> =
                (0..case.texts.len()).map(|row| trace(&mut predictor, case.spec(row))).collect();
            let (scores, traces): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
            let per_step = case.pooled(&traces, mask);
            for (found, expected) in per_step.iter().zip(&case.per_step) {
                assert!((found - f64::from(*expected)).abs() < TOLERANCE, "{model} {number}: {found}");
            }
            let mean = per_step.iter().sum::<f64>() / per_step.len() as f64;
            let value = if scores.len() == 1 { -scores[0].total } else { mean };
            println!("{model} {number}: {value:.6}, off by {:.1e}", value - case.value);
            assert!((value - case.value).abs() < TOLERANCE, "{model} {number}: {value}, not {}", case.value);
            compared += 1;
            with_mask_id += usize::from(case.texts.iter().any(|text| text.contains(&mask)));
            unevaluated += traces.iter().map(|trace| case.per_step.len() - trace.len()).sum::<usize>();
        }
    }
    println!(
        "{compared} scores, {with_mask_id} with the mask id in the text, {unevaluated} steps without masks"
    );
    assert!(compared > 0 && with_mask_id > 0 && unevaluated > 0, "the cases cover the rules");
}
