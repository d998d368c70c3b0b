//! The rows that an evaluation computes, where keys and values of others are kept.

use super::canvas::Canvas;
use crate::predictor::{Context, Position, TokenId, Visibility, Want};

/// An approximation of networks in which every position sees all others (Fast-dLLM, 2505.22618): keys and values of
/// positions that are settled are kept from an earlier state of the canvas. The seed still repeats the text, in any
/// company: what is kept depends on this sample alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvCache {
    /// The positions that are computed again by every evaluation.
    pub extent: Extent,
    /// The evaluations that bring all others up to date.
    pub refresh: Refresh,
    /// Positions on each side of an open one that are computed as well.
    pub near: u32,
}

/// The positions that every evaluation computes. Both hold the open ones, what was committed since the last refresh
/// and, in models with the shift, the row before each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything from the first of them on ("prefix cache").
    Prefix,
    /// They alone ("dual cache").
    Dual,
}

/// The evaluations before which keys and values of the whole canvas are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// The first one.
    Never,
    /// Every n-th one from the first on, n at least 1.
    Every(u32),
    /// The first one of each block of the decision rule's window.
    Block,
    /// The same, and it commits the first position of the block alone. The others compute nothing in front of the block:
    /// Fast-dLLM's loop for Dream, in which the row of that position lies in the block before.
    BlockFirst,
}

/// A sample's view of what is kept.
#[derive(Clone, Debug)]
pub(super) struct Frozen {
    rule: Rule,
    shift: bool,
    /// The canvas at the last refresh, or its finished blocks.
    as_of: Vec<TokenId>,
    /// The positions of the pending ask, ascending.
    active: Vec<Position>,
    /// Committed or taken back since the last refresh.
    touched: Vec<Position>,
    /// Evaluations since the last refresh.
    since: u32,
    /// The block of the last evaluation.
    block: usize,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    /// The finished blocks of a canvas whose positions see no later block: nothing is approximated.
    Blocks(usize),
    Approximate(KvCache),
}

impl Frozen {
    /// `None` where every evaluation computes its whole canvas.
    pub(super) fn new(cache: Option<KvCache>, visibility: Visibility, shift: bool) -> Option<Self> {
        let rule = match (visibility, cache) {
            (Visibility::BlockCausal { block }, _) => Rule::Blocks(block),
            (Visibility::Full, Some(cache)) => Rule::Approximate(cache),
            (Visibility::Full, None) => return None,
        };
        Some(Self {
            rule,
            shift,
            as_of: Vec::new(),
            active: Vec::new(),
            touched: Vec::new(),
            since: 0,
            block: 0,
        })
    }

    /// Returns true if nothing is approximated.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self.rule, Rule::Blocks(_))
    }

    /// Notes a position whose token changed.
    pub(super) fn touch(&mut self, position: Position) {
        self.touched.push(position);
    }

    /// Prepares the next evaluation of the first `shown` positions of a canvas. `open` are the open positions that it is
    /// about, which lie in the block of the window with this number and first position.
    pub(super) fn prepare(
        &mut self,
        canvas: &Canvas,
        shown: usize,
        wants: &[Want],
        open: impl Iterator<Item = Position>,
        (block, start): (usize, Position),
    ) {
        let tokens = &canvas.tokens()[..shown];
        match self.rule {
            Rule::Blocks(size) => {
                let first = canvas.open_positions().next().map_or(shown, |first| first as usize);
                let read = wants.first().map_or(first, |want| want.position as usize);
                let done = first.min(read) / size * size;
                tokens[..done].clone_into(&mut self.as_of);
                // The row of the block's first position is the last one before it.
                let from = done.saturating_sub(usize::from(self.shift && read == done));
                self.active = (from as Position..shown as Position).collect();
            }
            Rule::Approximate(cache) => {
                let due = match cache.refresh {
                    Refresh::Never => false,
                    Refresh::Every(evaluations) => self.since >= evaluations,
                    Refresh::Block | Refresh::BlockFirst => block != self.block,
                };
                if self.as_of.len() != shown || due {
                    tokens.clone_into(&mut self.as_of);
                    self.touched.clear();
                    self.since = 0;
                }
                self.block = block;
                self.since += 1;
                let read = wants.iter().map(|want| want.position);
                let around = open.chain(read).chain(self.touched.iter().copied());
                self.active = active(around, cache, self.shift, shown);
                if cache.refresh == Refresh::BlockFirst && self.since > 1 {
                    // Other rules may read the first position later on, and its row is the one before it.
                    let shift = Position::from(self.shift);
                    let read = wants.first().map_or(start, |want| want.position.saturating_sub(shift));
                    self.active.retain(|position| *position >= start.min(read));
                }
            }
        }
    }

    /// Returns true if the next evaluation of a block is its first, which commits the first position alone.
    pub(super) fn leads(&self, block: usize) -> bool {
        let Rule::Approximate(KvCache { refresh: Refresh::BlockFirst, .. }) = self.rule else { return false };
        self.as_of.is_empty() || block != self.block
    }

    /// The number of the next `evaluations`, the pending one included, that compute the whole canvas at most.
    pub(super) fn refreshes(&self, evaluations: u32) -> u32 {
        match self.rule {
            Rule::Approximate(KvCache { refresh: Refresh::Every(n), .. }) => evaluations.div_ceil(n),
            Rule::Approximate(_) | Rule::Blocks(_) => 1,
        }
    }

    /// The context of the pending evaluation.
    pub(super) fn context(&self) -> Context<'_> {
        let Self { active, as_of, .. } = self;
        if as_of.is_empty() { Context::Fresh } else { Context::Frozen { active, as_of } }
    }
}

/// The rows around some positions of a canvas of `length`, ascending.
fn active(
    around: impl Iterator<Item = Position>,
    cache: KvCache,
    shift: bool,
    length: usize,
) -> Vec<Position> {
    let last = length as Position - 1;
    let before = cache.near.saturating_add(u32::from(shift));
    let mut chosen = vec![false; length];
    for position in around.filter(|position| *position <= last) {
        let from = position.saturating_sub(before);
        let to = position.saturating_add(cache.near).min(last);
        chosen[from as usize..=to as usize].fill(true);
    }
    if cache.extent == Extent::Prefix {
        let first = chosen.iter().position(|chosen| *chosen).unwrap_or(length);
        chosen[first..].fill(true);
    }
    (0..).zip(chosen).filter(|(_, chosen)| *chosen).map(|(position, _)| position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(extent: Extent, near: u32) -> KvCache {
        KvCache { extent, refresh: Refresh::Never, near }
    }

    #[test]
    fn active_rows_hold_neighbours_and_the_row_before_each_with_the_shift() {
        let around = || [5, 6, 12].into_iter();
        assert_eq!(active(around(), cache(Extent::Dual, 0), false, 14), [5, 6, 12]);
        assert_eq!(active(around(), cache(Extent::Dual, 0), true, 14), [4, 5, 6, 11, 12]);
        assert_eq!(
            active(around(), cache(Extent::Dual, 2), true, 14),
            [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
        );
        assert_eq!(active(around(), cache(Extent::Prefix, 0), true, 14), (4..14).collect::<Vec<_>>());
        assert_eq!(active([0].into_iter(), cache(Extent::Dual, 1), true, 2), [0, 1]);
    }
}
