//! The cost of each preset in evaluations and in nats, against two chains whose conditionals are exact.
//!
//! `cargo bench -p unmask-model --features testing --bench policies`
//!
//! Quantities per preset, means over samples:
//!
//! - evaluations of the network;
//! - KL in nats per sequence, with its standard error: KL(sampler ‖ chain) along the sampler's own path, and
//!   KL(chain ‖ sampler) along evaluations that fill in sequences of the chain. Both are sums over
//!   evaluations (chain rule), given the order: upper bounds on those of the final sequences where the
//!   order is random. They exist where positions are chosen without looking at the tokens drawn with
//!   them: for planned orders, and for ranking by margin or entropy;
//! - excess surprisal: E[−log p(x)] of the final sequences under the chain, less the chain's own entropy.
//!   It exists for every policy, but it is no divergence: it is negative for a sampler that prefers probable
//!   tokens. Ranking by the probability of the drawn token does, because improbable draws are thrown away,
//!   so confidence and threshold have no KL here.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first failure")]
#![expect(unreachable_pub, reason = "a module of the tests")]

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/oracle/support.rs"]
mod support;

use support::{Estimate, Step, cost, draw, fill_in, sample};
use unmask_model::diffusion::{Order, Policy, Quota, Revise, Score, ScoreKind, Window};
use unmask_model::predictor::MarkovOracle;

const SAMPLES: u64 = 100;
const SYMBOLS: usize = 24;
/// Seed of the random chain; that of the tests.
const CHAIN: u64 = 3;
const GRID: [(u32, usize); 3] = [(24, 96), (48, 96), (96, 96)];

/// A row of the table.
struct Preset {
    name: String,
    policy: Policy,
}

fn preset(name: impl Into<String>, order: Order, quota: Quota) -> Preset {
    let policy = Policy { window: Window::All, order, quota, revise: Revise::None };
    Preset { name: name.into(), policy }
}

fn by(kind: ScoreKind) -> Order {
    Order::Score(Score { kind, temperature: 0.0 })
}

fn presets(rounds: u32, masked: usize) -> Vec<Preset> {
    let per_round = masked / rounds as usize;
    let mut presets = vec![
        preset("reference", Order::IndependentRounds, Quota::OwnRound(rounds)),
        preset("exact", Order::Permutation, Quota::Count(1)),
        preset("balanced", Order::Permutation, Quota::Balanced(rounds)),
        preset("stratified", Order::Stratified, Quota::OwnRound(rounds)),
        preset(format!("confidence, {per_round} at once"), by(ScoreKind::Drawn), Quota::Count(per_round)),
        preset("Dream's margin", by(ScoreKind::Margin), Quota::DreamSchedule(rounds)),
    ];
    for budget in [0.1, 0.5, 1.0] {
        presets.push(preset(format!("entropy budget {budget}"), Order::Permutation, Quota::Entropy(budget)));
    }
    presets.push(preset("entropy budget 0.5, by entropy", by(ScoreKind::Entropy), Quota::Entropy(0.5)));
    for threshold in [0.9, 0.7] {
        presets.push(preset(
            format!("threshold {threshold}"),
            by(ScoreKind::Drawn),
            Quota::Threshold(threshold),
        ));
    }
    let blocks = preset("LLaDA, blocks of 32", by(ScoreKind::Model), Quota::Evaluations(rounds));
    presets.push(Preset { policy: Policy { window: Window::Block(32), ..blocks.policy }, ..blocks });
    presets
}

/// Returns true if positions are chosen independently of the tokens drawn with them.
fn blind(policy: &Policy) -> bool {
    !matches!(policy.order, Order::Score(Score { kind: ScoreKind::Drawn | ScoreKind::Model, .. }))
}

fn row(oracle: &mut MarkovOracle, masked: usize, preset: &Preset) -> String {
    let mut evaluations = Vec::new();
    let mut surprisals = Vec::new();
    let mut of_sampler = Vec::new();
    let mut of_chain = Vec::new();
    for seed in 0..SAMPLES {
        let run = sample(oracle, masked, preset.policy, seed);
        evaluations.push(run.steps.len() as f64);
        surprisals.push(-oracle.log_probability(&run.tokens) - entropy(oracle, masked));
        if blind(&preset.policy) {
            let text = draw(oracle, masked, seed);
            let filled = fill_in(oracle, &text, preset.policy, seed);
            let total = |steps: &[Step]| steps.iter().map(|step| cost(oracle, step)).collect::<Vec<_>>();
            of_sampler.push(total(&run.steps).iter().map(|cost| cost.of_sampler).sum());
            of_chain.push(total(&filled).iter().map(|cost| cost.of_chain).sum());
        }
    }
    let cells = [of_sampler, of_chain, surprisals].map(|values| cell(&values));
    let evaluations = Estimate::of(&evaluations).mean;
    format!("| {} | {evaluations:.1} | {} |", preset.name, cells.join(" | "))
}

fn cell(values: &[f64]) -> String {
    let Estimate { mean, error } = Estimate::of(values);
    if values.is_empty() { "–".to_owned() } else { format!("{mean:.2} ± {error:.2}") }
}

/// The entropy of a sequence of the chain.
fn entropy(oracle: &MarkovOracle, length: usize) -> f64 {
    let start = oracle.conditional(&[], 0);
    let first: f64 = start.iter().map(|p| -p * p.ln()).sum();
    first + (length - 1) as f64 * oracle.entropy_rate()
}

fn main() {
    for (rounds, masked) in GRID {
        for entropy_rate in [1.19, 0.15] {
            let mut oracle = MarkovOracle::random(SYMBOLS, entropy_rate, masked, CHAIN);
            println!("\nT = {rounds}, M = {masked}, {:.2} nats per token:\n", oracle.entropy_rate());
            println!(
                "| preset | evaluations | KL(sampler ‖ chain) | KL(chain ‖ sampler) | excess surprisal |"
            );
            println!("|---|---|---|---|---|");
            for preset in presets(rounds, masked) {
                println!("{}", row(&mut oracle, masked, &preset));
            }
        }
    }
}
