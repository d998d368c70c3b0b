//! The open positions of the window by rank: a number of them is committed, from the best.

use super::{Reading, Sample};
use crate::diffusion::noise::{Noise, Purpose};
use crate::diffusion::policy::{Quota, Score, ScoreKind};
use crate::diffusion::schedule::{balanced_evaluations, part_size, share};
use crate::predictor::{Position, Read, Want};

/// A position that was read.
#[derive(Clone, Copy, Debug)]
pub(in crate::diffusion) struct Candidate<'a> {
    pub(in crate::diffusion) position: Position,
    pub(in crate::diffusion) read: &'a Read,
}

/// The candidates in the order of their wants.
pub(in crate::diffusion) fn candidates<'a>(wants: &[Want], reads: &'a [Read]) -> Vec<Candidate<'a>> {
    wants.iter().zip(reads).map(|(want, read)| Candidate { position: want.position, read }).collect()
}

/// Sorts candidates best first; the lower position on a tie.
pub(super) fn rank(candidates: &mut [Candidate<'_>], score: Score, noise: &Noise, round: u32) {
    let key = |candidate: &Candidate<'_>| {
        let value = match score.kind {
            ScoreKind::Position => -f64::from(candidate.position),
            kind => quantity(kind, candidate.read),
        };
        if score.temperature <= 0.0 {
            return value;
        }
        // Drawing without replacement in proportion to exp(value/τ) is taking the largest of value/τ plus
        // Gumbel noise. Dream weighs probabilities here, not their logarithms.
        let value = match score.kind {
            ScoreKind::Drawn | ScoreKind::Model => value.exp(),
            ScoreKind::Margin | ScoreKind::Entropy | ScoreKind::Position => value,
        };
        let uniform = noise.number(Purpose::Decision, round, candidate.position).max(f64::MIN_POSITIVE);
        value / score.temperature - (-uniform.ln()).ln()
    };
    candidates.sort_by(|a, b| key(b).total_cmp(&key(a)).then(a.position.cmp(&b.position)));
}

fn quantity(kind: ScoreKind, read: &Read) -> f64 {
    f64::from(match kind {
        ScoreKind::Drawn => read.score,
        ScoreKind::Model => read.confidence,
        ScoreKind::Margin => read.margin,
        ScoreKind::Entropy => -read.entropy,
        ScoreKind::Position => 0.0,
    })
}

/// Returns true if the token that was drawn has a larger probability than the threshold.
pub(super) fn is_above(kind: ScoreKind, read: &Read, threshold: f64) -> bool {
    quantity(kind, read).exp() > threshold
}

/// Evaluations that each read every open position of the window, and commit as many of the best as the quota says.
#[derive(Clone, Copy, Debug)]
pub(in crate::diffusion) struct Ranked {
    score: Score,
    quota: Quota,
}

impl Ranked {
    pub(super) fn new(score: Score, quota: Quota) -> Self {
        Self { score, quota }
    }

    pub(super) fn next(sample: &mut Sample) -> Reading {
        sample.round = sample.evaluations + 1;
        let mut visible = sample.visible();
        if visible.first().is_some_and(|first| sample.leads(sample.blocks.of(*first))) {
            visible.truncate(1);
        }
        Reading::of(visible)
    }

    pub(super) fn commit(self, sample: &Sample, found: &mut Vec<Candidate<'_>>) {
        let part = self.part(sample, found);
        rank(found, self.score, &sample.noise, sample.round);
        found.truncate(self.count(found, part));
    }

    /// The number of positions that fill the window evenly in its share of the evaluations.
    fn part(self, sample: &Sample, found: &[Candidate<'_>]) -> usize {
        let block = found.first().map_or(0, |candidate| sample.blocks.of(candidate.position));
        let members = sample.blocks.members(block).len();
        let blocks = sample.blocks.count() as u32;
        let parts = match self.quota {
            Quota::Evaluations(total) => share(total, block as u32, blocks),
            Quota::Balanced(steps) => balanced_evaluations(share(steps, block as u32, blocks), members),
            _ => 1,
        };
        part_size(members, parts as usize, members - found.len().min(members))
    }

    /// The number of ranked candidates, from the best, that are committed. `part` is the number that fills the window
    /// evenly.
    fn count(self, ranked: &[Candidate<'_>], part: usize) -> usize {
        let probability = |candidate: &Candidate<'_>| quantity(self.score.kind, candidate.read).exp();
        match self.quota {
            Quota::Count(k) => k.min(ranked.len()),
            Quota::Evaluations(_) | Quota::Balanced(_) => part.clamp(1, ranked.len().max(1)),
            Quota::Threshold(threshold) => {
                ranked.iter().take_while(|candidate| probability(candidate) >= threshold).count().max(1)
            }
            Quota::Factor(factor) => {
                let fits = |n: usize| (n + 1) as f64 * (1.0 - probability(&ranked[n - 1])) < factor;
                (1..=ranked.len()).rev().find(|&n| fits(n)).unwrap_or(1)
            }
            Quota::Entropy(budget) => entropy_prefix(ranked, budget),
            // These have courses of their own.
            Quota::OwnRound(_)
            | Quota::DreamSchedule(_)
            | Quota::ReferenceTopK(_)
            | Quota::PerBlock { .. } => ranked.len(),
        }
    }
}

/// Length of the longest prefix with ΣH − max H ≤ `budget` nats, at least 1. Drawing the prefix
/// independently costs at most that: KL(joint ‖ product) = ΣH − H(joint) ≤ ΣH − max H (2505.24857).
pub(super) fn entropy_prefix(ordered: &[Candidate<'_>], budget: f64) -> usize {
    let mut sum = 0.0;
    let mut largest = 0.0_f64;
    let fits = |candidate: &&Candidate<'_>| {
        let entropy = f64::from(candidate.read.entropy);
        sum += entropy;
        largest = largest.max(entropy);
        sum - largest <= budget
    };
    ordered.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(probabilities: &[f32]) -> Vec<Read> {
        let read = |p: &f32| Read { score: p.ln(), confidence: p.ln(), entropy: 1.0 - p, ..Read::default() };
        probabilities.iter().map(read).collect()
    }

    fn count(probabilities: &[f32], rule: Quota) -> usize {
        let reads = reads(probabilities);
        let mut ranked: Vec<Candidate<'_>> =
            (0..).zip(&reads).map(|(position, read)| Candidate { position, read }).collect();
        let score = Score { kind: ScoreKind::Drawn, temperature: 0.0 };
        rank(&mut ranked, score, &Noise::default(), 1);
        Ranked::new(score, rule).count(&ranked, 2)
    }

    #[test]
    fn quotas_follow_their_rules() {
        let probabilities = [0.5, 0.99, 0.92, 0.95];
        assert_eq!(count(&probabilities, Quota::Count(3)), 3);
        assert_eq!(count(&probabilities, Quota::Count(9)), 4);
        assert_eq!(count(&probabilities, Quota::Threshold(0.9)), 3);
        assert_eq!(count(&probabilities, Quota::Threshold(1.0)), 1);
        // (n + 1)(1 − c_n): 0.02, 0.15, 0.32, 2.5
        assert_eq!(count(&probabilities, Quota::Factor(0.2)), 2);
        assert_eq!(count(&probabilities, Quota::Factor(0.01)), 1);
        // ΣH − max H: 0, 0.01, 0.06, 0.14
        assert_eq!(count(&probabilities, Quota::Entropy(0.07)), 3);
        assert_eq!(count(&probabilities, Quota::Evaluations(2)), 2);
    }

    #[test]
    fn ties_go_to_the_lower_position() {
        let reads = reads(&[0.5, 0.5, 0.7]);
        let mut ranked: Vec<Candidate<'_>> =
            (0..).zip(&reads).map(|(position, read)| Candidate { position, read }).collect();
        rank(&mut ranked, Score { kind: ScoreKind::Model, temperature: 0.0 }, &Noise::default(), 1);
        let order: Vec<Position> = ranked.iter().map(|candidate| candidate.position).collect();
        assert_eq!(order, [2, 0, 1]);
    }
}
