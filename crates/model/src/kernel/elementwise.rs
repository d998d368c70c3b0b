//! Activations and the exponential they share.

use rayon::prelude::*;

use super::simd::{self, Kernel};

/// Elements per task: large enough to pay for its start.
const TASK: usize = 16 * 1024;

/// e^x within 2 units in the last place, without a branch or a table, so that a loop over it
/// vectorises. Below −87.3 the result is the smallest normal number or less; above 88 it is infinite.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // x = n·ln 2 + r with |r| ≤ ln 2 / 2; ln 2 in two parts, the first exact in few bits.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.3, 88.7);
    // Adding 1.5 · 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
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

/// GELU in its tanh form, x·½(1 + tanh(√(2/π)(x + 0.044715x³))), in place (`gelu_new` of GPT-2).
pub fn gelu_tanh(values: &mut [f32]) {
    values.par_chunks_mut(TASK).for_each(|chunk| simd::run(Gelu(chunk)));
}

struct Gelu<'a>(&'a mut [f32]);

impl Kernel for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        const SCALE: f32 = 0.797_884_6;
        for value in self.0 {
            let x = *value;
            let inner = SCALE * x * (1.0 + 0.044_715 * x * x);
            // ½(1 + tanh y) = 1/(1 + e^(−2y))
            *value = x / (1.0 + exp(-2.0 * inner));
        }
    }
}

/// SwiGLU: gate·σ(gate)·up, into `gate`. Both have the same length.
pub fn swiglu(gate: &mut [f32], up: &[f32]) {
    gate.par_chunks_mut(TASK).zip(up.par_chunks(TASK)).for_each(|(gate, up)| simd::run(Swiglu { gate, up }));
}

struct Swiglu<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Kernel for Swiglu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (gate, up) in self.gate.iter_mut().zip(self.up) {
            *gate = *gate / (1.0 + exp(-*gate)) * up;
        }
    }
}

/// exp((value − shift) · factor) of every value into `out`.
pub fn exponentials(values: &[f32], shift: f32, factor: f32, out: &mut Vec<f32>) {
    out.clear();
    out.resize(values.len(), 0.0);
    simd::run(Exponentials { values, shift, factor, out });
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
    simd::run(WideSum(values))
}

struct WideSum<'a>(&'a [f32]);

impl Kernel for WideSum<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f64 {
        simd::wide_sum(self.0)
    }
}

/// The largest of `values`; NaN is passed over.
#[must_use]
pub fn largest(values: &[f32]) -> f32 {
    simd::run(Largest(values))
}

struct Largest<'a>(&'a [f32]);

impl Kernel for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f32 {
        simd::largest(self.0)
    }
}

/// softmax(scale · row), in place.
pub(super) fn softmax(row: &mut [f32], scale: f32) {
    simd::run(Softmax { row, scale });
}

struct Softmax<'a> {
    row: &'a mut [f32],
    scale: f32,
}

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { row, scale } = self;
        let largest = simd::largest(row);
        for value in row.iter_mut() {
            *value = exp((*value - largest) * scale);
        }
        let factor = (1.0 / simd::wide_sum(row)) as f32;
        for value in row.iter_mut() {
            *value *= factor;
        }
    }
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
        let points: Vec<f32> = (-2000..2000).map(|i| i as f32 / 100.0).collect();
        let mut gelu = points.clone();
        gelu_tanh(&mut gelu);
        let mut gated = points.clone();
        let up = vec![1.5; points.len()];
        swiglu(&mut gated, &up);
        for (i, &x) in points.iter().enumerate() {
            let x = f64::from(x);
            let y =
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh());
            assert!((f64::from(gelu[i]) - y).abs() < 2e-6 * x.abs().max(1.0), "gelu({x})");
            let y = x / (1.0 + (-x).exp()) * 1.5;
            assert!((f64::from(gated[i]) - y).abs() < 3e-6 * x.abs().max(1.0), "swiglu({x})");
        }
    }
}
