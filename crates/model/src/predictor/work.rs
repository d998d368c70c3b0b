//! The amount of computation of an evaluation.

use std::ops::{Add, AddAssign};

use super::{Ask, Context};

/// The amount of computation of an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Token rows.
    pub rows: u64,
    /// Pairs that attention compares: for each row, the keys that its canvas has.
    pub pairs: u64,
}

impl Work {
    /// One whole canvas of `length` positions.
    #[must_use]
    pub fn canvas(length: usize) -> Self {
        let rows = length as u64;
        Self { rows, pairs: rows.saturating_mul(rows) }
    }

    /// An ask, when the keys and values of the first `known` positions of [`Context::Frozen`]'s canvas are in memory.
    #[must_use]
    pub fn of(ask: &Ask<'_>, known: usize) -> Self {
        let own = match ask.context {
            Context::Fresh => Self::canvas(ask.tokens.len()),
            Context::Frozen { active, as_of } => {
                let keys = active.last().map_or(0, |last| *last as usize + 1).max(as_of.len());
                Self::some(active.len(), keys) + Self::some(as_of.len().saturating_sub(known), as_of.len())
            }
        };
        if ask.guidance.is_some() { own + Self::canvas(ask.tokens.len()) } else { own }
    }

    /// The same, so many times.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        let count = u64::from(count);
        Self { rows: self.rows.saturating_mul(count), pairs: self.pairs.saturating_mul(count) }
    }

    pub(super) fn some(rows: usize, keys: usize) -> Self {
        Self { rows: rows as u64, pairs: (rows as u64).saturating_mul(keys as u64) }
    }
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { rows: self.rows.saturating_add(other.rows), pairs: self.pairs.saturating_add(other.pairs) }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
