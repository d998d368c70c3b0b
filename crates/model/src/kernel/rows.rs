//! Passes over one row of logits, for the readout. Every loop does one thing, so that compilers vectorise it.

#[cfg(test)]
mod tests;

use super::cpu_features::{CpuFeatures, Kernel};
use super::lanes::{LANES, Lanes};

/// Elements whose places are collected before they join the others.
const CHUNK: usize = 256;

/// Positive numbers that are added in f32 before the sum is widened: at most a rounding of each.
pub(super) const FEW: usize = 4;

/// The contribution of an element to a sum.
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
pub fn mass_above(cpu: CpuFeatures, logits: &[f32], mass: Mass<'_>, threshold: f32) -> f64 {
    match mass {
        Mass::Weights(weights) => cpu.run(MassAbove { logits, weights, threshold }),
        Mass::Drawable(weights) => cpu.run(CountAbove { logits, weights, threshold }) as f64,
        Mass::All => cpu.run(CountAbove { logits, weights: &[], threshold }) as f64,
    }
}

struct MassAbove<'a> {
    logits: &'a [f32],
    weights: &'a [f32],
    threshold: f32,
}

impl Kernel for MassAbove<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f64 {
        let Self { logits, weights, threshold } = self;
        let (logits, last_logits) = logits.as_chunks();
        let (weights, last_weights) = weights.as_chunks();
        let ((fours, logits), (weight_fours, weights)) =
            (logits.as_chunks::<FEW>(), weights.as_chunks::<FEW>());
        let floor = lanes.splat(threshold);
        let mut sums = [0.0; LANES];
        for (logits, weights) in fours.iter().zip(weight_fours) {
            let mut few = lanes.splat(0.0);
            for (logits, weights) in logits.iter().zip(weights) {
                few = lanes.add(few, lanes.if_above(lanes.load(logits), floor, lanes.load(weights)));
            }
            lanes.add_wide(&mut sums, few);
        }
        for (logits, weights) in logits.iter().zip(weights) {
            lanes.add_wide(&mut sums, lanes.if_above(lanes.load(logits), floor, lanes.load(weights)));
        }
        for ((sum, logit), weight) in sums.iter_mut().zip(last_logits).zip(last_weights) {
            *sum += if *logit > threshold { f64::from(*weight) } else { 0.0 };
        }
        sums.iter().sum()
    }
}

/// Counts elements above the threshold, and of those only what has a weight if there are weights.
struct CountAbove<'a> {
    logits: &'a [f32],
    weights: &'a [f32],
    threshold: f32,
}

impl Kernel for CountAbove<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> u64 {
        let Self { logits, weights, threshold } = self;
        let (logits, last_logits) = logits.as_chunks();
        let (weights, last_weights) = weights.as_chunks();
        let floor = lanes.splat(threshold);
        let zero = lanes.splat(0.0);
        let mut count = 0;
        for (number, logits) in logits.iter().enumerate() {
            let mut counted = lanes.above(lanes.load(logits), floor);
            if let Some(weights) = weights.get(number) {
                counted &= lanes.above(lanes.load(weights), zero);
            }
            count += u64::from(counted.count_ones());
        }
        let mut last_weights = last_weights.iter();
        for logit in last_logits {
            let drawable = last_weights.next().is_none_or(|weight| *weight > 0.0);
            count += u64::from(*logit > threshold && drawable);
        }
        count
    }
}

/// Sets the weights of all elements to 0 but of those above `lowest` and of those equal to it up to
/// index `last`.
pub fn keep_from(cpu: CpuFeatures, logits: &[f32], lowest: f32, last: usize, weights: &mut [f32]) {
    let (first, rest) = weights.split_at_mut((last + 1).min(logits.len()));
    let (first_logits, rest_logits) = logits.split_at(first.len());
    cpu.run(Keep { logits: first_logits, floor: lowest.next_down(), weights: first });
    cpu.run(Keep { logits: rest_logits, floor: lowest, weights: rest });
}

/// Sets the weights of elements that are not above the floor to 0.
struct Keep<'a> {
    logits: &'a [f32],
    floor: f32,
    weights: &'a mut [f32],
}

impl Kernel for Keep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        for (weight, logit) in self.weights.iter_mut().zip(self.logits) {
            *weight = if *logit > self.floor { *weight } else { 0.0 };
        }
    }
}

/// Writes the indices, ascending, of elements with `low < logits[i] <= high`; gives up with `false` once there
/// are more than `most`.
pub fn between(
    cpu: CpuFeatures,
    logits: &[f32],
    low: f32,
    high: f32,
    most: usize,
    found: &mut Vec<u32>,
) -> bool {
    cpu.run(Between { logits, low, high, most, found })
}

struct Between<'a> {
    logits: &'a [f32],
    low: f32,
    high: f32,
    most: usize,
    found: &'a mut Vec<u32>,
}

impl Kernel for Between<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> bool {
        let Self { logits, low, high, most, found } = self;
        found.clear();
        let floor = lanes.splat(low);
        let ceiling = lanes.splat(high);
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
            if found.len() > most {
                return false;
            }
        }
        let inside = |logit: f32| logit > low && logit <= high;
        found.extend((first..).zip(last).filter(|(_, logit)| inside(**logit)).map(|(place, _)| place));
        found.len() <= most
    }
}

/// Σ weight · min(max((largest − logit) · factor, 0), most), in f64.
#[must_use]
pub fn weighted_distance(
    cpu: CpuFeatures,
    logits: &[f32],
    weights: &[f32],
    largest: f32,
    factor: f32,
    most: f32,
) -> f64 {
    cpu.run(Distance { logits, weights, largest, factor, most })
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
    fn run<L: Lanes>(self, lanes: L) -> f64 {
        let Self { logits, weights, largest, factor, most } = self;
        let (logits, last_logits) = logits.as_chunks();
        let (weights, last_weights) = weights.as_chunks();
        let zero = lanes.splat(0.0);
        let wide_largest = lanes.splat(largest);
        let wide_factor = lanes.splat(factor);
        let wide_most = lanes.splat(most);
        let mut sums = [0.0; LANES];
        for (logits, weights) in logits.iter().zip(weights) {
            let distance = lanes.mul(lanes.sub(wide_largest, lanes.load(logits)), wide_factor);
            let distance = lanes.min(lanes.max(distance, zero), wide_most);
            lanes.add_wide(&mut sums, lanes.mul(distance, lanes.load(weights)));
        }
        for ((sum, logit), weight) in sums.iter_mut().zip(last_logits).zip(last_weights) {
            *sum += f64::from(((largest - logit) * factor).clamp(0.0, most) * weight);
        }
        sums.iter().sum()
    }
}

/// The index of the first element equal to `value`.
#[must_use]
pub fn position(cpu: CpuFeatures, values: &[f32], value: f32) -> Option<usize> {
    cpu.run(Position { values, value })
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
            // NaN is neither above nor below.
            if equal != 0
                && let Some(place) = chunk.iter().position(|x| *x == value)
            {
                return Some(number * LANES + place);
            }
        }
        last.iter().position(|x| *x == value).map(|place| chunks.len() * LANES + place)
    }
}
