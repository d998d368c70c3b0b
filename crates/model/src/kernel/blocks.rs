//! Numbers as GGUF files hold them: plain, or in blocks of small integers that share a scale.
//!
//! The layouts are ggml's. Every number is the one that ggml defines, by the same roundings, on every
//! processor.

use std::fmt;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::cpu_features::{CpuFeatures, Kernel};
use super::lanes::Lanes;

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// 32 integers of 8 bits and a scale.
    Q8_0,
    /// 256 integers of 4 bits; every 32 of them have a scale and a minimum of 6 bits.
    Q4K,
    /// As [`Self::Q4K`] with integers of 5 bits.
    Q5K,
    /// 256 integers of 6 bits; every 16 of them have a scale of 8 bits.
    Q6K,
}

impl Encoding {
    /// Numbers of a block; a row is a whole number of blocks.
    #[must_use]
    pub const fn numbers(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }
}

/// The name that GGUF gives it.
impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        })
    }
}

/// Stored numbers that belong together, such as a row of a matrix.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    encoding: Encoding,
    bytes: &'a [u8],
}

impl<'a> Blocks<'a> {
    /// The numbers that `bytes` hold.
    #[must_use]
    pub fn new(encoding: Encoding, bytes: &'a [u8]) -> Self {
        Self { encoding, bytes }
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(self) -> usize {
        self.bytes.len() / self.encoding.bytes() * self.encoding.numbers()
    }

    /// Writes the numbers from `first` on; both ends are ends of blocks.
    ///
    /// # Panics
    /// When a block would be cut, or there are fewer numbers.
    pub fn decode(self, cpu: CpuFeatures, first: usize, out: &mut [f32]) {
        let Self { encoding, bytes } = self;
        let size = encoding.numbers();
        assert!(first.is_multiple_of(size) && out.len().is_multiple_of(size), "whole blocks");
        let bytes = &bytes[first / size * encoding.bytes()..][..out.len() / size * encoding.bytes()];
        cpu.run(Decode { encoding, bytes, out });
    }
}

struct Decode<'a> {
    encoding: Encoding,
    bytes: &'a [u8],
    out: &'a mut [f32],
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
            Encoding::Q8_0 => each(bytes, out, q8_0),
            Encoding::Q4K => each(bytes, out, |block: &[u8; 144], out| q4_k(block, out)),
            Encoding::Q5K => each(bytes, out, |block: &[u8; 176], out| q5_k(block, out)),
            Encoding::Q6K => each(bytes, out, q6_k),
        }
    }
}

/// Block after block.
#[inline(always)]
fn each<const BYTES: usize, const NUMBERS: usize>(
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
fn halves(bytes: &[u8], out: &mut [f32]) {
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
fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

#[inline(always)]
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = half(block);
    for (out, byte) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(*byte as i8) * scale;
    }
}

/// Scale and minimum of group `group` of 32 numbers, six bits each: those of the last four groups are
/// spread over the bits that the first four leave.
#[inline(always)]
fn scale_and_minimum(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, minimum) = match group {
        0..4 => (packed[group] & 63, packed[group + 4] & 63),
        _ => (
            packed[group + 4] & 15 | packed[group - 4] >> 6 << 4,
            packed[group + 4] >> 4 | packed[group] >> 6 << 4,
        ),
    };
    (f32::from(scale), f32::from(minimum))
}

/// What the groups of [`q4_k`] and [`q5_k`] are decoded with, `group(g, scale, minimum)`.
#[inline(always)]
fn groups(head: &[u8], mut group: impl FnMut(usize, f32, f32)) {
    let (scale, minimum) = (half(head), half(&head[2..]));
    for number in 0..8 {
        let (own_scale, own_minimum) = scale_and_minimum(&head[4..16], number);
        group(number, scale * own_scale, minimum * own_minimum);
    }
}

#[inline(always)]
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (head, quants) = block.split_at(16);
    let (quants, out) = (quants.as_chunks::<32>().0, out.as_chunks_mut::<32>().0);
    groups(head, |group, scale, minimum| {
        // Two groups share 32 bytes, the first one their low halves.
        let shift = group % 2 * 4;
        for (out, byte) in out[group].iter_mut().zip(&quants[group / 2]) {
            *out = scale * f32::from(byte >> shift & 15) - minimum;
        }
    });
}

#[inline(always)]
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (head, rest) = block.split_at(16);
    let (fifth, quants) = rest.split_at(32);
    let (quants, out) = (quants.as_chunks::<32>().0, out.as_chunks_mut::<32>().0);
    groups(head, |group, scale, minimum| {
        let shift = group % 2 * 4;
        for ((out, byte), fifth) in out[group].iter_mut().zip(&quants[group / 2]).zip(fifth) {
            let quant = byte >> shift & 15 | (fifth >> group & 1) << 4;
            *out = scale * f32::from(quant) - minimum;
        }
    });
}

#[inline(always)]
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, scale) = rest.split_at(16);
    let scale = half(scale);
    for (number, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        // Four groups of 32 numbers share 64 low halves and 32 bytes of upper bits.
        let (part, group) = (number / 4, number % 4);
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
