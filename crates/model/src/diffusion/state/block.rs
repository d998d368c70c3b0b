//! The block at work: which one it is, and what has happened in it.

use super::DenoisingState;
use crate::diffusion::policy::{Quota, Revise};
use crate::diffusion::schedule::most_in_block;
use crate::predictor::Position;

/// The progress of a rule that fills one block after another ([`Quota::PerBlock`]).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BlockAtWork {
    /// The block's number.
    pub(super) number: usize,
    /// Evaluations in it.
    pub(super) evaluations: u32,
    /// Those of them that began with a full block.
    post: u32,
    /// True if the last of those changed nothing.
    settled: bool,
}

impl BlockAtWork {
    /// Counts an evaluation. `full`: nothing was open before it; `changed`: a committed token became another.
    pub(super) fn evaluated(&mut self, full: bool, changed: bool) {
        self.evaluations += 1;
        if full {
            self.post += 1;
            self.settled = !changed;
        }
    }

    /// Evaluations that a full block can still take.
    fn post_left(&self, revise: Revise) -> u32 {
        match revise {
            Revise::Edit { post, .. } if !self.settled => post.saturating_sub(self.post),
            _ => 0,
        }
    }
}

impl DenoisingState {
    /// Returns true if nothing is open in the block at work.
    pub(super) fn block_is_full(&self) -> bool {
        self.blocks.members(self.at_work.number).iter().all(|position| !self.canvas.is_open(*position))
    }

    /// Goes on to the next block if this one is finished. Returns whether a block has just ended.
    pub(super) fn next_block(&mut self) -> bool {
        let begun = self.at_work.evaluations > 0;
        let mut ended = false;
        while self.at_work.number < self.blocks.count()
            && self.block_is_full()
            && !(begun && !ended && self.at_work.post_left(self.policy.revise) > 0)
        {
            self.at_work = BlockAtWork { number: self.at_work.number + 1, ..BlockAtWork::default() };
            ended = true;
        }
        ended
    }

    /// Most evaluations that this block and the later ones can take.
    pub(super) fn block_evaluations_left(&self, steps: u32) -> u32 {
        let fresh = BlockAtWork::default();
        let later = self.at_work.number + 1..self.blocks.count();
        let states =
            std::iter::once((self.at_work.number, &self.at_work)).chain(later.map(|block| (block, &fresh)));
        let left = states.map(|(block, state)| {
            let open = self.blocks.members(block).iter().filter(|position| self.canvas.is_open(**position));
            let (first, rest): (Vec<Position>, Vec<Position>) =
                open.partition(|position| self.reads_before && self.blocks.is_behind_block(**position));
            let filling = most_in_block(rest.len(), self.blocks.size(), steps, state.evaluations);
            first.len() as u32 + filling + state.post_left(self.policy.revise)
        });
        left.sum()
    }

    /// Returns true if positions are filled block by block, each in evaluations of its own.
    pub(super) fn fills_blocks(&self) -> bool {
        matches!(self.policy.quota, Quota::PerBlock { .. })
    }
}
