//! Lengths of holes that the caller does not know: how well each of them fits between its texts.
//!
//! A model that fills masks is told how many tokens stand in a hole. Where that is not known, one evaluation answers
//! for every length in question. The hole of L mask tokens is put between its texts, the first tokens of the text after it
//! are masked too, and two things are read: how sure the model is of its best token at each position of the hole, and
//! how probable it finds the first token after the hole at just this distance. The fit of a length is
//!
//! > Σ log p(best token) / √L + ½ log p(first token after)
//!
//! The sum alone prefers one token, and the mean long texts; the root lies between. The second term is what no text in
//! the hole can tell: whether the text after the hole is due. On held-out lines it finds the text that the true length
//! would give in four of five cases (`crates/model/embedded/README.md` has the table, and what else was tried).

mod budget;

use std::ops::Range;

use unmask_model::diffusion::{ScoreMode, ScoreSpec, ScoringState};
use unmask_model::predictor::{Position, TokenId};
use unmask_scheduler::{DenoiseRequest, Timings};

use self::budget::{comparable, time_to_compare};
pub use self::budget::{fillable, in_time};
use crate::error::ApiError;
use crate::generation::{Found, evaluate, scored};
use crate::healing::without_blanks;
use crate::observation::Observation;
use crate::prompt::{Layout, Piece, check_cost};
use crate::request::options::Settings;
use crate::state::{AppState, ServedModel};

/// Lengths of which every one is looked at; of longer ones some.
const EACH: usize = 16;

/// Longer lengths that are looked at.
const LONGER: usize = 8;

/// The longest length that is tried where the caller gives a most of tokens, and not a length.
pub const LONGEST: usize = 64;

/// Tokens before a hole and after it that are shown: what is farther away says little about a length.
const SHOWN: (usize, usize) = (64, 16);

/// Tokens after a hole that are masked. If they were shown, the first of them would be easy to guess at any distance.
const MASKED: usize = 4;

/// Lengths between which a second evaluation decides.
const FINALISTS: usize = 3;

/// The share of the first token after a hole in a fit.
const AFTER: f64 = 0.5;

/// Lengths from `least` to `most` that are looked at, shortest first.
#[must_use]
pub fn points(least: usize, most: usize) -> Vec<usize> {
    let each = most.min(least + EACH - 1);
    let longer = (1..=LONGER).map(|point| each + (most - each) * point / LONGER);
    let mut points: Vec<usize> = (least..=each).chain(longer).collect();
    points.dedup();
    points
}

/// The fit of a text of so many tokens in a hole: from the `sum` of their log-probabilities (nats), and that
/// of the first token `after` the hole, 0 where there is none. `None` without a token.
#[must_use]
pub fn rate(sum: f64, tokens: usize, after: f64) -> Option<f64> {
    (tokens > 0).then(|| sum / (tokens as f64).sqrt() + AFTER * after)
}

/// The fit of a layout's holes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fit {
    /// The sum over its holes.
    pub rate: f64,
    /// At each hole, the log-probability (nats) of the first token after it, 0 where there is none.
    pub after: Vec<f64>,
}

/// Measures the fit of each layout's holes, in one evaluation of all.
///
/// # Errors
/// Too expensive, a time that is too long, or the engine did not evaluate.
pub async fn measure(
    layouts: &[Layout],
    settings: &Settings,
    state: &AppState,
    observation: &Observation,
) -> Result<(Vec<Fit>, Timings), ApiError> {
    let (looks, timings) = look(layouts, MASKED, settings, state, observation).await?;
    let fit = |looks: Vec<Look>| Fit {
        rate: looks.iter().filter_map(|look| rate(look.sum, look.tokens, look.after)).sum(),
        after: looks.iter().map(|look| look.after).collect(),
    };
    Ok((looks.into_iter().map(fit).collect(), timings))
}

/// An evaluation's numbers about a hole.
struct Look {
    /// The log-probabilities (nats) of the best token at each position, added up.
    sum: f64,
    tokens: usize,
    /// That of the first token after the hole; 0 if that is shown.
    after: f64,
}

/// Evaluates the holes of each layout, with so many tokens `masked` after each.
async fn look(
    layouts: &[Layout],
    masked: usize,
    settings: &Settings,
    state: &AppState,
    observation: &Observation,
) -> Result<(Vec<Vec<Look>>, Timings), ApiError> {
    let mut texts = Vec::new();
    let mut holes = Vec::new();
    for layout in layouts {
        let mut own = Vec::new();
        for number in 0..layout.pieces.len() {
            if let Some(Question { text, hole }) = question(layout, number, masked, &state.model)? {
                texts.push(text);
                own.push(hole);
            }
        }
        holes.push(own);
    }
    check_cost(&[], &texts, settings, state)?;
    let charged = scored(&texts);
    let request = DenoiseRequest { texts, ..DenoiseRequest::default() };
    let Found { scores, timings, .. } = evaluate(request, charged, settings, state, observation).await?;
    let mut scores = scores.iter();
    // The other way round, the scores would lose one more than there are holes.
    let looks = holes.into_iter().map(|holes| {
        let looks = holes.into_iter().zip(scores.by_ref()).map(|(hole, score)| {
            let after = score.logprobs.get(hole.end).copied().flatten().unwrap_or(0.0);
            let best = score.alternatives[hole].iter().flatten();
            let tokens = best.clone().count();
            let sum = best.map(|(_, best)| f64::from(*best)).sum();
            Look { sum, tokens, after }
        });
        looks.collect()
    });
    Ok((looks.collect(), timings))
}

/// A hole between its texts, as one evaluation reads it.
struct Question {
    text: ScoringState,
    /// The hole's positions on its canvas.
    hole: Range<usize>,
}

/// The question about a piece of a layout, if it is a hole to be filled.
fn question(
    layout: &Layout,
    number: usize,
    masked: usize,
    model: &ServedModel,
) -> Result<Option<Question>, ApiError> {
    let Piece::Open(hole) = &layout.pieces[number] else { return Ok(None) };
    if hole.decided.is_some() || hole.length == 0 {
        return Ok(None);
    }
    let mut tokens: Vec<TokenId> = layout.bos(model).into_iter().collect();
    let mut start = 0;
    for (place, piece) in layout.pieces.iter().enumerate() {
        if place == number {
            start = tokens.len();
        }
        match piece {
            Piece::Given(given) => tokens.extend(given),
            Piece::Open(hole) => match &hole.decided {
                Some(decided) => tokens.extend(decided.iter().map(|(token, _)| *token)),
                None => tokens.resize(tokens.len() + hole.length, model.limits.mask_token),
            },
        }
    }
    let end = start + hole.length;
    let after = layout.pieces.get(number + 1).map_or(0, Piece::length).min(masked);
    let (before, behind) = SHOWN;
    let shown = start.saturating_sub(before)..tokens.len().min(end + behind);
    let asked = start - shown.start..end - shown.start;
    let spec = ScoreSpec {
        tokens: tokens[shown].to_vec(),
        from: asked.start as Position,
        to: Some((asked.end + after) as Position),
        mode: ScoreMode::Block(hole.length + after),
        alternatives: 1,
        ..ScoreSpec::default()
    };
    Ok(Some(Question { text: ScoringState::new(spec, &model.limits)?, hole: asked }))
}

/// Finds the length of each hole that may be shorter than it is ([`Layout::shortest`]). Of the lengths that fit best, a
/// second evaluation, which shows all of the text after the hole, finds the one whose tokens are surest. Returns the
/// layouts, and the time of the evaluations if there were any.
///
/// # Errors
/// As [`measure`].
pub async fn find(
    mut layouts: Vec<Layout>,
    settings: &Settings,
    state: &AppState,
    observation: &Observation,
) -> Result<(Vec<Layout>, Option<Timings>), ApiError> {
    let searched = layouts.iter().filter(|layout| is_searched(layout)).count();
    let mut tried = Vec::new();
    let mut of = Vec::new();
    for (number, layout) in layouts.iter().enumerate() {
        let Some(least) = layout.shortest.filter(|_| is_searched(layout)) else { continue };
        let lengths = points(least, layout.open()).into_iter().map(|length| vec![length]).collect();
        let lengths = in_time(lengths, (layout, searched), settings, state, observation);
        for length in lengths.into_iter().flatten() {
            let mut shorter = layout.clone();
            shorter.resize(length);
            tried.push(shorter);
            of.push(number);
        }
    }
    if tried.is_empty() {
        return Ok((layouts, None));
    }
    if of.windows(2).all(|pair| pair[0] != pair[1]) {
        // There is nothing to compare, or no time.
        of.into_iter().zip(tried).for_each(|(number, only)| layouts[number].resize(only.open()));
        return Ok((layouts, None));
    }
    let tried = without_blanks(tried, state, observation).await?;
    let (fits, first) = measure(&tried, settings, state, observation).await?;
    let order = finalists(&fits, &of, layouts.len());
    let longest = order.iter().map(|point| tried[*point].open()).max().unwrap_or(0);
    let largest = layouts.iter().filter(|layout| is_searched(layout)).max_by_key(|layout| layout.open());
    let time = largest.and_then(|largest| time_to_compare(largest, settings, state, observation));
    if comparable(order.len(), longest, time, &state.cost) < order.len() {
        // The first evaluation decides: the best of each comes first.
        for point in order.into_iter().rev() {
            layouts[of[point]].resize(tried[point].open());
        }
        return Ok((layouts, Some(first)));
    }
    let shown: Vec<Layout> = order.iter().map(|point| tried[*point].clone()).collect();
    let (looks, second) = look(&shown, 0, settings, state, observation).await?;
    let mut best = vec![(f64::NEG_INFINITY, None); layouts.len()];
    for (point, looks) in order.into_iter().zip(looks) {
        let after = fits[point].after.iter().sum();
        let rated = looks.first().and_then(|look| rate(look.sum, look.tokens, after));
        let best = &mut best[of[point]];
        if rated.is_some_and(|rated| rated > best.0) {
            *best = (rated.unwrap_or_default(), Some(tried[point].open()));
        }
    }
    for (layout, (_, length)) in layouts.iter_mut().zip(best) {
        length.into_iter().for_each(|length| layout.resize(length));
    }
    Ok((layouts, Some(first.then(second))))
}

/// True if the length of the layout's hole is searched.
fn is_searched(layout: &Layout) -> bool {
    layout.shortest.is_some_and(|least| least < layout.open())
}

/// The points that a second evaluation compares, best first: for each of so many `layouts` the [`FINALISTS`] that fit best.
/// `of` is the layout of each point.
fn finalists(fits: &[Fit], of: &[usize], layouts: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..fits.len()).collect();
    order.sort_by(|a, b| fits[*b].rate.total_cmp(&fits[*a].rate));
    let mut places = vec![FINALISTS; layouts];
    order.retain(|point| {
        let left = &mut places[of[*point]];
        let taken = *left > 0;
        *left -= usize::from(taken);
        taken
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_short_length_is_looked_at_and_some_long_ones() {
        assert_eq!(points(1, 5), [1, 2, 3, 4, 5]);
        assert_eq!(points(7, 7), [7]);
        assert_eq!(points(1, 32)[..16], (1..=16).collect::<Vec<_>>());
        assert_eq!(points(1, 32)[16..], [18, 20, 22, 24, 26, 28, 30, 32]);
        assert_eq!(points(3, 20), (3..=20).collect::<Vec<_>>());
        assert_eq!(points(100, 1000).len(), 24);
        assert_eq!(points(100, 1000).last(), Some(&1000));
    }

    #[test]
    fn a_rate_weighs_sure_tokens_against_what_follows() {
        assert_eq!(rate(-2.0, 4, -3.0), Some(-2.5));
        assert_eq!(rate(0.0, 0, -1.0), None);
    }
}
