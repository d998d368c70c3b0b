//! Running one sample to its end, with every evaluation on record.

use unmask_model::diffusion::{DenoisingState, Edit, Noise, Policy, StateSpec};
use unmask_model::predictor::{MarkovOracle, MaskPredictor, Position, Read, Sampling, TokenId, Want};

/// One evaluation: what was shown and read, and what became of it.
#[derive(Clone, Debug)]
pub struct Step {
    pub round: u32,
    pub before: Vec<TokenId>,
    pub wants: Vec<Want>,
    pub reads: Vec<Read>,
    pub commits: Vec<(Position, TokenId)>,
    pub remasks: Vec<Position>,
}

impl Step {
    /// The read at `position`.
    pub fn read_at(&self, position: Position) -> &Read {
        &self.reads[self.wants.iter().position(|want| want.position == position).unwrap()]
    }

    /// The positions committed, ascending.
    pub fn committed(&self) -> Vec<Position> {
        let mut positions: Vec<Position> = self.commits.iter().map(|commit| commit.0).collect();
        positions.sort_unstable();
        positions
    }
}

/// A finished sample.
#[derive(Clone, Debug)]
pub struct Run {
    pub steps: Vec<Step>,
    pub tokens: Vec<TokenId>,
}

/// A sample of `given` under the model's own distribution.
pub fn spec(given: Vec<Option<TokenId>>, policy: Policy, seed: u64) -> StateSpec {
    StateSpec {
        given,
        samplings: vec![Sampling::default()],
        policy,
        noise: Noise::Keyed { seed, sample: 0 },
        ..StateSpec::default()
    }
}

/// Evaluates once.
pub fn step(oracle: &mut MarkovOracle, state: &mut DenoisingState) -> Option<Step> {
    let ask = state.ask()?;
    let before = ask.tokens.to_vec();
    let wants = ask.wants.to_vec();
    let reads = oracle.predict(&[ask]).unwrap().remove(0);
    Some(apply(state, before, wants, reads))
}

/// Hands the answers to an ask back.
pub fn apply(state: &mut DenoisingState, before: Vec<TokenId>, wants: Vec<Want>, reads: Vec<Read>) -> Step {
    let round = state.round();
    let mut commits = Vec::new();
    let mut remasks = Vec::new();
    for edit in state.act(&reads) {
        match edit {
            Edit::Commit(commit) => commits.push((commit.position, commit.token)),
            Edit::Remask(position) => remasks.push(position),
        }
    }
    Step { round, before, wants, reads, commits, remasks }
}

/// Evaluates until nothing is asked for.
pub fn finish(oracle: &mut MarkovOracle, mut state: DenoisingState) -> Run {
    let steps = std::iter::from_fn(|| step(oracle, &mut state)).collect();
    Run { steps, tokens: state.canvas().tokens().to_vec() }
}

/// A sample of `masked` open positions, to its end.
pub fn sample(oracle: &mut MarkovOracle, masked: usize, policy: Policy, seed: u64) -> Run {
    let state = DenoisingState::new(spec(vec![None; masked], policy, seed), &oracle.limits()).unwrap();
    finish(oracle, state)
}

/// The cost of drawing an evaluation's tokens independently, in nats, given the canvas.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// KL(product of the marginals ‖ chain). Summed over the evaluations of a sample it is in expectation
    /// KL(sampler ‖ chain), where positions are chosen without looking at the tokens drawn with them.
    pub of_sampler: f64,
    /// KL(chain ‖ product of the marginals), the total correlation. Summed over the evaluations that fill
    /// in a sequence of the chain it is in expectation KL(chain ‖ sampler), and this is what an entropy
    /// budget bounds.
    pub of_chain: f64,
}

/// By the chain rule from left to right: what the chain knows about a position beyond its marginal comes
/// from the nearest one to the left, because that one screens the others off. So does a known position
/// between the two.
pub fn cost(oracle: &MarkovOracle, step: &Step) -> Cost {
    let mut cost = Cost::default();
    for pair in step.committed().windows(2) {
        let left = pair[0];
        let right = pair[1];
        let between = &step.before[left as usize + 1..right as usize];
        if between.iter().any(|token| *token != oracle.limits().mask_token) {
            continue;
        }
        let marginal = oracle.conditional(&step.before, right);
        let mut canvas = step.before.clone();
        for (token, weight) in (0..).zip(oracle.conditional(&step.before, left)) {
            canvas[left as usize] = token;
            let informed = oracle.conditional(&canvas, right);
            cost.of_sampler += weight * divergence(&marginal, &informed);
            cost.of_chain += weight * divergence(&informed, &marginal);
        }
    }
    cost
}

/// A sequence of the chain.
pub fn draw(oracle: &MarkovOracle, length: usize, seed: u64) -> Vec<TokenId> {
    let noise = Noise::Keyed { seed, sample: u32::MAX };
    let mut tokens = vec![oracle.limits().mask_token; length];
    for position in 0..length as Position {
        let mut left = noise.token(1, position);
        let law = oracle.conditional(&tokens, position);
        let passed = law.iter().take_while(|p| {
            left -= **p;
            left >= 0.0
        });
        tokens[position as usize] = passed.count().min(law.len() - 1) as TokenId;
    }
    tokens
}

/// The evaluations that fill in `tokens`, whatever is drawn.
pub fn fill_in(oracle: &mut MarkovOracle, tokens: &[TokenId], policy: Policy, seed: u64) -> Vec<Step> {
    let spec = spec(vec![None; tokens.len()], policy, seed);
    let mut state = DenoisingState::new(spec, &oracle.limits()).unwrap();
    let mut steps = Vec::new();
    while let Some(ask) = state.ask() {
        let before = ask.tokens.to_vec();
        let wants = ask.wants.to_vec();
        let mut reads = oracle.predict(&[ask]).unwrap().remove(0);
        for (read, want) in reads.iter_mut().zip(&wants) {
            read.token = tokens[want.position as usize];
        }
        steps.push(apply(&mut state, before, wants, reads));
    }
    steps
}

fn divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
}

/// A mean over samples and its standard error.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    pub mean: f64,
    pub error: f64,
}

impl Estimate {
    /// The mean of independent values, with its standard error.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Self { mean, error: (variance / count).sqrt() }
    }
}
