//! Numbers as GGUF files hold them: plain, or in blocks of small integers that share a scale.
//!
//! The layouts are ggml's. Every number is the one that ggml defines, by the same roundings, on every
//! processor.

mod decode;

use std::fmt;

use self::decode::Decode;
use super::cpu_features::CpuFeatures;

/// The block formats of GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// 32 integers of 4 bits and a scale.
    Q4_0,
    /// [`Self::Q4_0`] with a minimum.
    Q4_1,
    /// 32 integers of 5 bits and a scale.
    Q5_0,
    /// [`Self::Q5_0`] with a minimum.
    Q5_1,
    /// 32 integers of 8 bits and a scale.
    Q8_0,
    /// 256 integers of 2 bits; every 16 of them have a scale and a minimum of 4 bits.
    Q2K,
    /// 256 integers of 3 bits; every 16 of them have a scale of 6 bits.
    Q3K,
    /// 256 integers of 4 bits; every 32 of them have a scale and a minimum of 6 bits.
    Q4K,
    /// [`Self::Q4K`] with integers of 5 bits.
    Q5K,
    /// 256 integers of 6 bits; every 16 of them have a scale of 8 bits.
    Q6K,
}

/// Facts about an encoding.
struct Facts {
    /// Name in GGUF.
    name: &'static str,
    /// Number in GGUF.
    number: u32,
    /// Numbers of a block.
    numbers: usize,
    /// Bytes of a block.
    bytes: usize,
}

impl Encoding {
    /// All encodings.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The one table of encodings.
    const fn facts(self) -> Facts {
        let (name, number, numbers, bytes) = match self {
            Self::F32 => ("F32", 0, 1, 4),
            Self::F16 => ("F16", 1, 1, 2),
            Self::Bf16 => ("BF16", 30, 1, 2),
            Self::Q4_0 => ("Q4_0", 2, 32, 18),
            Self::Q4_1 => ("Q4_1", 3, 32, 20),
            Self::Q5_0 => ("Q5_0", 6, 32, 22),
            Self::Q5_1 => ("Q5_1", 7, 32, 24),
            Self::Q8_0 => ("Q8_0", 8, 32, 34),
            Self::Q2K => ("Q2_K", 10, 256, 84),
            Self::Q3K => ("Q3_K", 11, 256, 110),
            Self::Q4K => ("Q4_K", 12, 256, 144),
            Self::Q5K => ("Q5_K", 13, 256, 176),
            Self::Q6K => ("Q6_K", 14, 256, 210),
        };
        Facts { name, number, numbers, bytes }
    }

    /// The encoding that GGUF gives a number.
    #[must_use]
    pub fn of_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.facts().number == number)
    }

    /// Numbers of a block; a row is a whole number of blocks.
    #[must_use]
    pub const fn numbers(self) -> usize {
        self.facts().numbers
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.facts().bytes
    }
}

/// The name that GGUF gives it.
impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().name)
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

    /// Number of elements.
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
