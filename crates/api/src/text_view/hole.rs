//! A hole on a canvas, and its text.

use std::ops::Range;

use crate::hole::HoleSpec;

/// A hole on a canvas.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacedHole {
    /// The hole.
    pub spec: HoleSpec,
    /// Its positions.
    pub range: Range<usize>,
    /// True if no text is before it.
    pub at_start: bool,
    /// True if the first document end in it ends its text.
    pub ends_at_eos: bool,
    /// Its text ends before the first of these.
    pub stops: Vec<String>,
}

impl PlacedHole {
    /// Returns true if its tokens were known before; no part of it is generated.
    #[must_use]
    pub fn decided(&self) -> bool {
        self.spec.decided.is_some()
    }

    /// Bytes that the token at a position of the canvas shares with the text before and after the hole.
    pub(super) fn shared_at(&self, position: usize) -> (Vec<u8>, Vec<u8>) {
        let (left, right) = &self.spec.shared;
        let at = |there: bool, bytes: &Vec<u8>| if there { bytes.clone() } else { Vec::new() };
        (at(position == self.range.start, left), at(position + 1 == self.range.end, right))
    }
}

/// The reason for a text's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The hole is full.
    Full,
    /// The hole is full, and no more of it was to be filled: its length was found.
    Complete,
    /// At a document end.
    Eos,
    /// Before a stop string.
    Stop,
}

/// The text of a hole as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoleText {
    /// The text; it only ever grows.
    pub text: String,
    /// Tokens that it takes.
    pub tokens: usize,
    /// The reason for its end; [`End::Full`] also while it still grows.
    pub end: End,
    /// True if it has stopped growing.
    pub settled: bool,
}
