//! Means of items and their standard errors.

use serde::Serialize;

/// A mean over items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Mean {
    /// The mean.
    pub(super) value: f64,
    /// Its standard error: the standard deviation of the items (n − 1) over √n; `None` for fewer than two.
    pub(super) standard_error: Option<f64>,
    /// Items that have the metric.
    pub(super) items: usize,
}

impl Mean {
    /// The mean of some values; `None` without one.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let items = values.len();
        let count = items as f64;
        let value = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|one| (one - value).powi(2)).sum();
        let standard_error = (items > 1).then(|| (squares / (count - 1.0) / count).sqrt());
        (items > 0).then_some(Self { value, standard_error, items })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// √(p(1 − p)/(n − 1)), which lm-evaluation-harness prints as well.
    #[test]
    fn the_error_of_a_share_is_the_binomial_one() {
        let values: Vec<f64> = (0..10).map(|i| f64::from(u8::from(i < 3))).collect();
        let mean = Mean::of(&values).unwrap();
        assert!((mean.value - 0.3).abs() < 1e-15);
        assert!((mean.standard_error.unwrap() - (0.3f64 * 0.7 / 9.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn one_value_has_no_error_and_none_has_no_mean() {
        assert_eq!(Mean::of(&[0.5]), Some(Mean { value: 0.5, standard_error: None, items: 1 }));
        assert_eq!(Mean::of(&[]), None);
    }
}
