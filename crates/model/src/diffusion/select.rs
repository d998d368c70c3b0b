//! The choice of the positions that are committed, among those that were read.

use super::noise::{Noise, Purpose};
use super::policy::{Quota, Score, ScoreKind};
use crate::predictor::{Position, Read, Want};

/// A position that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) position: Position,
    pub(super) read: &'a Read,
}

/// The candidates in the order of their wants.
pub(super) fn candidates<'a>(wants: &[Want], reads: &'a [Read]) -> Vec<Candidate<'a>> {
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

/// The number of ranked candidates, from the best, that are committed. `part` is the number that is due where the rule
/// has a schedule.
pub(super) fn quota(ranked: &[Candidate<'_>], quota: Quota, kind: ScoreKind, part: usize) -> usize {
    let probability = |candidate: &Candidate<'_>| quantity(kind, candidate.read).exp();
    match quota {
        Quota::Count(k) => k.min(ranked.len()),
        Quota::Evaluations(_) | Quota::Balanced(_) => part.clamp(1, ranked.len().max(1)),
        Quota::Times(_) => part.min(ranked.len()),
        Quota::Threshold(threshold) => {
            ranked.iter().take_while(|candidate| probability(candidate) >= threshold).count().max(1)
        }
        Quota::Factor(factor) => {
            let fits = |n: usize| (n + 1) as f64 * (1.0 - probability(&ranked[n - 1])) < factor;
            (1..=ranked.len()).rev().find(|&n| fits(n)).unwrap_or(1)
        }
        Quota::Entropy(budget) => entropy_prefix(ranked, budget),
        Quota::PerBlock { threshold, .. } => {
            let least = part.clamp(1, ranked.len().max(1));
            let above = |threshold| {
                ranked.iter().take_while(|candidate| is_above(kind, candidate.read, threshold)).count()
            };
            threshold.map_or(0, above).max(least)
        }
        // Decided by rounds and by the cut of all scores, not here.
        Quota::Labels(_) | Quota::Kept(_) => ranked.len(),
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

/// The score from which on the reference's confidence order commits, when `keep` positions may stay
/// open: every position that was open at the start is ranked by its fresh score, closed ones too, and
/// those strictly below the cut stay.
pub(super) fn cut(mut scores: Vec<f32>, keep: usize) -> f32 {
    scores.sort_unstable_by(f32::total_cmp);
    scores.get(keep).copied().unwrap_or(f32::INFINITY)
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
        quota(&ranked, rule, score.kind, 2)
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
        // At least two.
        let per_block = |threshold| Quota::PerBlock { steps: 1, threshold };
        assert_eq!(count(&probabilities, per_block(None)), 2);
        assert_eq!(count(&probabilities, per_block(Some(0.4))), 4);
        assert_eq!(count(&probabilities, per_block(Some(0.9))), 3);
        assert_eq!(count(&probabilities, per_block(Some(0.97))), 2);
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
