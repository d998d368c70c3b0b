//! A predictor with exact conditionals: any error of a sampler with it is the sampler's own.

use std::iter::zip;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::{Ask, MaskPredictor, ModelLimits, Position, Read, TokenId, Visibility, Want};
use crate::error::PredictError;
use crate::kernel::CpuFeatures;
use crate::readout::{RowContext, Scratch, read_row};

/// The least probability of a transition. With it every canvas is possible.
const LEAST: f64 = 1e-30;
/// The least logit; that of the mask token.
const FLOOR: f32 = -80.0;

/// A stationary Markov chain in place of a network: at every position it answers with the chain's exact
/// conditional given all unmasked positions of the canvas.
///
/// The vocabulary is the chain's symbols followed by the mask token; there is no shift. Logits are the
/// logarithms of the conditional, so temperature, nucleus and draw are those of the real predictors.
#[derive(Clone, Debug)]
pub struct MarkovOracle {
    limits: ModelLimits,
    cpu: CpuFeatures,
    stationary: Vec<f64>,
    /// The transition matrix to the powers 1, 2, …, up to the context: entry d says how a symbol depends
    /// on the one d + 1 places before.
    powers: Vec<Matrix>,
}

impl MarkovOracle {
    /// The chain with this transition matrix, one row of non-negative weights per symbol, for canvases of
    /// up to `context` positions. Rows are normalised, and entries missing or below 1e-30 raised to it.
    #[must_use]
    pub fn new(transition: &[Vec<f64>], context: usize) -> Self {
        let step = Matrix::stochastic(transition);
        let symbols = step.size;
        let limits = ModelLimits {
            vocabulary: symbols + 1,
            context,
            mask_token: symbols as TokenId,
            shift: false,
            visibility: Visibility::Full,
        };
        let mut powers = vec![step];
        while let Some(last) = powers.last().filter(|_| powers.len() < context) {
            powers.push(last.times(&powers[0]));
        }
        Self { limits, cpu: CpuFeatures::portable(), stationary: powers[0].stationary(), powers }
    }

    /// The same chain, read with the instructions of `cpu` instead of the portable ones.
    #[must_use]
    pub fn reading_with(self, cpu: CpuFeatures) -> Self {
        Self { cpu, ..self }
    }

    /// The same chain as a network whose attention is causal between blocks of `block` positions: what it is asked about
    /// has to end with the block.
    #[must_use]
    pub fn in_blocks(self, block: usize) -> Self {
        let limits = ModelLimits { visibility: Visibility::BlockCausal { block }, ..self.limits };
        Self { limits, ..self }
    }

    /// A chain of `symbols` symbols with about this many nats of entropy per token: random normal logits
    /// under the temperature that gives it.
    #[must_use]
    pub fn random(symbols: usize, entropy_rate: f64, context: usize, seed: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let logits: Vec<Vec<f64>> =
            (0..symbols).map(|_| (0..symbols).map(|_| normal(&mut generator)).collect()).collect();
        let weights = |log_temperature: f64| -> Vec<Vec<f64>> {
            let temperature = log_temperature.exp();
            logits.iter().map(|row| row.iter().map(|logit| (logit / temperature).exp()).collect()).collect()
        };
        let mut cold = 0.02_f64.ln();
        let mut hot = 50_f64.ln();
        for _ in 0..40 {
            let middle = 0.5 * (cold + hot);
            let chain = Self::new(&weights(middle), 1);
            *(if chain.entropy_rate() < entropy_rate { &mut cold } else { &mut hot }) = middle;
        }
        Self::new(&weights(cold), context)
    }

    /// The chain's entropy per token, in nats.
    #[must_use]
    pub fn entropy_rate(&self) -> f64 {
        let entropy = |row: &[f64]| row.iter().map(|p| -p * p.ln()).sum::<f64>();
        zip(&self.stationary, self.powers[0].rows()).map(|(p, row)| p * entropy(row)).sum()
    }

    /// The log-probability (nats) of the unmasked positions together: of the whole sequence when none is
    /// masked. Differences of it are conditional log-probabilities.
    #[must_use]
    pub fn log_probability(&self, tokens: &[TokenId]) -> f64 {
        let mut known = zip(0.., tokens).filter_map(|(at, token)| Some((at, self.symbol(*token)?)));
        let Some((mut place, mut symbol)) = known.next() else { return 0.0 };
        let mut total = self.stationary[symbol].ln();
        for (next_place, next) in known {
            total += self.after(symbol, next_place - place)[next].ln();
            (place, symbol) = (next_place, next);
        }
        total
    }

    /// The probability of every symbol at `position`, given the unmasked positions other than itself.
    #[must_use]
    pub fn conditional(&self, tokens: &[TokenId], position: Position) -> Vec<f64> {
        let place = position as usize;
        let known = |at: usize| tokens.get(at).and_then(|token| Some((at, self.symbol(*token)?)));
        let before = (0..place.min(tokens.len())).rev().find_map(known);
        let after = (place + 1..tokens.len()).find_map(known);
        let mut weights = match before {
            Some((at, symbol)) => self.after(symbol, place - at).to_vec(),
            None => self.stationary.clone(),
        };
        if let Some((at, symbol)) = after {
            for (from, weight) in weights.iter_mut().enumerate() {
                *weight *= self.after(from, at - place)[symbol];
            }
        }
        normalise(&mut weights);
        weights
    }

    /// The chain's symbol that a token stands for; none for the mask.
    fn symbol(&self, token: TokenId) -> Option<usize> {
        Some(token as usize).filter(|symbol| *symbol < self.stationary.len())
    }

    /// The law of the symbol `distance` places after `symbol`; beyond the context it no longer changes
    /// much.
    fn after(&self, symbol: usize, distance: usize) -> &[f64] {
        self.powers[(distance - 1).min(self.powers.len() - 1)].row(symbol)
    }

    fn logits(&self, tokens: &[TokenId], position: Position) -> Vec<f32> {
        let conditional = self.conditional(tokens, position);
        conditional.iter().map(|p| (p.ln() as f32).max(FLOOR)).chain([FLOOR]).collect()
    }

    /// The logits of the canvas, pushed away from those of the other canvas under guidance.
    fn guided(&self, ask: &Ask<'_>, position: Position) -> Vec<f32> {
        let conditioned = self.logits(ask.tokens, position);
        let Some(guidance) = ask.guidance else { return conditioned };
        let push = |(c, u): (f32, f32)| u + (guidance.weight + 1.0) as f32 * (c - u);
        zip(conditioned, self.logits(guidance.tokens, position)).map(push).collect()
    }

    /// Everything that a want is read with; none when it refers to what is not there.
    fn context<'a>(ask: &Ask<'a>, want: &Want) -> Option<RowContext<'a>> {
        ask.tokens.get(want.position as usize)?;
        let sampling = ask.samplings.get(want.sampling as usize)?;
        let allowed = match want.allowed {
            Some(set) => Some(ask.allowed.get(set as usize)?.as_slice()),
            None => None,
        };
        let counts = ask.counts;
        let target = want.target;
        let alternatives = ask.alternatives;
        Some(RowContext { sampling, allowed, counts, target, alternatives })
    }
}

impl MaskPredictor for MarkovOracle {
    fn limits(&self) -> ModelLimits {
        self.limits
    }

    fn predict(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError> {
        let mut scratch = Scratch::default();
        let mut read = |number: usize, ask: &Ask<'_>, want: &Want| {
            let position = want.position;
            let unreadable = PredictError::Unreadable { ask: number, position };
            let context = Self::context(ask, want).ok_or(unreadable)?;
            let read = read_row(self.cpu, &self.guided(ask, position), &context, want.uniform, &mut scratch);
            read.ok_or(PredictError::NotFinite { ask: number, position })
        };
        let mut answer =
            |(number, ask): (usize, &Ask<'_>)| ask.wants.iter().map(|want| read(number, ask, want)).collect();
        asks.iter().enumerate().map(&mut answer).collect()
    }
}

/// A square matrix of probabilities, row by row.
#[derive(Clone, Debug)]
struct Matrix {
    size: usize,
    entries: Vec<f64>,
}

impl Matrix {
    fn stochastic(weights: &[Vec<f64>]) -> Self {
        let size = weights.len();
        let mut entries = Vec::with_capacity(size * size);
        for weights in weights {
            let mut row = weights.clone();
            row.resize(size, 0.0);
            normalise(&mut row);
            row.iter_mut().for_each(|entry| *entry = entry.max(LEAST));
            entries.extend(row);
        }
        Self { size, entries }
    }

    fn row(&self, row: usize) -> &[f64] {
        &self.entries[row * self.size..(row + 1) * self.size]
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.entries.chunks(self.size)
    }

    fn times(&self, other: &Self) -> Self {
        let mut entries = vec![0.0; self.entries.len()];
        for (product, row) in zip(entries.chunks_mut(self.size), self.rows()) {
            for (weight, other) in zip(row, other.rows()) {
                zip(product.iter_mut(), other).for_each(|(entry, factor)| *entry += weight * factor);
            }
        }
        Self { size: self.size, entries }
    }

    /// The law that a step leaves as it is. The chain that stays where it is every other time has the
    /// same one and no periods, so its powers converge.
    fn stationary(&self) -> Vec<f64> {
        let mut lazy = self.clone();
        for (place, entry) in lazy.entries.iter_mut().enumerate() {
            let stays = place % (self.size + 1) == 0;
            *entry = 0.5 * (*entry + f64::from(u8::from(stays)));
        }
        for _ in 0..40 {
            lazy = lazy.times(&lazy);
            lazy.entries.chunks_mut(self.size).for_each(normalise);
        }
        lazy.row(0).to_vec()
    }
}

fn normalise(weights: &mut [f64]) {
    let total: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= total);
}

/// A standard normal number (Box and Muller).
fn normal(generator: &mut ChaCha8Rng) -> f64 {
    let mut uniform = || ((generator.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    let radius = uniform();
    let angle = uniform();
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weather() -> MarkovOracle {
        MarkovOracle::new(&[vec![0.9, 0.1], vec![0.5, 0.5]], 6)
    }

    #[test]
    fn conditionals_are_ratios_of_sums_over_all_sequences() {
        let oracle = weather();
        let joint = |tokens: &[TokenId]| {
            let start = [5.0 / 6.0, 1.0 / 6.0][tokens[0] as usize];
            let step = |pair: &[u32]| [[0.9, 0.1], [0.5, 0.5]][pair[0] as usize][pair[1] as usize];
            tokens.windows(2).map(step).product::<f64>() * start
        };
        for canvas in [[2, 2, 2, 2, 2], [1, 2, 2, 2, 0], [2, 2, 1, 2, 2], [2, 0, 2, 1, 2], [1, 1, 2, 0, 0]] {
            let fits =
                |tokens: &[TokenId]| zip(canvas, tokens).all(|(known, token)| known == 2 || known == *token);
            let all = (0..32_u32).map(|code| [0, 1, 2, 3, 4].map(|place| code >> place & 1));
            let all: Vec<_> = all.filter(|tokens| fits(tokens)).collect();
            let mass: f64 = all.iter().map(|tokens| joint(tokens)).sum();
            assert!((oracle.log_probability(&canvas) - mass.ln()).abs() < 1e-12);
            for place in (0..5).filter(|place| canvas[*place] == 2) {
                let ones = all.iter().filter(|tokens| tokens[place] == 1);
                let ones: f64 = ones.map(|tokens| joint(tokens)).sum::<f64>() / mass;
                assert!((oracle.conditional(&canvas, place as u32)[1] - ones).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn random_chains_have_the_entropy_rate_asked_for() {
        for rate in [0.15, 1.19] {
            let oracle = MarkovOracle::random(24, rate, 8, 1);
            assert!((oracle.entropy_rate() - rate).abs() < 1e-3, "{}", oracle.entropy_rate());
        }
    }
}
