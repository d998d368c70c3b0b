//! Schedules: numbers of positions and their times, independent of the network.

use super::blocks::Blocks;
use super::noise::{Noise, Purpose};
use super::policy::{Order, Quota};
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

/// How many positions [`Quota::PerBlock`] commits at least in evaluation `evaluation` (from 0) of a block of `size`.
pub(super) fn least_in_block(size: usize, steps: u32, evaluation: u32) -> usize {
    let steps = (steps as usize).max(1);
    size / steps + usize::from((evaluation as usize) < size % steps)
}

/// Most evaluations from `evaluation` on that `open` positions of such a block take.
pub(super) fn most_in_block(mut open: usize, size: usize, steps: u32, evaluation: u32) -> u32 {
    let mut count = 0;
    while open > 0 {
        open -= least_in_block(size, steps, evaluation + count).clamp(1, open);
        count += 1;
    }
    count
}

/// The rounds of a planned order: positions by round, ascending in both. Rounds of later blocks come after those of
/// earlier ones; blocks share T evenly, each at least one round.
pub(super) fn plan(blocks: &Blocks, order: Order, quota: Quota, noise: &Noise) -> Vec<(u32, Position)> {
    let count = blocks.count() as u32;
    let mut planned = Vec::with_capacity(blocks.targets().len());
    let mut before = 0;
    for number in 0..count {
        let members = blocks.members(number as usize);
        let rounds = match quota {
            Quota::Count(k) => members.len().div_ceil(k) as u32,
            Quota::Labels(steps) | Quota::Evaluations(steps) => share(steps, number, count),
            Quota::Balanced(steps) => balanced_evaluations(share(steps, number, count), members.len()),
            // One position a round: how many go together is decided as they are read.
            _ => members.len() as u32,
        };
        if order == Order::Permutation
            && let Noise::Recorded(draws) = noise
        {
            planned.extend(recorded_rounds(members, (before, rounds), &draws.order));
            before += rounds;
            continue;
        }
        planned
            .extend(rounds_of(members, order, quota, rounds, noise).map(|(round, at)| (before + round, at)));
        before += rounds;
    }
    planned.sort_unstable();
    planned
}

/// The part of `total` that block `number` of `blocks` gets: even, the larger parts first, at least 1.
pub(super) fn share(total: u32, number: u32, blocks: u32) -> u32 {
    (total / blocks + u32::from(number < total % blocks)).max(1)
}

/// The rounds after `before` in which a run committed the members of a block, if each of `rounds` even parts was those
/// with the largest of the numbers that the run drew for its evaluation.
fn recorded_rounds(
    members: &[Position],
    (before, rounds): (u32, u32),
    drawn: &[Vec<f64>],
) -> Vec<(u32, Position)> {
    let mut open = members.to_vec();
    let mut planned = Vec::new();
    for round in before..before + rounds {
        let row = drawn.get(round as usize).map_or(&[][..], Vec::as_slice);
        let number = |position: &Position| row.get(*position as usize).copied().unwrap_or(0.0);
        open.sort_by(|a, b| number(b).total_cmp(&number(a)).then(a.cmp(b)));
        let part = part_size(members.len(), rounds as usize, members.len() - open.len());
        planned.extend(open.drain(..part.min(open.len())).map(|position| (round + 1, position)));
    }
    planned
}

/// The step after `step` at which Dream's schedule over `steps` commits any of `open` positions; `None` behind the last.
pub(super) fn next_dream_step(open: usize, step: u32, steps: u32) -> Option<u32> {
    (step + 1..=steps).find(|&step| dream_quota(open, step, steps) > 0)
}

/// The number of steps after `step` of Dream's schedule that commit any of `open` positions.
pub(super) fn dream_steps_left(mut open: usize, step: u32, steps: u32) -> u32 {
    let mut count = 0;
    for step in step + 1..=steps {
        let quota = dream_quota(open, step, steps);
        count += u32::from(quota > 0);
        open -= quota;
    }
    count
}

/// Every member with its round in 1..=`rounds`.
fn rounds_of<'a>(
    members: &'a [Position],
    order: Order,
    quota: Quota,
    rounds: u32,
    noise: &'a Noise,
) -> Box<dyn Iterator<Item = (u32, Position)> + 'a> {
    match order {
        Order::Labels | Order::Score(_) => {
            Box::new(members.iter().map(move |&position| (draw_round(noise, rounds, position), position)))
        }
        Order::Stratified => Box::new(members.chunks(rounds as usize).flat_map(move |stretch| {
            // As many different rounds as the stretch has members, in random order.
            let all: Vec<u32> = (1..=rounds).collect();
            let shuffled = by_number(&all, |round| noise.number(Purpose::Plan, round, stretch[0]));
            shuffled.into_iter().zip(stretch.iter().copied())
        })),
        Order::Permutation => {
            let shuffled = by_number(members, |position| noise.number(Purpose::Plan, 0, position));
            let count = members.len();
            Box::new(shuffled.into_iter().enumerate().map(move |(place, position)| {
                let round = match quota {
                    Quota::Count(k) => place / k,
                    Quota::Entropy(_) => place,
                    _ => part_of(place, count, rounds as usize),
                };
                (round as u32 + 1, position)
            }))
        }
    }
}

/// Items in the order of a number that each is given: a uniformly random permutation.
fn by_number(items: &[u32], number: impl Fn(u32) -> f64) -> Vec<u32> {
    let mut keyed: Vec<(f64, u32)> = items.iter().map(|&item| (number(item), item)).collect();
    keyed.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    keyed.into_iter().map(|(_, item)| item).collect()
}

/// The number of positions that are next when `count` are committed in `parts` even parts, the larger ones
/// first, and `done` are committed already; at least 1.
pub(super) fn part_size(count: usize, parts: usize, done: usize) -> usize {
    let part = part_of(done, count, parts.max(1));
    (done..count).take_while(|&place| part_of(place, count, parts.max(1)) == part).count().max(1)
}

/// The number of the part, of `parts` even ones, that place `place` of `count` falls into; the larger parts
/// first.
fn part_of(place: usize, count: usize, parts: usize) -> usize {
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

    #[test]
    fn a_block_is_filled_in_its_evaluations() {
        assert_eq!([0, 1, 2, 3].map(|evaluation| least_in_block(8, 3, evaluation)), [3, 3, 2, 2]);
        assert_eq!([0, 1, 2].map(|evaluation| least_in_block(4, 4, evaluation)), [1; 3]);
        assert_eq!(most_in_block(8, 8, 3, 0), 3);
        assert_eq!(most_in_block(3, 8, 3, 1), 1);
        assert_eq!(most_in_block(4, 8, 3, 1), 2);
        // More steps than positions: one each.
        assert_eq!(most_in_block(4, 4, 9, 0), 4);
    }

    #[test]
    fn blocks_are_planned_one_after_another() {
        let targets: Vec<Position> = (5..25).collect();
        let noise = Noise::default();
        for (order, quota) in [
            (Order::Labels, Quota::Labels(8)),
            (Order::Stratified, Quota::Labels(8)),
            (Order::Permutation, Quota::Balanced(8)),
            (Order::Permutation, Quota::Count(3)),
        ] {
            let planned = plan(&Blocks::of_targets(targets.clone(), 6), order, quota, &noise);
            let mut positions: Vec<Position> = planned.iter().map(|member| member.1).collect();
            for (before, after) in planned.iter().zip(&planned[1..]) {
                assert!((before.1 - 5) / 6 <= (after.1 - 5) / 6, "{order:?}: {before:?} {after:?}");
            }
            positions.sort_unstable();
            assert_eq!(positions, targets, "{order:?}");
        }
    }
}
