//! Tensors of a GGUF file, which stay in the file's map until their numbers are needed.

use bytes::Bytes;
use rayon::prelude::*;

use crate::kernel::{Blocks, CpuFeatures, Encoding};

/// A tensor in the map.
#[derive(Clone, Debug)]
pub struct BlockTensor {
    encoding: Encoding,
    shape: Vec<usize>,
    bytes: Bytes,
    /// The width of heads whose elements stand in pairs, each beside the one that it turns with, and are
    /// given back in the order of halves.
    turned: Option<usize>,
}

impl BlockTensor {
    /// `bytes` hold the numbers of `shape`.
    pub(super) fn new(encoding: Encoding, shape: Vec<usize>, bytes: Bytes, turned: Option<usize>) -> Self {
        Self { encoding, shape, bytes, turned }
    }

    /// Matrix `number` of several that lie one after another.
    pub(super) fn part(&self, number: usize) -> Option<Self> {
        let (count, shape) = self.shape.split_first().filter(|(count, shape)| {
            shape.len() == 2 && number < **count && self.bytes.len().is_multiple_of(**count)
        })?;
        let bytes = self.bytes.len() / count;
        let own = self.bytes.slice(number * bytes..(number + 1) * bytes);
        Some(Self { encoding: self.encoding, shape: shape.to_vec(), bytes: own, turned: None })
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The block format of its numbers.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Its bytes in the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Numbers of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Row `number`; a vector is one row.
    #[must_use]
    pub fn row(&self, number: usize) -> Blocks<'_> {
        let stored = match self.turned {
            Some(width) => {
                let head = number / width;
                let inside = number % width;
                let half = inside / (width / 2);
                let pair = inside % (width / 2);
                head * width + 2 * pair + half
            }
            None => number,
        };
        let bytes = self.width() / self.encoding.numbers() * self.encoding.bytes();
        Blocks::new(self.encoding, &self.bytes[stored * bytes..][..bytes])
    }

    /// All numbers, row by row; the same ones whatever instructions decode them.
    pub(in crate::checkpoint) fn to_f32(&self, cpu: CpuFeatures) -> Vec<f32> {
        let mut out = vec![0.0; self.shape.iter().product()];
        let rows = out.par_chunks_exact_mut(self.width().max(1)).enumerate();
        rows.for_each(|(number, out)| self.row(number).decode(cpu, 0, out));
        out
    }
}
