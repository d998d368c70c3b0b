//! Lengths that are not given exactly: which ones are tried, on which canvases, and which one wins.

use unmask_model::predictor::TokenId;

use super::holes::HoledText;
use crate::error::ApiError;
use crate::options::{count, out_of_range};
use crate::prompt::{Blank, Layout, Piece};
use crate::state::{AppState, ServedModel};

/// Lengths that are tried when the request does not say how many.
const DEFAULT_CANDIDATES: usize = 4;

/// Lengths that may be tried.
pub(in crate::routes) const MOST_CANDIDATES: usize = 8;

/// Samples times candidates.
pub(in crate::routes) const MOST_TEXTS: usize = 16;

/// The lengths of all holes, candidate by candidate: `candidates` of them, spread evenly over the `ranges`,
/// in which all holes move together. What rounding makes equal is tried once.
///
/// # Errors
/// Too many candidates, or too many for that many `samples`.
pub(super) fn grid(
    ranges: &[(usize, usize)],
    candidates: Option<i64>,
    samples: usize,
) -> Result<Vec<Vec<usize>>, ApiError> {
    let given = count("length_search.candidates", candidates, 1..=MOST_CANDIDATES as i64)?;
    let most = (MOST_TEXTS / samples).clamp(1, DEFAULT_CANDIDATES);
    let candidates = given.map_or(most, |given| given as usize);
    let mut grid: Vec<Vec<usize>> =
        (0..candidates).map(|i| ranges.iter().map(|range| point(*range, i, candidates)).collect()).collect();
    grid.dedup();
    if grid.len() > 1 && grid.len() * samples > MOST_TEXTS {
        let given = format!("{} with `n` {samples}", grid.len());
        let allowed = format!("such that `n` times candidates is at most {MOST_TEXTS}");
        return Err(out_of_range("length_search.candidates", given, allowed));
    }
    Ok(grid)
}

/// Point `i` of `points` that lie evenly on a range, both ends included, rounded half up; the middle when
/// there is only one.
fn point((min, max): (usize, usize), i: usize, points: usize) -> usize {
    match points - 1 {
        0 => min + (max - min).div_ceil(2),
        gaps => min + (2 * i * (max - min) + gaps) / (2 * gaps),
    }
}

/// Which of several candidates wins: the best score among those that are done, the first one of equals. A
/// candidate without a token has no score and loses.
pub(super) fn best(rated: impl Iterator<Item = (bool, Option<f64>)>) -> usize {
    let rated = rated.map(|(done, score)| (done, score.unwrap_or(f64::NEG_INFINITY)));
    let better = |a: (bool, f64), b: (bool, f64)| (a.0 && !b.0) || (a.0 == b.0 && a.1 > b.1);
    let best = rated.enumerate().reduce(|best, next| if better(next.1, best.1) { next } else { best });
    best.map_or(0, |(candidate, _)| candidate)
}

/// One canvas per candidate.
pub(super) struct Canvases {
    pub(super) layouts: Vec<Layout>,
    /// Whether text was left out of any.
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
                let (id, shared) = (hole.id.clone(), hole.shared.clone());
                let (sampling, stops) = (hole.sampling.clone(), hole.stops.clone());
                let blank = Blank { id, length, sampling, stops, decided, shared, healing: hole.healing };
                pieces.push(Piece::Open(Box::new(blank)));
                pieces.push(after);
            }
            layouts.push(Layout { pieces, ids_given: false, healed: 0 });
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
            let (mut before, mut after) = ((0..left).collect(), (100..100 + right).collect());
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
    fn lengths_lie_evenly_on_their_ranges_and_move_together() {
        let lengths =
            |ranges: &[(usize, usize)], candidates, samples| grid(ranges, candidates, samples).unwrap();
        assert_eq!(lengths(&[(1, 32)], None, 1), [[1], [11], [22], [32]]);
        assert_eq!(lengths(&[(2, 4)], Some(8), 1), [[2], [3], [4]]);
        assert_eq!(lengths(&[(1, 5), (9, 9), (10, 30)], Some(3), 1), [[1, 9, 10], [3, 9, 20], [5, 9, 30]]);
        assert_eq!(lengths(&[(1, 32)], Some(1), 1), [[17]]);
        assert_eq!(lengths(&[(7, 7)], None, 100), [[7]]);
        // A default shrinks; a wish is refused.
        assert_eq!(lengths(&[(1, 32)], None, 8), [[1], [32]]);
        assert_eq!(grid(&[(1, 32)], Some(3), 8).unwrap_err().code(), "out_of_range");
        assert_eq!(grid(&[(1, 32)], Some(9), 1).unwrap_err().code(), "out_of_range");
    }

    #[test]
    fn the_best_score_of_what_is_done_wins() {
        let best = |rated: &[(bool, Option<f64>)]| super::best(rated.iter().copied());
        assert_eq!(best(&[(true, Some(-2.0)), (true, Some(-1.0)), (true, Some(-1.0))]), 1);
        assert_eq!(best(&[(true, None), (true, Some(-9.0))]), 1);
        assert_eq!(best(&[(false, Some(-1.0)), (true, Some(-2.0))]), 1);
        assert_eq!(best(&[(true, None), (true, None)]), 0);
    }
}
