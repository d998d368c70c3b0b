//! One row of logits to one token and its log-probabilities, without sorting the vocabulary.

use crate::predictor::{Read, Sampling};

/// Buckets of the nucleus search, by distance from the most probable token.
const BUCKETS: usize = 1024;
/// Buckets per nat of that distance; what lies beyond the last bucket shares it.
const PER_NAT: f64 = 32.0;

/// Buffers reused from row to row.
#[derive(Debug, Default)]
pub struct Scratch {
    /// exp((logit − largest)/temperature) per token; 0 for a token that cannot be drawn.
    weights: Vec<f64>,
    masses: Vec<f64>,
    crossing: Vec<(f64, u32)>,
}

/// Draws a token from `logits` (one per row of the embedding) by `uniform` in [0, 1). `None` when a logit
/// is not finite or nothing may be drawn.
///
/// The law is the reference's (`model.py`): divide by the temperature, keep the nucleus, draw. The draw
/// inverts the cumulative distribution over ascending token ids, so one number decides it and a change
/// of the logits in their last bits moves a draw only where `uniform` lies that close to an edge.
pub fn read_row(logits: &[f32], sampling: &Sampling, uniform: f64, scratch: &mut Scratch) -> Option<Read> {
    let (raw_largest, normaliser) = log_normaliser(logits)?;
    let logprob = |token: usize| ((f64::from(logits[token]) - raw_largest) - normaliser) as f32;
    if sampling.temperature <= 0.0 {
        let token = argmax(logits, &sampling.banned)?;
        return Some(Read { token: token as u32, score: logprob(token), logprob: logprob(token) });
    }
    let largest = f64::from(logits[argmax(logits, &sampling.banned)?]);
    let factor = 1.0 / sampling.temperature;
    let weights = &mut scratch.weights;
    weights.clear();
    weights.extend(logits.iter().map(|&logit| ((f64::from(logit) - largest) * factor).exp()));
    for &banned in &sampling.banned {
        if let Some(weight) = weights.get_mut(banned as usize) {
            *weight = 0.0;
        }
    }
    let mut mass: f64 = weights.iter().sum();
    if sampling.top_p < 1.0 {
        mass = keep_nucleus(weights, sampling.top_p * mass, &mut scratch.masses, &mut scratch.crossing);
    }
    let token = draw(&scratch.weights, uniform * mass)?;
    let score = (scratch.weights[token] / mass).ln() as f32;
    Some(Read { token: token as u32, score, logprob: logprob(token) })
}

/// The largest logit and ln Σ exp(logit − largest); `None` when a logit is NaN or infinite.
fn log_normaliser(logits: &[f32]) -> Option<(f64, f64)> {
    // A sum is finite only if every term is; f64 cannot overflow from f32 terms.
    if !logits.iter().map(|&logit| f64::from(logit)).sum::<f64>().is_finite() {
        return None;
    }
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from((logit - largest).exp())).sum();
    Some((f64::from(largest), sum.ln()))
}

/// The most probable token that may be drawn, the lower id on a tie.
fn argmax(logits: &[f32], banned: &[u32]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (token, &logit) in logits.iter().enumerate() {
        if best.is_none_or(|best| logit > logits[best]) && !banned.contains(&(token as u32)) {
            best = Some(token);
        }
    }
    best
}

/// Sets the weight of every token outside the nucleus to 0 and returns the mass that stays. A token is
/// dropped when the more probable ones together exceed `limit`; among equals the lower id comes first.
///
/// Weights are at most 1. A histogram over their logarithm finds the bucket in which the limit is
/// crossed, and only that bucket is sorted.
fn keep_nucleus(
    weights: &mut [f64],
    limit: f64,
    masses: &mut Vec<f64>,
    crossing: &mut Vec<(f64, u32)>,
) -> f64 {
    let bucket = |weight: f64| ((-weight.ln() * PER_NAT) as usize).min(BUCKETS - 1);
    masses.clear();
    masses.resize(BUCKETS, 0.0);
    for &weight in weights.iter().filter(|weight| **weight > 0.0) {
        masses[bucket(weight)] += weight;
    }
    let mut before = 0.0;
    let mut cut = 0;
    while cut + 1 < BUCKETS && before + masses[cut] <= limit {
        before += masses[cut];
        cut += 1;
    }
    crossing.clear();
    for (token, weight) in weights.iter_mut().enumerate().filter(|(_, weight)| **weight > 0.0) {
        match bucket(*weight).cmp(&cut) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => crossing.push((*weight, token as u32)),
            std::cmp::Ordering::Greater => *weight = 0.0,
        }
    }
    crossing.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for &(weight, token) in &*crossing {
        if before > limit {
            weights[token as usize] = 0.0;
        } else {
            before += weight;
        }
    }
    before
}

/// The smallest token whose cumulative weight exceeds `target`; the last drawable one when rounding
/// leaves the target at the very end.
fn draw(weights: &[f64], target: f64) -> Option<usize> {
    let mut cumulative = 0.0;
    let mut last = None;
    for (token, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        cumulative += weight;
        last = Some(token);
        if cumulative > target {
            break;
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
    fn rows_that_are_not_finite_are_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let read = read_row(&[0.0, bad], &Sampling::default(), 0.5, &mut Scratch::default());
            assert_eq!(read, None, "{bad}");
        }
        let all = Sampling { banned: vec![0, 1], ..Sampling::default() };
        assert_eq!(read_row(&[0.0, 1.0], &all, 0.5, &mut Scratch::default()), None);
    }
}
