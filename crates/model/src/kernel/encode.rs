//! f32 to the numbers of a product and back, in words of 32 bits. Loops without branches, to be compiled
//! as part of a [`super::cpu_features::Kernel`].

use super::lanes::LANES;

/// Adding 1.5 · 2^23 rounds to the nearest integer and leaves it in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;

/// The nearest bfloat16, ties to even, in the low half; NaN stays NaN.
#[inline(always)]
fn nearest_bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1))) >> 16;
    if value.is_nan() { 0x7fc0 } else { rounded }
}

/// One word for each value; zeros behind them.
#[inline(always)]
pub(super) fn f32(values: &[f32], words: &mut [u32]) {
    let (now, rest) = words.split_at_mut(values.len().min(words.len()));
    for (word, value) in now.iter_mut().zip(values) {
        *word = value.to_bits();
    }
    rest.fill(0);
}

/// Two values in a word, the first in its low half; zeros behind them.
#[inline(always)]
pub(super) fn bf16(values: &[f32], words: &mut [u32]) {
    let (pairs, odd) = values.as_chunks::<2>();
    let (now, rest) = words.split_at_mut(pairs.len().min(words.len()));
    for (word, [low, high]) in now.iter_mut().zip(pairs) {
        *word = nearest_bf16(*low) | nearest_bf16(*high) << 16;
    }
    rest.fill(0);
    if let (Some(word), [last]) = (rest.first_mut(), odd) {
        *word = nearest_bf16(*last);
    }
}

/// Three bfloat16 that add up to the value but for less than 2⁻²⁴ of it, the largest first.
#[inline(always)]
pub(super) fn parts(value: f32) -> [f32; 3] {
    let nearest = |value: f32| f32::from_bits(nearest_bf16(value) << 16);
    let first = nearest(value);
    let second = nearest(value - first);
    [first, second, nearest(value - first - second)]
}

/// The two values of a word.
#[inline(always)]
pub(super) fn bf16_pair(word: u32) -> [f32; 2] {
    [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)]
}

/// The step of a row's 8-bit integers, so that its largest element becomes 127. NaN if an element is not
/// finite, so that such an element is not hidden.
#[inline(always)]
pub(super) fn int8_scale(values: &[f32]) -> f32 {
    let mut largest = [0.0_f32; LANES];
    // x·0 is 0 for a finite x, and NaN otherwise.
    let mut zeros = [0.0_f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    // Two loops: together they vectorise worse.
    for chunk in chunks {
        for (largest, value) in largest.iter_mut().zip(chunk) {
            *largest = if value.abs() > *largest { value.abs() } else { *largest };
        }
    }
    for chunk in chunks {
        for (zero, value) in zeros.iter_mut().zip(chunk) {
            *zero += value * 0.0;
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        largest[lane] = largest[lane].max(value.abs());
        zeros[lane] += value * 0.0;
    }
    int8_step(largest.iter().copied().fold(0.0, f32::max)) + zeros.iter().sum::<f32>()
}

/// The step of 8-bit integers whose largest element is 127.
#[inline(always)]
pub(super) fn int8_step(largest: f32) -> f32 {
    (largest / 127.0).max(f32::MIN_POSITIVE)
}

/// The 8-bit integer of an element of a matrix.
#[inline(always)]
pub(super) fn nearest(value: f32, scale: f32) -> i32 {
    (value / scale).round_ties_even() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bfloat16_is_the_nearest_one_ties_to_even() {
        let mut word = [0];
        for i in 0..200_000_u32 {
            let value = f32::from_bits(i.wrapping_mul(2_654_435_761));
            bf16(&[value, -1.5], &mut word);
            let [found, neighbour] = bf16_pair(word[0]);
            let expected = half::bf16::from_f32(value).to_f32();
            assert!(found == expected || (found.is_nan() && expected.is_nan()), "{value} to {found}");
            assert_eq!(neighbour, -1.5);
        }
    }

    #[test]
    fn a_step_is_positive_and_hides_nothing() {
        assert!(int8_scale(&[0.0; 5]) > 0.0);
        assert!(int8_scale(&[1.0, f32::NAN, 2.0]).is_nan());
        assert!(int8_scale(&[1.0, f32::INFINITY]).is_nan());
    }
}
