//! The ratio of measured to predicted time, followed while the server runs: a machine that was busy during
//! the measurement at start is not busy for good.

use std::time::Duration;

use crate::cost::CostModel;

/// The share of the newest evaluation in what is known of the machine's speed.
const NEWEST: f64 = 0.1;

/// Rows per evaluation change when they are off by more than a part of them: batches would otherwise differ for nothing.
const PART: usize = 8;

/// Measured time of an evaluation over the predicted one, lately.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace(f64);

impl Default for Pace {
    fn default() -> Self {
        Self(1.0)
    }
}

impl Pace {
    /// Compares an evaluation with what was predicted.
    pub(crate) fn learn(&mut self, predicted: Duration, took: Duration) {
        let ratio = took.as_secs_f64() / predicted.as_secs_f64().max(1e-9);
        self.0 += NEWEST * (ratio - self.0);
    }

    /// The expected time, given the predicted one.
    pub(crate) fn actual(self, predicted: Duration) -> Duration {
        Duration::try_from_secs_f64(predicted.as_secs_f64() * self.0).unwrap_or(Duration::MAX)
    }

    /// The cost model as evaluations are now.
    pub(crate) fn cost(self, fitted: &CostModel) -> CostModel {
        CostModel {
            overhead: fitted.overhead * self.0,
            per_row: fitted.per_row * self.0,
            per_pair: fitted.per_pair * self.0,
        }
    }
}

/// The size of the fullest evaluation, given by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowTarget {
    /// The time that the fullest evaluation should take.
    pub time: Duration,
    /// Rows that it may have in any case.
    pub least: usize,
    /// Rows that it may have at most.
    pub most: usize,
}

impl RowTarget {
    /// Rows for a machine of this cost.
    #[must_use]
    pub fn rows(&self, cost: &CostModel) -> usize {
        cost.rows_within(self.time).clamp(self.least, self.most)
    }

    /// Rows in place of `current` ones, when they have to change.
    pub(crate) fn changed(&self, current: usize, cost: &CostModel) -> Option<usize> {
        let rows = self.rows(cost);
        (rows.abs_diff(current) > current / PART).then_some(rows)
    }

    /// Memory has room for so many rows and no more.
    pub(crate) fn limit(&mut self, rows: usize) {
        self.most = self.most.min(rows);
        self.least = self.least.min(rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Work;

    const TARGET: RowTarget = RowTarget { time: Duration::from_millis(250), least: 256, most: 8192 };

    /// Rows per evaluation after some evaluations on a machine of `actual` cost that was measured as `measured`.
    fn after(measured: CostModel, actual: CostModel, evaluations: usize) -> usize {
        let mut pace = Pace::default();
        let mut rows = TARGET.rows(&measured);
        for number in 0..evaluations {
            let work = Work { rows: 20 + 37 * (number as u64 % 9), pairs: 0 };
            pace.learn(measured.time(work), actual.time(work));
            rows = TARGET.changed(rows, &pace.cost(&measured)).unwrap_or(rows);
        }
        rows
    }

    /// The same machine, measured when it was idle and when it was busy.
    #[test]
    fn rows_per_evaluation_do_not_depend_on_how_busy_the_start_was() {
        let actual = CostModel { overhead: 0.002, per_row: 1e-4, per_pair: 0.0 };
        let right = TARGET.rows(&actual);
        assert_eq!(right, 2480);
        for factor in [0.05, 0.2, 1.0, 3.0, 20.0] {
            let times = |value: f64| value * factor;
            let measured =
                CostModel { overhead: times(actual.overhead), per_row: times(actual.per_row), per_pair: 0.0 };
            let found = after(measured, actual, 200);
            assert!(found.abs_diff(right) <= right / 6, "{factor}: {found} and not {right}");
        }
        let slower = CostModel { overhead: 0.02, per_row: 1e-3, per_pair: 0.0 };
        let slow = after(actual, slower, 200);
        assert!((256..=256 + 256 / 8).contains(&slow), "{slow} on a machine that has become slower");
    }

    #[test]
    fn predictions_follow_the_measured_speed() {
        let predicted = Duration::from_millis(10);
        let took = Duration::from_millis(30);
        let mut pace = Pace::default();
        assert_eq!(pace.actual(predicted), predicted);
        pace.learn(predicted, took);
        assert_eq!(pace.actual(predicted), Duration::from_millis(12), "a tenth of the way");
        (0..100).for_each(|_| pace.learn(predicted, took));
        assert!(pace.actual(predicted).abs_diff(took) < Duration::from_micros(10));
        assert!(pace.actual(Duration::MAX) == Duration::MAX);
    }

    #[test]
    fn what_memory_has_room_for_is_never_exceeded() {
        let mut target = TARGET;
        target.limit(100);
        assert_eq!(target.rows(&CostModel { overhead: 0.0, per_row: 1e-9, per_pair: 0.0 }), 100);
        assert_eq!(target.rows(&CostModel { overhead: 9.0, per_row: 1.0, per_pair: 0.0 }), 100);
    }
}
