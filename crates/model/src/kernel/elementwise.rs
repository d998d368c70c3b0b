//! Functions of single numbers, and the sums and maxima that the readout needs.

use super::encode::ROUND;
use super::instructions::{Instructions, Kernel};

/// a·b + c, with one rounding where that is one instruction.
#[inline(always)]
pub(super) fn fused<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// e^x within 2 units in the last place, without a branch or a table, so that a loop over it
/// vectorises. Below −87.3 the result is the smallest normal number or less, above 88 it is e^88.
#[inline(always)]
pub(super) fn exp<const FUSED: bool>(x: f32) -> f32 {
    // x = n·ln 2 + r with |r| ≤ ln 2 / 2; ln 2 in two parts, the first exact in few bits.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.3, 88.0);
    // Adding 1.5 · 2^23 rounds to the nearest integer.
    let n = fused::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let exponent = n.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let n = n - ROUND;
    let r = fused::<FUSED>(-n, LN2_LOW, fused::<FUSED>(-n, LN2_HIGH, x));
    // Minimax polynomial of the Cephes library for (e^r − 1 − r)/r².
    let p = fused::<FUSED>(1.987_569_1e-4, r, 1.398_2e-3);
    let p = fused::<FUSED>(p, r, 8.333_452e-3);
    let p = fused::<FUSED>(p, r, 4.166_579_6e-2);
    let p = fused::<FUSED>(p, r, 1.666_666_5e-1);
    let p = fused::<FUSED>(p, r, 5e-1);
    let value = fused::<FUSED>(p, r * r, r) + 1.0;
    value * f32::from_bits(exponent << 23)
}

/// x·½(1 + tanh(√(2/π)(x + 0.044715x³))).
#[inline(always)]
pub(super) fn gelu<const FUSED: bool>(x: f32) -> f32 {
    /// −2·√(2/π): ½(1 + tanh y) = 1/(1 + e^(−2y)).
    const SCALE: f32 = -1.595_769;
    let inner = SCALE * x * fused::<FUSED>(0.044_715 * x, x, 1.0);
    x / (1.0 + exp::<FUSED>(inner))
}

/// x·σ(x).
#[inline(always)]
pub(super) fn silu<const FUSED: bool>(x: f32) -> f32 {
    x / (1.0 + exp::<FUSED>(-x))
}

/// exp((value − shift) · factor) of every value into `out`, and their sum in f64.
pub fn exponentials(values: &[f32], shift: f32, factor: f32, out: &mut Vec<f32>) -> f64 {
    out.resize(values.len(), 0.0);
    Instructions::detect().run(Exponentials { values, shift, factor, out })
}

struct Exponentials<'a> {
    values: &'a [f32],
    shift: f32,
    factor: f32,
    out: &'a mut [f32],
}

impl Kernel for Exponentials<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f64 {
        let Self { values, shift, factor, out } = self;
        // Two loops: together they vectorise worse.
        for (out, value) in out.iter_mut().zip(values) {
            *out = exp::<FUSED>((value - shift) * factor);
        }
        total(out)
    }
}

/// The largest of `values`; `None` unless all of them are finite.
#[must_use]
pub fn largest_finite(values: &[f32]) -> Option<f32> {
    Instructions::detect().run(LargestFinite(values))
}

struct LargestFinite<'a>(&'a [f32]);

impl Kernel for LargestFinite<'_> {
    type Output = Option<f32>;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Option<f32> {
        // A sum is finite exactly when its terms are: f64 has room for all f32.
        total(self.0).is_finite().then(|| maximum(self.0))
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
        total(self.0)
    }
}

#[inline(always)]
fn total(values: &[f32]) -> f64 {
    let (chunks, rest) = values.as_chunks::<LANES>();
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
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let expected = f64::from(x).exp();
            for found in [exp::<false>(x), exp::<true>(x)] {
                let error = (f64::from(found) / expected - 1.0).abs();
                assert!(error < 3e-7, "exp({x}): relative error {error}");
            }
        }
        assert_eq!(exp::<false>(0.0), 1.0);
        assert!(exp::<false>(-1e9) < 1.3e-38);
        assert!(exp::<false>(1e9).is_finite());
        assert!(exp::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn activations_match_f64() {
        for i in -2000..2000 {
            let value = i as f32 / 100.0;
            let x = f64::from(value);
            let y =
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh());
            for found in [gelu::<false>(value), gelu::<true>(value)] {
                assert!((f64::from(found) - y).abs() < 2e-6 * x.abs().max(1.0), "gelu({x})");
            }
            let y = x / (1.0 + (-x).exp());
            for found in [silu::<false>(value), silu::<true>(value)] {
                assert!((f64::from(found) - y).abs() < 2e-6 * x.abs().max(1.0), "silu({x})");
            }
        }
    }
}
