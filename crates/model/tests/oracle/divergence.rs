//! What parallel draws cost in nats per sequence of 96 tokens, for chains of 24 symbols. The estimates
//! follow the sampler's own path; see [`excess`].

use unmask_model::diffusion::{Order, Policy, Quota, Revise, Window};
use unmask_model::predictor::MarkovOracle;

use super::support::{Estimate, cost, sample};

const MASKED: usize = 96;
const SYMBOLS: usize = 24;
const SEQUENCES: u64 = 400;

/// Text that is hard to predict, and text that is easy to: nats per token.
const HIGH: f64 = 1.19;
const LOW: f64 = 0.15;

struct Cost {
    evaluations: f64,
    divergence: Estimate,
    /// Evaluations that committed more than one token, on average.
    parallel: f64,
}

fn oracle(entropy_rate: f64) -> MarkovOracle {
    MarkovOracle::random(SYMBOLS, entropy_rate, MASKED, 1)
}

fn measure(oracle: &mut MarkovOracle, order: Order, quota: Quota) -> Cost {
    let policy = Policy { window: Window::All, order, quota, revise: Revise::None };
    let (mut evaluations, mut parallel, mut costs) = (0, 0, Vec::new());
    for seed in 0..SEQUENCES {
        let run = sample(oracle, MASKED, policy, seed);
        evaluations += run.steps.len();
        parallel += run.steps.iter().filter(|step| step.commits.len() > 1).count();
        costs.push(run.steps.iter().map(|step| cost(oracle, step)).sum());
    }
    let mean = |count: usize| count as f64 / SEQUENCES as f64;
    let measured =
        Cost { evaluations: mean(evaluations), divergence: Estimate::of(&costs), parallel: mean(parallel) };
    println!(
        "{:.2} nats/token, {order:?} {quota:?}: {:.1} evaluations, KL {:.2} ± {:.2}",
        oracle.entropy_rate(),
        measured.evaluations,
        measured.divergence.mean,
        measured.divergence.error
    );
    measured
}

#[test]
fn balanced_parts_cost_no_more_than_the_reference_in_fewer_evaluations() {
    for mut oracle in [oracle(HIGH), oracle(LOW)] {
        for rounds in [24, 48, 96] {
            let reference = measure(&mut oracle, Order::Labels, Quota::Labels(rounds));
            let balanced = measure(&mut oracle, Order::Permutation, Quota::Balanced(rounds));
            assert!(balanced.divergence.mean <= 1.1 * reference.divergence.mean, "T={rounds}");
            assert!(balanced.evaluations < 0.85 * reference.evaluations, "T={rounds}");
        }
    }
}

#[test]
fn an_entropy_budget_beats_the_reference_on_predictable_text() {
    let mut oracle = oracle(LOW);
    let reference = measure(&mut oracle, Order::Labels, Quota::Labels(24));
    let budget = measure(&mut oracle, Order::Permutation, Quota::Entropy(0.5));
    assert!(budget.evaluations <= 0.65 * reference.evaluations);
    assert!(budget.divergence.mean <= 0.1 * reference.divergence.mean);
}

#[test]
fn an_entropy_budget_bounds_what_each_parallel_evaluation_costs() {
    for mut oracle in [oracle(HIGH), oracle(LOW)] {
        for budget in [0.0, 0.1, 0.5, 1.0, 4.0] {
            let cost = measure(&mut oracle, Order::Permutation, Quota::Entropy(budget));
            // Rounding of an f32 entropy is far below this slack.
            assert!(cost.divergence.mean <= budget * cost.parallel + 1e-6, "budget {budget}");
        }
    }
}

#[test]
fn one_position_at_a_time_costs_nothing() {
    for mut oracle in [oracle(HIGH), oracle(LOW)] {
        let cost = measure(&mut oracle, Order::Permutation, Quota::Count(1));
        assert!(cost.divergence.mean.abs() < 1e-9);
    }
}

#[test]
fn neighbours_in_different_rounds_cost_less_than_neighbours_drawn_together() {
    for mut oracle in [oracle(HIGH), oracle(LOW)] {
        let balanced = measure(&mut oracle, Order::Permutation, Quota::Evaluations(24));
        let stratified = measure(&mut oracle, Order::Stratified, Quota::Labels(24));
        assert!(stratified.divergence.mean < 0.7 * balanced.divergence.mean);
    }
}
