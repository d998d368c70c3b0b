//! How many positions are committed, and when.

use super::noise::Noise;
use crate::predictor::Position;

/// The round in 1..=`steps` in which `position` is committed under the reference's random order.
///
/// The reference commits each open position with probability 1/T, 1/(T−1), …, 1 in turn
/// (`generate_samples` of its `model.py`). The survival probabilities telescope, so the round is uniform
/// on 1..=T, independent over positions and of every token: it can be drawn when the request arrives.
#[must_use]
pub fn draw_round(noise: &Noise, steps: u32, position: Position) -> u32 {
    match noise {
        Noise::Keyed { seed, sample } => {
            let number = Noise::plan(*seed, *sample, position);
            // The product can round up to `steps` for the largest numbers below 1.
            1 + ((number * f64::from(steps)) as u32).min(steps - 1)
        }
        Noise::Recorded(draws) => {
            let committed = (0..steps - 1).find(|&evaluation| {
                let threshold = 1.0 / (steps - evaluation) as f32;
                let row = draws.rounds.get(evaluation as usize);
                row.and_then(|row| row.get(position as usize)).is_some_and(|number| *number < threshold)
            });
            committed.unwrap_or(steps - 1) + 1
        }
    }
}

/// How many of the `open` positions the reference's confidence order leaves open after evaluation
/// `evaluation` (from 1) of `steps`: the floor of open · (T − evaluation)/T.
///
/// Computed in f32 as the reference does, which differs from the integer floor for a few (open, T):
/// 108 · 7/12 gives 62 here and not 63.
#[must_use]
pub fn positions_kept_open(open: usize, evaluation: u32, steps: u32) -> usize {
    let remaining = steps.saturating_sub(evaluation);
    (open as f32 * (f64::from(remaining) / f64::from(steps)) as f32) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn distinct_rounds_match_their_expectation() {
        // The mean over seeds lies within 1 % of T(1 − (1 − 1/T)^M).
        for (steps, masked) in [(16_u32, 8_u32), (64, 32), (64, 128), (256, 64)] {
            let seeds = 1000;
            let mut total = 0;
            for seed in 0..seeds {
                let noise = Noise::Keyed { seed, sample: 0 };
                let rounds: BTreeSet<u32> =
                    (0..masked).map(|position| draw_round(&noise, steps, position)).collect();
                assert!(rounds.iter().all(|round| (1..=steps).contains(round)));
                total += rounds.len();
            }
            let mean = total as f64 / seeds as f64;
            let t = f64::from(steps);
            let expected = t * (1.0 - (1.0 - 1.0 / t).powf(f64::from(masked)));
            assert!((mean / expected - 1.0).abs() < 0.01, "T={steps} M={masked}: {mean} vs {expected}");
        }
    }

    #[test]
    fn quotas_use_the_float_product_of_the_reference() {
        assert_eq!(positions_kept_open(108, 5, 12), 62);
        assert_eq!(positions_kept_open(100, 32, 64), 50);
        assert_eq!(positions_kept_open(7, 4, 4), 0);
    }
}
