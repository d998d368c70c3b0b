//! ReMDM (2503.00307): the probabilities of committing a masked position and of masking a committed one
//! again, for T even steps of the time from 1 to 0.

use super::{Reading, Sample};
use crate::diffusion::canvas::Cell;
use crate::diffusion::noise::Purpose;
use crate::diffusion::policy::Revise;
use crate::predictor::Position;

/// T steps of time: each commits masked positions and takes committed ones back, every one by a number of its own.
#[derive(Clone, Copy, Debug)]
pub(in crate::diffusion) struct Remasking {
    revise: Revise,
    /// T.
    steps: u32,
}

impl Remasking {
    pub(super) fn new(revise: Revise, steps: u32) -> Self {
        Self { revise, steps }
    }

    /// The next step that commits something. Steps that only take back need no evaluation.
    pub(super) fn next(self, sample: &mut Sample) -> Reading {
        let mut positions = Vec::new();
        while positions.is_empty() && sample.round < self.steps {
            sample.round += 1;
            let commit = step(self.revise, sample.round, self.steps).commit;
            let number =
                |position: &Position| sample.noise.number(Purpose::Decision, sample.round, *position);
            let commits = |position: &Position| sample.canvas.is_open(*position) && number(position) < commit;
            positions = sample.blocks.targets().iter().copied().filter(commits).collect();
            if positions.is_empty() {
                for position in self.taken_back(sample) {
                    sample.remask(position);
                }
            }
        }
        Reading::of(positions)
    }

    /// The committed positions that the pending step takes back.
    pub(super) fn taken_back(self, sample: &Sample) -> Vec<Position> {
        if sample.round == 0 {
            return Vec::new();
        }
        let share = step(self.revise, sample.round, self.steps).remask;
        let number = |position: Position| sample.noise.number(Purpose::Decision, sample.round, position);
        let committed = |position: Position| sample.canvas.cells()[position as usize] == Cell::Committed;
        let targets = sample.blocks.targets().iter().copied();
        targets
            .filter(|&position| committed(position) && !sample.is_first(position) && number(position) < share)
            .collect()
    }

    pub(super) fn left(self, sample: &Sample) -> u32 {
        self.steps - sample.round + 1
    }
}

/// The effect of one step on each position, independently.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    /// A masked position is committed with this probability.
    commit: f64,
    /// A committed one becomes masked again with this one (σ).
    remask: f64,
}

/// Step `number` (from 1) of `steps`. The last one commits everything and takes nothing back.
fn step(revise: Revise, number: u32, steps: u32) -> Step {
    if number >= steps {
        return Step { commit: 1.0, remask: 0.0 };
    }
    let time = |i: u32| 1.0 - f64::from(i) / f64::from(steps);
    let t = time(number - 1);
    let s = time(number);
    let known = committed_share(revise, t);
    let next = committed_share(revise, s);
    // Larger σ would need more commits than there are masks.
    let most = if known > 0.0 { ((1.0 - next) / known).min(1.0) } else { 1.0 };
    let remask = match revise {
        Revise::None | Revise::Edit { .. } => 0.0,
        Revise::Cap(eta) => eta.min(most),
        Revise::Rescale(eta) => eta * most,
        Revise::Loop(eta) if (LOOP_END..LOOP_START).contains(&s) => eta.min(most),
        Revise::Loop(_) => 0.0,
    };
    // The share of committed positions moves from `known` to `next` whatever σ is.
    let commit = if known < 1.0 { (next - (1.0 - remask) * known) / (1.0 - known) } else { 1.0 };
    Step { commit: commit.clamp(0.0, 1.0), remask }
}

/// When the loop begins and ends, and how much is committed meanwhile.
const LOOP_START: f64 = 0.55;
const LOOP_END: f64 = 0.05;
const LOOP_SHARE: f64 = 0.9;

/// α: the share of committed positions at time `t`.
fn committed_share(revise: Revise, t: f64) -> f64 {
    if !matches!(revise, Revise::Loop(_)) {
        return 1.0 - t;
    }
    if t > LOOP_START {
        LOOP_SHARE * (1.0 - t) / (1.0 - LOOP_START)
    } else if t > LOOP_END {
        LOOP_SHARE
    } else {
        1.0 - (1.0 - LOOP_SHARE) * t / LOOP_END
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_revision_the_steps_are_the_references() {
        for number in 1..=16 {
            let step = step(Revise::Cap(0.0), number, 16);
            assert!((step.commit - 1.0 / f64::from(17 - number)).abs() < 1e-12);
            assert_eq!(step.remask, 0.0);
        }
    }

    /// ReMDM's loop: 90 % are committed down to time 0.55, then positions are taken back and committed anew until
    /// time 0.05, then the rest is committed.
    #[test]
    fn the_loop_has_the_published_times_and_share() {
        let share = |t| committed_share(Revise::Loop(0.1), t);
        for (t, expected) in
            [(1.0, 0.0), (0.775, 0.45), (0.6, 0.8), (0.5, 0.9), (0.1, 0.9), (0.025, 0.95), (0.0, 1.0)]
        {
            assert!((share(t) - expected).abs() < 1e-12, "time {t}: {}", share(t));
        }
        // Step n of 40 ends at time 1 − n/40.
        let remasks = |number: u32| step(Revise::Loop(0.1), number, 40).remask > 0.0;
        assert!((1..=17).chain(39..=40).all(|number| !remasks(number)));
        assert!((19..=37).all(remasks));
    }

    #[test]
    fn the_share_of_committed_positions_follows_its_schedule() {
        for revise in [Revise::Cap(0.02), Revise::Rescale(0.1), Revise::Loop(0.05)] {
            let mut share = 0.0;
            for number in 1..=200 {
                let step = step(revise, number, 200);
                share = share * (1.0 - step.remask) + (1.0 - share) * step.commit;
                let expected = committed_share(revise, 1.0 - f64::from(number) / 200.0);
                assert!((share - expected).abs() < 1e-9, "{revise:?} step {number}: {share} vs {expected}");
            }
            assert!((share - 1.0).abs() < 1e-12);
        }
    }
}
