//! The canvas of a sample, with its blocks, random numbers and progress.

use super::blocks::Blocks;
use super::cache::Frozen;
use super::canvas::Canvas;
use super::noise::Noise;
use super::policy::Window;
use super::spec::Edit;
use crate::predictor::{Position, TokenId};

/// A canvas at work: its tokens, the blocks in which it is filled, its random numbers and its progress.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) canvas: Canvas,
    /// The positions to generate.
    pub(super) blocks: Blocks,
    pub(super) window: Window,
    pub(super) noise: Noise,
    /// The token of position 0, where the network cannot predict it.
    pub(super) first_token: Option<TokenId>,
    /// True if position 0 is committed with the pending round; it is not asked for.
    pub(super) first_due: bool,
    /// True if the first position of a block of attention is read in the block before: there is a shift.
    pub(super) reads_before: bool,
    /// The keys and values kept between evaluations, if any are.
    pub(super) frozen: Option<Frozen>,
    /// The round of the pending evaluation, from 1.
    pub(super) round: u32,
    /// Evaluations so far.
    pub(super) evaluations: u32,
    /// Edits that needed no evaluation; they are reported with the next one.
    pub(super) unreported: Vec<Edit>,
}

impl Sample {
    /// Notes that the token at a position changed.
    pub(super) fn touch(&mut self, position: Position) {
        if let Some(frozen) = &mut self.frozen {
            frozen.touch(position);
        }
    }

    /// Returns true for the position that only `first_token` can fill.
    pub(super) fn is_first(&self, position: Position) -> bool {
        position == 0 && self.first_token.is_some()
    }

    /// Returns true if the positions to generate begin with the one that only `first_token` can fill.
    pub(super) fn generates_first(&self) -> bool {
        self.blocks.targets().first().is_some_and(|&position| self.is_first(position))
    }

    /// Commits position 0 if it is due.
    pub(super) fn commit_first(&mut self) {
        if let Some(token) = self.first_token.filter(|_| self.first_due) {
            self.canvas.commit(0, token);
            self.touch(0);
        }
        self.first_due = false;
    }

    /// Takes a committed position back without an evaluation.
    pub(super) fn remask(&mut self, position: Position) {
        self.canvas.remask(position);
        self.touch(position);
        self.unreported.push(Edit::Remask(position));
    }

    /// The open positions of a block.
    pub(super) fn open_in(&self, block: usize) -> impl Iterator<Item = Position> + '_ {
        self.blocks.members(block).iter().copied().filter(|position| self.canvas.is_open(*position))
    }

    /// The open positions inside the window, ascending.
    pub(super) fn visible(&self) -> Vec<Position> {
        let targets = self.blocks.targets().iter().copied();
        let mut open = targets.filter(|&position| self.canvas.is_open(position)).peekable();
        let first = open.peek().copied();
        match self.window {
            Window::All => open.collect(),
            Window::Sliding(size) => open.take(size).collect(),
            Window::LeftToRight => open.take(1).collect(),
            Window::Block(_) => {
                first.map_or(Vec::new(), |first| self.open_in(self.blocks.of(first)).collect())
            }
        }
    }

    /// Returns true if the next evaluation is the first one of a block, and commits the block's first position alone.
    pub(super) fn leads(&self, block: usize) -> bool {
        let in_blocks = matches!(self.window, Window::Block(_));
        in_blocks && self.frozen.as_ref().is_some_and(|frozen| frozen.leads(block))
    }
}
