//! The most probable of many tokens, down to a limit, without sorting them.

use std::cmp::Ordering;

use crate::kernel;

/// Buckets of the search, by distance from the most probable token.
const BUCKETS: usize = 1024;
/// Buckets per nat of that distance; what lies beyond the last bucket shares it.
const PER_NAT: f32 = 32.0;

/// Tokens in the order of their probability, the lower one first on a tie.
#[derive(Clone, Copy)]
pub(super) struct Ranking<'a> {
    /// By token.
    pub(super) logits: &'a [f32],
    /// The largest of those that are ranked.
    pub(super) largest: f32,
    /// What turns differences of logits into nats.
    pub(super) factor: f32,
}

impl Ranking<'_> {
    /// The more probable token is the lesser.
    pub(super) fn compare(&self, a: u32, b: u32) -> Ordering {
        let (first, second) = (self.logits[a as usize], self.logits[b as usize]);
        // Not `total_cmp`: 0 and −0 are a tie.
        second.partial_cmp(&first).unwrap_or(Ordering::Equal).then(a.cmp(&b))
    }
}

/// Buffers of the search.
#[derive(Debug, Default)]
pub(super) struct PrefixSearch {
    /// By token: the distance in units of 1/32 nat.
    buckets: Vec<u16>,
    masses: Vec<f64>,
    crossing: Vec<u32>,
}

impl PrefixSearch {
    /// Writes to `kept`, ascending, the candidates that stay: one is dropped when the mass of the more
    /// probable ones exceeds `limit`. Unit masses and the limit k − 1 keep exactly k.
    ///
    /// A histogram over the probability finds the bucket in which the limit is crossed, and only that
    /// one is searched further.
    pub(super) fn keep(
        &mut self,
        ranking: Ranking<'_>,
        candidates: impl Iterator<Item = u32> + Clone,
        mass: impl Fn(u32) -> f64,
        limit: f64,
        kept: &mut Vec<u32>,
    ) {
        let Self { buckets, masses, crossing } = self;
        let unit = ranking.factor * PER_NAT;
        kernel::distances(ranking.logits, ranking.largest, unit, (BUCKETS - 1) as u16, buckets);
        let bucket = |token: u32| usize::from(buckets[token as usize]);
        masses.clear();
        masses.resize(BUCKETS, 0.0);
        for token in candidates.clone() {
            masses[bucket(token)] += mass(token);
        }
        let mut before = 0.0;
        let mut cut = 0;
        while cut + 1 < BUCKETS && before + masses[cut] <= limit {
            before += masses[cut];
            cut += 1;
        }
        crossing.clear();
        crossing.extend(candidates.clone().filter(|&token| bucket(token) == cut));
        // Halves what may be the last to stay; the most probable of it stays, because `before` does not
        // exceed the limit.
        let mut rest = crossing.as_mut_slice();
        while rest.len() > 1 {
            let middle = rest.len() / 2;
            rest.select_nth_unstable_by(middle, |a, b| ranking.compare(*a, *b));
            let (upper, lower) = rest.split_at_mut(middle);
            let after = before + upper.iter().map(|&token| mass(token)).sum::<f64>();
            rest = if after > limit {
                upper
            } else {
                before = after;
                lower
            };
        }
        kept.clear();
        match rest.first() {
            Some(&last) => {
                let lowest = ranking.logits[last as usize];
                kept.extend(candidates.filter(|&token| {
                    let logit = ranking.logits[token as usize];
                    logit > lowest || (logit == lowest && token <= last)
                }));
            }
            // The limit lies beyond everything.
            None => kept.extend(candidates),
        }
    }
}
