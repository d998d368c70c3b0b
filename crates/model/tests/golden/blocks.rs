//! Whole runs of the samplers of SDAR's and LLaDA2's authors, block by block and state by state, from their recorded random
//! numbers.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;
use serde_json::Value;
use unmask_model::device::Precision;
use unmask_model::diffusion::{
    DenoisingState, Noise, Order, Policy, Quota, RecordedDraws, Revise, Score, ScoreKind, Span, StateSpec,
    Window,
};
use unmask_model::predictor::{CandlePredictor, MaskPredictor, Sampling};

use crate::data::{Model, floats, ids, logits, models, worst};

#[test]
fn golden_family_block_runs() {
    replay_all(|model, block| model.load_in_blocks(Precision::F32, block));
}

#[test]
fn golden_family_block_runs_in_candle() {
    replay_all(Model::load_in_candle_in_blocks);
}

fn replay_all(load: impl Fn(&Model, Option<usize>) -> CandlePredictor) {
    let mut replayed = 0;
    for model in models() {
        let Some(family) = model.family().filter(|family| family["attention"] == "block-causal") else {
            continue;
        };
        let Some(tensors) = model.tensors("golden-runs.safetensors") else { continue };
        for parameters in family["runs"].as_array().unwrap() {
            let run = Run { model: &model, parameters, tensors: &tensors };
            run.replay(&mut load(&model, Some(run.count("block"))));
            replayed += 1;
        }
    }
    println!("{replayed} runs in blocks replayed");
    assert!(replayed > 0, "no run in blocks");
}

/// A run and where it is recorded.
struct Run<'a> {
    model: &'a Model,
    parameters: &'a Value,
    tensors: &'a HashMap<String, Tensor>,
}

impl Run<'_> {
    fn label(&self) -> String {
        format!("{} {}", self.model.name, self.parameters["name"].as_str().unwrap())
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

    fn tensor(&self, part: &str) -> Option<&Tensor> {
        self.tensors.get(&format!("{}.{part}", self.parameters["name"].as_str().unwrap()))
    }

    /// Tokens by forward, and the block of each.
    fn states(&self) -> (Vec<Vec<u32>>, Vec<usize>) {
        let blocks = self.tensor("block").unwrap().to_vec1::<i64>().unwrap();
        (ids(self.tensor("xt").unwrap()), blocks.into_iter().map(|block| block as usize).collect())
    }

    fn policy(&self) -> Policy {
        let kind = match (&self.parameters["strategy"], &self.parameters["confidence"]) {
            (strategy, _) if strategy == "sequential" => ScoreKind::Position,
            (_, confidence) if confidence == "model" => ScoreKind::Model,
            _ => ScoreKind::Drawn,
        };
        let revise = self.number("editing_threshold").map_or(Revise::None, |threshold| Revise::Edit {
            threshold,
            post: self.count("max_post_steps") as u32,
            early_stop: self.is("early_stop"),
        });
        // LLaDA2.1 names the number that a forward commits instead of the forwards.
        let steps = self.parameters.get("num_to_transfer").map_or(self.count("steps"), |_| {
            let each = self.count("num_to_transfer");
            assert_eq!(self.count("block") % each, 0, "{}: even parts", self.label());
            self.count("block") / each
        });
        Policy {
            window: Window::Block(self.number("part").map_or(self.count("block"), |part| part as usize)),
            order: Order::Score(Score { kind, temperature: 0.0 }),
            quota: Quota::PerBlock { steps: steps as u32, threshold: self.number("threshold") },
            revise,
        }
    }

    fn sampling(&self) -> Sampling {
        assert_eq!(self.parameters["filters"], "k, p", "{}", self.label());
        Sampling {
            temperature: self.number("temperature").unwrap(),
            top_k: self.number("top_k").unwrap_or(0.0) as usize,
            top_p: self.number("top_p").unwrap_or(1.0),
            ..Sampling::default()
        }
    }

    /// The recorded numbers of each forward at the positions of its block.
    fn draws(&self, length: usize) -> RecordedDraws {
        let Some(recorded) = self.tensor("u_category") else { return RecordedDraws::default() };
        let size = self.count("block");
        let row = |(numbers, block): (Vec<f32>, &usize)| {
            let mut row = vec![0.0; length];
            for (place, number) in numbers.into_iter().enumerate() {
                row[block * size + place] = f64::from(number);
            }
            row
        };
        let rows = recorded.to_vec2::<f32>().unwrap();
        let tokens = rows.into_iter().zip(&self.states().1).map(row).collect();
        RecordedDraws { tokens, ..RecordedDraws::default() }
    }

    /// Positions that each forward computes.
    fn shown(&self, blocks: &[usize]) -> Vec<usize> {
        let recorded = self.tensor("shown").map(|shown| shown.to_vec1::<i64>().unwrap());
        let whole = blocks.iter().map(|block| (block + 1) * self.count("block"));
        recorded.map_or_else(|| whole.collect(), |shown| shown.into_iter().map(|end| end as usize).collect())
    }

    /// Tokens that end the text, in the runs that were made to stop.
    fn ends(&self) -> Vec<u32> {
        let stops = self.parameters["stop_ids"].as_array().filter(|_| self.is("stop"));
        stops.into_iter().flatten().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
    }

    fn replay(&self, predictor: &mut CandlePredictor) {
        let label = self.label();
        let (states, blocks) = self.states();
        let prompt = ids(self.tensor("prompt").unwrap()).remove(0);
        let length = states[0].len();
        let shown = self.shown(&blocks);
        let mut given: Vec<Option<u32>> = prompt.iter().copied().map(Some).collect();
        given.resize(length, None);
        let spec = StateSpec {
            given,
            samplings: vec![self.sampling()],
            spans: vec![Span { range: prompt.len()..length, ends_at: self.ends(), ..Span::default() }],
            policy: self.policy(),
            noise: Noise::Recorded(Arc::new(self.draws(length))),
            finish_block: !self.is("early_stop"),
            ..StateSpec::default()
        };
        let mut state = DenoisingState::new(spec, &predictor.limits()).unwrap();
        for (forward, (expected, shown)) in states.iter().zip(shown).enumerate() {
            let Some(ask) = state.ask() else { panic!("{label}: ends before forward {forward}") };
            assert_eq!(expected, state.canvas().tokens(), "{label}: state before forward {forward}");
            assert_eq!(ask.tokens.len(), shown, "{label}: what forward {forward} shows");
            let left = state.evaluations_left();
            let reads = predictor.predict(&[ask]).unwrap().remove(0);
            state.act(&reads);
            assert!(state.evaluations_left() < left, "{label}: {left} evaluations were left");
        }
        assert!(state.ask().is_none(), "{label}: goes on after {} forwards", states.len());
        self.compare_end(state.canvas().tokens(), prompt.len());
        self.compare_logits(predictor, &states, &blocks);
    }

    /// SDAR records the whole canvas, LLaDA2 what was asked for after the prompt, up to the end of the text.
    fn compare_end(&self, tokens: &[u32], prompt: usize) {
        let last = ids(self.tensor("final").unwrap()).remove(0);
        let from = if last.len() > tokens.len() - prompt { 0 } else { prompt };
        let mut found = &tokens[from..];
        if from > 0 {
            found = &found[..found.len().min(self.count("length"))];
            let end = found.iter().position(|token| self.ends().contains(token));
            found = &found[..end.map_or(found.len(), |end| end + 1)];
        }
        assert_eq!(last[..found.len()], *found, "{}: the end", self.label());
        assert!(found.len() == last.len() || from == 0, "{}: {} tokens", self.label(), last.len());
    }

    /// The rows of the block at work, cached and not.
    fn compare_logits(&self, predictor: &CandlePredictor, states: &[Vec<u32>], blocks: &[usize]) {
        let size = self.count("block");
        for part in ["logits", "logits_uncached"] {
            let Some(recorded) = self.tensor(part) else { continue };
            for (forward, (state, block)) in states.iter().zip(blocks).enumerate() {
                let shown = state[..(block + 1) * size].to_vec();
                let all = logits(predictor, &[shown]);
                let rows = all.len() / ((block + 1) * size);
                let expected = floats(&recorded.get(forward).unwrap());
                let error = worst(&all[block * size * rows..], &expected);
                assert!(error < 5e-4, "{} forward {forward}: {error}", self.label());
            }
        }
    }
}
