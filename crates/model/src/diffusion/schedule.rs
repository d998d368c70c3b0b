//! Schedules: numbers of positions and their times, independent of the network.

use super::noise::{Noise, Purpose};
use crate::predictor::Position;

/// The round in 1..=`steps` in which `position` is committed under the reference's random order.
///
/// The reference commits each open position with probability 1/T, 1/(T−1), …, 1 in turn
/// (`generate_samples` of its `model.py`). The survival probabilities telescope, so the round is uniform
/// on 1..=T, independent over positions and of every token: it can be drawn when the request arrives.
#[must_use]
pub fn draw_round(noise: &Noise, steps: u32, position: Position) -> u32 {
    if let Noise::Recorded(draws) = noise {
        let committed = (0..steps - 1).find(|&evaluation| {
            let share = draws.shares.get(evaluation as usize).copied();
            let threshold = share.unwrap_or(1.0 / (steps - evaluation) as f32);
            let row = draws.rounds.get(evaluation as usize);
            row.and_then(|row| row.get(position as usize)).is_some_and(|number| *number < threshold)
        });
        return committed.unwrap_or(steps - 1) + 1;
    }
    // The product can round up to `steps` for the largest numbers below 1.
    1 + ((noise.number(Purpose::Plan, 0, position) * f64::from(steps)) as u32).min(steps - 1)
}

/// The number of `open` positions that the reference's confidence order leaves open after evaluation
/// `evaluation` (from 1) of `steps`: the floor of open · (T − evaluation)/T.
///
/// Computed in f32 as the reference does, which differs from the integer floor for a few (open, T):
/// 108 · 7/12 gives 62 here and not 63.
#[must_use]
pub fn positions_kept_open(open: usize, evaluation: u32, steps: u32) -> usize {
    let remaining = steps.saturating_sub(evaluation);
    (open as f32 * (f64::from(remaining) / f64::from(steps)) as f32) as usize
}

/// The number of balanced parts whose parallel-drawing error equals that of `steps` independent rounds
/// over `masked` positions: ⌈TM/(T + M)⌉. To first order the error of drawing s positions at once grows
/// with their s(s − 1)/2 pairs; independent rounds have M(M − 1)/(2T) pairs on average, balanced parts
/// M(M/N − 1)/2.
#[must_use]
pub fn balanced_evaluations(steps: u32, masked: usize) -> u32 {
    let steps = u64::from(steps);
    let masked = masked as u64;
    u32::try_from((steps * masked).div_ceil((steps + masked).max(1))).unwrap_or(u32::MAX).max(1)
}

/// The number of `open` positions that Dream's schedule commits at step `step` (from 1) of `steps`: times run
/// evenly from 1 to ε = 0.001, and going from t to s commits ⌊open·(1 − s/t)⌋; the last step commits all.
#[must_use]
pub fn dream_quota(open: usize, step: u32, steps: u32) -> usize {
    const EPSILON: f64 = 1e-3;
    if step >= steps {
        return open;
    }
    let time = |i: u32| 1.0 + (EPSILON - 1.0) * f64::from(i) / f64::from(steps);
    (open as f64 * (1.0 - time(step) / time(step - 1))) as usize
}

/// The size of part `number` (from 0) where `count` are divided into `parts` even ones, the larger ones first.
pub(super) fn even_part(count: usize, parts: u32, number: u32) -> usize {
    let parts = parts.max(1) as usize;
    count / parts + usize::from((number as usize) < count % parts)
}

/// The part of `total` that block `number` of `blocks` gets: even, the larger parts first, at least 1.
pub(super) fn share(total: u32, number: u32, blocks: u32) -> u32 {
    (even_part(total as usize, blocks, number) as u32).max(1)
}

/// The number of positions that are next when `count` are committed in `parts` even parts, the larger ones
/// first, and `done` are committed already; at least 1.
pub(super) fn part_size(count: usize, parts: usize, done: usize) -> usize {
    let part = part_of(done, count, parts.max(1));
    (done..count).take_while(|&place| part_of(place, count, parts.max(1)) == part).count().max(1)
}

/// The number of the part, of `parts` even ones, that place `place` of `count` falls into; the larger parts
/// first.
pub(super) fn part_of(place: usize, count: usize, parts: usize) -> usize {
    let size = count / parts;
    let larger = count % parts;
    let border = larger * (size + 1);
    if place < border { place / (size + 1) } else { larger + (place - border) / size.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_use_the_float_product_of_the_reference() {
        assert_eq!(positions_kept_open(108, 5, 12), 62);
        assert_eq!(positions_kept_open(100, 32, 64), 50);
        assert_eq!(positions_kept_open(7, 4, 4), 0);
    }

    #[test]
    fn balanced_parts_follow_the_harmonic_rule() {
        assert_eq!(balanced_evaluations(48, 96), 32);
        assert_eq!(balanced_evaluations(96, 96), 48);
        assert_eq!(balanced_evaluations(64, 1), 1);
        assert_eq!(balanced_evaluations(1, 500), 1);
    }

    #[test]
    fn even_parts_differ_by_at_most_one_and_come_larger_first() {
        for (count, parts) in [(10, 3), (7, 7), (3, 5), (64, 10)] {
            let mut sizes = vec![0; parts];
            for place in 0..count {
                sizes[part_of(place, count, parts)] += 1;
            }
            assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
            assert!(sizes[0] - sizes[parts - 1] <= 1, "{sizes:?}");
        }
    }

    #[test]
    fn dreams_schedule_ends_with_everything() {
        let mut open = 20;
        for step in 1..=8 {
            open -= dream_quota(open, step, 8);
        }
        assert_eq!(open, 0);
        // 1 − s/t at the first of 8 steps is 0.999/8.
        assert_eq!(dream_quota(100, 1, 8), 12);
    }
}
