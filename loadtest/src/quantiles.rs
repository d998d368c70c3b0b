//! Percentiles of what was measured.

use serde::Serialize;

/// Percentiles by nearest rank: each is a value that was measured, and p of a hundred are not above it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Number of values.
    pub count: usize,
    /// The middle one.
    pub p50: f64,
    /// 90 % are not above it.
    pub p90: f64,
    /// 99 % are not above it.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Quantiles {
    /// The quantiles of `values`; `None` if there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let sorted = sorted(values);
        let rank = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100) - 1];
        let max = *sorted.last()?;
        Some(Self { count: sorted.len(), p50: rank(50), p90: rank(90), p99: rank(99), max })
    }
}

/// The values in order.
#[must_use]
pub fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hundred_values_are_their_own_percentiles() {
        let quantiles = Quantiles::of((1..=100).rev().map(f64::from)).unwrap();
        assert_eq!(quantiles, Quantiles { count: 100, p50: 50.0, p90: 90.0, p99: 99.0, max: 100.0 });
        let one = Quantiles::of([3.0]).unwrap();
        assert_eq!((one.p50, one.p99, one.max), (3.0, 3.0, 3.0));
        assert_eq!(Quantiles::of([]), None, "nothing measured has no percentiles, not 0");
    }

    proptest! {
        #[test]
        fn so_many_are_not_above_a_percentile(values in prop::collection::vec(0.0_f64..1e6, 1..300)) {
            let quantiles = Quantiles::of(values.iter().copied()).unwrap();
            for (percent, value) in [(50, quantiles.p50), (90, quantiles.p90), (99, quantiles.p99)] {
                let below = values.iter().filter(|other| **other < value).count();
                let upto = values.iter().filter(|other| **other <= value).count();
                prop_assert!(upto * 100 >= values.len() * percent, "too few are at or below p{percent}");
                prop_assert!(below * 100 < values.len() * percent, "a smaller value would do for p{percent}");
            }
        }
    }
}
