//! The time of an evaluation: overhead + per_row · rows + per_pair · Σ length².
//!
//! Linear layers multiply all rows of a batch, and attention compares the positions of each canvas, so its
//! time grows with the square of a length. The overhead is the same for any batch. Three numbers measured
//! once at start tell a fill of 30 positions from a document of 2,000.

use std::time::{Duration, Instant};

use unmask_model::error::PredictError;
use unmask_model::predictor::MaskPredictor;
pub use unmask_model::predictor::Work;

use crate::probe::Probe;

/// Predicts the time of an evaluation, in seconds. No coefficient is negative.
///
/// [`Self::measure`] times a predictor at start. The engine divides the device's time by these predictions, and
/// estimates with them when waiting requests will be done.
///
/// ```
/// use std::time::Duration;
/// use unmask_scheduler::{CostModel, Work};
///
/// let cost = CostModel { overhead: 0.002, per_row: 1e-4, per_pair: 1e-7 };
/// let one = cost.time(Work::canvas(100));
/// assert_eq!(one, Duration::from_millis(2 + 10 + 1));
/// // Two canvases in one evaluation share its overhead.
/// assert_eq!(cost.time(Work::canvas(100) + Work::canvas(100)), 2 * one - Duration::from_millis(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostModel {
    /// Seconds for any evaluation.
    pub overhead: f64,
    /// Seconds for each row.
    pub per_row: f64,
    /// Seconds for each pair of positions of one canvas.
    pub per_pair: f64,
}

impl Default for CostModel {
    /// A microsecond a row: a unit to compare with when nothing was measured.
    fn default() -> Self {
        Self { overhead: 0.0, per_row: 1e-6, per_pair: 0.0 }
    }
}

/// Lengths of the canvases that are measured, as far as model and patience go, and how many at once.
const SHAPES: [(usize, usize); 8] =
    [(8, 1), (64, 1), (256, 1), (32, 8), (16, 1), (128, 1), (512, 1), (64, 8)];

/// Below this length attention is lost in the noise of the linear layers, and a fit would take one for the
/// other.
const SHORT: u64 = 256;

/// Each shape is measured this often; the fastest counts, since neighbours only ever slow a machine down.
const REPEATS: usize = 3;

impl CostModel {
    /// Measures `predictor` on small canvases, for about `patience` and at least one evaluation.
    ///
    /// # Errors
    /// An evaluation failed.
    pub fn measure(
        predictor: &mut impl MaskPredictor,
        patience: Duration,
        mut now: impl FnMut() -> Instant,
    ) -> Result<Self, PredictError> {
        let start = now();
        let context = predictor.limits().context;
        // The first evaluation pays for pages and threads that the later ones find ready.
        Probe::new(&predictor.limits(), SHAPES[0].0.min(context)).evaluate(predictor, 1)?;
        let mut measured: Vec<(Work, Duration)> = Vec::new();
        for (length, canvases) in SHAPES.into_iter().filter(|shape| shape.0 <= context) {
            let probe = Probe::new(&predictor.limits(), length);
            let mut work = Work::default();
            (0..canvases).for_each(|_| work += Work::canvas(length));
            let mut fastest = Duration::MAX;
            for _ in 0..REPEATS {
                let left = patience.saturating_sub(now().duration_since(start));
                // Four times as long a canvas takes about four times as long.
                let known = measured.last().copied().unwrap_or_default();
                let expected = known.1.mul_f64(work.rows as f64 / known.0.rows.max(1) as f64);
                if !measured.is_empty() && expected > left {
                    break;
                }
                let begun = now();
                probe.evaluate(predictor, canvases)?;
                fastest = fastest.min(now().duration_since(begun));
                if fastest > left {
                    break;
                }
            }
            if fastest < Duration::MAX {
                measured.push((work, fastest));
            }
        }
        Ok(Self::fit(&measured))
    }

    /// The model with the least squared relative error on `measured`: rows always cost something, overhead
    /// and pairs where that explains the measurements better. Each choice of terms is solved without
    /// constraint, and those with a negative coefficient are passed over.
    #[must_use]
    pub fn fit(measured: &[(Work, Duration)]) -> Self {
        let rows: Vec<[f64; 3]> = measured
            .iter()
            .map(|(work, time)| {
                let seconds = time.as_secs_f64().max(1e-9);
                [1.0 / seconds, work.rows as f64 / seconds, work.pairs as f64 / seconds]
            })
            .collect();
        let error = |x: &[f64; 3]| -> f64 {
            let predicted = rows.iter().map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum::<f64>());
            predicted.map(|predicted| (predicted - 1.0).powi(2)).sum()
        };
        let long = measured.iter().any(|(work, _)| work.pairs >= work.rows * SHORT);
        let choices: &[usize] = if long { &[0b010, 0b011, 0b110, 0b111] } else { &[0b010, 0b011] };
        let solutions = choices.iter().filter_map(|&terms| least_squares(&rows, terms));
        let sound = solutions.filter(|x| x.iter().all(|value| value.is_finite() && *value >= 0.0));
        sound
            .min_by(|a, b| error(a).total_cmp(&error(b)))
            .map_or_else(Self::default, |[overhead, per_row, per_pair]| Self { overhead, per_row, per_pair })
    }

    /// The predicted time of an evaluation.
    #[must_use]
    pub fn time(&self, work: Work) -> Duration {
        let seconds = self.overhead + self.per_row * work.rows as f64 + self.per_pair * work.pairs as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Rows of short canvases that an evaluation of `time` has room for.
    #[must_use]
    pub fn rows_within(&self, time: Duration) -> usize {
        let rows = (time.as_secs_f64() - self.overhead) / self.per_row.max(1e-12);
        rows.max(0.0) as usize
    }
}

/// The x with the least |A·x − 1|² that uses only the terms whose bits are set: the normal equations,
/// solved by elimination with the largest pivot. None where the terms cannot be told apart.
fn least_squares(rows: &[[f64; 3]], terms: usize) -> Option<[f64; 3]> {
    let used: Vec<usize> = (0..3).filter(|term| terms & (1 << term) != 0).collect();
    let size = used.len();
    // Terms differ by many orders of magnitude; scaled to length 1 they can be compared with a threshold.
    let norms: Vec<f64> =
        used.iter().map(|&term| rows.iter().map(|row| row[term] * row[term]).sum::<f64>().sqrt()).collect();
    let mut system: Vec<Vec<f64>> = (0..size)
        .map(|i| {
            let dot = |f: &dyn Fn(&[f64; 3]) -> f64| -> f64 {
                rows.iter().map(|row| row[used[i]] / norms[i] * f(row)).sum()
            };
            let left = (0..size).map(|j| dot(&|row| row[used[j]] / norms[j]));
            left.chain([dot(&|_| 1.0)]).collect()
        })
        .collect();
    for column in 0..size {
        let pivot =
            (column..size).max_by(|&a, &b| system[a][column].abs().total_cmp(&system[b][column].abs()))?;
        system.swap(column, pivot);
        let head = system[column].clone();
        if head[column].abs() < 1e-9 || !head[column].is_finite() {
            return None;
        }
        for (_, row) in system.iter_mut().enumerate().filter(|(number, _)| *number != column) {
            let factor = row[column] / head[column];
            row.iter_mut().zip(&head).for_each(|(value, head)| *value -= factor * head);
        }
    }
    let mut x = [0.0; 3];
    for (i, &term) in used.iter().enumerate() {
        x[term] = system[i][size] / system[i][i] / norms[i];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;
    use unmask_model::predictor::{ModelLimits, Script, ScriptedPredictor, Visibility};

    use super::*;

    fn shapes() -> Vec<Work> {
        [1, 8, 32, 100, 128, 300, 512].map(Work::canvas).to_vec()
    }

    proptest! {
        /// A fit that lost a term would price documents like fills, or the other way round.
        #[test]
        fn a_fit_finds_the_coefficients_it_was_made_of(
            overhead in 1e-5_f64..1e-2, per_row in 1e-6_f64..1e-2, per_pair in 1e-8_f64..1e-4,
        ) {
            let truth = CostModel { overhead, per_row, per_pair };
            let measured: Vec<_> = shapes().into_iter().map(|work| (work, truth.time(work))).collect();
            let found = CostModel::fit(&measured);
            for work in shapes() {
                let found = found.time(work).as_secs_f64();
                let truth = truth.time(work).as_secs_f64();
                prop_assert!((found / truth - 1.0).abs() < 1e-3, "{found} for {truth}");
            }
        }

        /// A negative coefficient would make some canvas free, and its request first for ever.
        #[test]
        fn no_coefficient_is_negative_whatever_was_measured(
            times in prop::collection::vec(0_u64..1_000_000, 7),
        ) {
            let measured: Vec<_> = shapes().into_iter().zip(times.into_iter().map(Duration::from_micros)).collect();
            let found = CostModel::fit(&measured);
            prop_assert!(found.overhead >= 0.0 && found.per_row > 0.0 && found.per_pair >= 0.0, "{found:?}");
        }
    }

    /// A second in which only short canvases fit must not make long ones look ruinous.
    #[test]
    fn attention_is_not_read_out_of_short_canvases() {
        let noisy = [(8, 27), (16, 29), (64, 130)];
        let measured = noisy.map(|(length, time)| (Work::canvas(length), Duration::from_millis(time)));
        assert_eq!(CostModel::fit(&measured).per_pair, 0.0);
    }

    #[test]
    fn one_measurement_or_none_still_gives_a_price() {
        let one = CostModel::fit(&[(Work::canvas(8), Duration::from_millis(8))]);
        assert_eq!(one.time(Work::canvas(8)), Duration::from_millis(8));
        assert_eq!(CostModel::fit(&[]), CostModel::default());
    }

    #[test]
    fn measuring_stops_when_its_patience_is_over() {
        let limits = ModelLimits {
            vocabulary: 10,
            context: 64,
            mask_token: 9,
            shift: true,
            visibility: Visibility::Full,
        };
        let mut predictor = ScriptedPredictor::new(limits, Script::default());
        let start = crate::engine::now();
        let readings = Cell::new(0);
        let clock = || {
            readings.set(readings.get() + 1);
            start + Duration::from_secs(readings.get())
        };
        let found = CostModel::measure(&mut predictor, Duration::from_secs(5), clock).unwrap();
        // Every evaluation reads the clock three times, every shape that is passed over once.
        assert!(readings.get() < 16, "{} readings: a slow model is measured once or twice", readings.get());
        assert!(found.time(Work::canvas(8)) > Duration::ZERO);
    }
}
