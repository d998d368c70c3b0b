//! Lengths that are not given exactly: which ones are tried, on which canvases, and which one wins.

use std::slice;

use unmask_model::predictor::TokenId;
use unmask_scheduler::Timings;

use super::holes::HoledText;
use super::nearest::keep_nearest;
use crate::error::ApiError;
use crate::healing::without_blanks;
use crate::hole::HoleSpec;
use crate::lengths::{Fit, fillable, in_time, measure, points};
use crate::observation::Observation;
use crate::prompt::{Layout, Piece};
use crate::request::options::Settings;
use crate::request::ranges::count;
use crate::state::AppState;

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
            if cut {
                let open: usize = lengths.iter().sum();
                let room = state.model.limits.context.saturating_sub(bos + open);
                truncated |= keep_nearest(&mut tokens, room);
            }
            let mut given = tokens.into_iter().map(Piece::Given);
            let mut pieces: Vec<Piece> = given.next().into_iter().collect();
            for ((hole, &length), after) in text.holes.iter().zip(lengths).zip(given) {
                let decided = hole.decision.as_ref().map(|decision| decision.tokens.clone());
                let length = decided.as_ref().map_or(length, Vec::len);
                let spec = HoleSpec { length, decided, ..hole.spec.clone() };
                pieces.push(Piece::Open(Box::new(spec)));
                pieces.push(after);
            }
            layouts.push(Layout { pieces, ids_given: false, healed: 0, shortest: None });
        }
        Self { layouts, truncated }
    }
}

/// The lengths that are filled.
pub(super) struct Search {
    /// Those of all holes, of each candidate.
    pub(super) lengths: Vec<Vec<usize>>,
    /// The log-probability of what follows each hole, of each candidate; empty where none was compared.
    pub(super) after: Vec<Vec<f64>>,
    /// Work of the comparison, if there was one.
    pub(super) timings: Option<Timings>,
}

impl Search {
    /// The best `candidates` of `lengths`, as many as the request's budget leaves time for. `canvases` lays some out.
    pub(super) async fn of(
        mut lengths: Vec<Vec<usize>>,
        candidates: usize,
        canvases: impl Fn(&[Vec<usize>]) -> Canvases,
        settings: &Settings,
        state: &AppState,
        observation: &Observation,
    ) -> Result<Self, ApiError> {
        let mut after = Vec::new();
        if let ([_, .., longest], Some(_)) = (&lengths[..], settings.times.budget)
            && let Some(canvas) = canvases(slice::from_ref(longest)).layouts.pop()
        {
            // Of what is not compared, nothing is known.
            after = vec![vec![0.0; longest.len()]];
            lengths = in_time(lengths, (&canvas, 1), settings, state, observation);
        }
        if lengths.len() < 2 {
            return Ok(Self { lengths, after, timings: None });
        }
        let layouts = without_blanks(canvases(&lengths).layouts, state, observation).await?;
        let (fits, timings) = measure(&layouts, settings, state, observation).await?;
        let most = fillable(candidates, &layouts[layouts.len() - 1], settings, state, observation);
        let (lengths, after) = best_fits(lengths, fits, most);
        Ok(Self { lengths, after, timings: Some(timings) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
