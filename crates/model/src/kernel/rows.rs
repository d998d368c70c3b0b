//! Passes over one row of logits, for the readout. Every loop does one thing: so they vectorise.

use super::elementwise::LANES;
use super::instructions::{Instructions, Kernel};

/// Elements that are looked at together before any of them is looked at alone.
const CHUNK: usize = 64;

/// What an element counts for.
#[derive(Clone, Copy, Debug)]
pub enum Mass<'a> {
    /// Its weight.
    Weights(&'a [f32]),
    /// 1 if its weight is above 0.
    Drawable(&'a [f32]),
    /// 1.
    All,
}

/// Σ mass over the elements with `logits[i] > threshold`, in f64.
#[must_use]
pub fn mass_above(logits: &[f32], mass: Mass<'_>, threshold: f32) -> f64 {
    let instructions = Instructions::detect();
    match mass {
        Mass::Weights(weights) => {
            instructions.run(Above { logits, weights, mass: |weight| weight, threshold })
        }
        Mass::Drawable(weights) => {
            let mass = |weight: f32| if weight > 0.0 { 1.0 } else { 0.0 };
            instructions.run(Above { logits, weights, mass, threshold })
        }
        Mass::All => instructions.run(Above { logits, weights: logits, mass: |_| 1.0, threshold }),
    }
}

struct Above<'a, F> {
    logits: &'a [f32],
    weights: &'a [f32],
    mass: F,
    threshold: f32,
}

impl<F: Fn(f32) -> f32> Kernel for Above<'_, F> {
    type Output = f64;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f64 {
        /// Twice as many as elsewhere: with fewer, the choice is made by branches.
        const WIDE: usize = 2 * LANES;
        let Self { logits, weights, mass, threshold } = self;
        let (logits, last_logits) = logits.as_chunks::<WIDE>();
        let (weights, last_weights) = weights.as_chunks::<WIDE>();
        let term = |logit: f32, weight: f32| f64::from(if logit > threshold { mass(weight) } else { 0.0 });
        let mut lanes = [0.0; WIDE];
        for (logits, weights) in logits.iter().zip(weights) {
            for ((lane, logit), weight) in lanes.iter_mut().zip(logits).zip(weights) {
                *lane += term(*logit, *weight);
            }
        }
        for ((lane, logit), weight) in lanes.iter_mut().zip(last_logits).zip(last_weights) {
            *lane += term(*logit, *weight);
        }
        lanes.iter().sum()
    }
}

/// Sets the weights of all elements to 0 but of those above `lowest` and of those equal to it up to
/// index `last`.
pub fn keep_from(logits: &[f32], lowest: f32, last: usize, weights: &mut [f32]) {
    let (first, rest) = weights.split_at_mut((last + 1).min(logits.len()));
    let (first_logits, rest_logits) = logits.split_at(first.len());
    let instructions = Instructions::detect();
    instructions.run(Keep { logits: first_logits, keeps: |logit| logit >= lowest, weights: first });
    instructions.run(Keep { logits: rest_logits, keeps: |logit| logit > lowest, weights: rest });
}

struct Keep<'a, F> {
    logits: &'a [f32],
    keeps: F,
    weights: &'a mut [f32],
}

impl<F: Fn(f32) -> bool> Kernel for Keep<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (weight, logit) in self.weights.iter_mut().zip(self.logits) {
            *weight = if (self.keeps)(*logit) { *weight } else { 0.0 };
        }
    }
}

/// Writes the indices, ascending, of elements with `low < logits[i] <= high`.
pub fn between(logits: &[f32], low: f32, high: f32, found: &mut Vec<u32>) {
    Instructions::detect().run(Between { logits, low, high, found });
}

struct Between<'a> {
    logits: &'a [f32],
    low: f32,
    high: f32,
    found: &'a mut Vec<u32>,
}

impl Kernel for Between<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { logits, low, high, found } = self;
        let inside = |logit: f32| logit > low && logit <= high;
        found.clear();
        for (number, chunk) in logits.chunks(CHUNK).enumerate() {
            if chunk.iter().map(|logit| u32::from(inside(*logit))).sum::<u32>() == 0 {
                continue;
            }
            let places = (0..).zip(chunk).filter(|(_, logit)| inside(**logit));
            found.extend(places.map(|(i, _): (u32, _)| (number * CHUNK) as u32 + i));
        }
    }
}

/// Σ weight · min(max((largest − logit) · factor, 0), most), in f64.
#[must_use]
pub fn weighted_distance(logits: &[f32], weights: &[f32], largest: f32, factor: f32, most: f32) -> f64 {
    Instructions::detect().run(Distance { logits, weights, largest, factor, most })
}

struct Distance<'a> {
    logits: &'a [f32],
    weights: &'a [f32],
    largest: f32,
    factor: f32,
    most: f32,
}

impl Kernel for Distance<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f64 {
        let Self { logits, weights, largest, factor, most } = self;
        let term =
            |logit: f32, weight: f32| f64::from(((largest - logit) * factor).clamp(0.0, most) * weight);
        let (logits, last_logits) = logits.as_chunks::<LANES>();
        let (weights, last_weights) = weights.as_chunks::<LANES>();
        let mut lanes = [0.0; LANES];
        for (logits, weights) in logits.iter().zip(weights) {
            for ((lane, logit), weight) in lanes.iter_mut().zip(logits).zip(weights) {
                *lane += term(*logit, *weight);
            }
        }
        for ((lane, logit), weight) in lanes.iter_mut().zip(last_logits).zip(last_weights) {
            *lane += term(*logit, *weight);
        }
        lanes.iter().sum()
    }
}

/// The index of the first element equal to `value`.
#[must_use]
pub fn position(values: &[f32], value: f32) -> Option<usize> {
    Instructions::detect().run(Position { values, value })
}

struct Position<'a> {
    values: &'a [f32],
    value: f32,
}

impl Kernel for Position<'_> {
    type Output = Option<usize>;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Option<usize> {
        let Self { values, value } = self;
        let holds = |chunk: &[f32]| chunk.iter().map(|x| u32::from(*x == value)).sum::<u32>() > 0;
        let number = values.chunks(CHUNK).position(holds)?;
        let inside = values[number * CHUNK..].iter().position(|x| *x == value)?;
        Some(number * CHUNK + inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_do_what_a_plain_loop_does() {
        for count in [0, 1, 31, 32, 63, 64, 65, 200] {
            let logits: Vec<f32> = (0..count).map(|i| ((i * 37) % 11) as f32 - 5.0).collect();
            let weights: Vec<f32> = (0..count).map(|i| (i % 3) as f32 / 2.0).collect();
            let pairs = || logits.iter().copied().zip(weights.iter().copied());
            for threshold in [-6.0, 0.0, 2.0, 6.0] {
                let above = || pairs().filter(|(logit, _)| *logit > threshold);
                let found = |mass| mass_above(&logits, mass, threshold);
                let expected: f64 = above().map(|(_, weight)| f64::from(weight)).sum();
                assert_eq!(found(Mass::Weights(&weights)), expected);
                let drawable = above().filter(|(_, weight)| *weight > 0.0).count();
                assert_eq!(found(Mass::Drawable(&weights)), drawable as f64);
                assert_eq!(found(Mass::All), above().count() as f64);
                let mut places = vec![7];
                between(&logits, threshold, 3.0, &mut places);
                let inside = |&place: &u32| {
                    let logit = logits[place as usize];
                    logit > threshold && logit <= 3.0
                };
                assert_eq!(places, (0..count as u32).filter(inside).collect::<Vec<_>>());
                assert_eq!(position(&logits, threshold), logits.iter().position(|logit| *logit == threshold));
                let mut kept = weights.clone();
                keep_from(&logits, threshold, count / 2, &mut kept);
                for (i, (logit, weight)) in pairs().enumerate() {
                    let stays = logit > threshold || (logit == threshold && i <= count / 2);
                    assert_eq!(kept[i], if stays { weight } else { 0.0 });
                }
            }
            let expected: f64 = pairs().map(|(x, w)| f64::from(((4.0 - x) * 0.5).clamp(0.0, 3.0) * w)).sum();
            assert!((weighted_distance(&logits, &weights, 4.0, 0.5, 3.0) - expected).abs() < 1e-9);
        }
    }
}
