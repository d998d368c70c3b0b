//! The order of a weight's columns once it is packed.

use crate::kernel::{self, PANEL};

/// Half of a panel: what belongs together in the two halves of one is finished together.
const HALF: usize = PANEL / 2;

/// The order of some rows or columns, filled up with zeros.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout {
    /// The file's order; zeros at the end.
    Plain(usize),
    /// Heads of a width, each filled up to whole panels.
    Heads { count: usize, width: usize },
    /// Heads whose element i turns with element i + turned/2 if i < turned/2: every panel holds 16 of the first half
    /// and the 16 of the second half that turn with them. Elements from `turned` on are paired in the same way and
    /// turn by nothing. Queries and keys share this order, and a scalar product does not depend on it.
    Turned { count: usize, width: usize, turned: usize },
    /// Pairs of a gate and what it lets through, `width` each: every panel holds 16 gates and their 16
    /// partners. The gates come first in the source.
    Gated(usize),
}

impl Layout {
    /// Number of columns with the zeros.
    pub(super) fn padded(self) -> usize {
        match self {
            Self::Plain(width) => kernel::padded(width),
            Self::Heads { count, width } | Self::Turned { count, width, .. } => count * Self::head(width),
            Self::Gated(width) => 2 * Self::Plain(width).padded(),
        }
    }

    /// A head's own columns with the zeros; turned heads have as many, since halves are filled up to 16.
    fn head(width: usize) -> usize {
        kernel::padded(width)
    }

    /// Returns true if the first columns are those of the source in its order, and only zeros follow.
    pub(super) fn is_plain(self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Heads { width, .. } => width == Self::head(width),
            Self::Turned { .. } | Self::Gated(_) => false,
        }
    }

    /// The source's column at `place`; `None` for a zero.
    pub(super) fn source(self, place: usize) -> Option<usize> {
        // In a panel of two halves: which half, and which element of it.
        let halves = |place: usize| (place % PANEL / HALF, place / PANEL * HALF + place % HALF);
        match self {
            Self::Plain(width) => (place < width).then_some(place),
            Self::Heads { width, .. } => {
                let head = place / Self::head(width);
                let inside = place % Self::head(width);
                (inside < width).then_some(head * width + inside)
            }
            Self::Turned { width, turned, .. } => {
                let head = place / Self::head(width);
                let inside = place % Self::head(width);
                let (half, pair) = halves(inside);
                let (pairs, rest) = (turned / 2, (width - turned) / 2);
                let element = match pair.checked_sub(pairs) {
                    None => half * pairs + pair,
                    Some(pair) => turned + half * rest + pair,
                };
                (pair < width / 2).then_some(head * width + element)
            }
            Self::Gated(width) => {
                let (half, pair) = halves(place);
                (pair < width).then_some(half * width + pair)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_one_place() {
        for (layout, columns) in [
            (Layout::Plain(48), 48),
            (Layout::Heads { count: 3, width: 12 }, 36),
            (Layout::Heads { count: 2, width: 64 }, 128),
            (Layout::Turned { count: 3, width: 12, turned: 12 }, 36),
            (Layout::Turned { count: 2, width: 128, turned: 128 }, 256),
            (Layout::Turned { count: 2, width: 40, turned: 40 }, 80),
            (Layout::Turned { count: 2, width: 128, turned: 64 }, 256),
            (Layout::Turned { count: 3, width: 40, turned: 24 }, 120),
            (Layout::Gated(40), 80),
            (Layout::Gated(96), 192),
        ] {
            assert_eq!(layout.padded() % PANEL, 0, "{layout:?}");
            let mut found: Vec<usize> =
                (0..layout.padded()).filter_map(|place| layout.source(place)).collect();
            found.sort_unstable();
            assert_eq!(found, (0..columns).collect::<Vec<_>>(), "{layout:?}");
        }
    }

    #[test]
    fn partners_are_sixteen_columns_apart() {
        let turned = Layout::Turned { count: 2, width: 40, turned: 40 };
        let gated = Layout::Gated(40);
        for (layout, distance) in [(turned, 20), (gated, 40)] {
            for place in (0..layout.padded()).filter(|place| place % PANEL < HALF) {
                let partner = layout.source(place + HALF);
                assert_eq!(layout.source(place).map(|column| column + distance), partner, "{layout:?}");
            }
        }
        let part = Layout::Turned { count: 1, width: 40, turned: 24 };
        for (place, pair) in [(0, (0, 12)), (11, (11, 23)), (12, (24, 32)), (15, (27, 35)), (32, (28, 36))] {
            assert_eq!((part.source(place), part.source(place + HALF)), (Some(pair.0), Some(pair.1)));
        }
    }
}
