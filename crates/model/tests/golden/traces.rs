//! Whole runs of both samplers of the reference, state by state, from its recorded random numbers.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;
use serde_json::Value;
use unmask_model::device::Precision;
use unmask_model::diffusion::{DenoisingState, Noise, Policy, RecordedDraws, StateSpec};
use unmask_model::predictor::{CandlePredictor, MaskPredictor, Sampling};

use crate::data::{Model, floats, ids, models_with, worst};

#[test]
fn golden_traces() {
    replay_all(|model| model.load(Precision::F32));
}

/// The same texts from the operations that run on a GPU, whose sums are rounded in another order.
#[test]
fn golden_traces_in_candle() {
    replay_all(Model::load_in_candle);
}

fn replay_all(load: impl Fn(&Model) -> CandlePredictor) {
    let mut replayed = 0;
    for (model, tensors) in models_with("golden-traces.safetensors") {
        let mut predictor = load(&model);
        let cases = model.cases().expect("golden.json");
        for trace in cases["traces"].as_array().unwrap() {
            let run = Run::read(trace, &tensors);
            for canvas in 0..run.given.len() {
                run.replay(canvas, &mut predictor, &format!("{} {}", model.name, run.name));
            }
            run.compare_logits(&predictor, &tensors);
            replayed += 1;
        }
    }
    println!("{replayed} runs replayed");
    assert!(replayed > 0, "no trace");
}

struct Run {
    name: String,
    policy: Policy,
    sampling: Sampling,
    /// By canvas and position.
    given: Vec<Vec<u32>>,
    input: Vec<Vec<u32>>,
    /// By forward, canvas and position.
    states: Vec<Vec<Vec<u32>>>,
    last: Vec<Vec<u32>>,
    /// By round or forward, canvas and position.
    unmask: Vec<Vec<Vec<f32>>>,
    category: Vec<Vec<Vec<f32>>>,
}

impl Run {
    fn read(trace: &Value, tensors: &HashMap<String, Tensor>) -> Self {
        let name = trace["name"].as_str().unwrap().to_owned();
        let tensor = |part: &str| tensors.get(&format!("{name}.{part}"));
        let cube = |part: &str| -> Vec<Vec<Vec<f32>>> {
            tensor(part).map(|tensor| tensor.to_vec3().unwrap()).unwrap_or_default()
        };
        let steps = u32::try_from(trace["steps"].as_u64().unwrap()).unwrap();
        let (policy, greedy) = match trace["sampler"].as_str().unwrap() {
            // The reference draws in this order whatever its `greedy` says.
            "random" => (Policy::reference(steps), false),
            "confidence" => (Policy::confidence(steps), trace["greedy"].as_bool().unwrap()),
            other => panic!("unknown sampler {other}"),
        };
        let states = tensor("xt").unwrap();
        Self {
            policy,
            sampling: Sampling {
                temperature: if greedy { 0.0 } else { trace["temperature"].as_f64().unwrap() },
                top_p: trace["top_p"].as_f64().unwrap_or(1.0),
                ..Sampling::default()
            },
            given: ids(tensor("src_mask").unwrap()),
            input: ids(tensor("input_ids").unwrap()),
            states: (0..steps as usize).map(|forward| ids(&states.get(forward).unwrap())).collect(),
            last: ids(tensor("final").unwrap()),
            unmask: cube("u_unmask"),
            category: cube("u_category"),
            name,
        }
    }

    fn draws(&self, canvas: usize) -> RecordedDraws {
        // The reference draws at rows; row p − 1 speaks of position p.
        let shifted = |row: &[f32]| -> Vec<f64> {
            std::iter::once(0.0).chain(row.iter().map(|&number| f64::from(number))).collect()
        };
        RecordedDraws {
            rounds: self.unmask.iter().map(|round| round[canvas].clone()).collect(),
            tokens: self.category.iter().map(|forward| shifted(&forward[canvas])).collect(),
            ..RecordedDraws::default()
        }
    }

    /// Every state fed into a forward pass of the reference must be the one we hold at that round; the
    /// rounds that we skip must be those in which nothing changes.
    fn replay(&self, canvas: usize, predictor: &mut CandlePredictor, label: &str) {
        let input = &self.input[canvas];
        let spec = StateSpec {
            given: input
                .iter()
                .zip(&self.given[canvas])
                .map(|(&id, &given)| (given == 1).then_some(id))
                .collect(),
            samplings: vec![self.sampling.clone()],
            policy: self.policy,
            noise: Noise::Recorded(Arc::new(self.draws(canvas))),
            first_token: Some(input[0]),
            ..StateSpec::default()
        };
        let mut state = DenoisingState::new(spec, &predictor.limits()).unwrap();
        let mut forward = 0;
        while let Some(ask) = state.ask() {
            // Rounds count from 1, forwards from 0. Position 0 alone may fill a round without an
            // evaluation, in which case it was committed on the way to this one.
            while forward < state.round() as usize {
                let same = (1..input.len()).all(|p| self.states[forward][canvas][p] == ask.tokens[p]);
                assert!(same, "{label}, canvas {canvas}: state before forward {forward}");
                forward += 1;
            }
            let reads = predictor.predict(&[ask]).unwrap().remove(0);
            state.act(&reads);
        }
        for states in &self.states[forward..] {
            assert_eq!(&states[canvas][1..], &state.canvas().tokens()[1..], "{label}: after the last commit");
        }
        assert_eq!(state.canvas().masked(), 0, "{label}: nothing stays masked");
        assert_eq!(&self.last[canvas], &state.canvas().tokens()[1..], "{label}, canvas {canvas}: the end");
    }

    fn compare_logits(&self, predictor: &CandlePredictor, tensors: &HashMap<String, Tensor>) {
        let Some(recorded) = tensors.get(&format!("{}.logits", self.name)) else { return };
        for (forward, states) in self.states.iter().enumerate() {
            let canvases: Vec<&[u32]> = states.iter().map(Vec::as_slice).collect();
            let found = floats(&predictor.all_logits(&canvases).unwrap());
            let error = worst(&found, &floats(&recorded.get(forward).unwrap()));
            assert!(error < 5e-4, "{} forward {forward}: {error}", self.name);
        }
    }
}
