//! Scoring against a chain whose probabilities are known, and against the reference's likelihood score.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(clippy::print_stdout, reason = "measurements are worth seeing with --nocapture")]

#[path = "../device/mod.rs"]
mod device;
mod golden;

use unmask_model::diffusion::{Noise, ScoreMode, ScoreSpec, ScoringState, SequenceScore};
use unmask_model::error::{CanvasError, PolicyError, PredictError};
use unmask_model::predictor::{Ask, MarkovOracle, MaskPredictor, ModelLimits, Read, TokenId};

const MASK: TokenId = 3;

/// The canvas and the answers of every evaluation.
type Trace = Vec<(Vec<TokenId>, Vec<Read>)>;

fn chain(context: usize) -> MarkovOracle {
    MarkovOracle::new(&[vec![0.70, 0.20, 0.10], vec![0.15, 0.25, 0.60], vec![0.45, 0.15, 0.40]], context)
        .reading_with(device::cpu())
}

/// A model whose conditionals contradict each other: the chain's, squared and normalised.
struct Overconfident(MarkovOracle);

impl Overconfident {
    fn log_conditional(&self, canvas: &[TokenId], position: usize, token: TokenId) -> f64 {
        let law = self.0.conditional(canvas, position as u32);
        (law[token as usize].powi(2) / law.iter().map(|p| p * p).sum::<f64>()).ln()
    }
}

impl MaskPredictor for Overconfident {
    fn limits(&self) -> ModelLimits {
        self.0.limits()
    }

    fn predict(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError> {
        let mut answers = self.0.predict(asks)?;
        for (ask, reads) in asks.iter().zip(&mut answers) {
            for (want, read) in ask.wants.iter().zip(reads) {
                let log = |token| self.log_conditional(ask.tokens, want.position as usize, token) as f32;
                read.target = want.target.map(log);
            }
        }
        Ok(answers)
    }
}

fn spec(tokens: &[TokenId], from: u32, mode: ScoreMode, seed: u64) -> ScoreSpec {
    ScoreSpec {
        tokens: tokens.to_vec(),
        from,
        mode,
        noise: Noise::Keyed { seed, sample: 0 },
        ..ScoreSpec::default()
    }
}

/// The score of a text, and what every evaluation was shown and answered.
fn trace(model: &mut dyn MaskPredictor, spec: ScoreSpec) -> (SequenceScore, Trace) {
    let mut state = ScoringState::new(spec, &model.limits()).unwrap();
    let planned = state.evaluations_left();
    let mut trace = Vec::new();
    while let Some(ask) = state.ask() {
        assert_eq!(state.evaluations() + state.evaluations_left(), planned, "the plan holds");
        let reads = model.predict(&[ask]).unwrap().remove(0);
        trace.push((ask.tokens.to_vec(), reads.clone()));
        state.act(&reads);
    }
    assert_eq!((state.evaluations(), state.evaluations_left()), (planned, 0));
    let score = state.score();
    assert!((score.logprobs.iter().flatten().sum::<f64>() - score.total).abs() < 1e-12);
    (score, trace)
}

fn score(model: &mut dyn MaskPredictor, spec: ScoreSpec) -> SequenceScore {
    trace(model, spec).0
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt())
}

fn assert_close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() < tolerance, "{found}, not {expected}");
}

#[test]
fn the_chain_is_the_joint_log_probability() {
    let mut oracle = chain(8);
    let text = [0, 2, 1, 1, 2, 0, 0, 2];
    let whole = score(&mut oracle, spec(&text, 0, ScoreMode::Chain, 0));
    assert_close(whole.total, oracle.log_probability(&text), 1e-4);
    assert_eq!(whole.standard_error, Some(0.0));
    assert_eq!(score(&mut oracle, spec(&text, 0, ScoreMode::Block(1), 0)), whole);

    let (part, trace) = trace(&mut oracle, spec(&text, 5, ScoreMode::Chain, 0));
    let context = [0, 2, 1, 1, 2, MASK, MASK, MASK];
    assert_close(part.total, oracle.log_probability(&text) - oracle.log_probability(&context), 1e-4);
    assert_eq!(part.logprobs[..5], [None; 5], "context is not scored");
    assert_eq!(trace[1].0, [0, 2, 1, 1, 2, 0, MASK, MASK]);
}

#[test]
fn a_block_sees_what_is_left_of_it_alone() {
    let mut oracle = chain(8);
    let text = [0, 2, 1, 1, 2, 0, 0];
    let (blocks, trace) = trace(&mut oracle, spec(&text, 1, ScoreMode::Block(4), 0));
    let shown: Vec<Vec<TokenId>> = trace.into_iter().map(|(canvas, _)| canvas).collect();
    assert_eq!(shown, [[0, 3, 3, 3, 3, 3, 3], [0, 2, 1, 1, 2, 3, 3]]);
    for (position, canvas) in [(2, &shown[0]), (6, &shown[1])] {
        let law = oracle.conditional(canvas, position as u32);
        assert_close(blocks.logprobs[position].unwrap(), law[text[position] as usize].ln(), 1e-5);
    }
}

#[test]
fn the_pseudo_likelihood_sees_both_sides() {
    let mut oracle = chain(8);
    let text = [0, 2, 1, 1, 2, 0];
    let found = score(&mut oracle, spec(&text, 2, ScoreMode::PseudoLikelihood, 0));
    for position in 2..6 {
        let law = oracle.conditional(&text, position as u32);
        assert_close(found.logprobs[position].unwrap(), law[text[position] as usize].ln(), 1e-5);
    }
}

/// The definition of the bound, by enumeration of the sets.
fn bound_of(model: &Overconfident, text: &[TokenId]) -> f64 {
    let count = text.len();
    let choose = |k: usize| (0..k).map(|j| (count - j) as f64 / (j + 1) as f64).product::<f64>();
    let term = |set: usize| {
        let masked = |position: &usize| set >> position & 1 == 1;
        let canvas: Vec<_> = (0..count).map(|p| if masked(&p) { MASK } else { text[p] }).collect();
        let size = set.count_ones() as usize;
        let log = |position| model.log_conditional(&canvas, position, text[position]);
        (0..count).filter(masked).map(log).sum::<f64>() / size as f64 / choose(size)
    };
    (1..1 << count).map(term).sum()
}

/// The probability of generating `text` one position at a time in a uniformly random order.
fn random_order_probability(model: &Overconfident, text: &[TokenId], canvas: &[TokenId]) -> f64 {
    let open: Vec<usize> = (0..text.len()).filter(|&position| canvas[position] == MASK).collect();
    let after = |&position: &usize| {
        let mut next = canvas.to_vec();
        next[position] = text[position];
        let step = model.log_conditional(canvas, position, text[position]).exp();
        step * random_order_probability(model, text, &next) / open.len() as f64
    };
    if open.is_empty() { 1.0 } else { open.iter().map(after).sum() }
}

#[test]
fn the_elbo_is_unbiased_and_a_lower_bound() {
    let mut model = Overconfident(chain(4));
    for text in [[0, 2, 0, 1], [1, 2, 2, 0]] {
        let exact = bound_of(&model, &text);
        let log_probability = random_order_probability(&model, &text, &[MASK; 4]).ln();
        assert!(exact < log_probability - 0.01, "{exact} is below {log_probability}");

        let every_set = ScoreMode::Elbo { samples: 15 };
        assert_close(score(&mut model, spec(&text, 0, every_set, 1)).total, exact, 1e-5);
        let consistent = score(&mut model.0, spec(&text, 0, every_set, 1));
        assert_close(consistent.total, model.0.log_probability(&text), 1e-4);
        assert_eq!(consistent.standard_error, Some(0.0));

        for samples in [1, 3, 8] {
            let mode = ScoreMode::Elbo { samples };
            let totals: Vec<f64> =
                (0..20_000).map(|seed| score(&mut model, spec(&text, 0, mode, seed)).total).collect();
            let (mean, deviation) = mean_and_deviation(&totals);
            let z = (mean - exact) / (deviation / (totals.len() as f64).sqrt());
            println!("{text:?}, {samples} samples: exact {exact:.4}, mean {mean:.4}, z {z:.2}");
            assert!(z.abs() < 4.0, "{samples} samples: {mean}, not {exact}");
        }
    }
}

#[test]
fn the_standard_error_is_the_spread_and_strata_make_it_smaller() {
    let mut model = Overconfident(chain(6));
    let mut scores = |samples, seeds: u64| -> Vec<SequenceScore> {
        let mode = ScoreMode::Elbo { samples };
        (0..seeds).map(|seed| score(&mut model, spec(&[0, 2, 1, 0, 0, 1], 0, mode, seed))).collect()
    };
    let deviation = |scores: &[SequenceScore]| {
        mean_and_deviation(&scores.iter().map(|score| score.total).collect::<Vec<_>>()).1
    };
    let single = scores(1, 20_000);
    assert_eq!(single[0].standard_error, None);
    for samples in [6, 12, 13, 24, 48] {
        let scores = scores(samples, 4000);
        let spread = deviation(&scores);
        let variance: f64 = scores.iter().map(|score| score.standard_error.unwrap().powi(2)).sum();
        let reported = (variance / scores.len() as f64).sqrt();
        let plain = deviation(&single) / f64::from(samples).sqrt();
        println!("{samples} samples: spread {spread:.3}, reported {reported:.3}, without strata {plain:.3}");
        assert!((reported / spread - 1.0).abs() < 0.2, "{samples}: {reported} for {spread}");
        assert!(spread < 0.95 * plain, "{samples}: {spread} with strata, {plain} without");
    }
}

#[test]
fn common_random_numbers_leave_less_to_chance() {
    let mut oracle = chain(12);
    let first = [0, 0, 1, 2, 0, 1, 2, 2, 0, 0, 1, 2];
    let mut second = first;
    second[7] = 0;
    let mode = ScoreMode::Elbo { samples: 8 };
    let mut spread = |offset: u64| {
        let difference = |seed| {
            let a = score(&mut oracle, spec(&first, 2, mode, seed)).total;
            a - score(&mut oracle, spec(&second, 2, mode, seed + offset)).total
        };
        mean_and_deviation(&(0..2000).map(difference).collect::<Vec<_>>()).1
    };
    let common = spread(0);
    let independent = spread(1 << 20);
    println!("spread of a difference: common {common:.3}, independent {independent:.3}");
    assert!(common < 0.8 * independent, "{common} and {independent}");
}

#[test]
fn masks_are_shared_after_contexts_of_different_lengths() {
    let mut oracle = chain(12);
    let mode = ScoreMode::Elbo { samples: 9 };
    let mut masks = |context: usize| {
        let spec = spec(&vec![0; context + 5], context as u32, mode, 3);
        trace(&mut oracle, spec)
            .1
            .into_iter()
            .map(|(canvas, _)| canvas[context..].to_vec())
            .collect::<Vec<_>>()
    };
    assert_eq!(masks(1), masks(7));
}

#[test]
fn a_uniform_model_gives_the_same_to_every_position() {
    let mut uniform =
        MarkovOracle::new(&[vec![1.0; 3], vec![1.0; 3], vec![1.0; 3]], 9).reading_with(device::cpu());
    let text = [0, 1, 2, 2, 1, 0, 1, 1, 2];
    let each = -(3.0_f64).ln();
    for mode in [ScoreMode::Chain, ScoreMode::Block(3), ScoreMode::PseudoLikelihood] {
        let found = score(&mut uniform, spec(&text, 2, mode, 0));
        assert!(
            found.logprobs[2..].iter().all(|logprob| (logprob.unwrap() - each).abs() < 1e-5),
            "{found:?}"
        );
    }
    for samples in [1, 5, 127] {
        let found = score(&mut uniform, spec(&text, 2, ScoreMode::Elbo { samples }, 4));
        assert_close(found.total, 7.0 * each, 1e-4);
        assert!(found.standard_error.is_none_or(|error| error < 1e-5), "{found:?}");
    }
    let reference = score(&mut uniform, spec(&text, 2, ScoreMode::Reference { steps: 2 }, 0));
    assert_close(reference.total, each, 1e-5);
}

#[test]
fn the_planted_answer_wins() {
    let mut successor =
        MarkovOracle::new(&[vec![1.0, 8.0, 1.0], vec![1.0, 1.0, 8.0], vec![8.0, 1.0, 1.0]], 8)
            .reading_with(device::cpu());
    let planted = [0, 1, 2, 0, 1, 2];
    let other = [0, 1, 2, 1, 1, 0];
    for mode in [
        ScoreMode::Chain,
        ScoreMode::Block(2),
        ScoreMode::PseudoLikelihood,
        ScoreMode::Elbo { samples: 4 },
        ScoreMode::Reference { steps: 8 },
    ] {
        let mut total = |text: &[TokenId]| score(&mut successor, spec(text, 3, mode, 5)).total;
        assert!(total(&planted) > total(&other), "{mode:?}");
    }
}

#[test]
fn edges_cost_nothing_and_mistakes_are_named() {
    let mut oracle = chain(4);
    for text in [&[][..], &[0, 1]] {
        let (empty, trace) = trace(&mut oracle, spec(text, 2, ScoreMode::Elbo { samples: 8 }, 0));
        assert_eq!((empty.total, empty.logprobs, trace.len()), (0.0, vec![None; text.len()], 0));
    }
    let (single, shown) = trace(&mut oracle, spec(&[0, 1, 2], 2, ScoreMode::Elbo { samples: 8 }, 0));
    assert_eq!((shown.len(), single.standard_error), (1, Some(0.0)), "one token needs one evaluation");

    let shifted = ModelLimits { shift: true, ..oracle.limits() };
    let state = ScoringState::new(spec(&[0, 1, 2], 0, ScoreMode::Chain, 0), &shifted).unwrap();
    assert_eq!(state.evaluations_left(), 2, "position 0 cannot be predicted");

    let refused = |text: &[TokenId], mode| ScoringState::new(spec(text, 0, mode, 0), &shifted).unwrap_err();
    assert_eq!(refused(&[0; 5], ScoreMode::Chain), CanvasError::TooLong { length: 5, limit: 4 });
    assert_eq!(refused(&[9], ScoreMode::Chain), CanvasError::TokenOutOfVocabulary { id: 9, rows: 4 });
    for mode in [ScoreMode::Block(0), ScoreMode::Elbo { samples: 0 }, ScoreMode::Reference { steps: 1 << 17 }]
    {
        assert!(matches!(refused(&[0], mode), CanvasError::Policy(PolicyError::Range { .. })), "{mode:?}");
    }
}

/// A choice for a hole is judged by what stands on both sides of it, not by the left side alone.
#[test]
fn a_stretch_is_scored_with_what_stands_right_of_it_in_view() {
    let mut oracle = chain(6);
    let text = [0, 2, 1, 1, 2, 0];
    let stretch = ScoreSpec { to: Some(4), alternatives: 2, ..spec(&text, 2, ScoreMode::Chain, 0) };
    let (part, trace) = trace(&mut oracle, stretch);
    let shown: Vec<Vec<TokenId>> = trace.iter().map(|(canvas, _)| canvas.clone()).collect();
    assert_eq!(shown, [[0, 2, MASK, MASK, 2, 0], [0, 2, 1, MASK, 2, 0]]);
    let context = oracle.log_probability(&[0, 2, MASK, MASK, 2, 0]);
    assert_close(part.total, oracle.log_probability(&text) - context, 1e-4);
    assert_eq!((part.logprobs[1], part.logprobs[4]), (None, None));
    for (position, (_, reads)) in (2..4).zip(&trace) {
        assert_eq!(part.alternatives[position], reads[0].alternatives);
        assert_eq!(part.alternatives[position].len(), 2);
    }
    assert!(part.alternatives[4].is_empty());
    // A client that compares the best alternative with the token's own value compares equal numbers.
    let best = part.alternatives[2][0];
    let own = best.0 == text[2];
    assert_eq!(part.logprobs[2] == Some(f64::from(best.1)), own);
}
