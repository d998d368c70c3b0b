//! Functions of single numbers, and the sums and maxima that the readout needs.

use super::encode::ROUND;
use super::instructions::{Instructions, Kernel};

/// e^x within 2 units in the last place, without a branch or a table, so that a loop over it
/// vectorises. Below −87.3 the result is the smallest normal number or less; above 88 it is infinite.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // x = n·ln 2 + r with |r| ≤ ln 2 / 2; ln 2 in two parts, the first exact in few bits.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.3, 88.7);
    // Adding 1.5 · 2^23 rounds to the nearest integer.
    let n = x * std::f32::consts::LOG2_E + ROUND;
    let exponent = n.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let n = n - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    // Minimax polynomial of the Cephes library for (e^r − 1 − r)/r².
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let value = p * r * r + r + 1.0;
    // The exponent is split in two, because 2^128 at the upper end is no f32.
    let half = exponent >> 1;
    value * power_of_two(half) * power_of_two(exponent - half)
}

#[inline(always)]
fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) << 23) as u32)
}

/// x·½(1 + tanh(√(2/π)(x + 0.044715x³))).
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    const SCALE: f32 = 0.797_884_6;
    let inner = SCALE * x * (1.0 + 0.044_715 * x * x);
    // ½(1 + tanh y) = 1/(1 + e^(−2y))
    x / (1.0 + exp(-2.0 * inner))
}

/// x·σ(x).
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// exp((value − shift) · factor) of every value into `out`.
pub fn exponentials(values: &[f32], shift: f32, factor: f32, out: &mut Vec<f32>) {
    out.clear();
    out.resize(values.len(), 0.0);
    Instructions::detect().run(Exponentials { values, shift, factor, out });
}

struct Exponentials<'a> {
    values: &'a [f32],
    shift: f32,
    factor: f32,
    out: &'a mut [f32],
}

impl Kernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (out, value) in self.out.iter_mut().zip(self.values) {
            *out = exp((value - self.shift) * self.factor);
        }
    }
}

/// The sum of `values` in f64; it is finite exactly when every value is.
#[must_use]
pub fn wide_sum(values: &[f32]) -> f64 {
    Instructions::detect().run(WideSum(values))
}

/// Lanes of a reduction: element i is added to lane i mod 16, then the lanes in order. Fixed, so that a
/// sum depends on nothing but its terms, and wide enough to vectorise.
pub(super) const LANES: usize = 16;

struct WideSum<'a>(&'a [f32]);

impl Kernel for WideSum<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f64 {
        let (chunks, rest) = self.0.as_chunks::<LANES>();
        let mut lanes = [0.0; LANES];
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(*value);
            }
        }
        for (lane, value) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(*value);
        }
        lanes.iter().sum()
    }
}

/// The largest of `values`; NaN is passed over.
#[must_use]
pub fn largest(values: &[f32]) -> f32 {
    Instructions::detect().run(Largest(values))
}

struct Largest<'a>(&'a [f32]);

impl Kernel for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f32 {
        maximum(self.0)
    }
}

/// The largest of `values`, inline; NaN is passed over.
#[inline(always)]
pub(super) fn maximum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    rest.iter().chain(&lanes).copied().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_accurate_over_its_range() {
        for i in -8700..8870 {
            let x = i as f32 / 100.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) / expected - 1.0).abs();
            assert!(error < 3e-7, "exp({x}): relative error {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e9) < 1.3e-38);
    }

    #[test]
    fn activations_match_f64() {
        for i in -2000..2000 {
            let value = i as f32 / 100.0;
            let x = f64::from(value);
            let y =
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh());
            assert!((f64::from(gelu(value)) - y).abs() < 2e-6 * x.abs().max(1.0), "gelu({x})");
            let y = x / (1.0 + (-x).exp());
            assert!((f64::from(silu(value)) - y).abs() < 2e-6 * x.abs().max(1.0), "silu({x})");
        }
    }
}
