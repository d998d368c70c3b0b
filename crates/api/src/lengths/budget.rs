//! The part of a request's time budget that looking for a length may take: fewer lengths are compared and filled where it does
//! not suffice for all.

use std::iter::repeat_n;
use std::time::Duration;

use unmask_scheduler::{CostModel, Work};

use super::SHOWN;
use crate::clock::now;
use crate::observation::Observation;
use crate::prompt::{Layout, Piece};
use crate::request::options::Settings;
use crate::state::AppState;

/// The length that is taken where a request leaves no time to compare any.
const UNCOMPARED: usize = 4;

/// The time that a request's budget leaves for comparing lengths: half of what is left beside an evaluation of `layout`,
/// so that the other half fills it. `None` without a budget.
pub(super) fn time_to_compare(
    layout: &Layout,
    settings: &Settings,
    state: &AppState,
    observation: &Observation,
) -> Option<Duration> {
    let left = settings.times.budget_left(observation.arrived(), now())?;
    let filling = state.cost.time(Work::canvas(positions(layout)));
    Some(left.saturating_sub(filling) / 2)
}

/// The number of `canvases`, given by their positions, that one evaluation computes in a time: the first of them.
fn canvases_within(time: Duration, canvases: impl Iterator<Item = usize>, cost: &CostModel) -> usize {
    let mut work = Work::default();
    let fits = |positions: &usize| {
        work += Work::canvas(*positions);
        cost.time(work) <= time
    };
    canvases.take_while(fits).count()
}

/// Positions that are shown of a canvas whose hole has a length, at most.
fn shown(length: usize) -> usize {
    SHOWN.0 + length + SHOWN.1
}

/// Lengths, at most `count`, that one evaluation compares in a time. `longest` is the longest hole among them.
pub(super) fn comparable(count: usize, longest: usize, time: Option<Duration>, cost: &CostModel) -> usize {
    time.map_or(count, |time| canvases_within(time, repeat_n(shown(longest), count), cost))
}

/// The `lengths` that a request's budget leaves time to compare, or one of them. `layout` is a canvas with the longest, one
/// of `searched` ones that share the time.
#[must_use]
pub fn in_time(
    lengths: Vec<Vec<usize>>,
    (layout, searched): (&Layout, usize),
    settings: &Settings,
    state: &AppState,
    observation: &Observation,
) -> Vec<Vec<usize>> {
    let time = time_to_compare(layout, settings, state, observation);
    let time = time.map(|time| time / u32::try_from(searched.max(1)).unwrap_or(u32::MAX));
    among(lengths, time, &state.cost)
}

/// The shortest of the ascending `lengths`, as many as there is `time` to compare: most holes are short, and a short one takes
/// less time. Without time for two, the one nearest to [`UNCOMPARED`].
fn among(mut lengths: Vec<Vec<usize>>, time: Option<Duration>, cost: &CostModel) -> Vec<Vec<usize>> {
    let Some(time) = time else { return lengths };
    let holes = lengths.first().map_or(1, Vec::len).max(1);
    let canvases = lengths.iter().flatten().map(|length| shown(*length));
    let count = canvases_within(time, canvases, cost) / holes;
    if count < 2 {
        let away =
            |lengths: &Vec<usize>| lengths.iter().map(|length| length.abs_diff(UNCOMPARED)).sum::<usize>();
        return lengths.into_iter().min_by_key(away).into_iter().collect();
    }
    lengths.truncate(count);
    lengths
}

/// Lengths, from 1 to `most`, that can be filled in the time that a request's budget leaves, with one canvas such as
/// `layout` for each.
#[must_use]
pub fn fillable(
    most: usize,
    layout: &Layout,
    settings: &Settings,
    state: &AppState,
    observation: &Observation,
) -> usize {
    let left = settings.times.budget_left(observation.arrived(), now());
    left.map_or(most, |left| canvases_within(left, repeat_n(positions(layout), most), &state.cost).max(1))
}

/// Positions of a layout, without a document start.
fn positions(layout: &Layout) -> usize {
    layout.pieces.iter().map(Piece::length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundredth of a millisecond a row: the canvas of a length has 80 rows more than that.
    #[test]
    fn a_budget_bounds_how_many_lengths_are_compared() {
        let all: Vec<Vec<usize>> = (1..=24).map(|length| vec![length]).collect();
        let cost = CostModel { overhead: 0.0, per_row: 1e-5, per_pair: 0.0 };
        let compared = |time| among(all.clone(), time, &cost);
        assert_eq!(compared(None), all);
        assert_eq!(compared(Some(Duration::from_secs(1))), all);
        assert_eq!(compared(Some(Duration::from_micros(4_500))), [[1], [2], [3], [4], [5]]);
        assert_eq!(compared(Some(Duration::from_micros(1_700))), [[1], [2]]);
        for hurried in [0, 500, 1_500] {
            assert_eq!(compared(Some(Duration::from_micros(hurried))), [[UNCOMPARED]]);
        }
        // Two holes have their lengths compared apart from each other.
        let pairs: Vec<Vec<usize>> = (1..=24).map(|length| vec![length, length]).collect();
        assert_eq!(among(pairs, Some(Duration::from_micros(4_500)), &cost), [[1, 1], [2, 2]]);
    }
}
