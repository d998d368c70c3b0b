//! Right-hand sides that stay as they are stored and are packed a panel at a time, whenever they are
//! multiplied with: the memory is the file's, and the work of packing is shared by all rows of an
//! evaluation.

use std::cell::{RefCell, RefMut};
use std::fmt::Debug;
use std::sync::Arc;

use rayon::prelude::*;
use thread_local::ThreadLocal;

use super::blocks::Blocks;
use super::cpu_features::{CpuFeatures, Kernel};
use super::encode;
use super::lanes::Lanes;
use super::line::{Line, PANEL, PARTS, WORDS};
use super::matrix::Format;

/// Numbers of each column that are packed at a time: whole blocks of every encoding, whole lines of every
/// format, and few enough for the first-level cache in all columns of a panel.
const STRETCH: usize = 256;
/// Words for them: three parts of two numbers each.
const MOST_WORDS: usize = STRETCH / 2 * PARTS;

/// The columns of a matrix where they are stored.
pub trait Columns: Debug + Send + Sync {
    /// Column `n`, zeros behind its numbers down to the last row of the matrix; `None` for zeros alone.
    fn column(&self, n: usize) -> Option<Blocks<'_>>;
}

/// Room for one panel on each thread, which all matrices of an engine share.
#[derive(Debug, Default)]
pub struct PanelBuffers(ThreadLocal<RefCell<Vec<Line>>>);

impl PanelBuffers {
    /// This thread's. A panel that a panic has left half packed is as good as any.
    fn own(&self) -> RefMut<'_, Vec<Line>> {
        self.0.get_or_default().borrow_mut()
    }
}

/// Stored columns, and what it takes to pack them.
#[derive(Debug)]
pub(super) struct StoredColumns {
    pub(super) format: Format,
    pub(super) rows: usize,
    pub(super) columns: Box<dyn Columns>,
    pub(super) buffers: Arc<PanelBuffers>,
}

impl StoredColumns {
    /// For integers, by column: what one is worth, and 128 times the sum of its elements.
    pub(super) fn factors(&self, cpu: CpuFeatures, count: usize) -> (Vec<f32>, Vec<i32>) {
        let factors = (0..count).into_par_iter().map_init(
            || vec![0.0; self.rows],
            |column, n| {
                self.read(cpu, n, 0, column);
                let scale = encode::int8_scale(column);
                let sum: i32 = column.iter().map(|value| encode::nearest(*value, scale)).sum();
                (scale, 128 * sum)
            },
        );
        factors.unzip()
    }

    /// Packs panel `number` into `lines` lines of this thread's buffer. `scales` are those of all columns,
    /// for integers.
    pub(super) fn panel(
        &self,
        cpu: CpuFeatures,
        number: usize,
        lines: usize,
        scales: &[f32],
    ) -> RefMut<'_, Vec<Line>> {
        let mut panel = self.buffers.own();
        panel.resize(lines, Line::default());
        let stretch_words = STRETCH / self.format.left().per_line() * self.format.words_per_line();
        let mut values = [0.0; STRETCH];
        let mut words = [[0; MOST_WORDS]; PANEL];
        for (stretch, lines) in panel.chunks_mut(stretch_words * (PANEL / WORDS)).enumerate() {
            let first = stretch * STRETCH;
            let values = &mut values[..STRETCH.min(self.rows - first)];
            let count = lines.len() / (PANEL / WORDS);
            for (j, words) in words.iter_mut().enumerate() {
                let n = number * PANEL + j;
                self.read(cpu, n, first, values);
                let scale = scales.get(n).copied().unwrap_or(1.0);
                let words = &mut words[..count];
                cpu.run(Encode { format: self.format, scale, values, words });
            }
            cpu.run(Interleave { words: &words, lines });
        }
        panel
    }

    fn read(&self, cpu: CpuFeatures, n: usize, first: usize, out: &mut [f32]) {
        let column = self.columns.column(n);
        let count = column.map_or(0, |column| column.count().saturating_sub(first).min(out.len()));
        let (numbers, zeros) = out.split_at_mut(count);
        zeros.fill(0.0);
        if let Some(column) = column {
            column.decode(cpu, first, numbers);
        }
    }
}

/// Some numbers of a column to its words, zeros behind them.
struct Encode<'a> {
    format: Format,
    scale: f32,
    values: &'a [f32],
    words: &'a mut [u32],
}

impl Kernel for Encode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { format, scale, values, words } = self;
        match format {
            Format::F32 => encode::f32(values, words),
            Format::WideBf16 | Format::Bf16 | Format::Bf16Parts => encode::bf16(values, words),
            Format::F32Parts => {
                for (values, words) in values.chunks(2 * WORDS).zip(words.chunks_mut(PARTS * WORDS)) {
                    let mut parts = [[0.0; 2 * WORDS]; PARTS];
                    for (i, value) in values.iter().enumerate() {
                        let split = encode::parts(*value);
                        parts.iter_mut().zip(split).for_each(|(parts, part)| parts[i] = part);
                    }
                    for (parts, words) in parts.iter().zip(words.chunks_mut(WORDS)) {
                        encode::bf16(parts, words);
                    }
                }
            }
            Format::Int8 => {
                words.fill(0);
                for (i, value) in values.iter().enumerate() {
                    words[i / 4] |= u32::from(encode::nearest(*value, scale) as u8) << (8 * (i % 4));
                }
            }
        }
    }
}

/// The words of 32 columns, those that stand beside each other in all columns first.
struct Interleave<'a> {
    words: &'a [[u32; MOST_WORDS]; PANEL],
    lines: &'a mut [Line],
}

impl Kernel for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { words, lines } = self;
        for (word, lines) in lines.chunks_exact_mut(PANEL / WORDS).enumerate() {
            for (columns, line) in words.chunks_exact(WORDS).zip(lines) {
                for (out, column) in line.0.iter_mut().zip(columns) {
                    *out = column[word];
                }
            }
        }
    }
}
