//! Functions of single numbers, and the sums and maxima that the readout needs.

use super::encode::ROUND;
use super::instructions::{Instructions, Kernel};
use super::lanes::{LANES, Lanes};
use super::rows::FEW;

/// e^x within 2 units in the last place, without a branch or a table. Below −87.3 the result is the
/// smallest normal number or less, above 88 it is e^88; what is no number stays none.
#[inline(always)]
pub(super) fn exp<L: Lanes>(lanes: L, x: L::F) -> L::F {
    // x = n·ln 2 + r with |r| ≤ ln 2 / 2; ln 2 in two parts, the first exact in few bits.
    const LN2_HIGH: f32 = -0.693_359_4;
    const LN2_LOW: f32 = 2.121_944_4e-4;
    let one = lanes.splat(1.0);
    let x = lanes.min(lanes.splat(88.0), lanes.max(lanes.splat(-87.3), x));
    // Adding 1.5 · 2^23 rounds to the nearest integer.
    let n = lanes.mul_add(x, lanes.splat(std::f32::consts::LOG2_E), lanes.splat(ROUND));
    let n = lanes.sub(n, lanes.splat(ROUND));
    let r = lanes.mul_add(n, lanes.splat(LN2_LOW), lanes.mul_add(n, lanes.splat(LN2_HIGH), x));
    // e^r with a relative error of 1.05e-7, minimax among the polynomials that begin with 1 + r.
    let p = lanes.mul_add(lanes.splat(8.312_501e-3), r, lanes.splat(4.189_033e-2));
    let p = lanes.mul_add(p, r, lanes.splat(1.666_711_6e-1));
    let p = lanes.mul_add(p, r, lanes.splat(4.999_923e-1));
    let p = lanes.mul_add(lanes.mul_add(p, r, one), r, one);
    lanes.scale(p, n)
}

/// x·½(1 + tanh(√(2/π)(x + 0.044715x³))).
#[inline(always)]
pub(super) fn gelu<L: Lanes>(lanes: L, x: L::F) -> L::F {
    /// −2·√(2/π): ½(1 + tanh y) = 1/(1 + e^(−2y)).
    const SCALE: f32 = -1.595_769;
    let cubic = lanes.mul_add(lanes.mul(x, lanes.splat(0.044_715 * SCALE)), x, lanes.splat(SCALE));
    lanes.div(x, lanes.add(lanes.splat(1.0), exp(lanes, lanes.mul(x, cubic))))
}

/// x·σ(x).
#[inline(always)]
pub(super) fn silu<L: Lanes>(lanes: L, x: L::F) -> L::F {
    let inverse = exp(lanes, lanes.sub(lanes.splat(0.0), x));
    lanes.div(x, lanes.add(lanes.splat(1.0), inverse))
}

/// exp((value − shift) · factor) of every value into `out`, and their sum in f64. Meanwhile `ahead`, which
/// will be read next, is fetched from memory.
pub fn exponentials(values: &[f32], shift: f32, factor: f32, out: &mut Vec<f32>, ahead: &[f32]) -> f64 {
    out.resize(values.len(), 0.0);
    Instructions::detect().run(Exponentials { values, shift, factor, out, ahead })
}

/// The sum in f64 of exp(value − shift). Meanwhile `ahead` is fetched.
#[must_use]
pub fn exponential_sum(values: &[f32], shift: f32, ahead: &[f32]) -> f64 {
    Instructions::detect().run(Exponentials { values, shift, factor: 1.0, out: &mut [], ahead })
}

/// There is an `out` for every value, or none.
struct Exponentials<'a> {
    values: &'a [f32],
    shift: f32,
    factor: f32,
    out: &'a mut [f32],
    ahead: &'a [f32],
}

impl Kernel for Exponentials<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f64 {
        let Self { values, shift, factor, out, ahead } = self;
        let (factor, shift) = (lanes.splat(factor), lanes.splat(shift));
        let mut sums = [0.0; LANES];
        let ((values, last), (out, last_out)) = (values.as_chunks(), out.as_chunks_mut());
        let (fours, rest) = values.as_chunks::<FEW>();
        let mut outs = out.iter_mut();
        let mut ahead = ahead.as_chunks().0.as_chunks::<2>().0.iter();
        for values in fours {
            ahead.next().into_iter().flatten().for_each(|ahead| lanes.expect_load(ahead));
            let mut few = lanes.splat(0.0);
            for values in values {
                let powers = exp(lanes, lanes.mul(lanes.sub(lanes.load(values), shift), factor));
                if let Some(out) = outs.next() {
                    lanes.store(powers, out);
                }
                few = lanes.add(few, powers);
            }
            lanes.add_wide(&mut sums, few);
        }
        for values in rest {
            let powers = exp(lanes, lanes.mul(lanes.sub(lanes.load(values), shift), factor));
            if let Some(out) = outs.next() {
                lanes.store(powers, out);
            }
            lanes.add_wide(&mut sums, powers);
        }
        let mut padded = [0.0; LANES];
        padded[..last.len()].copy_from_slice(last);
        let powers = exp(lanes, lanes.mul(lanes.sub(lanes.load(&padded), shift), factor));
        lanes.store(powers, &mut padded);
        for (sum, power) in sums.iter_mut().zip(&padded[..last.len()]) {
            *sum += f64::from(*power);
        }
        last_out.iter_mut().zip(padded).for_each(|(out, power)| *out = power);
        sums.iter().sum()
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
    fn run<L: Lanes>(self, lanes: L) -> Option<f32> {
        let zero = lanes.splat(0.0);
        let (chunks, last) = self.0.as_chunks();
        let mut largest = lanes.splat(f32::NEG_INFINITY);
        // x·0 is 0 for what is finite, and no number for what is not.
        let mut zeros = zero;
        for chunk in chunks {
            let values = lanes.load(chunk);
            largest = lanes.max(values, largest);
            zeros = lanes.mul_add(values, zero, zeros);
        }
        let finite = lanes.sum(zeros) == 0.0 && last.iter().all(|value| value.is_finite());
        finite.then(|| last.iter().copied().fold(lanes.largest(largest), f32::max))
    }
}

/// The sum of `values` in f64.
#[must_use]
pub fn wide_sum(values: &[f32]) -> f64 {
    Instructions::detect().run(WideSum(values))
}

struct WideSum<'a>(&'a [f32]);

impl Kernel for WideSum<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f64 {
        let (chunks, last) = self.0.as_chunks();
        let mut sums = [0.0; LANES];
        for chunk in chunks {
            lanes.add_wide(&mut sums, lanes.load(chunk));
        }
        for (sum, value) in sums.iter_mut().zip(last) {
            *sum += f64::from(*value);
        }
        sums.iter().sum()
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
    fn run<L: Lanes>(self, lanes: L) -> f32 {
        maximum(lanes, self.0)
    }
}

/// The largest of `values`, inline; NaN is passed over.
#[inline(always)]
pub(super) fn maximum<L: Lanes>(lanes: L, values: &[f32]) -> f32 {
    let (chunks, last) = values.as_chunks();
    // Two: a maximum waits for the one before it in the same register.
    let mut largest = [lanes.splat(f32::NEG_INFINITY); 2];
    let (pairs, odd) = chunks.as_chunks::<2>();
    for [first, second] in pairs {
        largest = [lanes.max(lanes.load(first), largest[0]), lanes.max(lanes.load(second), largest[1])];
    }
    for chunk in odd {
        largest[0] = lanes.max(lanes.load(chunk), largest[0]);
    }
    last.iter().copied().fold(lanes.largest(lanes.max(largest[0], largest[1])), f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::lanes::Plain;

    /// A function of 16 numbers at one, with and without fused multiplication.
    fn both<F, G>(separate: F, fused: G, x: f32) -> [f32; 2]
    where
        F: Fn(Plain<false>, [f32; LANES]) -> [f32; LANES],
        G: Fn(Plain<true>, [f32; LANES]) -> [f32; LANES],
    {
        [separate(Plain, [x; LANES])[3], fused(Plain, [x; LANES])[3]]
    }

    #[test]
    fn exponential_is_accurate_over_its_range() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let expected = f64::from(x).exp();
            for found in both(exp, exp, x) {
                let error = (f64::from(found) / expected - 1.0).abs();
                assert!(error < 3e-7, "exp({x}): relative error {error}");
            }
        }
        let exp = |x| both(exp, exp, x);
        assert_eq!(exp(0.0), [1.0; 2]);
        assert!(exp(-1e9).iter().all(|power| *power < 1.3e-38));
        assert!(exp(1e9).iter().all(|power| power.is_finite()));
        assert!(exp(f32::NAN).iter().all(|power| power.is_nan()));
    }

    #[test]
    fn activations_match_f64() {
        for i in -2000..2000 {
            let value = i as f32 / 100.0;
            let x = f64::from(value);
            let y =
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh());
            for found in both(gelu, gelu, value) {
                assert!((f64::from(found) - y).abs() < 2e-6 * x.abs().max(1.0), "gelu({x})");
            }
            let y = x / (1.0 + (-x).exp());
            for found in both(silu, silu, value) {
                assert!((f64::from(found) - y).abs() < 2e-6 * x.abs().max(1.0), "silu({x})");
            }
        }
    }
}
