//! Both samplers of the reference in f64, as `tests/golden/README.md` describes them, from recorded random
//! numbers.

use std::collections::HashMap;

use candle_core::Tensor;
use serde_json::Value;

use crate::data::ids;
use crate::reference::Network;

/// Settings and random numbers of a run.
pub struct Trace {
    by_confidence: bool,
    steps: usize,
    temperature: f64,
    top_p: f64,
    greedy: bool,
    mask: u32,
    input: Vec<Vec<u32>>,
    given: Vec<Vec<u32>>,
    /// By round, canvas and position.
    unmask: Vec<Vec<Vec<f32>>>,
    /// By forward pass, canvas and row.
    category: Vec<Vec<Vec<f32>>>,
}

impl Trace {
    pub fn read(trace: &Value, tensors: &HashMap<String, Tensor>, mask: u32) -> Self {
        let name = trace["name"].as_str().unwrap();
        let tensor = |part: &str| tensors.get(&format!("{name}.{part}"));
        let cube = |part: &str| tensor(part).map(|tensor| tensor.to_vec3().unwrap()).unwrap_or_default();
        let by_confidence = trace["sampler"] == "confidence";
        Self {
            by_confidence,
            steps: trace["steps"].as_u64().unwrap() as usize,
            temperature: trace["temperature"].as_f64().unwrap(),
            top_p: trace["top_p"].as_f64().unwrap_or(1.0),
            greedy: by_confidence && trace["greedy"].as_bool().unwrap(),
            mask,
            input: ids(tensor("input_ids").unwrap()),
            given: ids(tensor("src_mask").unwrap()),
            unmask: cube("u_unmask"),
            category: cube("u_category"),
        }
    }
}

/// States fed into each forward pass, by canvas, and the end.
pub struct Run {
    pub states: Vec<Vec<Vec<u32>>>,
    pub last: Vec<Vec<u32>>,
}

/// Runs the sampler on every canvas.
pub fn sample(trace: &Trace, network: &Network) -> Run {
    let mut run = Run { states: vec![Vec::new(); trace.steps], last: Vec::new() };
    for canvas in 0..trace.input.len() {
        let (states, last) = sample_one(trace, network, canvas);
        run.states.iter_mut().zip(states).for_each(|(all, state)| all.push(state));
        run.last.push(last);
    }
    run
}

fn sample_one(trace: &Trace, network: &Network, canvas: usize) -> (Vec<Vec<u32>>, Vec<u32>) {
    let input = &trace.input[canvas];
    let given: Vec<bool> = trace.given[canvas].iter().map(|given| *given == 1).collect();
    let mut open: Vec<bool> = given.iter().map(|given| !given).collect();
    let masked = |(id, open): (&u32, &bool)| if *open { trace.mask } else { *id };
    let mut state: Vec<u32> = input.iter().zip(&open).map(masked).collect();
    let mut states = Vec::new();
    let mut guess = state.clone();
    let mut scores = Vec::new();
    for forward in 0..trace.steps {
        if forward > 0 {
            for position in committed(trace, canvas, forward, &given, &scores) {
                if open[position] {
                    (state[position], open[position]) = (guess[position], false);
                }
            }
        }
        let logits = network.evaluate(&state).logits;
        let drawn: Vec<(u32, f64)> = logits
            .iter()
            .enumerate()
            .map(|(row, logits)| {
                let uniform = trace.category.get(forward).map_or(0.0, |draws| f64::from(draws[canvas][row]));
                draw(trace, logits, uniform)
            })
            .collect();
        // Row p − 1 speaks of position p.
        let before = |position: usize| drawn[position.saturating_sub(1)];
        let token = |position: usize| if position == 0 { input[0] } else { before(position).0 };
        guess = (0..state.len()).map(|at| if open[at] { token(at) } else { state[at] }).collect();
        scores = (0..state.len()).map(|at| before(at).1).collect();
        states.push(state.clone());
    }
    (states, guess)
}

/// Positions that are committed before a forward pass, if they are open.
fn committed(trace: &Trace, canvas: usize, forward: usize, given: &[bool], scores: &[f64]) -> Vec<usize> {
    let left = trace.steps - forward;
    if !trace.by_confidence {
        let draws = &trace.unmask[forward - 1][canvas];
        return (0..given.len()).filter(|at| draws[*at] < 1.0 / (left as f32 + 1.0)).collect();
    }
    let count = given.iter().filter(|given| !**given).count();
    let stay = (count as f32 * (left as f32 / trace.steps as f32)) as usize;
    let score = |at: usize| if given[at] { 1000.0 } else { scores[at] };
    let mut sorted: Vec<f64> = (0..given.len()).map(score).collect();
    sorted.sort_by(f64::total_cmp);
    let cutoff = sorted[stay.min(sorted.len() - 1)];
    (0..given.len()).filter(|at| score(*at) >= cutoff).collect()
}

/// A token and its log-probability after temperature and top-p.
fn draw(trace: &Trace, logits: &[f64], uniform: f64) -> (u32, f64) {
    // A greedy request has temperature 0 here, and its scores are those of the distribution itself.
    let temperature = if trace.greedy { 1.0 } else { trace.temperature };
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut weights: Vec<f64> = logits.iter().map(|x| ((x - largest) / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b)));
    let mut cumulative = 0.0;
    for token in &order {
        let weight = weights[*token];
        if cumulative / total > trace.top_p {
            weights[*token] = 0.0;
        }
        cumulative += weight;
    }
    let kept: f64 = weights.iter().sum();
    let mut below = 0.0;
    let crossing = weights.iter().position(|weight| {
        below += weight;
        below / kept > uniform
    });
    let token = if trace.greedy { order[0] } else { crossing.unwrap_or(order[0]) };
    (token as u32, (weights[token] / kept).ln())
}
