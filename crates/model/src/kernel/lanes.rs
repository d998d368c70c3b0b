//! Sixteen numbers at a time, in the registers that a loop nest is compiled for.
//!
//! A compiler vectorises plain loops as long as they do one thing; what does several things to a number
//! while it is in a register is written with these. AVX-512 has its instructions here, all else a loop over
//! an array.

#[cfg(target_arch = "x86_64")]
mod avx512;

#[cfg(target_arch = "x86_64")]
pub(super) use self::avx512::Avx512;
use super::encode;
use super::encode::ROUND;

/// Numbers that are computed with together. A reduction adds element i to lane i mod 16 (or mod a multiple),
/// then the lanes in a fixed order, so that it depends on nothing but its terms.
pub(super) const LANES: usize = 16;

/// Sixteen numbers in registers. A value is a promise that the processor has the instructions.
pub(super) trait Lanes: Copy {
    /// 16 numbers.
    type F: Copy;

    /// One number's a·b + c, with one rounding where that is one instruction.
    fn fused(self, a: f32, b: f32, c: f32) -> f32;

    fn splat(self, value: f32) -> Self::F;
    fn load(self, values: &[f32; LANES]) -> Self::F;
    fn store(self, values: Self::F, out: &mut [f32; LANES]);
    /// Prefetches values that are read soon.
    fn expect_load(self, values: &[f32; LANES]);
    /// Prefetches lines that are stored to soon: stores wait for their lines one after the other, prefetches do not.
    fn expect_store(self, out: &[f32; LANES]);

    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// a/b within 2 units in the last place; b from 1 to 2^127.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// a·b + c, rounded as by [`Self::fused`].
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The smaller one; b if either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// The larger one; b if either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;

    /// The largest value; any if one is NaN.
    fn largest(self, values: Self::F) -> f32;
    /// The sum: of eight with the other eight, four of those with the other four, and so on.
    fn sum(self, values: Self::F) -> f32;

    /// A number n that [`Self::scale`] takes for a whole one, and t − n, in 0..=1.
    fn split(self, t: Self::F) -> [Self::F; 2];
    /// a·2^n, n whole or of [`Self::split`], in −126..128.
    fn scale(self, a: Self::F, n: Self::F) -> Self::F;
    /// Bit i says whether a > b in lane i.
    fn above(self, a: Self::F, b: Self::F) -> u16;
    /// `value` where a > b, else 0.
    fn if_above(self, a: Self::F, b: Self::F, value: Self::F) -> Self::F;
    /// The lanes of the set bits, ascending, counted from `first`; what follows them in `out` is any.
    fn places(self, bits: u16, first: u32, out: &mut [u32; LANES]);
    /// Differences of integers, as floats; those of the first are bits of f32.
    fn differences(self, a: &[f32; LANES], b: &[i32; LANES]) -> Self::F;
    /// Adds each value to its f64.
    fn add_wide(self, sums: &mut [f64; LANES], values: Self::F);
    /// The nearest bfloat16 of 32 values, two neighbours in a word, the first in its low half.
    fn bf16(self, low: Self::F, high: Self::F) -> [u32; LANES];
    /// The lowest byte of the bits of each value, four neighbours in a word, the first in its lowest bits.
    fn lowest_bytes(self, values: Self::F) -> [u32; LANES / 4];
    /// The values of 32 bfloat16.
    fn widened(self, words: &[u32; LANES]) -> [Self::F; 2];
}

/// Arrays, in whatever registers there are. `FUSED` says that a multiplication and an addition are one
/// instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain<const FUSED: bool>;

/// A loop, not `std::array::from_fn`, which need not become part of the function that has the registers.
macro_rules! each {
    ($i:ident => $value:expr) => {{
        let mut out = [Default::default(); LANES];
        for $i in 0..LANES {
            out[$i] = $value;
        }
        out
    }};
}

impl<const FUSED: bool> Lanes for Plain<FUSED> {
    type F = [f32; LANES];

    #[inline(always)]
    fn fused(self, a: f32, b: f32, c: f32) -> f32 {
        if FUSED { a.mul_add(b, c) } else { a * b + c }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::F {
        *values
    }

    #[inline(always)]
    fn store(self, values: Self::F, out: &mut [f32; LANES]) {
        *out = values;
    }

    #[inline(always)]
    fn expect_load(self, _: &[f32; LANES]) {}

    #[inline(always)]
    fn expect_store(self, _: &[f32; LANES]) {}

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] / b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        each!(i => self.fused(a[i], b[i], c[i]))
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn largest(self, values: Self::F) -> f32 {
        values.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    fn sum(self, mut values: Self::F) -> f32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                values[i] += values[i + half];
            }
        }
        values[0]
    }

    #[inline(always)]
    fn split(self, t: Self::F) -> [Self::F; 2] {
        // The nearest to t − ½ is ⌊t⌋, or for a whole t perhaps t − 1.
        let n = each!(i => t[i] - 0.5 + ROUND - ROUND);
        [n, each!(i => t[i] - n[i])]
    }

    #[inline(always)]
    fn scale(self, a: Self::F, n: Self::F) -> Self::F {
        const BIAS: u32 = 127_u32.wrapping_sub(ROUND.to_bits());
        // Adding it leaves a whole number in the low bits.
        each!(i => a[i] * f32::from_bits((n[i] + ROUND).to_bits().wrapping_add(BIAS) << 23))
    }

    #[inline(always)]
    fn above(self, a: Self::F, b: Self::F) -> u16 {
        let mut bits = 0;
        for i in 0..LANES {
            bits |= u16::from(a[i] > b[i]) << i;
        }
        bits
    }

    #[inline(always)]
    fn if_above(self, a: Self::F, b: Self::F, value: Self::F) -> Self::F {
        each!(i => if a[i] > b[i] { value[i] } else { 0.0 })
    }

    #[inline(always)]
    fn places(self, mut bits: u16, first: u32, out: &mut [u32; LANES]) {
        let mut count = 0;
        while bits != 0 {
            out[count] = first + bits.trailing_zeros();
            bits &= bits - 1;
            count += 1;
        }
    }

    #[inline(always)]
    fn differences(self, a: &[f32; LANES], b: &[i32; LANES]) -> Self::F {
        each!(i => (a[i].to_bits() as i32 - b[i]) as f32)
    }

    #[inline(always)]
    fn add_wide(self, sums: &mut [f64; LANES], values: Self::F) {
        for i in 0..LANES {
            sums[i] += f64::from(values[i]);
        }
    }

    #[inline(always)]
    fn bf16(self, low: Self::F, high: Self::F) -> [u32; LANES] {
        rounded(low, high)
    }

    #[inline(always)]
    fn lowest_bytes(self, values: Self::F) -> [u32; LANES / 4] {
        let mut words = [0; LANES / 4];
        for i in 0..LANES {
            words[i / 4] |= (values[i].to_bits() & 0xff) << (i % 4 * 8);
        }
        words
    }

    #[inline(always)]
    fn widened(self, words: &[u32; LANES]) -> [Self::F; 2] {
        let half = |i: usize| words[i / 2] >> (i % 2 * 16) << 16;
        [each!(i => f32::from_bits(half(i))), each!(i => f32::from_bits(half(LANES + i)))]
    }
}

#[inline(always)]
fn rounded(low: [f32; LANES], high: [f32; LANES]) -> [u32; LANES] {
    let mut words = [0; LANES];
    let (first, second) = words.split_at_mut(LANES / 2);
    encode::bf16(&low, first);
    encode::bf16(&high, second);
    words
}
