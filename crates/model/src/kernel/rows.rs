//! Passes over one row of logits, for the readout. Every loop does one thing: so they vectorise.

use super::instructions::{Instructions, Kernel};
use super::lanes::{LANES, Lanes};

/// Elements whose places are collected before they join the others.
const CHUNK: usize = 256;

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
    fn run<L: Lanes>(self, _: L) -> f64 {
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
    fn run<L: Lanes>(self, lanes: L) {
        let Self { logits, low, high, found } = self;
        found.clear();
        let (floor, ceiling) = (lanes.splat(low), lanes.splat(high));
        let (chunks, last) = logits.as_chunks();
        let mut first = 0;
        for chunks in chunks.chunks(CHUNK / LANES) {
            // One more: the last places are written as sixteen.
            let mut places = [0; CHUNK + LANES];
            let mut count = 0;
            for chunk in chunks {
                let logits = lanes.load(chunk);
                let inside = lanes.above(logits, floor) & !lanes.above(logits, ceiling);
                if let Some(places) = places[count..].first_chunk_mut() {
                    lanes.places(inside, first, places);
                }
                count += inside.count_ones() as usize;
                first += LANES as u32;
            }
            found.extend_from_slice(&places[..count]);
        }
        let inside = |logit: f32| logit > low && logit <= high;
        found.extend((first..).zip(last).filter(|(_, logit)| inside(**logit)).map(|(place, _)| place));
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
    fn run<L: Lanes>(self, _: L) -> f64 {
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
    fn run<L: Lanes>(self, lanes: L) -> Option<usize> {
        let Self { values, value } = self;
        let sought = lanes.splat(value);
        let (chunks, last) = values.as_chunks();
        for (number, chunk) in chunks.iter().enumerate() {
            let values = lanes.load(chunk);
            let equal = !(lanes.above(values, sought) | lanes.above(sought, values));
            // What is no number is neither above nor below.
            if equal != 0
                && let Some(place) = chunk.iter().position(|x| *x == value)
            {
                return Some(number * LANES + place);
            }
        }
        last.iter().position(|x| *x == value).map(|place| chunks.len() * LANES + place)
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
            }
            let expected: f64 = pairs().map(|(x, w)| f64::from(((4.0 - x) * 0.5).clamp(0.0, 3.0) * w)).sum();
            assert!((weighted_distance(&logits, &weights, 4.0, 0.5, 3.0) - expected).abs() < 1e-9);
        }
    }
}
