//! Functions of single numbers, and the sums and maxima that the readout needs.

#[cfg(test)]
mod tests;

use super::cpu_features::{CpuFeatures, Kernel};
use super::encode::ROUND;
use super::lanes::{LANES, Lanes};
use super::rows::FEW;

/// e^x within 2 units in the last place, without a branch or a table. Below −87.3 the result is the
/// smallest normal number or less, above 88 it is e^88; NaN stays NaN.
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

/// 2^t with a relative error of 1e-7, t below 128; below −126 the result is that of −126.
#[inline(always)]
pub(super) fn exp2<L: Lanes>(lanes: L, t: L::F) -> L::F {
    let [n, f] = lanes.split(lanes.max(lanes.splat(-126.0), t));
    // Minimax among the polynomials that begin with 1, f in 0..=1.
    let p = lanes.mul_add(lanes.splat(1.867_137_1e-3), f, lanes.splat(9.017_01e-3));
    let p = lanes.mul_add(p, f, lanes.splat(5.579_993e-2));
    let p = lanes.mul_add(p, f, lanes.splat(2.401_644_5e-1));
    let p = lanes.mul_add(p, f, lanes.splat(6.931_513e-1));
    lanes.scale(lanes.mul_add(p, f, lanes.splat(1.0)), n)
}

/// x·½(1 + tanh(√(2/π)(x + 0.044715x³))).
#[inline(always)]
pub(super) fn gelu<L: Lanes>(lanes: L, x: L::F) -> L::F {
    /// −2·√(2/π)/ln 2: ½(1 + tanh y) = 1/(1 + e^(−2y)).
    const SCALE: f32 = -2.302_208_2;
    let cubic = lanes.mul_add(lanes.mul(x, lanes.splat(0.044_715 * SCALE)), x, lanes.splat(SCALE));
    gated(lanes, x, lanes.mul(x, cubic))
}

/// x·σ(x).
#[inline(always)]
pub(super) fn silu<L: Lanes>(lanes: L, x: L::F) -> L::F {
    gated(lanes, x, lanes.mul(x, lanes.splat(-std::f32::consts::LOG2_E)))
}

/// x/(1 + 2^t).
#[inline(always)]
fn gated<L: Lanes>(lanes: L, x: L::F, t: L::F) -> L::F {
    let t = lanes.min(lanes.splat(126.0), t);
    lanes.div(x, lanes.add(lanes.splat(1.0), exp2(lanes, t)))
}

/// exp((value − shift) · factor) of every value into `out`, and their sum in f64. Meanwhile `ahead`, which
/// will be read next, is fetched from memory.
pub fn exponentials(
    cpu: CpuFeatures,
    values: &[f32],
    shift: f32,
    factor: f32,
    out: &mut Vec<f32>,
    ahead: &[f32],
) -> f64 {
    out.resize(values.len(), 0.0);
    cpu.run(Exponentials { values, shift, factor, out, ahead })
}

/// The sum in f64 of exp(value − shift). Meanwhile `ahead` is fetched.
#[must_use]
pub fn exponential_sum(cpu: CpuFeatures, values: &[f32], shift: f32, ahead: &[f32]) -> f64 {
    cpu.run(Exponentials { values, shift, factor: 1.0, out: &mut [], ahead })
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
        let factor = lanes.splat(factor);
        let shift = lanes.splat(shift);
        let mut sums = [0.0; LANES];
        let (values, last) = values.as_chunks();
        let (out, last_out) = out.as_chunks_mut();
        let (fours, rest) = values.as_chunks::<FEW>();
        let mut outs = out.iter_mut();
        let mut ahead = ahead.as_chunks().0.as_chunks::<2>().0.iter();
        for values in fours {
            ahead.next().into_iter().flatten().for_each(|ahead| lanes.expect_load(ahead));
            let mut few = lanes.splat(0.0);
            for values in values {
                let powers = power(lanes, values, shift, factor);
                if let Some(out) = outs.next() {
                    lanes.store(powers, out);
                }
                few = lanes.add(few, powers);
            }
            lanes.add_wide(&mut sums, few);
        }
        for values in rest {
            let powers = power(lanes, values, shift, factor);
            if let Some(out) = outs.next() {
                lanes.store(powers, out);
            }
            lanes.add_wide(&mut sums, powers);
        }
        let mut padded = [0.0; LANES];
        padded[..last.len()].copy_from_slice(last);
        let powers = power(lanes, &padded, shift, factor);
        lanes.store(powers, &mut padded);
        for (sum, power) in sums.iter_mut().zip(&padded[..last.len()]) {
            *sum += f64::from(*power);
        }
        last_out.iter_mut().zip(padded).for_each(|(out, power)| *out = power);
        sums.iter().sum()
    }
}

#[inline(always)]
fn power<L: Lanes>(lanes: L, values: &[f32; LANES], shift: L::F, factor: L::F) -> L::F {
    exp(lanes, lanes.mul(lanes.sub(lanes.load(values), shift), factor))
}

/// The largest of `values`; `None` unless all of them are finite.
#[must_use]
pub fn largest_finite(cpu: CpuFeatures, values: &[f32]) -> Option<f32> {
    cpu.run(LargestFinite(values))
}

struct LargestFinite<'a>(&'a [f32]);

impl Kernel for LargestFinite<'_> {
    type Output = Option<f32>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Option<f32> {
        let zero = lanes.splat(0.0);
        let (chunks, last) = self.0.as_chunks();
        let mut largest = lanes.splat(f32::NEG_INFINITY);
        // x·0 is 0 for a finite x, and NaN otherwise.
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
pub fn wide_sum(cpu: CpuFeatures, values: &[f32]) -> f64 {
    cpu.run(WideSum(values))
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
pub fn largest(cpu: CpuFeatures, values: &[f32]) -> f32 {
    cpu.run(Largest(values))
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
