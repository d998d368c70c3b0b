//! The decoding of every block format.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::Encoding;
use crate::kernel::cpu_features::Kernel;
use crate::kernel::lanes::Lanes;

pub(super) struct Decode<'a> {
    pub(super) encoding: Encoding,
    pub(super) bytes: &'a [u8],
    pub(super) out: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { encoding, bytes, out } = self;
        match encoding {
            Encoding::F32 => {
                each(bytes, out, |bytes, out: &mut [f32; 1]| out[0] = f32::from_le_bytes(*bytes))
            }
            Encoding::F16 => halves(bytes, out),
            Encoding::Bf16 => {
                each(bytes, out, |bytes, out: &mut [f32; 1]| out[0] = bf16::from_le_bytes(*bytes).to_f32());
            }
            Encoding::Q4_0 => {
                each(bytes, out, |block: &[u8; 18], out| q4(half(block), None, &block[2..], out))
            }
            Encoding::Q4_1 => each(bytes, out, |block: &[u8; 20], out| {
                q4(half(block), Some(half(&block[2..])), &block[4..], out);
            }),
            Encoding::Q5_0 => {
                each(bytes, out, |block: &[u8; 22], out| q5(half(block), None, &block[2..], out))
            }
            Encoding::Q5_1 => each(bytes, out, |block: &[u8; 24], out| {
                q5(half(block), Some(half(&block[2..])), &block[4..], out);
            }),
            Encoding::Q8_0 => each(bytes, out, q8_0),
            Encoding::Q2K => each(bytes, out, q2_k),
            Encoding::Q3K => each(bytes, out, q3_k),
            Encoding::Q4K => each(bytes, out, |block: &[u8; 144], out| q4_k(block, out)),
            Encoding::Q5K => each(bytes, out, |block: &[u8; 176], out| q5_k(block, out)),
            Encoding::Q6K => each(bytes, out, q6_k),
        }
    }
}

/// Block after block.
#[inline(always)]
pub(super) fn each<const BYTES: usize, const NUMBERS: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; NUMBERS]),
) {
    for (block, out) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<NUMBERS>().0) {
        decode(block, out);
    }
}

/// The conversion of a whole slice has instructions of its own.
#[inline(always)]
pub(super) fn halves(bytes: &[u8], out: &mut [f32]) {
    let mut some = [f16::ZERO; 64];
    for (bytes, out) in bytes.chunks(2 * some.len()).zip(out.chunks_mut(some.len())) {
        let some = &mut some[..out.len()];
        for (half, bytes) in some.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        some.convert_to_f32_slice(out);
    }
}

/// The half-precision number at the start of some bytes.
#[inline(always)]
pub(super) fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// An integer of a block of 32: times the scale above the minimum, or above half of its range without one.
#[inline(always)]
pub(super) fn number(quant: u8, middle: u8, scale: f32, minimum: Option<f32>) -> f32 {
    match minimum {
        None => f32::from(quant as i8 - middle as i8) * scale,
        Some(minimum) => f32::from(quant) * scale + minimum,
    }
}

/// 16 bytes hold the first 16 integers in their low halves and the others in their high ones.
#[inline(always)]
pub(super) fn q4(scale: f32, minimum: Option<f32>, quants: &[u8], out: &mut [f32; 32]) {
    let (low, high) = out.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(quants) {
        *low = number(byte & 15, 8, scale, minimum);
        *high = number(byte >> 4, 8, scale, minimum);
    }
}

/// [`q4`] after 32 bits that hold the fifth bit of each integer.
#[inline(always)]
pub(super) fn q5(scale: f32, minimum: Option<f32>, quants: &[u8], out: &mut [f32; 32]) {
    let (fifth, quants) = quants.split_at(4);
    let fifth = u32::from_le_bytes([fifth[0], fifth[1], fifth[2], fifth[3]]);
    let (low, high) = out.split_at_mut(16);
    for (i, ((low, high), byte)) in low.iter_mut().zip(high).zip(quants).enumerate() {
        let bit = |place: usize| ((fifth >> place & 1) as u8) << 4;
        *low = number(byte & 15 | bit(i), 16, scale, minimum);
        *high = number(byte >> 4 | bit(i + 16), 16, scale, minimum);
    }
}

#[inline(always)]
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = half(block);
    for (out, byte) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(*byte as i8) * scale;
    }
}

/// The two bits of element `i` of a group of 16: four groups of 32 share 32 bytes, two bits each.
#[inline(always)]
pub(super) fn two_bits(quants: &[u8], group: usize, i: usize) -> u8 {
    let part = group / 8;
    let shift = group / 2 % 4 * 2;
    quants[32 * part + group % 2 * 16 + i] >> shift & 3
}

#[inline(always)]
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, rest) = block.split_at(16);
    let (quants, head) = rest.split_at(64);
    let scale = half(head);
    let minimum = half(&head[2..]);
    for (group, (out, packed)) in out.as_chunks_mut::<16>().0.iter_mut().zip(scales).enumerate() {
        let scale = scale * f32::from(packed & 15);
        let minimum = minimum * f32::from(packed >> 4);
        for (i, out) in out.iter_mut().enumerate() {
            *out = scale * f32::from(two_bits(quants, group, i)) - minimum;
        }
    }
}

/// Scale of group `group` of 16 numbers in [`q3_k`], 6 bits: the lower four in halves of the first 8 bytes, the
/// upper two in the last 4.
#[inline(always)]
pub(super) fn six_bits(packed: &[u8], group: usize) -> i8 {
    let low = packed[group % 8] >> (group / 8 * 4) & 15;
    let high = packed[8 + group % 4] >> (group / 4 * 2) & 3;
    (low | high << 4) as i8 - 32
}

#[inline(always)]
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (third, rest) = block.split_at(32);
    let (quants, rest) = rest.split_at(64);
    let (scales, scale) = rest.split_at(12);
    let scale = half(scale);
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let own = scale * f32::from(six_bits(scales, group));
        for (i, out) in out.iter_mut().enumerate() {
            let upper = third[group % 2 * 16 + i] >> (group / 2) & 1;
            let quant = (two_bits(quants, group, i) | upper << 2) as i8 - 4;
            *out = own * f32::from(quant);
        }
    }
}

/// Scale and minimum of group `group` of 32 numbers, six bits each: those of the last four groups are
/// spread over the bits that the first four leave.
#[inline(always)]
pub(super) fn scale_and_minimum(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, minimum) = match group {
        0..4 => (packed[group] & 63, packed[group + 4] & 63),
        _ => (
            packed[group + 4] & 15 | packed[group - 4] >> 6 << 4,
            packed[group + 4] >> 4 | packed[group] >> 6 << 4,
        ),
    };
    (f32::from(scale), f32::from(minimum))
}

/// Calls `group(g, scale, minimum)` for each group of [`q4_k`] and [`q5_k`].
#[inline(always)]
pub(super) fn groups(head: &[u8], mut group: impl FnMut(usize, f32, f32)) {
    let scale = half(head);
    let minimum = half(&head[2..]);
    for number in 0..8 {
        let (own_scale, own_minimum) = scale_and_minimum(&head[4..16], number);
        group(number, scale * own_scale, minimum * own_minimum);
    }
}

#[inline(always)]
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (head, quants) = block.split_at(16);
    let quants = quants.as_chunks::<32>().0;
    let out = out.as_chunks_mut::<32>().0;
    groups(head, |group, scale, minimum| {
        // Two groups share 32 bytes, the first one their low halves.
        let shift = group % 2 * 4;
        for (out, byte) in out[group].iter_mut().zip(&quants[group / 2]) {
            *out = scale * f32::from(byte >> shift & 15) - minimum;
        }
    });
}

#[inline(always)]
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (head, rest) = block.split_at(16);
    let (fifth, quants) = rest.split_at(32);
    let quants = quants.as_chunks::<32>().0;
    let out = out.as_chunks_mut::<32>().0;
    groups(head, |group, scale, minimum| {
        let shift = group % 2 * 4;
        for ((out, byte), fifth) in out[group].iter_mut().zip(&quants[group / 2]).zip(fifth) {
            let quant = byte >> shift & 15 | (fifth >> group & 1) << 4;
            *out = scale * f32::from(quant) - minimum;
        }
    });
}

#[inline(always)]
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, scale) = rest.split_at(16);
    let scale = half(scale);
    for (number, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        // Four groups of 32 numbers share 64 low halves and 32 bytes of upper bits.
        let part = number / 4;
        let group = number % 4;
        let low = &low[64 * part + group % 2 * 32..][..32];
        let high = &high[32 * part..][..32];
        let scales = &scales[2 * number..][..2];
        let scales = [scale * f32::from(scales[0] as i8), scale * f32::from(scales[1] as i8)];
        for (i, out) in out.iter_mut().enumerate() {
            let quant = low[i] >> (group / 2 * 4) & 15 | (high[i] >> (2 * group) & 3) << 4;
            *out = scales[i / 16] * f32::from(quant as i8 - 32);
        }
    }
}
