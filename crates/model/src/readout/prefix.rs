//! The most probable of many tokens, down to a limit, without sorting them.

use std::cmp::Ordering;

use crate::kernel::{self, CpuFeatures, Mass};

/// Halvings of the interval of logits in which the limit is crossed, before tokens are looked at.
const HALVINGS: usize = 7;

/// Tokens in the order of their probability, the lower one first on a tie.
#[derive(Clone, Copy)]
pub(super) struct Ranking<'a> {
    pub(super) cpu: CpuFeatures,
    /// By token.
    pub(super) logits: &'a [f32],
    /// The largest of those that are ranked.
    pub(super) largest: f32,
    /// Nats per difference of logits.
    pub(super) factor: f32,
}

impl Ranking<'_> {
    /// The more probable token is the lesser.
    pub(super) fn compare(&self, a: u32, b: u32) -> Ordering {
        let first = self.logits[a as usize];
        let second = self.logits[b as usize];
        // Not `total_cmp`: 0 and −0 are a tie.
        second.partial_cmp(&first).unwrap_or(Ordering::Equal).then(a.cmp(&b))
    }
}

/// Buffers of the search.
#[derive(Debug, Default)]
pub(super) struct PrefixSearch {
    crossing: Vec<u32>,
}

impl PrefixSearch {
    /// The last token that stays: one is dropped when the mass of the more probable ones exceeds
    /// `limit`. Unit masses and the limit k − 1 keep exactly k. `None` when the limit lies beyond
    /// everything.
    ///
    /// The mass above a logit is one pass over the row. A few of these find an interval in which the
    /// limit is crossed, and only the tokens in it are ranked.
    pub(super) fn last(&mut self, ranking: Ranking<'_>, mass: Mass<'_>, limit: f64) -> Option<u32> {
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
    pub(super) fn most_probable(&mut self, ranking: Ranking<'_>, count: usize, found: &mut Vec<u32>) {
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
