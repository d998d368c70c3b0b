//! Logits, hidden states, the shift, losses and scores.

use std::collections::HashMap;

use candle_core::Tensor;
use unmask_model::device::Precision;
use unmask_model::predictor::{Ask, CandlePredictor, MaskPredictor, Sampling, Want};

use crate::data::{Model, cross_entropy, floats, ids, logits, mean_error, models_with, worst};

/// Ten times what an independent f64 computation differs by.
const TOLERANCE: f32 = 5e-4;

#[test]
fn golden_logits() {
    compare_logits(|model, block| model.load_in_blocks(Precision::F32, block));
}

/// The operations that run on a GPU, on the CPU.
#[test]
fn golden_logits_in_candle() {
    compare_logits(Model::load_in_candle_in_blocks);
}

fn compare_logits(load: impl Fn(&Model, Option<usize>) -> CandlePredictor) {
    for (model, tensors) in models_with("golden-logits.safetensors") {
        let mut block = model.block("forward", 0);
        let mut predictor = load(&model, block);
        let mut cases = 0;
        while let Some(input) = tensors.get(&format!("{cases}.input_ids")) {
            if model.block("forward", cases) != block {
                block = model.block("forward", cases);
                predictor = load(&model, block);
            }
            let found = logits(&predictor, &ids(input));
            let error = worst(&found, &floats(&tensors[&format!("{cases}.logits")]));
            println!("{} case {cases}: largest difference {error:.1e}", model.name);
            assert!(error < TOLERANCE, "{} case {cases}: {error}", model.name);
            cases += 1;
        }
        let expected = model.cases().and_then(|json| json["forward_cases"].as_u64());
        let listed = |json: serde_json::Value| Some(json["forward"].as_array()?.len() as u64);
        let expected = expected.or_else(|| model.family().and_then(listed));
        assert!(cases > 0, "{} has no case", model.name);
        assert!(
            expected.is_none_or(|count| count == cases as u64),
            "{}: {cases} of {expected:?}",
            model.name
        );
    }
}

#[test]
fn golden_logits_in_bfloat16() {
    let mut compared = 0;
    for (model, tensors) in models_with("golden-logits.safetensors") {
        let predictor = model.load_in_blocks(Precision::Bf16, model.block("forward", 0));
        for case in 0.. {
            let Some(recorded) = tensors.get(&format!("{case}.logits_bf16")) else { break };
            let exact = floats(&tensors[&format!("{case}.logits")]);
            let allowed = 1.5 * mean_error(&floats(recorded), &exact);
            let found = mean_error(&logits(&predictor, &ids(&tensors[&format!("{case}.input_ids")])), &exact);
            println!("{} case {case}: mean error {found:.4}, allowed {allowed:.4}", model.name);
            assert!(found <= allowed, "{} case {case}: {found} > {allowed}", model.name);
            compared += 1;
        }
    }
    assert!(compared > 0, "no bfloat16 case");
}

#[test]
fn golden_hidden_states() {
    compare_hidden_states(|model, block| model.load_in_blocks(Precision::F32, block), true);
}

#[test]
fn golden_hidden_states_in_candle() {
    compare_hidden_states(Model::load_in_candle_in_blocks, false);
}

fn compare_hidden_states(load: impl Fn(&Model, Option<usize>) -> CandlePredictor, tells_experts: bool) {
    for (model, tensors) in models_with("golden-hidden.safetensors") {
        let predictor = load(&model, model.block("hidden", 0));
        let input = ids(&tensors["input_ids"]);
        let canvases: Vec<&[u32]> = input.iter().map(Vec::as_slice).collect();
        let states = predictor.hidden_states(&canvases).unwrap();
        let state =
            |name: &&String| *name != "input_ids" && *name != "logits" && !name.starts_with("router.");
        let recorded = tensors.keys().filter(state).count();
        let (routers, states): (Vec<_>, Vec<_>) =
            states.into_iter().partition(|(name, _)| name.starts_with("router."));
        let chosen = tensors.keys().filter(|name| name.ends_with(".experts")).count();
        assert_eq!(routers.len(), if tells_experts { chosen } else { 0 }, "{}: routers", model.name);
        compare_experts(&model, &tensors, &routers);
        let tolerance = if model.family().is_some() { 2.0 * TOLERANCE } else { TOLERANCE };
        assert_eq!(states.len(), recorded, "{}: number of states", model.name);
        for (name, state) in states {
            let error = worst(&floats(&state), &floats(&tensors[&name]));
            println!("{} {name}: largest difference {error:.1e}", model.name);
            assert!(error < tolerance, "{} {name}: {error}", model.name);
        }
        let error = worst(&logits(&predictor, &input), &floats(&tensors["logits"]));
        assert!(error < TOLERANCE, "{} logits: {error}", model.name);
    }
}

/// The experts that each row uses, and how much they count. The operations of a GPU do not tell them; another expert would
/// move a row's state by far more than the tolerance.
fn compare_experts(model: &Model, tensors: &HashMap<String, Tensor>, found: &[(String, Tensor)]) {
    for (name, found) in found {
        let chosen = ids(&tensors[&format!("{name}.experts")]);
        let weights = tensors[&format!("{name}.weights")].to_vec2::<f32>().unwrap();
        for (row, found) in found.to_vec2::<f32>().unwrap().iter().enumerate() {
            let mut expected = vec![0.0; found.len()];
            for (expert, weight) in chosen[row].iter().zip(&weights[row]) {
                expected[*expert as usize] = *weight;
            }
            let used = |row: &[f32]| row.iter().map(|weight| *weight != 0.0).collect::<Vec<_>>();
            assert_eq!(used(found), used(&expected), "{} {name}, row {row}", model.name);
            assert!(worst(found, &expected) < TOLERANCE, "{} {name}, row {row}", model.name);
        }
    }
}

/// The token and log-probability that the sampler sees at position p come from row p − 1.
#[test]
fn golden_shift() {
    let mut compared = 0;
    for (model, tensors) in models_with("golden-logits.safetensors") {
        let Some(shifted) = tensors.get("shift.token") else { continue };
        let mut predictor = model.load(Precision::F32);
        let canvas = &ids(&tensors["1.input_ids"])[0];
        let wants: Vec<Want> = (1..canvas.len() as u32)
            .map(|position| Want { position, uniform: 0.5, ..Want::default() })
            .collect();
        let greedy = [Sampling { temperature: 0.0, ..Sampling::default() }];
        let ask = Ask { tokens: canvas, wants: &wants, samplings: &greedy, ..Ask::default() };
        let reads = predictor.predict(&[ask]).unwrap().remove(0);
        let tokens = &ids(shifted)[0];
        let scores = floats(&tensors["shift.score"]);
        assert_eq!(tokens[0], canvas[0], "position 0 keeps its own id");
        assert_eq!(scores[0], scores[1], "position 0 shares the score of row 0");
        for (position, read) in (1..).zip(&reads) {
            assert_eq!(read.token, tokens[position], "{} position {position}", model.name);
            assert!((read.score - scores[position]).abs() < TOLERANCE, "{} position {position}", model.name);
        }
        compared += 1;
    }
    assert!(compared > 0, "no shift case");
}

/// The training loss: cross-entropy at masked positions with the shift, plain and weighted by 1/t.
#[test]
fn golden_training_loss() {
    let mut compared = 0;
    for (model, tensors) in models_with("golden-loss.safetensors") {
        let predictor = model.load(Precision::F32);
        for case in 0.. {
            let name = |part: &str| format!("train.{case}.{part}");
            let Some(input) = tensors.get(&name("input_ids")) else { break };
            let input = ids(input);
            let noised = ids(&tensors[&name("x_t")]);
            let given = ids(&tensors[&name("src_mask")]);
            let u_t = floats(&tensors[&name("u_t")]);
            let u_mask = floats(&tensors[&name("u_mask")]);
            let mask = model.open().tokenizer.mask_id();
            let length = input[0].len();
            let rates: Vec<f64> = u_t.iter().map(|&u| 0.999 * f64::from(u) + 0.001).collect();
            for (row, positions) in input.iter().enumerate() {
                for (position, &token) in positions.iter().enumerate() {
                    let hidden =
                        f64::from(u_mask[row * length + position]) < rates[row] && given[row][position] == 0;
                    assert_eq!(
                        noised[row][position],
                        if hidden { mask } else { token },
                        "{} noise",
                        model.name
                    );
                }
            }
            let losses = masked_losses(&logits(&predictor, &noised), &input, &noised, mask);
            let count = losses.iter().map(Vec::len).sum::<usize>() as f64;
            let plain: f64 = losses.iter().flatten().sum();
            let weighted: f64 = losses.iter().zip(&rates).map(|(row, t)| row.iter().sum::<f64>() / t).sum();
            let expected = |part: &str| f64::from(floats(&tensors[&name(part)])[0]);
            assert!((plain / count - expected("unweighted_loss")).abs() < 5e-4, "{} {case}", model.name);
            let error = (weighted / count / expected("loss") - 1.0).abs();
            assert!(error < 1e-4, "{} {case}: relative error {error}", model.name);
            compared += 1;
        }
    }
    assert!(compared > 0, "no loss case");
}

/// The likelihood score of the multiple-choice tasks: mean cross-entropy over T mask rates.
#[test]
fn golden_likelihood_score() {
    let mut compared = 0;
    for (model, tensors) in models_with("golden-loss.safetensors") {
        let predictor = model.load(Precision::F32);
        for case in 0.. {
            let name = |part: &str| format!("score.{case}.{part}");
            let Some(input) = tensors.get(&name("input_ids")) else { break };
            let input = ids(input);
            let mask = model.open().tokenizer.mask_id();
            let expected = floats(&tensors[&name("per_step")]);
            let mut values = Vec::new();
            for (step, expected) in expected.iter().enumerate() {
                let noised = ids(&tensors[&name("x_t")].get(step).unwrap());
                let losses = masked_losses(&logits(&predictor, &noised), &input, &noised, mask);
                let count = losses.iter().map(Vec::len).sum::<usize>();
                let value = losses.iter().flatten().sum::<f64>() / count.max(1) as f64;
                let error = (value - f64::from(*expected)).abs();
                assert!(error < 5e-4, "{} {case} step {step}: {value} vs {expected}", model.name);
                values.push(value);
            }
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            assert!(
                (mean - f64::from(floats(&tensors[&name("value")])[0])).abs() < 5e-4,
                "{} {case}",
                model.name
            );
            compared += 1;
        }
    }
    assert!(compared > 0, "no score case");
}

/// Cross-entropies of the true tokens at masked positions from 1 on, by canvas.
fn masked_losses(logits: &[f32], input: &[Vec<u32>], noised: &[Vec<u32>], mask: u32) -> Vec<Vec<f64>> {
    let length = input[0].len();
    let rows: Vec<&[f32]> = logits.chunks_exact(logits.len() / (input.len() * length)).collect();
    let losses = |canvas: usize| {
        let masked = (1..length).filter(move |&position| noised[canvas][position] == mask);
        masked
            .map(|position| cross_entropy(rows[canvas * length + position - 1], input[canvas][position]))
            .collect()
    };
    (0..input.len()).map(losses).collect()
}
