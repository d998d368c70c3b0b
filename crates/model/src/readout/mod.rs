//! One row of logits to one token and its log-probabilities, without sorting the vocabulary.
//!
//! `candidates` says which tokens compete and with which logits, `filter` keeps the most probable of them,
//! which `prefix` finds, and `distribution` measures what is left and draws from it.

mod candidates;
#[cfg(any(test, feature = "cuda"))]
pub(crate) mod cuda;
mod distribution;
mod filter;
mod prefix;
#[cfg(test)]
mod tests;

use self::candidates::Candidates;
use self::distribution::Distribution;
use self::filter::{Kept, filter};
use self::prefix::{PrefixSearch, Ranking};
use crate::kernel::{self, CpuFeatures};
use crate::predictor::{Read, Sampling, TokenCount, TokenId};

/// The settings with which a row of logits is read.
#[derive(Clone, Copy, Debug)]
pub struct RowContext<'a> {
    /// The steps from logits to a token.
    pub sampling: &'a Sampling,
    /// Only these tokens may be drawn, ascending; `None` allows all.
    pub allowed: Option<&'a [TokenId]>,
    /// Tokens already on the canvas, ascending, for penalties.
    pub counts: &'a [TokenCount],
    /// A token whose own log-probability is wanted.
    pub target: Option<TokenId>,
    /// Most probable tokens to report.
    pub alternatives: usize,
    /// The row that the caller reads next; it makes this one no other, only the next one faster.
    pub ahead: &'a [f32],
}

impl<'a> RowContext<'a> {
    /// Draws by `sampling` and nothing else.
    #[must_use]
    pub fn new(sampling: &'a Sampling) -> Self {
        Self { sampling, allowed: None, counts: &[], target: None, alternatives: 0, ahead: &[] }
    }
}

/// Buffers reused from row to row.
#[derive(Debug, Default)]
pub struct Scratch {
    /// exp((logit − largest)/temperature) per candidate; 0 for one that may not be drawn.
    weights: Vec<f32>,
    candidates: candidates::Buffers,
    prefix: PrefixSearch,
    kept: Kept,
    /// The most probable tokens.
    tokens: Vec<u32>,
}

/// Draws a token from `logits` (one per row of the embedding) by `uniform` in [0, 1). `None` when a logit
/// is not finite, before or after the penalties, or nothing may be drawn.
///
/// The law is the reference's (`model.py`), with more filters: edit the logits, divide by the
/// temperature, keep the most probable tokens, draw. The draw inverts the cumulative distribution over
/// ascending token ids, so one number decides it and a change of the logits in their last bits moves a
/// draw only where `uniform` lies that close to an edge. Weights are f32 like the logits; their sums and
/// the draw are f64, so that no tail is cut off.
pub fn read_row(
    cpu: CpuFeatures,
    logits: &[f32],
    context: &RowContext<'_>,
    uniform: f64,
    scratch: &mut Scratch,
) -> Option<Read> {
    let Scratch { weights, candidates, prefix, kept, tokens } = scratch;
    let sampling = context.sampling;
    let highest = kernel::largest_finite(cpu, logits)?;
    let candidates = Candidates::new(cpu, logits, context, candidates)?;
    let largest = candidates.largest(cpu, highest)?;
    let factor = (1.0 / sampling.temperature) as f32;
    let greedy = sampling.temperature <= 0.0 || !factor.is_finite();
    let factor = if greedy { 1.0 } else { factor };
    let ahead = context.ahead.split_at(context.ahead.len() / 2);
    let mut mass = kernel::exponentials(cpu, candidates.logits, largest, factor, weights, ahead.0);
    // The same weights serve the model's own distribution when nothing moved them.
    let moved = candidates.edited || factor != 1.0 || largest != highest;
    let model_mass = if moved { kernel::exponential_sum(cpu, logits, highest, ahead.1) } else { mass };
    let model = Model { cpu, logits, highest, normaliser: model_mass.ln() };
    let mut taken = 0.0;
    for &banned in candidates.banned {
        if let Some(weight) = weights.get_mut(banned as usize) {
            taken += f64::from(std::mem::take(weight));
        }
    }
    // What little is left of a difference is rounding.
    mass = if taken < mass / 2.0 { mass - taken } else { kernel::wide_sum(cpu, weights) };
    let ranking = Ranking { cpu, logits: candidates.logits, largest, factor };
    let listed = !greedy && filter(ranking, weights, mass, sampling, prefix, kept);
    let left = if listed {
        Distribution::new(cpu, &kept.logits, &kept.weights, largest, factor)?
    } else {
        Distribution::new(cpu, candidates.logits, weights, largest, factor)?
    };
    let shape = left.shape();
    let place = if greedy { left.best() } else { left.draw(uniform * shape.mass)? };
    let score = left.score(place, shape.mass);
    let token = candidates.token(if listed { kept.places[place] as usize } else { place });
    Some(Read {
        token,
        score,
        logprob: model.logprob(token)?,
        confidence: model.confidence(token, &sampling.distrusted)?,
        entropy: shape.entropy,
        margin: shape.margin,
        target: context.target.and_then(|target| model.logprob(target)),
        alternatives: model.alternatives(context.alternatives, tokens, prefix),
    })
}

/// The model's own distribution.
struct Model<'a> {
    cpu: CpuFeatures,
    logits: &'a [f32],
    highest: f32,
    normaliser: f64,
}

impl<'a> Model<'a> {
    /// In nats; `None` for a token outside the vocabulary.
    fn logprob(&self, token: TokenId) -> Option<f32> {
        let logit = self.logits.get(token as usize)?;
        Some((f64::from(*logit) - f64::from(self.highest) - self.normaliser) as f32)
    }

    /// The same when other tokens have no part in the distribution.
    fn confidence(&self, token: TokenId, without: &[TokenId]) -> Option<f32> {
        if without.is_empty() {
            return self.logprob(token);
        }
        if without.contains(&token) {
            return Some(f32::NEG_INFINITY);
        }
        // Not the difference of two sums: what is left may be little.
        let mut rest = self.logits.to_vec();
        without.iter().for_each(|token| {
            if let Some(logit) = rest.get_mut(*token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        });
        let highest = kernel::largest(self.cpu, &rest);
        let sum: f64 = rest.iter().map(|logit| f64::from(logit - highest).exp()).sum();
        Some((f64::from(*rest.get(token as usize)?) - f64::from(highest) - sum.ln()) as f32)
    }

    /// The `count` most probable tokens, best first.
    fn alternatives(
        &self,
        count: usize,
        tokens: &mut Vec<u32>,
        prefix: &mut PrefixSearch,
    ) -> Vec<(TokenId, f32)> {
        if count == 0 {
            return Vec::new();
        }
        let ranking = Ranking { cpu: self.cpu, logits: self.logits, largest: self.highest, factor: 1.0 };
        prefix.most_probable(ranking, count, tokens);
        tokens.sort_unstable_by(|a, b| ranking.compare(*a, *b));
        tokens.iter().filter_map(|&token| Some((token, self.logprob(token)?))).collect()
    }
}
