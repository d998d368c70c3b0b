//! The positions that an evaluation of a text masks.

use std::iter::zip;

use super::ScoringState;
use super::plan::Plan;
use crate::diffusion::noise::Purpose;
use crate::predictor::Position;

impl ScoringState {
    /// The positions to mask and to read in a round, ascending.
    pub(super) fn masked(&self, round: u32) -> Vec<Position> {
        let scored = self.scored.clone();
        match self.plan {
            Plan::LeftToRight(size) => scored.skip(round as usize * size).take(size).collect(),
            Plan::OneMissing => scored.skip(round as usize).take(1).collect(),
            // The bits of the numbers from 1 on run through the sets that are not empty.
            Plan::EverySet => {
                zip(0.., scored).filter(|(bit, _)| (round + 1) >> bit & 1 == 1).map(|(_, at)| at).collect()
            }
            Plan::Strata(samples) => self.stratum(round, samples),
            Plan::Grid(steps) => self.grid(round, steps).collect(),
        }
    }

    /// A uniform random set, its size uniform in the round's stratum. Numbers are addressed by the place
    /// among the scored positions, so contexts of different lengths do not spoil common random numbers.
    fn stratum(&self, round: u32, samples: u32) -> Vec<Position> {
        let number = |place: Position| self.noise.number(Purpose::Mask, round + 1, place);
        let count = self.scored.len();
        let level = count as f64 * (f64::from(round) + number(0)) / f64::from(samples);
        let mut keyed: Vec<(f64, Position)> =
            zip(1.., self.scored.clone()).map(|(place, at)| (number(place), at)).collect();
        keyed.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        // Rounding can lift the level of the last stratum to the count itself.
        keyed.truncate((1 + level as usize).min(count));
        let mut positions: Vec<Position> = keyed.into_iter().map(|(_, at)| at).collect();
        positions.sort_unstable();
        positions
    }

    /// The reference's masks: its rates and their comparison are in single precision.
    pub(super) fn grid(&self, round: u32, steps: u32) -> impl Iterator<Item = Position> {
        let rate = f64::from((steps - round) as f32 / steps as f32);
        let readable = Position::from(self.limits.shift)..self.scored.end;
        readable.filter(move |&position| {
            self.text[position as usize] == self.limits.mask_token
                || self.scored.contains(&position)
                    && self.noise.number(Purpose::Mask, round + 1, position) < rate
        })
    }
}
