//! Lengths that are not given exactly: which ones are tried, on which canvases, and which one wins.

use unmask_model::predictor::TokenId;

use super::holes::HoledText;
use crate::error::ApiError;
use crate::lengths::{Fit, points};
use crate::options::count;
use crate::prompt::{Blank, Layout, Piece};
use crate::state::{AppState, ServedModel};

/// Lengths that are filled when the request does not say how many.
const DEFAULT_CANDIDATES: usize = 8;

/// Lengths that may be filled.
pub(in crate::routes) const MOST_CANDIDATES: usize = 8;

/// The number of lengths that are filled: those that fit best.
///
/// # Errors
/// Too many are asked for.
pub(super) fn candidates(given: Option<i64>) -> Result<usize, ApiError> {
    let given = count("length_search.candidates", given, 1..=MOST_CANDIDATES as i64)?;
    Ok(given.map_or(DEFAULT_CANDIDATES, |given| given as usize))
}

/// The lengths of all holes that are looked at, one of the `ranges` each: all holes move through theirs together.
pub(super) fn grid(ranges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let widest = ranges.iter().map(|(min, max)| max - min).max().unwrap_or(0);
    let length = |(min, max): (usize, usize), moved: usize| match widest {
        0 => min,
        _ => min + (2 * moved * (max - min) + widest) / (2 * widest),
    };
    let mut grid: Vec<Vec<usize>> = points(0, widest)
        .into_iter()
        .map(|moved| ranges.iter().map(|range| length(*range, moved)).collect())
        .collect();
    grid.dedup();
    grid
}

/// The `most` lengths that fit best, shortest first, and what stands after their holes.
pub(super) fn best_fits(
    lengths: Vec<Vec<usize>>,
    fits: Vec<Fit>,
    most: usize,
) -> (Vec<Vec<usize>>, Vec<Vec<f64>>) {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by(|a, b| fits[*b].rate.total_cmp(&fits[*a].rate));
    let mut chosen = order[..most.min(order.len())].to_vec();
    chosen.sort_unstable();
    chosen.into_iter().map(|point| (lengths[point].clone(), fits[point].after.clone())).unzip()
}

/// The samples that answer, best first: those that are done come before others, then the score decides, and the first of
/// equals comes first. A sample without a token has no score and comes last.
pub(super) fn ranked(rated: &[(bool, Option<f64>)]) -> Vec<usize> {
    let key = |sample: &usize| (rated[*sample].0, rated[*sample].1.unwrap_or(f64::NEG_INFINITY));
    let mut order: Vec<usize> = (0..rated.len()).collect();
    order.sort_by(|a, b| {
        let a = key(a);
        let b = key(b);
        b.0.cmp(&a.0).then(b.1.total_cmp(&a.1))
    });
    order
}

/// One canvas per candidate.
pub(super) struct Canvases {
    pub(super) layouts: Vec<Layout>,
    /// True if text was left out of any.
    pub(super) truncated: bool,
}

impl Canvases {
    /// Each candidate is what a request for exactly its lengths would be, also in what is `cut` of the
    /// text; so such a request gives the same answer.
    pub(super) fn new(
        text: &HoledText,
        tokens: &[Vec<TokenId>],
        lengths: &[Vec<usize>],
        cut: bool,
        state: &AppState,
    ) -> Self {
        let bos = usize::from(state.model.tokenizer.document_start().is_some());
        let mut truncated = false;
        let mut layouts = Vec::with_capacity(lengths.len());
        for lengths in lengths {
            let mut tokens = tokens.to_vec();
            if let ([before, after], true) = (&mut tokens[..], cut) {
                let room = state.model.limits.context.saturating_sub(bos + lengths[0]);
                truncated |= keep_nearest(before, after, room);
            }
            let mut given = tokens.into_iter().map(Piece::Given);
            let mut pieces: Vec<Piece> = given.next().into_iter().collect();
            for ((hole, &length), after) in text.holes.iter().zip(lengths).zip(given) {
                let decided = hole.decision.as_ref().map(|decision| decision.tokens.clone());
                let length = decided.as_ref().map_or(length, Vec::len);
                let id = hole.id.clone();
                let shared = hole.shared.clone();
                let sampling = hole.sampling.clone();
                let stops = hole.stops.clone();
                let healing = hole.healing;
                let blank = Blank { id, length, sampling, stops, decided, shared, healing, found: false };
                pieces.push(Piece::Open(Box::new(blank)));
                pieces.push(after);
            }
            layouts.push(Layout { pieces, ids_given: false, healed: 0, shortest: None });
        }
        Self { layouts, truncated }
    }
}

/// Shortens the text around a hole to `room` tokens, keeping what is nearest to the hole: two thirds of
/// the room for the left side, and what one side does not need goes to the other. Returns whether
/// anything was left out.
pub(in crate::routes) fn keep_nearest(
    before: &mut Vec<TokenId>,
    after: &mut Vec<TokenId>,
    room: usize,
) -> bool {
    if before.len() + after.len() <= room {
        return false;
    }
    let left = (room * 2 / 3).max(room.saturating_sub(after.len())).min(before.len());
    before.drain(..before.len() - left);
    after.truncate(room - left);
    true
}

/// The parts of the texts around a hole that can be among the tokens nearest to it.
pub(in crate::routes) struct Nearest<'a> {
    pub(in crate::routes) before: &'a str,
    pub(in crate::routes) after: &'a str,
}

/// Bytes that are tokenized beyond what the context can hold: a tokenizer that begins inside a word needs some to fall
/// into step.
const STEP: usize = 4096;

/// Leaves out what is too far from a hole to be among the tokens of any context.
pub(in crate::routes) fn nearest<'a>(before: &'a str, after: &'a str, model: &ServedModel) -> Nearest<'a> {
    let most = model.longest_text() + STEP;
    let start = before.ceil_char_boundary(before.len().saturating_sub(most));
    let end = after.floor_char_boundary(most.min(after.len()));
    Nearest { before: &before[start..], after: &after[..end] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearest_to_the_hole_is_kept() {
        let run = |left: u32, right: u32, room: usize| {
            let mut before = (0..left).collect();
            let mut after = (100..100 + right).collect();
            let cut = keep_nearest(&mut before, &mut after, room);
            (cut, before, after)
        };
        assert_eq!(run(3, 2, 5), (false, vec![0, 1, 2], vec![100, 101]));
        assert_eq!(run(9, 9, 6), (true, vec![5, 6, 7, 8], vec![100, 101]));
        // The left side has no use for two thirds.
        assert_eq!(run(1, 9, 6), (true, vec![0], vec![100, 101, 102, 103, 104]));
        assert_eq!(run(9, 1, 6), (true, vec![4, 5, 6, 7, 8], vec![100]));
        assert_eq!(run(9, 9, 0), (true, vec![], vec![]));
    }

    #[test]
    fn holes_move_through_their_ranges_together() {
        assert_eq!(grid(&[(2, 4)]), [[2], [3], [4]]);
        assert_eq!(grid(&[(7, 7)]), [[7]]);
        assert_eq!(grid(&[(1, 5), (9, 9), (4, 6)]), [[1, 9, 4], [2, 9, 5], [3, 9, 5], [4, 9, 6], [5, 9, 6]]);
        assert_eq!(grid(&[(1, 32)]).len(), 24);
    }

    #[test]
    fn eight_lengths_are_filled_unless_the_request_says() {
        assert_eq!((candidates(None).unwrap(), candidates(Some(2)).unwrap()), (8, 2));
        assert_eq!(candidates(Some(9)).unwrap_err().code(), "out_of_range");
    }

    #[test]
    fn the_best_scores_of_what_is_done_come_first() {
        assert_eq!(ranked(&[(true, Some(-2.0)), (true, Some(-1.0)), (true, Some(-1.0))]), [1, 2, 0]);
        assert_eq!(ranked(&[(true, None), (true, Some(-9.0))]), [1, 0]);
        assert_eq!(ranked(&[(false, Some(-1.0)), (true, Some(-2.0))]), [1, 0]);
        assert_eq!(ranked(&[(true, None), (true, None)]), [0, 1]);
    }
}
