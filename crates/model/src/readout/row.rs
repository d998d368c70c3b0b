//! One row of logits to one token and its log-probabilities, without sorting the vocabulary.
//!
//! From top to bottom: [`read_row`], the whole of it; the candidates, which are the tokens that compete, and their
//! logits; the filters, which keep the most probable of them; the search for the last token that stays; the
//! distribution that is left, and the draw; the model's own distribution. `cuda/row.cuh` reads a row on a GPU.

#[cfg(test)]
pub(super) mod tests;

use std::cmp::Ordering;

use crate::kernel::{self, CpuFeatures, Mass};
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
}

impl<'a> RowContext<'a> {
    /// Draws by `sampling` and nothing else.
    #[must_use]
    pub fn new(sampling: &'a Sampling) -> Self {
        Self { sampling, allowed: None, counts: &[], target: None, alternatives: 0 }
    }
}

/// Buffers reused from row to row.
#[derive(Debug, Default)]
pub struct Scratch {
    /// exp((logit − largest)/temperature) per candidate; 0 for one that may not be drawn.
    weights: Vec<f32>,
    candidates: CandidateBuffers,
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
    read_row_before(cpu, logits, &[], context, uniform, scratch)
}

/// [`read_row`] in front of another row, `next`, which the processor fetches meanwhile. It changes nothing of the result.
pub(crate) fn read_row_before(
    cpu: CpuFeatures,
    logits: &[f32],
    next: &[f32],
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
    let ahead = next.split_at(next.len() / 2);
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

// ----------------------------------------------------------------------------------------------------------
// Candidates: the tokens that compete for a position, and their logits
// ----------------------------------------------------------------------------------------------------------

/// Buffers for logits that differ from the model's.
#[derive(Debug, Default)]
struct CandidateBuffers {
    penalised: Vec<f32>,
    ids: Vec<TokenId>,
    gathered: Vec<f32>,
}

/// The competing tokens, ascending.
struct Candidates<'a> {
    /// Their logits after penalties and bias.
    logits: &'a [f32],
    /// Places among them that may not be drawn.
    banned: &'a [TokenId],
    /// True if `logits` differs from the model's row.
    edited: bool,
    /// Their ids; `None` when they are the vocabulary.
    ids: Option<&'a [TokenId]>,
}

impl<'a> Candidates<'a> {
    /// The model's own row wherever nothing changes it: a copy only for penalties, a list only for an
    /// allowed set. `None` when a penalty leaves a logit that is NaN.
    fn new(
        cpu: CpuFeatures,
        logits: &'a [f32],
        context: &RowContext<'a>,
        buffers: &'a mut CandidateBuffers,
    ) -> Option<Self> {
        let CandidateBuffers { penalised, ids, gathered } = buffers;
        let banned = context.sampling.banned.as_slice();
        let edited = changes(context);
        let logits = if edited {
            penalised.clear();
            penalised.extend_from_slice(logits);
            penalise(penalised, context.sampling, context.counts);
            kernel::wide_sum(cpu, penalised).is_finite().then_some(penalised.as_slice())?
        } else {
            logits
        };
        let Some(allowed) = context.allowed else {
            return Some(Self { logits, banned, edited, ids: None });
        };
        let may = |token: &TokenId| (*token as usize) < logits.len() && !banned.contains(token);
        ids.clear();
        ids.extend(allowed.iter().copied().filter(may));
        gathered.clear();
        gathered.extend(ids.iter().map(|&token| logits[token as usize]));
        Some(Self { logits: gathered, banned: &[], edited: true, ids: Some(ids) })
    }

    /// The token at a place.
    fn token(&self, place: usize) -> TokenId {
        self.ids.map_or(place as TokenId, |ids| ids[place])
    }

    /// The largest logit of those that may be drawn; `None` when there are none. `highest` is the largest
    /// one when nothing was edited.
    fn largest(&self, cpu: CpuFeatures, highest: f32) -> Option<f32> {
        let highest = if self.edited { kernel::largest(cpu, self.logits) } else { highest };
        let logit = |token: &TokenId| self.logits.get(*token as usize).copied();
        if !self.logits.is_empty() && self.banned.iter().all(|token| logit(token) != Some(highest)) {
            return Some(highest);
        }
        // Between the banned ones.
        let mut banned: Vec<usize> = self.banned.iter().map(|&token| token as usize).collect();
        banned.sort_unstable();
        banned.retain(|&place| place < self.logits.len());
        let starts = std::iter::once(0).chain(banned.iter().map(|place| place + 1));
        let ends = banned.iter().copied().chain([self.logits.len()]);
        let stretches = starts.zip(ends).filter(|(start, end)| start < end);
        stretches.map(|(start, end)| kernel::largest(cpu, &self.logits[start..end])).reduce(f32::max)
    }
}

/// Returns true if any logit changes.
fn changes(context: &RowContext<'_>) -> bool {
    let Sampling { repetition_penalty, frequency_penalty, presence_penalty, bias, .. } = context.sampling;
    let penalties = *repetition_penalty != 1.0 || *frequency_penalty != 0.0 || *presence_penalty != 0.0;
    !bias.is_empty() || (penalties && !context.counts.is_empty())
}

fn penalise(logits: &mut [f32], sampling: &Sampling, counts: &[TokenCount]) {
    for &TokenCount { token, given, generated } in counts {
        let Some(logit) = logits.get_mut(token as usize) else { continue };
        let mut value = f64::from(*logit);
        if given > 0 || generated > 0 {
            let factor = sampling.repetition_penalty;
            value = if value > 0.0 { value / factor } else { value * factor };
        }
        value -= sampling.frequency_penalty * f64::from(generated);
        if generated > 0 {
            value -= sampling.presence_penalty;
        }
        *logit = finite(value);
    }
    for &(token, bias) in &sampling.bias {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = finite(f64::from(*logit) + f64::from(bias));
        }
    }
}

/// The nearest finite f32: however strong a penalty, the token stays one among others.
fn finite(value: f64) -> f32 {
    (value as f32).clamp(f32::MIN, f32::MAX)
}

// ----------------------------------------------------------------------------------------------------------
// Filters: top-k, top-p and min-p
//
// Each keeps the most probable tokens down to some place, so each can start from the result of the one
// before. That is a short list, or the row itself with the weights of all others at 0 while too many are
// left for a list to pay.
// ----------------------------------------------------------------------------------------------------------

/// A list has at most this part of a row.
const LISTED: usize = 3;

/// The tokens that filters have kept, ascending.
#[derive(Debug, Default)]
struct Kept {
    /// Their places among the candidates.
    places: Vec<u32>,
    /// Their logits.
    logits: Vec<f32>,
    /// Their weights, all above 0.
    weights: Vec<f32>,
    /// Indices of those that stay.
    staying: Vec<u32>,
}

impl Kept {
    /// Lists everything with a weight whose key, its logit or its weight, is above `threshold`; not if that
    /// is too much.
    fn take(
        &mut self,
        cpu: CpuFeatures,
        keys: &[f32],
        threshold: f32,
        logits: &[f32],
        weights: &[f32],
    ) -> bool {
        if !kernel::between(cpu, keys, threshold, f32::INFINITY, keys.len() / LISTED, &mut self.places) {
            return false;
        }
        if !std::ptr::eq(keys, weights) {
            self.places.retain(|&place| weights[place as usize] > 0.0);
        }
        self.logits.clear();
        self.logits.extend(self.places.iter().map(|&place| logits[place as usize]));
        self.weights.clear();
        self.weights.extend(self.places.iter().map(|&place| weights[place as usize]));
        true
    }

    /// Drops logits below `lowest`, and those equal to it behind index `last`.
    fn keep(&mut self, cpu: CpuFeatures, lowest: f32, last: usize) {
        let Self { places, logits, weights, staying } = self;
        kernel::between(cpu, logits, lowest.next_down(), f32::INFINITY, usize::MAX, staying);
        staying.retain(|&i| logits[i as usize] > lowest || i as usize <= last);
        for (to, &from) in staying.iter().enumerate() {
            let from = from as usize;
            (places[to], logits[to], weights[to]) = (places[from], logits[from], weights[from]);
        }
        places.truncate(staying.len());
        logits.truncate(staying.len());
        weights.truncate(staying.len());
    }

    /// Keeps the most probable ones down to index `last`.
    fn keep_down_to(&mut self, cpu: CpuFeatures, last: usize) {
        self.keep(cpu, self.logits[last], last);
    }
}

/// Leaves in `kept` what the filters keep, or else, and then `false` is the answer, in `weights`. `mass` is
/// the sum of these, which belong to the ranked logits.
fn filter(
    ranking: Ranking<'_>,
    weights: &mut [f32],
    mut mass: f64,
    sampling: &Sampling,
    search: &mut PrefixSearch,
    kept: &mut Kept,
) -> bool {
    let Ranking { cpu, logits, .. } = ranking;
    let mut row = Row { ranking, weights, search, kept, listed: false };
    if sampling.nucleus_first {
        row.nucleus(sampling.top_p, mass);
        row.top_k(sampling.top_k);
    } else {
        if row.top_k(sampling.top_k) && sampling.top_p < 1.0 {
            mass = kernel::wide_sum(cpu, if row.listed { &row.kept.weights } else { row.weights });
        }
        row.nucleus(sampling.top_p, mass);
    }
    let Row { weights, kept, listed, .. } = row;
    if sampling.min_p > 0.0 {
        // On the side of the logits, which are exact; the most probable token always stays.
        let lowest = f64::from(ranking.largest) + sampling.temperature * sampling.min_p.min(1.0).ln();
        let nearest = lowest as f32;
        let lowest = if f64::from(nearest) < lowest { nearest.next_up() } else { nearest };
        if listed {
            kept.keep(cpu, lowest, usize::MAX);
        } else {
            kernel::keep_from(cpu, logits, lowest, logits.len(), weights);
        }
    }
    listed
}

/// A row, and what filters have left of it so far.
struct Row<'a> {
    ranking: Ranking<'a>,
    /// 0 for what is dropped, unless there is a list.
    weights: &'a mut [f32],
    search: &'a mut PrefixSearch,
    kept: &'a mut Kept,
    /// True if `kept` holds the result.
    listed: bool,
}

impl Row<'_> {
    /// Keeps the `count` most probable ones; whether that changes anything.
    fn top_k(&mut self, count: usize) -> bool {
        let Self { ranking, weights, search, kept, listed } = self;
        let Ranking { cpu, logits, .. } = *ranking;
        if !(1..weights.len()).contains(&count) {
            return false;
        }
        let limit = (count - 1) as f64;
        if *listed {
            let ranking = Ranking { logits: &kept.logits, ..*ranking };
            let last = search.last(ranking, Mass::Drawable(&kept.weights), limit);
            last.into_iter().for_each(|last| kept.keep_down_to(cpu, last as usize));
            return last.is_some();
        }
        let Some(last) = search.last(*ranking, Mass::Drawable(weights), limit) else { return false };
        let lowest = logits[last as usize];
        *listed = kept.take(cpu, logits, lowest.next_down(), logits, weights);
        if *listed {
            kept.keep_down_to(cpu, kept.places.partition_point(|&place| place < last));
        } else {
            kernel::keep_from(cpu, logits, lowest, last as usize, weights);
        }
        true
    }

    /// Keeps the most probable ones up to the one that crosses `share` of `mass`, the sum of what is left.
    fn nucleus(&mut self, share: f64, mass: f64) {
        let Self { ranking, weights, search, kept, listed } = self;
        let Ranking { cpu, logits, .. } = *ranking;
        if share >= 1.0 {
            return;
        }
        let limit = share * mass;
        if !*listed {
            // The last token that stays and all less probable ones hold at least what lies beyond the limit,
            // so it has at least their mean. A little less: weights are rounded.
            let lightest = 0.999 * (mass - limit) / weights.len() as f64;
            *listed = kept.take(cpu, weights, lightest.max(0.0) as f32, logits, weights);
        }
        if *listed {
            let ranking = Ranking { logits: &kept.logits, ..*ranking };
            if let Some(last) = search.last(ranking, Mass::Weights(&kept.weights), limit) {
                kept.keep_down_to(cpu, last as usize);
            }
        } else if let Some(last) = search.last(*ranking, Mass::Weights(weights), limit) {
            kernel::keep_from(cpu, logits, logits[last as usize], last as usize, weights);
        }
    }
}

// ----------------------------------------------------------------------------------------------------------
// Search: the most probable of many tokens, down to a limit, without sorting them
// ----------------------------------------------------------------------------------------------------------

/// Halvings of the interval of logits in which the limit is crossed, before tokens are looked at.
const HALVINGS: usize = 7;

/// Tokens in the order of their probability, the lower one first on a tie.
#[derive(Clone, Copy)]
struct Ranking<'a> {
    cpu: CpuFeatures,
    /// By token.
    logits: &'a [f32],
    /// The largest of those that are ranked.
    largest: f32,
    /// Nats per difference of logits.
    factor: f32,
}

impl Ranking<'_> {
    /// The more probable token is the lesser.
    fn compare(&self, a: u32, b: u32) -> Ordering {
        let first = self.logits[a as usize];
        let second = self.logits[b as usize];
        // Not `total_cmp`: 0 and −0 are a tie.
        second.partial_cmp(&first).unwrap_or(Ordering::Equal).then(a.cmp(&b))
    }
}

/// Buffers of the search.
#[derive(Debug, Default)]
struct PrefixSearch {
    crossing: Vec<u32>,
}

impl PrefixSearch {
    /// The last token that stays: one is dropped when the mass of the more probable ones exceeds
    /// `limit`. Unit masses and the limit k − 1 keep exactly k. `None` when the limit lies beyond
    /// everything.
    ///
    /// The mass above a logit is one pass over the row. A few of these find an interval in which the
    /// limit is crossed, and only the tokens in it are ranked.
    fn last(&mut self, ranking: Ranking<'_>, mass: Mass<'_>, limit: f64) -> Option<u32> {
        let above = |threshold: f32| kernel::mass_above(ranking.cpu, ranking.logits, mass, threshold);
        // The mass above `high` does not exceed the limit, that above `low` does. Above the largest there is none.
        let mut high = ranking.largest;
        let mut before = 0.0;
        let mut low = high;
        let mut distance = 1.0 / ranking.factor;
        loop {
            low = if distance < f32::MAX / 4.0 && low > f32::MIN / 4.0 {
                ranking.largest - distance
            } else {
                f32::NEG_INFINITY
            };
            let mass = above(low);
            if mass > limit {
                break;
            }
            if low == f32::NEG_INFINITY {
                return None;
            }
            (high, before) = (low, mass);
            // Hardly any weight lies beyond; what does is found by one more pass.
            distance = if distance * ranking.factor > 64.0 { f32::INFINITY } else { distance * 2.0 };
        }
        for _ in 0..HALVINGS {
            let middle = low + (high - low) / 2.0;
            if !middle.is_finite() || middle <= low || middle >= high {
                break;
            }
            let mass = above(middle);
            if mass > limit {
                low = middle;
            } else {
                (high, before) = (middle, mass);
            }
        }
        kernel::between(ranking.cpu, ranking.logits, low, high, usize::MAX, &mut self.crossing);
        let weight = |token: u32| match mass {
            Mass::Weights(weights) => f64::from(weights[token as usize]),
            Mass::Drawable(weights) => f64::from(u8::from(weights[token as usize] > 0.0)),
            Mass::All => 1.0,
        };
        self.crossing.retain(|&token| weight(token) > 0.0);
        // Halves what may be the last to stay; the most probable of it stays, because `before` does not
        // exceed the limit.
        let mut rest = self.crossing.as_mut_slice();
        while rest.len() > 1 {
            let middle = rest.len() / 2;
            rest.select_nth_unstable_by(middle, |a, b| ranking.compare(*a, *b));
            let (upper, lower) = rest.split_at_mut(middle);
            let after = before + upper.iter().map(|&token| weight(token)).sum::<f64>();
            rest = if after > limit {
                upper
            } else {
                before = after;
                lower
            };
        }
        rest.first().copied()
    }

    /// The `count` most probable of all tokens, ascending by id; all of them when there are fewer.
    fn most_probable(&mut self, ranking: Ranking<'_>, count: usize, found: &mut Vec<u32>) {
        let last = self.last(ranking, Mass::All, count.saturating_sub(1) as f64);
        let Some(last) = last else {
            kernel::between(ranking.cpu, ranking.logits, f32::NEG_INFINITY, f32::INFINITY, usize::MAX, found);
            return;
        };
        let lowest = ranking.logits[last as usize];
        kernel::between(ranking.cpu, ranking.logits, lowest.next_down(), f32::INFINITY, usize::MAX, found);
        found.retain(|&token| ranking.logits[token as usize] > lowest || token <= last);
    }
}

// ----------------------------------------------------------------------------------------------------------
// Distribution: its shape, and a draw from it
// ----------------------------------------------------------------------------------------------------------

/// Tokens whose mass is summed at once, so that a draw adds one by one in a single block only.
const BLOCK: usize = 256;
/// Beyond this distance (nats) from the most probable token a weight is not computed more exactly.
const FARTHEST: f32 = 88.0;

/// Tokens, ascending, and their probabilities up to a common factor.
#[derive(Clone, Copy)]
struct Distribution<'a> {
    cpu: CpuFeatures,
    logits: &'a [f32],
    /// exp((logit − largest)·factor); 0 for a token that may not be drawn.
    weights: &'a [f32],
    /// The place of the most probable token; its weight is 1.
    best: usize,
    /// One over the temperature.
    factor: f32,
}

/// Measures of a distribution.
#[derive(Clone, Copy)]
struct Shape {
    /// Sum of the weights.
    mass: f64,
    /// In nats.
    entropy: f32,
    /// Difference between the two largest probabilities.
    margin: f32,
}

impl<'a> Distribution<'a> {
    /// `None` when no logit with a weight is `largest`.
    fn new(
        cpu: CpuFeatures,
        logits: &'a [f32],
        weights: &'a [f32],
        largest: f32,
        factor: f32,
    ) -> Option<Self> {
        let first = kernel::position(cpu, logits, largest)?;
        let drawable = |place: &usize| weights[*place] > 0.0 && logits[*place] == largest;
        let best = (first..logits.len()).find(drawable)?;
        Some(Self { cpu, logits, weights, best, factor })
    }

    /// The place of the most probable token, the lower one on a tie.
    fn best(&self) -> usize {
        self.best
    }

    fn shape(&self) -> Shape {
        let mass = self.weights.chunks(BLOCK).map(|block| kernel::wide_sum(self.cpu, block)).sum::<f64>();
        let largest = self.logits[self.best];
        let distance =
            kernel::weighted_distance(self.cpu, self.logits, self.weights, largest, self.factor, FARTHEST);
        // −Σ p·ln p with p = weight/mass and ln weight = −distance.
        let entropy = (mass.ln() + distance / mass).max(0.0) as f32;
        let before = &self.weights[..self.best];
        let after = &self.weights[self.best + 1..];
        let second = kernel::largest(self.cpu, before).max(kernel::largest(self.cpu, after)).max(0.0);
        Shape { mass, entropy, margin: (f64::from(1.0 - second) / mass) as f32 }
    }

    /// Log-probability (nats) of the token at a place.
    fn score(&self, place: usize, mass: f64) -> f32 {
        let distance = f64::from(self.logits[self.best]) - f64::from(self.logits[place]);
        (-distance * f64::from(self.factor) - mass.ln()) as f32
    }

    /// The lowest place whose cumulative weight exceeds `target`; the last drawable one when rounding
    /// leaves the target at the very end. `None` when nothing may be drawn.
    fn draw(&self, target: f64) -> Option<usize> {
        let last_drawable = |weights: &[f32]| weights.iter().rposition(|&weight| weight > 0.0);
        let mut before = 0.0;
        for (number, block) in self.weights.chunks(BLOCK).enumerate() {
            let after = before + kernel::wide_sum(self.cpu, block);
            if after > target {
                let mut cumulative = before;
                let crossing = block.iter().position(|&weight| {
                    cumulative += f64::from(weight);
                    cumulative > target
                });
                return crossing.or_else(|| last_drawable(block)).map(|place| number * BLOCK + place);
            }
            before = after;
        }
        last_drawable(self.weights)
    }
}

// ----------------------------------------------------------------------------------------------------------
// The model's own distribution, before the sampling's settings
// ----------------------------------------------------------------------------------------------------------

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
