//! The part of its canvas that a sample shows to the network, and the work that this makes.

use std::ops::Range;

use super::DenoisingState;
use crate::diffusion::blocks::Blocks;
use crate::diffusion::policy::Window;
use crate::error::PolicyError;
use crate::predictor::{Context, ModelLimits, Position, Visibility, Work};

impl DenoisingState {
    /// The positions of the block that is asked about; the network is shown those before it as well. The whole canvas where
    /// the network's attention knows no blocks.
    pub(super) fn shown(&self) -> Range<usize> {
        let blocks = &self.sample.blocks;
        let length = self.sample.canvas.tokens().len();
        if self.reads_block_before() {
            return 0..self.wants[0].position as usize + 1;
        }
        let block = self.wants.first().map(|want| blocks.of(want.position));
        block.map_or(0..length, |block| blocks.span(block, length))
    }

    /// Returns true if the pending evaluation is about the first position of a block of attention alone, whose row is in
    /// the block before.
    pub(super) fn reads_block_before(&self) -> bool {
        self.sample.reads_before
            && matches!(&self.wants[..], [want] if self.sample.blocks.is_behind_block(want.position))
    }

    /// Returns true if keys and values are kept between evaluations.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.sample.frozen.is_some()
    }

    /// The work left to compute, as far as it is known now; a bound for rules that may end early.
    #[must_use]
    pub fn work_left(&self) -> Work {
        let Some(ask) = self.ask() else { return Work::default() };
        let left = self.evaluations_left();
        let (Some(frozen), Context::Frozen { as_of, .. }) = (&self.sample.frozen, ask.context) else {
            return Work::of(&ask, 0).times(left);
        };
        let refresh = Work { rows: as_of.len() as u64, pairs: Work::canvas(as_of.len()).pairs };
        Work::of(&ask, as_of.len()).times(left) + refresh.times(frozen.refreshes(left))
    }
}

/// The blocks in which the positions to generate are filled; one where the window has none.
pub(super) fn blocks(
    targets: Vec<Position>,
    window: Window,
    limits: &ModelLimits,
) -> Result<Blocks, PolicyError> {
    match (limits.visibility, window) {
        (Visibility::BlockCausal { block }, Window::Block(size)) if block.is_multiple_of(size) => {
            Ok(Blocks::of_positions(targets, size, block))
        }
        (Visibility::BlockCausal { .. }, _) => {
            Err(PolicyError::Conflict { first: "window", second: "attention" })
        }
        (Visibility::Full, Window::Block(size)) => Ok(Blocks::of_targets(targets, size)),
        (Visibility::Full, Window::All | Window::Sliding(_) | Window::LeftToRight) => {
            let count = targets.len();
            Ok(Blocks::of_targets(targets, count))
        }
    }
}
