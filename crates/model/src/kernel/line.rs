//! The layout that products read: lines of 64 bytes, each a stretch of one row.

use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::convert::{ReadRow, WriteRow};
use super::cpu_features::CpuFeatures;

/// 32-bit words in a line. A word holds one f32, two bfloat16 or four 8-bit integers, neighbours in the
/// sum of a product.
pub(super) const WORDS: usize = 16;

/// Bytes of a line.
pub const LINE_BYTES: usize = WORDS * 4;

/// 64 bytes: a cache line, and a register of AVX-512.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; WORDS]);

/// The numbers in the left-hand side of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// 32-bit floats.
    F32,
    /// bfloat16: the upper half of an f32.
    Bf16,
    /// 8-bit integers and a factor for each row.
    Int8,
    /// 32-bit floats as three bfloat16 that add up to them but for less than 2⁻²⁴: three lines, each with
    /// the same part of 32 numbers, the largest first.
    Parts,
}

/// Lines that hold the parts of the same numbers.
pub(super) const PARTS: usize = 3;

/// Columns of a panel: two registers of AVX-512.
pub const PANEL: usize = 32;

/// Columns of a row of `columns` with the zeros that fill up its last panel.
#[must_use]
pub const fn padded(columns: usize) -> usize {
    columns.next_multiple_of(PANEL)
}

impl Numbers {
    /// Numbers in a line, or in all lines of their parts.
    #[must_use]
    pub(super) const fn per_line(self) -> usize {
        match self {
            Self::F32 => WORDS,
            Self::Bf16 | Self::Parts => 2 * WORDS,
            Self::Int8 => 4 * WORDS,
        }
    }

    /// Lines that hold the same numbers.
    pub(super) const fn parts(self) -> usize {
        match self {
            Self::Parts => PARTS,
            _ => 1,
        }
    }

    /// Lines of a row of `columns` numbers. The one rule of how a row is laid out: both sides of a product and
    /// all activations ask it, so a row of activations has as many lines as the matrix that it meets.
    #[must_use]
    pub const fn lines(self, columns: usize) -> usize {
        padded(columns).div_ceil(self.per_line()) * self.parts()
    }
}

/// Plain f32, from the start of a line on: where rows are whole lines, no two share one.
#[derive(Debug, Default)]
pub struct Rows(Vec<Line>);

impl Rows {
    /// Makes room for so many elements, a multiple of 16; what they are is left open.
    pub fn shape(&mut self, elements: usize) {
        self.0.resize(elements.div_ceil(WORDS), Line::default());
    }
}

impl Deref for Rows {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }
}

impl DerefMut for Rows {
    fn deref_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// A matrix of activations: the left-hand side of products, kept between them in the layout that the
/// micro-kernels read.
///
/// A row is cut into lines of 64 bytes, and line c of all rows comes before line c + 1 of any. A tile of
/// neighbouring rows is therefore found at constant distances, and a column panel of a result becomes whole
/// lines: one product's output is the next one's input without another packing step. Rows are padded with
/// zeros to whole panels. Memory is taken once by [`Self::shape`] and kept. `kernel/README.md` draws the
/// layout.
///
/// ```
/// use unmask_model::kernel::{Activations, CpuFeatures, Norm, Numbers};
///
/// // Two rows of two numbers; a norm writes them as the left-hand side of a product.
/// let rows = [1.0, -1.0, 2.0, 2.0];
/// let norm = Norm::Rms { gain: vec![1.0; 2], epsilon: 0.0 };
/// let mut left = Activations::new(Numbers::F32);
/// norm.apply(CpuFeatures::detect(), &rows, 2, &mut left);
/// assert_eq!(left.rows(), 2);
/// ```
#[derive(Debug)]
pub struct Activations {
    pub(super) numbers: Numbers,
    pub(super) lines: Vec<Line>,
    /// Lines from line c to line c + 1 of a row.
    pub(super) stride: usize,
    /// Lines of a row.
    pub(super) depth: usize,
    rows: usize,
    /// For 8-bit integers: what one of them is worth, by row.
    pub(super) scales: Vec<f32>,
}

impl Activations {
    /// None yet.
    #[must_use]
    pub fn new(numbers: Numbers) -> Self {
        Self { numbers, lines: Vec::new(), stride: 0, depth: 0, rows: 0, scales: Vec::new() }
    }

    /// Makes room for a matrix whose elements are then all written; memory is taken once and kept.
    pub fn shape(&mut self, rows: usize, columns: usize) {
        self.rows = rows;
        // An odd number of lines: rows of a power of two would all meet in a few sets of the cache.
        self.stride = rows | 1;
        self.depth = self.numbers.lines(columns);
        let needed = self.stride * self.depth;
        if self.lines.len() < needed {
            self.lines.resize(needed, Line::default());
        }
        if self.numbers == Numbers::Int8 && self.scales.len() < rows {
            self.scales.resize(rows, 0.0);
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns, with those that fill up the last line.
    pub(super) fn columns(&self) -> usize {
        self.depth / self.numbers.parts() * self.numbers.per_line()
    }

    /// The type of its numbers.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// All lines from the first one of a row on.
    pub(super) fn lines_at(&self, line: usize, row: usize) -> &[Line] {
        &self.lines[line * self.stride + row..]
    }

    /// Copies rows of `source`, which has the same numbers, in the order of `rows`.
    pub fn gather(&mut self, source: &Self, rows: &[u32]) {
        self.shape(rows.len(), source.columns());
        for line in 0..self.depth {
            let from = source.lines_at(line, 0);
            let to = &mut self.lines[line * self.stride..][..rows.len()];
            for (to, &row) in to.iter_mut().zip(rows) {
                *to = from[row as usize];
            }
        }
        if self.numbers == Numbers::Int8 {
            for (to, &row) in self.scales.iter_mut().zip(rows) {
                *to = source.scales[row as usize];
            }
        }
    }

    /// Those of `source`, which are Bf16, in the numbers of this one, row by row.
    pub fn convert(&mut self, cpu: CpuFeatures, source: &Self) {
        assert_eq!(source.numbers, Numbers::Bf16, "what is converted");
        self.shape(source.rows, source.columns());
        let lines = self.shared();
        (0..source.rows).into_par_iter().with_min_len(4).for_each_init(Vec::new, |values, row| {
            values.resize(source.columns(), 0.0);
            cpu.run(ReadRow { source, row, values });
            // SAFETY: every task has rows of its own, and `self` outlives the loop.
            #[expect(unsafe_code, reason = "tasks write disjoint rows of one output")]
            unsafe {
                lines.write_row(cpu, row, values);
            }
        });
    }

    /// A pointer for tasks that write rows or columns of their own.
    pub(super) fn shared(&mut self) -> SharedLines {
        SharedLines {
            numbers: self.numbers,
            words: Shared(self.lines.as_mut_ptr().cast()),
            scales: Shared(self.scales.as_mut_ptr()),
            stride: self.stride,
            depth: self.depth,
        }
    }
}

/// A pointer that parallel tasks write through, each to elements of its own.
#[derive(Debug)]
pub(super) struct Shared<T>(pub(super) *mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

#[expect(unsafe_code, reason = "tasks write disjoint elements of one output")]
// SAFETY: the pointer is only dereferenced through `slice`, whose callers own disjoint elements.
unsafe impl<T: Send> Send for Shared<T> {}
#[expect(unsafe_code, reason = "tasks write disjoint elements of one output")]
// SAFETY: as for `Send`.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The elements `at..at + length` as a slice to write.
    ///
    /// # Safety
    /// The range lies inside the output, the output outlives the slice, and no other task touches the
    /// range meanwhile.
    #[inline(always)]
    #[expect(unsafe_code, clippy::mut_from_ref, reason = "tasks write disjoint elements of one output")]
    pub(super) unsafe fn slice(&self, at: usize, length: usize) -> &mut [T] {
        // SAFETY: promised by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), length) }
    }
}

/// [`Activations`] that tasks write together.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedLines {
    pub(super) numbers: Numbers,
    words: Shared<u32>,
    pub(super) scales: Shared<f32>,
    stride: usize,
    pub(super) depth: usize,
}

impl SharedLines {
    /// `count` words of a row from word `word` of its line `line` on, all in that line.
    ///
    /// # Safety
    /// The words exist, and no other task touches them.
    #[inline(always)]
    #[expect(unsafe_code, clippy::mut_from_ref, reason = "tasks write disjoint elements of one output")]
    pub(super) unsafe fn words(&self, line: usize, row: usize, word: usize, count: usize) -> &mut [u32] {
        // SAFETY: promised by the caller.
        unsafe { self.words.slice((line * self.stride + row) * WORDS + word, count) }
    }

    /// Writes a whole row, zeros behind its values.
    ///
    /// # Safety
    /// The row exists, `values` are at most its columns, and no other task touches it.
    #[expect(unsafe_code, reason = "writes through Shared")]
    pub(super) unsafe fn write_row(&self, cpu: CpuFeatures, row: usize, values: &[f32]) {
        cpu.run(WriteRow { lines: self, row, values });
    }
}
