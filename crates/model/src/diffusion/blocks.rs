//! Blocks of a canvas, which are filled one after another.

use std::ops::Range;

use crate::predictor::Position;

/// The positions to generate, ascending, and how they fall into blocks.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    targets: Vec<Position>,
    /// Places in `targets` of the members of each block; none is empty.
    members: Vec<Range<usize>>,
    /// Positions of a block that is not cut by the end of the canvas.
    size: usize,
    /// Positions of a block of the network's attention, where it is causal between blocks. Blocks are counted from
    /// position 0 then, whatever is given, and those of the attention are whole numbers of them.
    attention: Option<usize>,
}

impl Blocks {
    /// Blocks of `size` positions to generate; the last one may be smaller.
    pub(super) fn of_targets(targets: Vec<Position>, size: usize) -> Self {
        let size = size.max(1);
        let firsts = (0..targets.len()).step_by(size);
        let members = firsts.map(|first| first..(first + size).min(targets.len())).collect();
        Self { targets, members, size, attention: None }
    }

    /// Blocks of `size` positions of the canvas, as far as something is to be generated in them. `attention` is a
    /// multiple of `size`.
    pub(super) fn of_positions(targets: Vec<Position>, size: usize, attention: usize) -> Self {
        let size = size.max(1);
        let mut members = Vec::new();
        let mut first = 0;
        for block in targets.chunk_by(|a, b| *a as usize / size == *b as usize / size) {
            members.push(first..first + block.len());
            first += block.len();
        }
        Self { targets, members, size, attention: Some(attention) }
    }

    /// All positions to generate.
    pub(super) fn targets(&self) -> &[Position] {
        &self.targets
    }

    /// Number of blocks.
    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    /// Positions of a whole block.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The positions to generate in a block; none behind the last block.
    pub(super) fn members(&self, block: usize) -> &[Position] {
        self.members.get(block).map_or(&[], |members| &self.targets[members.clone()])
    }

    /// The positions to generate up to the end of a block.
    pub(super) fn members_up_to(&self, block: usize) -> &[Position] {
        self.members.get(block).map_or(&self.targets, |members| &self.targets[..members.end])
    }

    /// The block of a position to generate.
    pub(super) fn of(&self, position: Position) -> usize {
        let place = self.targets.partition_point(|target| *target < position);
        self.members.partition_point(|members| members.end <= place)
    }

    /// The positions of a canvas of `length` in the attention's block around `block`: it sees no later ones, and
    /// earlier ones do not see it. The whole canvas where attention knows no blocks.
    pub(super) fn span(&self, block: usize, length: usize) -> Range<usize> {
        let (Some(size), Some(first)) = (self.attention, self.members(block).first()) else {
            return 0..length;
        };
        let start = *first as usize / size * size;
        start..(start + size).min(length)
    }

    /// Returns true if the position before this one is in another block of the attention.
    pub(super) fn is_behind_block(&self, position: Position) -> bool {
        position > 0 && self.attention.is_some_and(|size| (position as usize).is_multiple_of(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_over_targets_or_over_positions() {
        let targets: Vec<Position> = vec![3, 5, 6, 7, 8, 11, 13];
        let own = Blocks::of_targets(targets.clone(), 3);
        assert_eq!((own.count(), own.members(0), own.members(2)), (3, &targets[..3], &targets[6..]));
        assert_eq!([3, 6, 7, 13].map(|position| own.of(position)), [0, 0, 1, 2]);
        assert_eq!(own.span(0, 14), 0..14);
        let absolute = Blocks::of_positions(targets.clone(), 4, 4);
        assert_eq!(absolute.count(), 4);
        assert_eq!(
            [0, 1, 2, 3].map(|block| absolute.members(block)),
            [&targets[..1], &targets[1..4], &targets[4..6], &targets[6..]]
        );
        assert_eq!(targets.iter().map(|at| absolute.of(*at)).collect::<Vec<_>>(), [0, 1, 1, 1, 2, 2, 3]);
        assert_eq!([0, 1, 2, 3].map(|block| absolute.span(block, 14)), [0..4, 4..8, 8..12, 12..14]);
        assert_eq!(absolute.members_up_to(1), &targets[..4]);
        assert!(absolute.members(4).is_empty());
        let parts = Blocks::of_positions(targets.clone(), 4, 8);
        assert_eq!([0, 1, 2, 3].map(|block| parts.span(block, 14)), [0..8, 0..8, 8..14, 8..14]);
        assert_eq!([0, 4, 8].map(|position| parts.is_behind_block(position)), [false, false, true]);
        assert!(!own.is_behind_block(8));
    }
}
