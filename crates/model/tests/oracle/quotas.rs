//! The number of positions that one evaluation commits, recomputed from the oracle and from the reads.

use crate::device;
use proptest::prelude::*;
use unmask_model::diffusion::{
    DenoisingState, Order, Policy, Quota, Revise, Score, ScoreKind, StateSpec, Window,
};
use unmask_model::predictor::{MarkovOracle, MaskPredictor, Position, Read, Sampling, Want};

use super::support::{Step, finish, spec};

const LENGTH: usize = 32;

fn oracle() -> MarkovOracle {
    MarkovOracle::random(8, 0.6, LENGTH, 2).reading_with(device::cpu())
}

fn steps(oracle: &mut MarkovOracle, order: Order, quota: Quota, seed: u64, sampling: Sampling) -> Vec<Step> {
    let policy = Policy { window: Window::All, order, quota, revise: Revise::None };
    let spec = StateSpec { samplings: vec![sampling], ..spec(vec![None; LENGTH], policy, seed) };
    finish(oracle, DenoisingState::new(spec, &oracle.limits()).unwrap()).steps
}

fn by(kind: ScoreKind) -> Order {
    Order::Score(Score { kind, temperature: 0.0 })
}

/// The positions read, best first by a key of their reads.
fn ranked(step: &Step, key: impl Fn(&Read) -> f32) -> Vec<Position> {
    let mut positions: Vec<Position> = step.wants.iter().map(|want| want.position).collect();
    // The sort is stable: the lower position first on a tie.
    positions.sort_by(|a, b| key(step.read_at(*b)).total_cmp(&key(step.read_at(*a))));
    positions
}

fn sorted(positions: &[Position]) -> Vec<Position> {
    let mut positions = positions.to_vec();
    positions.sort_unstable();
    positions
}

/// Returns true if drawing these independently stays within the budget.
fn within(step: &Step, positions: &[Position], budget: f64) -> bool {
    let entropies: Vec<f64> =
        positions.iter().map(|position| f64::from(step.read_at(*position).entropy)).collect();
    entropies.iter().sum::<f64>() - entropies.iter().fold(0.0, |a: f64, b| a.max(*b)) <= budget
}

/// The longest prefix within the budget, at least one position.
fn longest_within(step: &Step, order: &[Position], budget: f64) -> Vec<Position> {
    let fitting = (1..=order.len()).take_while(|n| within(step, &order[..*n], budget));
    sorted(&order[..fitting.last().unwrap_or(1)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_threshold_commits_all_that_reach_it_or_the_best_alone(
        seed in any::<u64>(), threshold in 0.05_f64..1.0, model in any::<bool>(),
    ) {
        let mut oracle = oracle();
        let kind = if model { ScoreKind::Model } else { ScoreKind::Drawn };
        for step in steps(&mut oracle, by(kind), Quota::Threshold(threshold), seed, Sampling::default()) {
            let probability = |position: Position| {
                oracle.conditional(&step.before, position)[step.read_at(position).token as usize]
            };
            let committed = step.committed();
            // Probabilities as near to the threshold as an f32 resolves may fall on either side.
            let surely = |want: &&Want| probability(want.position) > threshold + 1e-5;
            prop_assert!(step.wants.iter().filter(surely).all(|want| committed.contains(&want.position)));
            let reach = committed.iter().all(|position| probability(*position) > threshold - 1e-5);
            let best = step.wants.iter().map(|want| probability(want.position)).fold(0.0, f64::max);
            prop_assert!(reach || committed.len() == 1 && probability(committed[0]) > best - 1e-5);
        }
    }

    #[test]
    fn the_factor_rule_commits_the_most_that_fit(seed in any::<u64>(), factor in 0.05_f64..4.0) {
        let mut oracle = oracle();
        for step in steps(&mut oracle, by(ScoreKind::Model), Quota::Factor(factor), seed, Sampling::default()) {
            let ranked = ranked(&step, |read| read.logprob);
            let fits = |n: usize| {
                (n + 1) as f64 * (1.0 - f64::from(step.read_at(ranked[n - 1]).logprob).exp()) < factor
            };
            let most = (1..=ranked.len()).filter(|n| fits(*n)).max().unwrap_or(1);
            prop_assert_eq!(step.committed(), sorted(&ranked[..most]));
        }
    }

    #[test]
    fn an_entropy_budget_commits_the_longest_prefix_by_score(seed in any::<u64>(), budget in 0.0_f64..3.0) {
        let mut oracle = oracle();
        for kind in [ScoreKind::Entropy, ScoreKind::Margin, ScoreKind::Drawn] {
            let key = |read: &Read| match kind {
                ScoreKind::Entropy => -read.entropy,
                ScoreKind::Margin => read.margin,
                ScoreKind::Drawn => read.score,
                ScoreKind::Model | ScoreKind::Position => read.logprob,
            };
            for step in steps(&mut oracle, by(kind), Quota::Entropy(budget), seed, Sampling::default()) {
                let expected = longest_within(&step, &ranked(&step, key), budget);
                prop_assert_eq!(step.committed(), expected);
            }
        }
    }

    #[test]
    fn an_entropy_budget_commits_the_longest_prefix_of_a_random_order(
        seed in any::<u64>(), budget in 0.0_f64..3.0, temperature in 0.5_f64..1.5,
    ) {
        let mut oracle = oracle();
        let sampling = Sampling { temperature, ..Sampling::default() };
        // One position at a time shows the order, which the budget has no say in.
        let one_by_one = steps(&mut oracle, Order::Permutation, Quota::Count(1), seed, Sampling::default());
        let order: Vec<Position> = one_by_one.iter().flat_map(Step::committed).collect();
        let mut done = 0;
        for step in steps(&mut oracle, Order::Permutation, Quota::Entropy(budget), seed, sampling) {
            let expected = longest_within(&step, &order[done..], budget);
            prop_assert_eq!(step.committed(), expected);
            done += step.commits.len();
        }
    }

    #[test]
    fn entropies_are_those_of_the_distribution_that_is_drawn_from(
        seed in any::<u64>(), temperature in 0.5_f64..1.5,
    ) {
        let mut oracle = oracle();
        let sampling = Sampling { temperature, ..Sampling::default() };
        for step in steps(&mut oracle, Order::Permutation, Quota::Count(4), seed, sampling) {
            for want in &step.wants {
                let law: Vec<f64> = oracle.conditional(&step.before, want.position);
                let law: Vec<f64> = law.iter().map(|p| p.powf(1.0 / temperature)).collect();
                let total: f64 = law.iter().sum();
                let entropy: f64 = law.iter().map(|p| p / total).map(|p| if p > 0.0 { -p * p.ln() } else { 0.0 }).sum();
                prop_assert!((f64::from(step.read_at(want.position).entropy) - entropy).abs() < 1e-4);
            }
        }
    }
}
