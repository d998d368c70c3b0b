//! Times of recent evaluations by size, from which the cost model is fitted again.
//!
//! The measurement at start takes a second, and what else ran in that second is in its numbers. [`Pace`] follows a
//! machine that is slower or faster at everything. A start that took a pause for the overhead is mended here.
//!
//! [`Pace`]: crate::pace::Pace

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cost::{CostModel, Work};

/// The model is fitted again after so many evaluations.
const BETWEEN: u64 = 64;

/// A size that has not been seen for so many evaluations tells nothing of the machine as it is now.
const KEPT: u64 = 2048;

/// The weight of the newest evaluation in the mean of its size.
const NEWEST: f64 = 0.1;

/// Overhead and rows can be told apart when the largest evaluation has so many times the rows of the smallest.
const SPREAD: f64 = 4.0;

/// Means of the evaluations of about one size.
#[derive(Clone, Copy, Debug)]
struct Mean {
    rows: f64,
    pairs: f64,
    seconds: f64,
    /// The number of the last evaluation among them.
    last: u64,
}

/// The evaluations lately: one mean for each power of two of rows, and of pairs a row.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    means: BTreeMap<(u32, u32), Mean>,
    evaluations: u64,
}

impl Recent {
    /// Takes in one evaluation.
    pub(crate) fn note(&mut self, work: Work, took: Duration) {
        self.evaluations += 1;
        let rows = work.rows.max(1);
        let [rows_now, pairs_now] = [rows as f64, work.pairs as f64];
        let last = self.evaluations;
        let new = Mean { rows: rows_now, pairs: pairs_now, seconds: took.as_secs_f64(), last };
        let mean = self.means.entry((rows.ilog2(), (work.pairs / rows).max(1).ilog2())).or_insert(new);
        mean.rows += NEWEST * (new.rows - mean.rows);
        mean.pairs += NEWEST * (new.pairs - mean.pairs);
        mean.seconds += NEWEST * (new.seconds - mean.seconds);
        mean.last = last;
    }

    /// A model of the recent evaluations, now and then. Pairs cost what they do in `known` unless long canvases are
    /// among the evaluations.
    pub(crate) fn fit(&mut self, known: &CostModel) -> Option<CostModel> {
        if !self.evaluations.is_multiple_of(BETWEEN) {
            return None;
        }
        let oldest = self.evaluations.saturating_sub(KEPT);
        self.means.retain(|_, mean| mean.last > oldest);
        let rows = || self.means.values().map(|mean| mean.rows);
        if rows().fold(0.0, f64::max) < SPREAD * rows().fold(f64::INFINITY, f64::min) {
            return None;
        }
        let of = |mean: &Mean, seconds: f64| {
            let work = Work { rows: mean.rows.round() as u64, pairs: mean.pairs.round() as u64 };
            (work, Duration::try_from_secs_f64(seconds).unwrap_or_default())
        };
        let all: Vec<_> = self.means.values().map(|mean| of(mean, mean.seconds)).collect();
        let fitted = CostModel::fit(&all);
        if fitted.per_pair > 0.0 {
            return Some(fitted);
        }
        let without = |mean: &Mean| of(mean, mean.seconds - known.per_pair * mean.pairs);
        let linear: Vec<_> = self.means.values().map(without).collect();
        Some(CostModel { per_pair: known.per_pair, ..CostModel::fit(&linear) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTUAL: CostModel = CostModel { overhead: 0.002, per_row: 1e-4, per_pair: 1e-7 };

    /// The model after evaluations of canvases of these lengths, in turn, beginning with what was measured at start.
    fn after(start: CostModel, lengths: &[usize], evaluations: usize) -> CostModel {
        let mut recent = Recent::default();
        let mut cost = start;
        for &length in lengths.iter().cycle().take(evaluations) {
            let work = Work::canvas(length);
            recent.note(work, ACTUAL.time(work));
            cost = recent.fit(&cost).unwrap_or(cost);
        }
        cost
    }

    /// A neighbour that paused the machine during the measurement of the short canvases.
    #[test]
    fn an_overhead_that_was_none_is_forgotten() {
        let start = CostModel { overhead: 0.3, per_row: 5e-5, per_pair: 1e-7 };
        assert_eq!(start.rows_within(Duration::from_millis(250)), 0);
        let found = after(start, &[16, 30, 64, 120], 64);
        for length in [16, 120, 1000] {
            let ratio = found.time(Work::canvas(length)).as_secs_f64()
                / ACTUAL.time(Work::canvas(length)).as_secs_f64();
            assert!((ratio - 1.0).abs() < 0.05, "{ratio} at {length}: {found:?}");
        }
        assert!(found.rows_within(Duration::from_millis(250)).abs_diff(2480) < 130, "{found:?}");
    }

    /// Pairs that long canvases show are learned; short ones leave them as they were.
    #[test]
    fn the_price_of_pairs_comes_from_long_canvases() {
        let start = CostModel { overhead: 0.002, per_row: 1e-4, per_pair: 9e-7 };
        assert_eq!(after(start, &[8, 16, 64], 64).per_pair, 9e-7);
        let found = after(start, &[8, 64, 512, 2000], 64);
        assert!((found.per_pair / 1e-7 - 1.0).abs() < 0.01, "{found:?}");
    }

    /// One size says nothing about the others.
    #[test]
    fn evaluations_of_one_size_change_nothing() {
        let start = CostModel { overhead: 0.3, per_row: 5e-5, per_pair: 0.0 };
        assert_eq!(after(start, &[24, 40, 60], 1000), start);
    }

    /// A machine that has become slower while only short canvases came: the long ones of before are left out.
    #[test]
    fn what_is_long_past_is_left_out() {
        let mut recent = Recent::default();
        recent.note(Work::canvas(1000), Duration::from_millis(1));
        for number in 0..2048 {
            let work = Work::canvas([8, 64][number % 2]);
            recent.note(work, ACTUAL.time(work));
        }
        assert_eq!(recent.means.len(), 3);
        (0..63).for_each(|_| recent.note(Work::canvas(8), ACTUAL.time(Work::canvas(8))));
        let found = recent.fit(&ACTUAL).unwrap();
        assert!((found.per_row / ACTUAL.per_row - 1.0).abs() < 0.01, "{found:?}");
        assert_eq!(recent.means.len(), 2);
    }
}
