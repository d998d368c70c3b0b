//! Whole runs of the samplers of LLaDA's and Dream's authors and of Fast-dLLM, state by state, from their recorded
//! random numbers.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;
use serde_json::Value;
use unmask_model::device::Precision;
use unmask_model::diffusion::{
    DenoisingState, Extent, KvCache, Noise, Order, Policy, Quota, RecordedDraws, Refresh, Score, ScoreKind,
    StateSpec, Window,
};
use unmask_model::predictor::{CandlePredictor, MaskPredictor, Sampling};

use crate::data::{Model, floats, ids, logits, models_with, worst};

#[test]
fn golden_family_runs() {
    replay_all(|model| model.load(Precision::F32));
}

#[test]
fn golden_family_runs_in_candle() {
    replay_all(Model::load_in_candle);
}

fn replay_all(load: impl Fn(&Model) -> CandlePredictor) {
    let mut replayed = 0;
    for (model, tensors) in models_with("golden-runs.safetensors") {
        let mut predictor = load(&model);
        let family = model.family().expect("family.json");
        if family["attention"] == "block-causal" {
            continue;
        }
        for parameters in family["runs"].as_array().unwrap() {
            let run = Run { model: &model, family: &family, parameters, tensors: &tensors };
            run.replay(&mut predictor);
            replayed += 1;
        }
    }
    println!("{replayed} runs replayed");
    assert!(replayed > 0, "no run");
}

/// A run and where it is recorded.
struct Run<'a> {
    model: &'a Model,
    family: &'a Value,
    parameters: &'a Value,
    tensors: &'a HashMap<String, Tensor>,
}

impl Run<'_> {
    fn text(&self, field: &str) -> &str {
        self.parameters[field].as_str().unwrap_or_default()
    }

    fn number(&self, field: &str) -> Option<f64> {
        self.parameters.get(field).map(|value| value.as_f64().unwrap())
    }

    fn count(&self, field: &str) -> usize {
        self.parameters[field].as_u64().unwrap_or_else(|| panic!("{}: no {field}", self.label())) as usize
    }

    fn is(&self, field: &str) -> bool {
        self.parameters.get(field).is_some_and(|value| value == true)
    }

    fn id(&self, field: &str) -> u32 {
        u32::try_from(self.family[field].as_u64().unwrap()).unwrap()
    }

    fn label(&self) -> String {
        format!("{} {}", self.model.name, self.text("name"))
    }

    fn tensor(&self, part: &str) -> Option<&Tensor> {
        self.tensors.get(&format!("{}.{part}", self.text("name")))
    }

    /// (forward, canvas, position).
    fn states(&self) -> Vec<Vec<Vec<u32>>> {
        let states = self.tensor("xt").unwrap();
        (0..states.dim(0).unwrap()).map(|forward| ids(&states.get(forward).unwrap())).collect()
    }

    /// Numbers of a canvas by forward.
    fn draws(&self, part: &str, canvas: usize) -> Vec<Vec<f64>> {
        let wide = |row: Vec<f32>| row.into_iter().map(f64::from).collect();
        let Some(tensor) = self.tensor(part) else { return Vec::new() };
        let rows = tensor.to_vec3::<f32>().unwrap().into_iter();
        rows.map(|forward| wide(forward[canvas].clone())).collect()
    }

    fn is_dream(&self) -> bool {
        self.parameters.get("alg").is_some()
    }

    fn policy(&self) -> Policy {
        let steps = u32::try_from(self.count("steps")).unwrap();
        let ranked = |kind| Order::Score(Score { kind, temperature: self.number("alg_temp").unwrap_or(0.0) });
        if self.is_dream() {
            let order = match self.text("alg") {
                "origin" => return Policy::reference(steps),
                "maskgit_plus" => ranked(ScoreKind::Drawn),
                "topk_margin" => ranked(ScoreKind::Margin),
                "entropy" => ranked(ScoreKind::Entropy),
                "confidence_threshold" => ranked(ScoreKind::Drawn),
                other => panic!("{}: unknown alg {other}", self.label()),
            };
            let window =
                self.parameters.get("block").map_or(Window::All, |_| Window::Block(self.count("block")));
            let quota = self.number("threshold").map_or(Quota::DreamSchedule(steps), Quota::Threshold);
            return Policy { window, order, quota, ..Policy::reference(steps) };
        }
        let order = match self.text("remasking") {
            "low_confidence" => ranked(ScoreKind::Model),
            "random" => Order::Permutation,
            other => panic!("{}: unknown remasking {other}", self.label()),
        };
        let quota = self.number("threshold").map_or(Quota::Evaluations(steps), Quota::Threshold);
        Policy { window: Window::Block(self.count("block")), order, quota, ..Policy::reference(steps) }
    }

    fn sampling(&self) -> Sampling {
        let temperature = self.number("temperature").unwrap();
        let eos = self.id("eos_token_id");
        let turn_end = self.id("turn_end_token_id");
        let banned = if self.is("ban_eos") { vec![eos] } else { Vec::new() };
        // A ban comes before everything; of what is distrusted, the reference leaves the end of the text out at a
        // temperature.
        let distrusted = match (self.is("distrust_eos"), temperature > 0.0) {
            (false, _) => banned.clone(),
            (true, true) => vec![turn_end],
            (true, false) => vec![eos, turn_end],
        };
        if self.is_dream() {
            assert_eq!(self.text("filters"), "p, k", "{}", self.label());
        }
        Sampling {
            temperature,
            top_p: self.number("top_p").unwrap_or(1.0),
            top_k: self.number("top_k").unwrap_or(0.0) as usize,
            nucleus_first: true,
            banned,
            distrusted,
            ..Sampling::default()
        }
    }

    /// The tokens given at the start, by canvas.
    fn given(&self) -> Vec<Vec<Option<u32>>> {
        let prompt = ids(self.tensor("input_ids").or_else(|| self.tensor("prompt")).unwrap());
        let mask = self.id("mask_token_id");
        let length = self.states()[0][0].len();
        let suffix: Vec<u32> = self.tensor("suffix").map_or_else(Vec::new, |suffix| {
            suffix.to_vec1::<i64>().unwrap().into_iter().map(|id| u32::try_from(id).unwrap()).collect()
        });
        let canvas = |prompt: &Vec<u32>| {
            let mut given: Vec<Option<u32>> = prompt.iter().map(|id| (*id != mask).then_some(*id)).collect();
            given.resize(length, None);
            let end = given.len() - suffix.len();
            given[end..].iter_mut().zip(&suffix).for_each(|(given, id)| *given = Some(*id));
            given
        };
        prompt.iter().map(canvas).collect()
    }

    /// Forwards after which a canvas is another one, or all where draws of the mask leave it as it is.
    fn working(&self, canvas: usize) -> Vec<usize> {
        let states = self.states();
        let last = ids(self.tensor("final").unwrap());
        let after = |forward: usize| states.get(forward + 1).unwrap_or(&last)[canvas].clone();
        let works = |forward: &usize| self.is("mask_drawn") || after(*forward) != states[*forward][canvas];
        (0..states.len()).filter(works).collect()
    }

    /// Dream's share of the open positions at each forward, in f32 as there.
    fn shares(&self) -> Vec<f32> {
        let steps = self.count("steps");
        let time = |i: usize| 1.0 + (0.001_f32 - 1.0) * i as f32 / steps as f32;
        (0..steps).map(|i| if i + 1 == steps { 1.0 } else { 1.0 - time(i + 1) / time(i) }).collect()
    }

    /// The recorded numbers of a canvas by our rounds, which count forwards, idle ones as well; those of an order that
    /// is planned count the forwards that commit something.
    fn recorded(&self, canvas: usize, predictor: &CandlePredictor) -> RecordedDraws {
        let narrow = |rows: Vec<Vec<f64>>| -> Vec<Vec<f32>> {
            rows.into_iter().map(|row| row.into_iter().map(|x| x as f32).collect()).collect()
        };
        let mut tokens = self.draws("u_category", canvas);
        if self.tensor("noise").is_some() {
            tokens = self.gumbel(predictor);
        }
        let order = self.draws("u_order", canvas);
        if self.is_dream() {
            let mut rounds = narrow(self.draws("u_unmask", canvas));
            rounds.truncate(self.count("steps") - 1);
            return RecordedDraws { rounds, tokens, shares: self.shares(), order };
        }
        if self.text("remasking") != "random" {
            return RecordedDraws { tokens, order, ..RecordedDraws::default() };
        }
        let working = self.working(canvas);
        let of =
            |rows: &[Vec<f64>]| working.iter().filter_map(|forward| rows.get(*forward).cloned()).collect();
        RecordedDraws { tokens: of(&tokens), order: of(&order), ..RecordedDraws::default() }
    }

    /// Numbers that draw the tokens that Gumbel noise drew: the argmax of logits - T * ln(-ln noise).
    fn gumbel(&self, predictor: &CandlePredictor) -> Vec<Vec<f64>> {
        let temperature = self.number("temperature").unwrap();
        let noise = self.tensor("noise").unwrap();
        let (count, _, length, rows) = noise.dims4().unwrap();
        (0..count)
            .map(|forward| {
                let found = logits(predictor, &self.states()[forward]);
                let noise = floats(&noise.get(forward).unwrap());
                let pairs = found.chunks_exact(rows).zip(noise.chunks_exact(rows)).take(length);
                pairs.map(|(logits, noise)| number_of(logits, noise, temperature)).collect()
            })
            .collect()
    }

    /// Fast-dLLM's cache, refreshed by the first forward of each block; for Dream it commits one position.
    fn kv_cache(&self) -> Option<KvCache> {
        let extent = match self.text("cache") {
            "prefix" => Extent::Prefix,
            "dual" => Extent::Dual,
            _ => return None,
        };
        let refresh = if self.is_dream() { Refresh::BlockFirst } else { Refresh::Block };
        Some(KvCache { extent, refresh, near: 0 })
    }

    fn replay(&self, predictor: &mut CandlePredictor) {
        let states = self.states();
        let last = ids(self.tensor("final").unwrap());
        for (canvas, given) in self.given().into_iter().enumerate() {
            let label = format!("{}, canvas {canvas}", self.label());
            let draws = self.recorded(canvas, predictor);
            let spec = StateSpec {
                given,
                samplings: vec![self.sampling()],
                policy: self.policy(),
                noise: Noise::Recorded(Arc::new(draws)),
                guidance: self.number("guidance"),
                redraw_masks: true,
                kv_cache: self.kv_cache(),
                ..StateSpec::default()
            };
            let mut state = DenoisingState::new(spec, &predictor.limits()).unwrap();
            let working = self.working(canvas);
            let mut before = 0;
            let mut evaluations = 0;
            while let Some(ask) = state.ask() {
                let forward = if self.text("remasking") == "random" {
                    working[evaluations]
                } else {
                    state.round() as usize - 1
                };
                // Those in between changed nothing.
                for (number, skipped) in states.iter().enumerate().take(forward + 1).skip(before) {
                    assert_eq!(skipped[canvas], ask.tokens, "{label}: state before forward {number}");
                }
                before = forward + 1;
                evaluations += 1;
                let left = state.evaluations_left();
                let reads = predictor.predict(&[ask]).unwrap().remove(0);
                state.act(&reads);
                assert!(state.evaluations_left() < left, "{label}: {left} evaluations were left");
            }
            for states in &states[before..] {
                assert_eq!(states[canvas], state.canvas().tokens(), "{label}: behind the last evaluation");
            }
            assert_eq!(last[canvas], state.canvas().tokens(), "{label}: the end");
            assert!(evaluations <= self.count("evaluations"), "{label}: {evaluations} evaluations");
        }
        self.compare_logits(predictor);
    }

    fn compare_logits(&self, predictor: &CandlePredictor) {
        let Some(recorded) = self.tensor("logits").filter(|_| self.kv_cache().is_none()) else { return };
        for (forward, states) in self.states().iter().enumerate() {
            let error = worst(&logits(predictor, states), &floats(&recorded.get(forward).unwrap()));
            assert!(error < 5e-4, "{} forward {forward}: {error}", self.label());
        }
    }
}

/// The middle of the interval of the token that noise drew.
fn number_of(logits: &[f32], noise: &[f32], temperature: f64) -> f64 {
    let value =
        |(logit, noise): (&f32, &f32)| f64::from(*logit) - temperature * (-f64::from(*noise).ln()).ln();
    let values: Vec<f64> = logits.iter().zip(noise).map(value).collect();
    let token = (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap();
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> =
        logits.iter().map(|logit| (f64::from(logit - largest) / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    (weights[..token].iter().sum::<f64>() + weights[token] / 2.0) / total
}
