//! Top-k, top-p and min-p. Each keeps the most probable tokens down to some place, so each can start from
//! what the one before has left, and that is soon a short list.

use super::prefix::{PrefixSearch, Ranking};
use crate::kernel::{self, Mass};
use crate::predictor::Sampling;

/// What filters have left, ascending.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Where they stand among the candidates.
    pub(super) places: Vec<u32>,
    /// Their logits.
    pub(super) logits: Vec<f32>,
    /// Their weights, all above 0.
    pub(super) weights: Vec<f32>,
    /// Indices of those that stay.
    staying: Vec<u32>,
}

impl Kept {
    /// Everything with a weight whose key, its logit or its weight, is above `threshold`.
    fn take(&mut self, keys: &[f32], threshold: f32, logits: &[f32], weights: &[f32]) {
        kernel::between(keys, threshold, f32::INFINITY, &mut self.places);
        if !std::ptr::eq(keys, weights) {
            self.places.retain(|&place| weights[place as usize] > 0.0);
        }
        self.logits.clear();
        self.logits.extend(self.places.iter().map(|&place| logits[place as usize]));
        self.weights.clear();
        self.weights.extend(self.places.iter().map(|&place| weights[place as usize]));
    }

    /// Drops logits below `lowest`, and those equal to it behind index `last`.
    fn keep(&mut self, lowest: f32, last: usize) {
        let Self { places, logits, weights, staying } = self;
        kernel::between(logits, lowest.next_down(), f32::INFINITY, staying);
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
    fn keep_down_to(&mut self, last: usize) {
        self.keep(self.logits[last], last);
    }
}

/// Leaves in `kept` what the filters keep; `false` when none of them drops anything. `mass` is the sum of
/// `weights`, those of the ranked logits.
pub(super) fn filter(
    ranking: Ranking<'_>,
    weights: &[f32],
    mass: f64,
    sampling: &Sampling,
    search: &mut PrefixSearch,
    kept: &mut Kept,
) -> bool {
    let logits = ranking.logits;
    let mut narrowed = false;
    if (1..weights.len()).contains(&sampling.top_k)
        && let Some(last) = search.last(ranking, Mass::Drawable(weights), (sampling.top_k - 1) as f64)
    {
        let lowest = logits[last as usize];
        kept.take(logits, lowest.next_down(), logits, weights);
        kept.keep_down_to(kept.places.partition_point(|&place| place < last));
        narrowed = true;
    }
    if sampling.top_p < 1.0 {
        let mass = if narrowed { kernel::wide_sum(&kept.weights) } else { mass };
        let limit = sampling.top_p * mass;
        if !narrowed {
            // The last token that stays and all less probable ones hold at least what lies beyond the limit,
            // so it has at least their mean. A little less: weights are rounded.
            let lightest = 0.999 * (mass - limit) / weights.len() as f64;
            kept.take(weights, lightest.max(0.0) as f32, logits, weights);
            narrowed = true;
        }
        let ranking = Ranking { logits: &kept.logits, ..ranking };
        if let Some(last) = search.last(ranking, Mass::Weights(&kept.weights), limit) {
            kept.keep_down_to(last as usize);
        }
    }
    if sampling.min_p > 0.0 {
        // On the side of the logits, which are exact; the most probable token always stays.
        let lowest = f64::from(ranking.largest) + sampling.temperature * sampling.min_p.min(1.0).ln();
        let nearest = lowest as f32;
        let lowest = if f64::from(nearest) < lowest { nearest.next_up() } else { nearest };
        if narrowed {
            kept.keep(lowest, usize::MAX);
        } else {
            kept.take(logits, lowest.next_down(), logits, weights);
            narrowed = true;
        }
    }
    narrowed
}
