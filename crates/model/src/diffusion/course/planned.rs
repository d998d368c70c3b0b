//! Rounds that are drawn before the first evaluation: which positions go together does not depend on the network.

use super::{Reading, Sample};
use crate::diffusion::blocks::Blocks;
use crate::diffusion::noise::{Noise, Purpose};
use crate::diffusion::policy::{LOOKAHEAD, Order, Quota};
use crate::diffusion::schedule::{balanced_evaluations, draw_round, part_of, part_size, share};
use crate::predictor::Position;

use super::ranked::{Candidate, entropy_prefix};

/// Positions by the round that commits them. Rounds without members are not part of it and cost nothing.
#[derive(Clone, Debug)]
pub(in crate::diffusion) struct PlannedRounds {
    /// The members still to come, the next one last.
    plan: Vec<(u32, Position)>,
    /// True if positions have rounds of their own ([`Quota::OwnRound`]): position 0 gets its token in its round, too.
    pub(super) places_first: bool,
}

impl PlannedRounds {
    pub(super) fn new(blocks: &Blocks, order: Order, quota: Quota, noise: &Noise) -> Self {
        Self {
            plan: reversed(blocks, order, quota, noise),
            places_first: matches!(quota, Quota::OwnRound(_)),
        }
    }

    /// The members of the next round that needs an evaluation.
    pub(super) fn next(&mut self, sample: &mut Sample) -> Reading {
        let mut positions = Vec::new();
        while positions.is_empty() {
            // A round that held position 0 alone needed no evaluation: its token is known.
            sample.commit_first();
            let Some(&(round, _)) = self.plan.last() else { break };
            let start = self.plan.partition_point(|member| member.0 > round);
            sample.round = round;
            for (_, position) in self.plan.split_off(start) {
                if sample.is_first(position) {
                    sample.first_due = true;
                } else {
                    positions.push(position);
                }
            }
        }
        Reading::of(positions)
    }

    /// The evaluations left, the pending one included.
    pub(super) fn left(&self, sample: &Sample) -> u32 {
        let costs = |round: &[(u32, Position)]| round.iter().any(|member| !sample.is_first(member.1));
        1 + self.plan.chunk_by(|a, b| a.0 == b.0).filter(|round| costs(round)).count() as u32
    }
}

/// A random order of all positions that is read ahead: as many are committed as an entropy budget allows.
#[derive(Clone, Debug)]
pub(in crate::diffusion) struct LookAhead {
    /// The positions still to come, the next one last.
    plan: Vec<(u32, Position)>,
    /// Nats.
    budget: f64,
}

impl LookAhead {
    pub(super) fn new(blocks: &Blocks, budget: f64, noise: &Noise) -> Self {
        Self { plan: reversed(blocks, Order::Permutation, Quota::Entropy(budget), noise), budget }
    }

    /// The next positions of the order in one block, as many as may be worth reading.
    pub(super) fn next(&mut self, sample: &mut Sample) -> Reading {
        sample.round = sample.evaluations + 1;
        // Position 0 may be committed already.
        self.plan.retain(|member| sample.canvas.is_open(member.1));
        let next = self.plan.iter().rev().map(|member| member.1);
        let current = self.plan.last().map(|member| sample.blocks.of(member.1));
        let same = |position: &Position| Some(sample.blocks.of(*position)) == current;
        Reading::of(next.take_while(same).take(LOOKAHEAD).collect())
    }

    /// Keeps the first positions of the order that the budget allows.
    pub(super) fn commit(&mut self, found: &mut Vec<Candidate<'_>>) {
        let place = |position: Position| self.plan.iter().rposition(|member| member.1 == position);
        found.sort_by_key(|candidate| std::cmp::Reverse(place(candidate.position)));
        found.truncate(entropy_prefix(found, self.budget));
        self.plan.truncate(self.plan.len() - found.len());
    }
}

/// A plan with its next member last.
fn reversed(blocks: &Blocks, order: Order, quota: Quota, noise: &Noise) -> Vec<(u32, Position)> {
    let mut plan = plan(blocks, order, quota, noise);
    plan.reverse();
    plan
}

/// The rounds of a planned order: positions by round, ascending in both. Rounds of later blocks come after those of
/// earlier ones; blocks share T evenly, each at least one round.
fn plan(blocks: &Blocks, order: Order, quota: Quota, noise: &Noise) -> Vec<(u32, Position)> {
    let count = blocks.count() as u32;
    let mut planned = Vec::with_capacity(blocks.targets().len());
    let mut before = 0;
    for number in 0..count {
        let members = blocks.members(number as usize);
        let rounds = match quota {
            Quota::Count(k) => members.len().div_ceil(k) as u32,
            Quota::OwnRound(steps) | Quota::Evaluations(steps) => share(steps, number, count),
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

/// Every member with its round in 1..=`rounds`.
fn rounds_of<'a>(
    members: &'a [Position],
    order: Order,
    quota: Quota,
    rounds: u32,
    noise: &'a Noise,
) -> Box<dyn Iterator<Item = (u32, Position)> + 'a> {
    match order {
        Order::IndependentRounds | Order::Score(_) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_planned_one_after_another() {
        let targets: Vec<Position> = (5..25).collect();
        let noise = Noise::default();
        for (order, quota) in [
            (Order::IndependentRounds, Quota::OwnRound(8)),
            (Order::Stratified, Quota::OwnRound(8)),
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
