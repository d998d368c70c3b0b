//! A schedule that says before the first evaluation which of them commits how much: Dream's times, and even parts where
//! what drew the mask is drawn again. Blocks share the evaluations evenly.

use super::ranked::{Candidate, rank};
use super::{Reading, Sample};
use crate::diffusion::policy::{Score, Window};
use crate::diffusion::schedule::{dream_quota, even_part, share};
use crate::predictor::Position;

/// Rounds of a fixed schedule. Those that commit nothing are left out.
#[derive(Clone, Copy, Debug)]
pub(in crate::diffusion) struct Scheduled {
    score: Score,
    curve: Curve,
    /// Rounds of all blocks.
    total: u32,
    /// True if a drawn mask leaves its position open: such positions go on among those of the next block.
    pub(super) redraws: bool,
    /// True if the pending evaluation commits the first position of its block alone.
    alone: bool,
}

/// The number of positions that are due in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    /// Even parts of each block, as if nothing were drawn again.
    Even,
    /// Dream's times from 1 to 0.001: a share of what is open.
    Dream,
}

/// A block's part of the schedule.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// The block's number.
    block: usize,
    /// Rounds of the blocks before it.
    before: u32,
    /// Its own steps.
    steps: u32,
}

impl Scheduled {
    pub(super) fn new(score: Score, curve: Curve, total: u32, redraws: bool) -> Self {
        Self { score, curve, total, redraws, alone: false }
    }

    pub(super) fn next(&mut self, sample: &mut Sample) -> Reading {
        let Some(round) = self.next_round(sample) else { return Reading::default() };
        sample.round = round;
        let mut visible = self.visible(sample);
        self.alone = visible.first().is_some_and(|first| sample.leads(sample.blocks.of(*first)));
        if self.alone {
            visible.truncate(1);
        }
        Reading::of(visible)
    }

    pub(super) fn commit(&self, sample: &Sample, found: &mut Vec<Candidate<'_>>) {
        let due = self.due(sample, found.len()).min(found.len());
        rank(found, self.score, &sample.noise, sample.round);
        found.truncate(due);
    }

    /// Most rounds that commit something, the pending one included.
    pub(super) fn left(&self, sample: &Sample) -> u32 {
        let Some(now) = self.pending(sample) else { return 0 };
        let later = parts(sample, self.total).filter(|part| part.block > now.block);
        match self.curve {
            Curve::Even => {
                let rounds = |part: Part| part.steps.min(sample.blocks.members(part.block).len() as u32);
                let done = sample.round - now.before;
                1 + rounds(now).saturating_sub(done) + later.map(rounds).sum::<u32>()
            }
            Curve::Dream => {
                let open = sample.open_in(now.block).count();
                let left = open - self.due(sample, open).min(open);
                let rounds = |part: Part| {
                    let open = sample.open_in(part.block).count();
                    // The first round of a block may commit its first position whatever the schedule says.
                    let first = u32::from(sample.frozen.is_some() && open > 0);
                    (first + dream_steps_left(open, 0, part.steps)).min(part.steps)
                };
                1 + dream_steps_left(left, sample.round - now.before, now.steps)
                    + later.map(rounds).sum::<u32>()
            }
        }
    }

    /// The next round that commits something.
    fn next_round(&self, sample: &Sample) -> Option<u32> {
        parts(sample, self.total).find_map(|part| {
            let done = sample.round.saturating_sub(part.before);
            let step = match self.curve {
                Curve::Even => {
                    let members = sample.blocks.members(part.block).len();
                    (done + 1..=part.steps).find(|step| even_part(members, part.steps, step - 1) > 0)
                }
                Curve::Dream => {
                    let open = sample.open_in(part.block).count();
                    if open > 0 && done < part.steps && sample.leads(part.block) {
                        Some(done + 1)
                    } else {
                        next_dream_step(open, done, part.steps)
                    }
                }
            };
            Some(part.before + step?)
        })
    }

    /// The part of the pending round.
    fn pending(&self, sample: &Sample) -> Option<Part> {
        parts(sample, self.total).find(|part| sample.round <= part.before + part.steps)
    }

    /// The open positions that the pending round ranks.
    fn visible(&self, sample: &Sample) -> Vec<Position> {
        match self.pending(sample) {
            Some(part) if self.redraws && matches!(sample.window, Window::Block(_)) => {
                let members = sample.blocks.members_up_to(part.block);
                members.iter().copied().filter(|position| sample.canvas.is_open(*position)).collect()
            }
            _ => sample.visible(),
        }
    }

    /// The number of `open` positions that the pending round commits.
    fn due(&self, sample: &Sample, open: usize) -> usize {
        let Some(part) = self.pending(sample) else { return 0 };
        let step = sample.round - part.before;
        match self.curve {
            Curve::Even => even_part(sample.blocks.members(part.block).len(), part.steps, step - 1).max(1),
            Curve::Dream if self.alone => 1,
            Curve::Dream => dream_quota(open, step, part.steps),
        }
    }
}

/// Each block's share of `total` rounds.
fn parts(sample: &Sample, total: u32) -> impl Iterator<Item = Part> {
    let blocks = sample.blocks.count() as u32;
    let mut before = 0;
    (0..blocks).map(move |block| {
        let part = Part { block: block as usize, before, steps: share(total, block, blocks) };
        before += part.steps;
        part
    })
}

/// The step after `step` at which Dream's schedule over `steps` commits any of `open` positions; `None` behind the last.
fn next_dream_step(open: usize, step: u32, steps: u32) -> Option<u32> {
    (step + 1..=steps).find(|&step| dream_quota(open, step, steps) > 0)
}

/// The number of steps after `step` of Dream's schedule that commit any of `open` positions.
fn dream_steps_left(mut open: usize, step: u32, steps: u32) -> u32 {
    let mut count = 0;
    for step in step + 1..=steps {
        let quota = dream_quota(open, step, steps);
        count += u32::from(quota > 0);
        open -= quota;
    }
    count
}
