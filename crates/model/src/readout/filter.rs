//! Top-k, top-p and min-p. Each keeps the most probable tokens down to some place, so each can start from
//! what the one before has left. That is a short list, or the row itself with the weights of all others at 0
//! while too many are left for a list to pay.

use super::prefix::{PrefixSearch, Ranking};
use crate::kernel::{self, CpuFeatures, Mass};
use crate::predictor::Sampling;

/// A list has at most this part of a row.
const LISTED: usize = 3;

/// The tokens that filters have kept, ascending.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Their places among the candidates.
    pub(super) places: Vec<u32>,
    /// Their logits.
    pub(super) logits: Vec<f32>,
    /// Their weights, all above 0.
    pub(super) weights: Vec<f32>,
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
pub(super) fn filter(
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
