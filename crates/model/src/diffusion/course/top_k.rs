//! The reference's confidence order (`generate_samples` of its trainer).

use super::ranked::Candidate;
use super::{Reading, Sample};
use crate::diffusion::schedule::positions_kept_open;

/// T evaluations that each rank everything that was open at the start; the lowest ⌊M·t/T⌋ stay open.
#[derive(Clone, Copy, Debug)]
pub(in crate::diffusion) struct ReferenceTopK {
    /// T.
    steps: u32,
}

impl ReferenceTopK {
    pub(super) fn new(steps: u32) -> Self {
        Self { steps }
    }

    /// Everything that was open at the start: the reference ranks closed positions, too.
    pub(super) fn next(sample: &mut Sample) -> Reading {
        if sample.canvas.masked() == 0 {
            return Reading::default();
        }
        sample.round = sample.evaluations + 1;
        let mut positions = sample.blocks.targets().to_vec();
        if sample.generates_first() {
            // Position 0 has no row of its own; row 0 reads position 1.
            positions.remove(0);
            if positions.first() != Some(&1) && sample.canvas.tokens().len() > 1 {
                positions.insert(0, 1);
            }
        }
        if positions.is_empty() {
            sample.first_due = true;
            sample.commit_first();
        }
        Reading::of(positions)
    }

    pub(super) fn commit(self, sample: &mut Sample, found: &mut Vec<Candidate<'_>>) {
        let cut = self.cut(sample, found);
        let first = found.first().is_some_and(|candidate| candidate.read.score >= cut);
        sample.first_due = sample.first_token.is_some() && first;
        found.retain(|candidate| candidate.read.score >= cut && sample.canvas.is_open(candidate.position));
    }

    pub(super) fn left(self, sample: &Sample) -> u32 {
        self.steps - sample.evaluations
    }

    /// The score from which on positions are committed: those strictly below it stay open. After the last round
    /// everything is committed.
    fn cut(self, sample: &Sample, found: &[Candidate<'_>]) -> f32 {
        if sample.round >= self.steps {
            return f32::NEG_INFINITY;
        }
        let targets = sample.blocks.targets();
        let ranked = found.iter().filter(|candidate| targets.binary_search(&candidate.position).is_ok());
        let mut scores: Vec<f32> = ranked.map(|candidate| candidate.read.score).collect();
        // Position 0 shares the score of row 0, which reads position 1.
        if sample.generates_first() {
            scores.extend(found.first().map(|candidate| candidate.read.score));
        }
        scores.sort_unstable_by(f32::total_cmp);
        let keep = positions_kept_open(targets.len(), sample.round, self.steps);
        scores.get(keep).copied().unwrap_or(f32::INFINITY)
    }
}
