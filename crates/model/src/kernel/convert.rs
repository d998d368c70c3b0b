//! Rows of f32 to the numbers of a product and back.

use super::cpu_features::Kernel;
use super::encode;
use super::lanes::{LANES, Lanes};
use super::line::{Activations, Numbers, PARTS, SharedLines, WORDS};

/// Adding it rounds to the nearest integer and leaves that, 128 higher, in the low bits.
const ROUND_128: f32 = encode::ROUND + 128.0;

/// A row of Bf16 as it is in f32, with what fills up its last line.
pub(super) struct ReadRow<'a> {
    pub(super) source: &'a Activations,
    pub(super) row: usize,
    pub(super) values: &'a mut [f32],
}

impl Kernel for ReadRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { source, row, values } = self;
        for (line, values) in values.chunks_exact_mut(source.numbers.per_line()).enumerate() {
            let halves = lanes.widened(&source.lines_at(line, row)[0].0);
            for (half, values) in halves.into_iter().zip(values.as_chunks_mut().0) {
                lanes.store(half, values);
            }
        }
    }
}

/// A row of any numbers, zeros behind its values.
pub(super) struct WriteRow<'a> {
    pub(super) lines: &'a SharedLines,
    pub(super) row: usize,
    pub(super) values: &'a [f32],
}

impl Kernel for WriteRow<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(unsafe_code, reason = "writes through Shared")]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { lines, row, values } = self;
        let numbers = lines.numbers;
        let per_line = numbers.per_line();
        let parts = numbers.parts();
        let mut inverse = lanes.splat(1.0);
        if numbers == Numbers::Int8 {
            let scale = int8_scale(lanes, values);
            // SAFETY: the row is this task's, as `write_row` demands of its caller.
            unsafe { lines.scales.slice(row, 1)[0] = scale };
            inverse = lanes.splat(1.0 / scale);
        }
        for group in 0..lines.depth / parts {
            let start = (group * per_line).min(values.len());
            let part = &values[start..(start + per_line).min(values.len())];
            let mut padded = [0.0; 4 * WORDS];
            let part = if part.len() == per_line {
                part
            } else {
                padded[..part.len()].copy_from_slice(part);
                &padded[..per_line]
            };
            let chunks = part.as_chunks::<LANES>().0;
            let write = |line: usize, value: &[u32; WORDS]| {
                // SAFETY: as above.
                let words = unsafe { lines.words(group * parts + line, row, 0, WORDS) };
                words.copy_from_slice(value);
            };
            match numbers {
                Numbers::F32 => write(0, &chunks[0].map(f32::to_bits)),
                Numbers::Bf16 => write(0, &lanes.bf16(lanes.load(&chunks[0]), lanes.load(&chunks[1]))),
                Numbers::Int8 => {
                    let mut words = [0; WORDS];
                    for (words, chunk) in words.as_chunks_mut().0.iter_mut().zip(chunks) {
                        let steps = lanes.mul(lanes.load(chunk), inverse);
                        *words = lanes.lowest_bytes(lanes.add(steps, lanes.splat(ROUND_128)));
                    }
                    write(0, &words);
                }
                Numbers::Parts => {
                    let all = parts_of(lanes, [lanes.load(&chunks[0]), lanes.load(&chunks[1])]);
                    all.iter().enumerate().for_each(|(line, words)| write(line, words));
                }
            }
        }
    }
}

/// The three parts of 32 numbers, a line of bfloat16 each.
#[inline(always)]
pub(super) fn parts_of<L: Lanes>(lanes: L, mut rest: [L::F; 2]) -> [[u32; WORDS]; PARTS] {
    let mut parts = [[0; WORDS]; PARTS];
    for part in &mut parts {
        *part = lanes.bf16(rest[0], rest[1]);
        let taken = lanes.widened(part);
        rest = [lanes.sub(rest[0], taken[0]), lanes.sub(rest[1], taken[1])];
    }
    parts
}

/// The numbers of a row, with the zeros that fill its last line; not for integers.
#[cfg(test)]
pub(super) fn decoded(activations: &Activations, row: usize) -> Vec<f32> {
    let words: Vec<u32> =
        (0..activations.depth).flat_map(|line| activations.lines_at(line, row)[0].0).collect();
    match activations.numbers() {
        Numbers::F32 => words.into_iter().map(f32::from_bits).collect(),
        Numbers::Bf16 => words.into_iter().flat_map(encode::bf16_pair).collect(),
        Numbers::Parts => {
            let sum = |group: &[u32], i: usize| {
                let part = |part: usize| encode::bf16_pair(group[part * WORDS + i / 2])[i % 2];
                part(0) + part(1) + part(2)
            };
            let groups = words.chunks_exact(PARTS * WORDS);
            groups.flat_map(|group| (0..2 * WORDS).map(move |i| sum(group, i))).collect()
        }
        Numbers::Int8 => unreachable!("they have a scale"),
    }
}

/// [`encode::int8_scale`] of a row.
#[inline(always)]
fn int8_scale<L: Lanes>(lanes: L, values: &[f32]) -> f32 {
    let zero = lanes.splat(0.0);
    let (chunks, last) = values.as_chunks();
    let mut padded = [0.0; LANES];
    padded[..last.len()].copy_from_slice(last);
    let mut largest = zero;
    let mut zeros = zero;
    for chunk in chunks.iter().chain([&padded]) {
        let value = lanes.load(chunk);
        largest = lanes.max(lanes.max(value, lanes.sub(zero, value)), largest);
        // x·0 is 0 for a finite x, and NaN otherwise.
        zeros = lanes.mul_add(value, zero, zeros);
    }
    encode::int8_step(lanes.largest(largest)) + lanes.sum(zeros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::cpu_features::CpuFeatures;

    fn written(cpu: CpuFeatures, numbers: Numbers, values: &[f32]) -> Activations {
        let mut activations = Activations::new(numbers);
        activations.shape(1, values.len());
        #[expect(unsafe_code, reason = "writes through Shared")]
        // SAFETY: there is only this thread.
        unsafe {
            activations.shared().write_row(cpu, 0, values);
        }
        activations
    }

    #[test]
    fn integers_are_within_half_a_step() {
        let values: Vec<f32> = (0..101).map(|i| (i as f32 * 0.77).sin() * 3.0).collect();
        for cpu in CpuFeatures::available() {
            let integers = written(cpu, Numbers::Int8, &values);
            let scale = integers.scales[0];
            let words = |line: usize| integers.lines_at(line, 0)[0].0;
            let bytes: Vec<u8> = (0..2).flat_map(words).flat_map(u32::to_le_bytes).collect();
            for (value, byte) in values.iter().zip(&bytes) {
                let back = (f32::from(*byte) - 128.0) * scale;
                assert!((back - value).abs() <= scale * 0.501, "{value} became {back}");
            }
            assert_eq!(bytes[101..], [128; 27], "zeros behind");
            for bad in [f32::NAN, f32::INFINITY] {
                assert!(written(cpu, Numbers::Int8, &[1.0, bad, 2.0]).scales[0].is_nan());
            }
        }
    }

    #[test]
    fn parts_add_up_to_the_value() {
        let values: Vec<f32> = (0..77).map(|i| (i as f32 * 1.37).sin() * 10_f32.powi(i % 9 - 4)).collect();
        for cpu in CpuFeatures::available() {
            let found = decoded(&written(cpu, Numbers::Parts, &values), 0);
            for (value, found) in values.iter().zip(&found) {
                assert!((found - value).abs() <= value.abs() * f32::EPSILON, "{value}: {found}");
            }
            assert_eq!(found[77..], [0.0; 19], "{cpu}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let values: Vec<f32> = (0..50).map(|i| f32::from(i as i8 - 20) / 4.0).collect();
        for cpu in CpuFeatures::available() {
            let source = written(cpu, Numbers::Bf16, &values);
            let mut read = vec![f32::NAN; 64];
            cpu.run(ReadRow { source: &source, row: 0, values: &mut read });
            assert_eq!(read[..50], values, "{cpu}");
            assert_eq!(read[50..], [0.0; 14], "{cpu}");
        }
    }
}
