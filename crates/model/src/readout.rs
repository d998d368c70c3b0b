//! One row of logits to one token and its log-probabilities, without sorting the vocabulary.

use crate::kernel;
use crate::predictor::{Read, Sampling};

/// Buckets of the nucleus search, by distance from the most probable token.
const BUCKETS: usize = 1024;
/// Buckets per nat of that distance; what lies beyond the last bucket shares it.
const PER_NAT: f32 = 32.0;

/// Buffers reused from row to row.
#[derive(Debug, Default)]
pub struct Scratch {
    /// exp((logit − largest)/temperature) per token; 0 for a token that cannot be drawn.
    weights: Vec<f32>,
    /// The tokens that can be drawn, ascending.
    kept: Vec<u32>,
    masses: Vec<f64>,
    crossing: Vec<(f32, u32)>,
}

/// Draws a token from `logits` (one per row of the embedding) by `uniform` in [0, 1). `None` when a logit
/// is not finite or nothing may be drawn.
///
/// The law is the reference's (`model.py`): divide by the temperature, keep the nucleus, draw. The draw
/// inverts the cumulative distribution over ascending token ids, so one number decides it and a change
/// of the logits in their last bits moves a draw only where `uniform` lies that close to an edge.
/// Weights are f32 like the logits; their sums and the draw are f64, so that no tail is cut off.
pub fn read_row(logits: &[f32], sampling: &Sampling, uniform: f64, scratch: &mut Scratch) -> Option<Read> {
    if !kernel::wide_sum(logits).is_finite() {
        return None;
    }
    let highest = kernel::largest(logits);
    kernel::exponentials(logits, highest, 1.0, &mut scratch.weights);
    let normaliser = kernel::wide_sum(&scratch.weights).ln();
    let logprob = |token: usize| (f64::from(logits[token] - highest) - normaliser) as f32;
    let best = argmax(logits, highest, &sampling.banned)?;
    let factor = (1.0 / sampling.temperature) as f32;
    if sampling.temperature <= 0.0 || !factor.is_finite() {
        return Some(Read { token: best as u32, score: logprob(best), logprob: logprob(best) });
    }
    let largest = logits[best];
    kernel::exponentials(logits, largest, factor, &mut scratch.weights);
    for &banned in &sampling.banned {
        if let Some(weight) = scratch.weights.get_mut(banned as usize) {
            *weight = 0.0;
        }
    }
    let mut mass = kernel::wide_sum(&scratch.weights);
    if sampling.top_p < 1.0 {
        let distance = |token: usize| (largest - logits[token]) * factor * PER_NAT;
        mass =
            keep_nucleus(scratch, |token| (distance(token) as usize).min(BUCKETS - 1), sampling.top_p * mass);
    } else {
        scratch.kept.clear();
        scratch.kept.extend(0..logits.len() as u32);
    }
    let token = draw(scratch, uniform * mass)?;
    let score = (f64::from(scratch.weights[token]) / mass).ln() as f32;
    Some(Read { token: token as u32, score, logprob: logprob(token) })
}

/// The most probable token that may be drawn, the lower id on a tie. `highest` is the largest logit.
fn argmax(logits: &[f32], highest: f32, banned: &[u32]) -> Option<usize> {
    let first = logits.iter().position(|&logit| logit == highest);
    if let Some(first) = first.filter(|first| !banned.contains(&(*first as u32))) {
        return Some(first);
    }
    let mut best: Option<usize> = None;
    for (token, &logit) in logits.iter().enumerate() {
        if best.is_none_or(|best| logit > logits[best]) && !banned.contains(&(token as u32)) {
            best = Some(token);
        }
    }
    best
}

/// Finds the nucleus, writes its tokens to `kept` and returns its mass. A token is dropped when the more
/// probable ones together exceed `limit`; among equals the lower id comes first.
///
/// `bucket` puts tokens into a histogram by their logit, the most probable ones first. It finds the
/// bucket in which the limit is crossed, and only that bucket is sorted.
fn keep_nucleus(scratch: &mut Scratch, bucket: impl Fn(usize) -> usize, limit: f64) -> f64 {
    let Scratch { weights, kept, masses, crossing } = scratch;
    masses.clear();
    masses.resize(BUCKETS, 0.0);
    for (token, &weight) in weights.iter().enumerate() {
        masses[bucket(token)] += f64::from(weight);
    }
    let mut before = 0.0;
    let mut cut = 0;
    while cut + 1 < BUCKETS && before + masses[cut] <= limit {
        before += masses[cut];
        cut += 1;
    }
    kept.clear();
    crossing.clear();
    for (token, weight) in (0..).zip(weights.iter()).filter(|(_, weight)| **weight > 0.0) {
        match bucket(token as usize).cmp(&cut) {
            std::cmp::Ordering::Less => kept.push(token),
            std::cmp::Ordering::Equal => crossing.push((*weight, token)),
            std::cmp::Ordering::Greater => {}
        }
    }
    crossing.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for &(weight, token) in crossing.iter() {
        if before > limit {
            break;
        }
        before += f64::from(weight);
        kept.push(token);
    }
    kept.sort_unstable();
    before
}

/// The smallest kept token whose cumulative weight exceeds `target`; the last drawable one when rounding
/// leaves the target at the very end.
fn draw(scratch: &Scratch, target: f64) -> Option<usize> {
    let mut cumulative = 0.0;
    let mut last = None;
    for token in scratch.kept.iter().map(|&token| token as usize) {
        let weight = scratch.weights[token];
        if weight > 0.0 {
            cumulative += f64::from(weight);
            last = Some(token);
            if cumulative > target {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, with a full sort.
    fn oracle(logits: &[f32], sampling: &Sampling, uniform: f64) -> (usize, f64) {
        let scaled: Vec<f64> = logits.iter().map(|&x| f64::from(x) / sampling.temperature).collect();
        let largest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let allowed = |token: usize| !sampling.banned.contains(&(token as u32));
        let weight = |token: usize| if allowed(token) { (scaled[token] - largest).exp() } else { 0.0 };
        let mut order: Vec<usize> = (0..logits.len()).filter(|&token| allowed(token)).collect();
        order.sort_by(|&a, &b| weight(b).total_cmp(&weight(a)).then(a.cmp(&b)));
        let total: f64 = order.iter().map(|&token| weight(token)).sum();
        let mut kept = vec![false; logits.len()];
        let mut before = 0.0;
        for &token in &order {
            kept[token] = before <= sampling.top_p * total;
            before += weight(token);
        }
        let mass: f64 = (0..logits.len()).filter(|&token| kept[token]).map(weight).sum();
        let mut cumulative = 0.0;
        let chosen = (0..logits.len()).filter(|&token| kept[token]).find(|&token| {
            cumulative += weight(token) / mass;
            cumulative > uniform
        });
        let chosen = chosen.unwrap_or(0);
        (chosen, (weight(chosen) / mass).ln())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn draws_equal_the_sorted_definition(
            logits in prop::collection::vec(-12.0_f32..12.0, 2..200),
            temperature in 0.2_f64..2.0, top_p in 0.05_f64..1.0, uniform in 0.0_f64..1.0,
            banned in prop::collection::vec(0_u32..200, 0..3), coarse in any::<bool>(),
        ) {
            // Coarse logits have many exact ties.
            let logits: Vec<f32> = logits.iter().map(|x| if coarse { x.round() } else { *x }).collect();
            let sampling = Sampling { temperature, top_p, banned };
            prop_assume!((0..logits.len()).any(|token| !sampling.banned.contains(&(token as u32))));
            let read = read_row(&logits, &sampling, uniform, &mut Scratch::default()).unwrap();
            let (token, score) = oracle(&logits, &sampling, uniform);
            prop_assert_eq!(read.token as usize, token);
            prop_assert!((f64::from(read.score) - score).abs() < 1e-5);
        }
    }

    #[test]
    fn temperature_zero_takes_the_lower_id_of_a_tie_and_skips_banned_ones() {
        let greedy = |banned: Vec<u32>| {
            let sampling = Sampling { temperature: 0.0, top_p: 0.9, banned };
            read_row(&[1.0, 3.0, 3.0, 2.0], &sampling, 0.99, &mut Scratch::default()).unwrap().token
        };
        assert_eq!(greedy(vec![]), 1);
        assert_eq!(greedy(vec![1]), 2);
        assert_eq!(greedy(vec![1, 2]), 3);
    }

    #[test]
    fn a_banned_token_that_outweighs_all_others_leaves_their_law_alone() {
        let sampling = Sampling { banned: vec![1], ..Sampling::default() };
        let read =
            |logits: &[f32], uniform| read_row(logits, &sampling, uniform, &mut Scratch::default()).unwrap();
        for uniform in [0.1, 0.4, 0.6, 0.9] {
            let (loud, quiet) =
                (read(&[0.5, 80.0, 0.5, 1.0], uniform), read(&[0.5, -80.0, 0.5, 1.0], uniform));
            assert_eq!((loud.token, loud.score), (quiet.token, quiet.score));
        }
    }

    #[test]
    fn rows_that_are_not_finite_are_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let read = read_row(&[0.0, bad], &Sampling::default(), 0.5, &mut Scratch::default());
            assert_eq!(read, None, "{bad}");
        }
        let all = Sampling { banned: vec![0, 1], ..Sampling::default() };
        assert_eq!(read_row(&[0.0, 1.0], &all, 0.5, &mut Scratch::default()), None);
    }
}
