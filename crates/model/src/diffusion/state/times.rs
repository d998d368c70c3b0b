//! Dream's schedule of times ([`Quota::Times`]), over the whole canvas or over each block in its share of the steps.
//!
//! [`Quota::Times`]: crate::diffusion::policy::Quota::Times

use super::DenoisingState;
use crate::diffusion::policy::Window;
use crate::diffusion::schedule::{dream_quota, dream_steps_left, next_dream_step, share};

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

impl DenoisingState {
    fn parts(&self, total: u32) -> impl Iterator<Item = Part> {
        let blocks = self.blocks.count() as u32;
        let mut before = 0;
        (0..blocks).map(move |block| {
            let part = Part { block: block as usize, before, steps: share(total, block, blocks) };
            before += part.steps;
            part
        })
    }

    /// The open positions of a block.
    fn open_in(&self, block: usize) -> usize {
        self.blocks.members(block).iter().filter(|position| self.canvas.is_open(**position)).count()
    }

    /// The next round that commits something. Steps that commit nothing change nothing, and are left out.
    pub(super) fn next_time(&self, total: u32) -> Option<u32> {
        self.parts(total).find_map(|part| {
            let open = self.open_in(part.block);
            let done = self.round.saturating_sub(part.before);
            let step = if open > 0 && done < part.steps && self.leads(part.block) {
                Some(done + 1)
            } else {
                next_dream_step(open, done, part.steps)
            };
            Some(part.before + step?)
        })
    }

    /// The part of the pending round.
    fn part_of_round(&self, total: u32) -> Option<Part> {
        self.parts(total).find(|part| self.round <= part.before + part.steps)
    }

    /// The number of the `open` positions of its block that the pending round commits.
    pub(super) fn due_now(&self, total: u32, open: usize) -> usize {
        let Some(part) = self.part_of_round(total) else { return 0 };
        if self.alone {
            return 1;
        }
        dream_quota(open, self.round - part.before, part.steps)
    }

    /// Most rounds that commit something, the pending one included.
    pub(super) fn times_left(&self, total: u32) -> u32 {
        let Some(now) = self.part_of_round(total) else { return 0 };
        let open = self.open_in(now.block);
        let left = open - self.due_now(total, open).min(open);
        let later = self.parts(total).filter(|part| part.block > now.block);
        let of = |part: Part| {
            // The first round of a block may commit its first position whatever the schedule says.
            let first = u32::from(self.keeps() && self.open_in(part.block) > 0);
            (first + dream_steps_left(self.open_in(part.block), 0, part.steps)).min(part.steps)
        };
        1 + dream_steps_left(left, self.round - now.before, now.steps) + later.map(of).sum::<u32>()
    }

    /// Returns true if the next evaluation is the first one of a block, and commits the block's first position alone.
    pub(super) fn leads(&self, block: usize) -> bool {
        let in_blocks = matches!(self.policy.window, Window::Block(_));
        in_blocks && self.frozen.as_ref().is_some_and(|frozen| frozen.leads(block))
    }
}
