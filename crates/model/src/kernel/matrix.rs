//! The right-hand side of a product: packed once, or one panel at a time for every product.

mod pack;

use std::cell::RefMut;
use std::ops::Deref;
use std::sync::Arc;

use rayon::prelude::*;

use self::pack::{pack_column, pack_int8};
use super::cpu_features::CpuFeatures;
use super::encode;
use super::line::{Line, Numbers, PANEL, PARTS, WORDS};
use super::stored::{Columns, PanelBuffers, StoredColumns};

/// The types that a matrix keeps its elements in; they decide the type of the left-hand side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// f32, times f32.
    F32,
    /// bfloat16 widened to f32, times f32: half the memory, and the very bits of [`Self::F32`] for
    /// weights that are bfloat16 already.
    WideBf16,
    /// bfloat16, times bfloat16, summed in f32.
    Bf16,
    /// f32 as three bfloat16, times f32 as three: six products of bfloat16, for processors that are many
    /// times as fast with those.
    F32Parts,
    /// bfloat16, times f32 as three: the very bits of [`Self::F32Parts`] for weights that are bfloat16.
    Bf16Parts,
    /// 8-bit integers with a factor for each column, times 8-bit integers with a factor for each row;
    /// sums are exact.
    Int8,
}

impl Format {
    /// The type of the left-hand side.
    #[must_use]
    pub const fn left(self) -> Numbers {
        match self {
            Self::F32 | Self::WideBf16 => Numbers::F32,
            Self::Bf16 => Numbers::Bf16,
            Self::Int8 => Numbers::Int8,
            Self::F32Parts | Self::Bf16Parts => Numbers::Parts,
        }
    }

    /// The fastest format that keeps f32, or bfloat16 among f32, as exactly as this one.
    #[must_use]
    pub fn fastest(self, cpu: CpuFeatures) -> Self {
        match self {
            Self::F32 if cpu.prefers_parts() => Self::F32Parts,
            Self::WideBf16 if cpu.prefers_parts() => Self::Bf16Parts,
            other => other,
        }
    }

    /// Bytes of `numbers` elements of a column.
    #[must_use]
    pub const fn bytes(self, numbers: usize) -> usize {
        match self {
            Self::F32 => 4 * numbers,
            Self::F32Parts => 6 * numbers,
            Self::WideBf16 | Self::Bf16 | Self::Bf16Parts => 2 * numbers,
            Self::Int8 => numbers,
        }
    }

    /// Words of a panel's column for one line of the left-hand side, or for all lines of its parts.
    pub(super) const fn words_per_line(self) -> usize {
        match self {
            Self::WideBf16 => WORDS / 2,
            Self::F32Parts => PARTS * WORDS,
            _ => WORDS,
        }
    }

    /// Lines of a panel for `depth` lines of a left-hand row.
    pub(super) const fn panel_lines(self, depth: usize) -> usize {
        depth / self.left().parts() * self.words_per_line() * (PANEL / WORDS)
    }
}

/// The right-hand side of a product: a K × N matrix of weights in panels of 32 columns.
///
/// Within a panel, the words of all its columns for some k come before those for a larger k, so a
/// micro-kernel reads a panel from front to back. K is padded with zeros to whole lines. [`Self::pack`] packs
/// a matrix once; [`Self::stored`] leaves it in its file and packs one panel at a time. `kernel/README.md`
/// draws the layout.
///
/// ```
/// use unmask_model::kernel::{Activations, CpuFeatures, Finish, Format, Norm, PackedMatrix, product};
///
/// let cpu = CpuFeatures::detect();
/// // Two rows, and 32 columns: the first row of the matrix counts them, the second one is all ones.
/// let matrix = PackedMatrix::pack(Format::F32, 2, 32, |k, n| if k == 0 { n as f32 } else { 1.0 });
/// let mut left = Activations::new(matrix.format().left());
/// Norm::Rms { gain: vec![1.0; 2], epsilon: 0.0 }.apply(cpu, &[1.0, -1.0], 2, &mut left);
///
/// let mut out = vec![0.0; 32];
/// product(cpu, &left, &matrix, Finish::Store { out: &mut out, stride: 32 });
/// assert_eq!(out[..3], [-1.0, 0.0, 1.0]);
/// ```
#[derive(Debug)]
pub struct PackedMatrix {
    pub(super) format: Format,
    panels: Panels,
    /// Lines of a left-hand row.
    pub(super) depth: usize,
    columns: usize,
    /// For integers, by column: what one is worth, and 128 times the sum of its elements, because the
    /// left-hand side is stored 128 too high.
    pub(super) scales: Vec<f32>,
    pub(super) offsets: Vec<i32>,
}

#[derive(Debug)]
enum Panels {
    Packed(Vec<Line>),
    Stored(StoredColumns),
}

/// A panel, ready to be multiplied with.
pub(super) enum Panel<'a> {
    Packed(&'a [Line]),
    Now(RefMut<'a, Vec<Line>>),
}

impl Deref for Panel<'_> {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        match self {
            Self::Packed(lines) => lines,
            Self::Now(lines) => lines,
        }
    }
}

impl PackedMatrix {
    /// Packs a matrix of `rows` × `columns`, the latter a multiple of 32, given by `element(k, n)`.
    pub fn pack(
        format: Format,
        rows: usize,
        columns: usize,
        element: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        assert!(columns.is_multiple_of(PANEL), "{columns} columns are no whole panels");
        let depth = format.left().lines(rows);
        let lines = format.panel_lines(depth);
        let mut packed = vec![Line::default(); lines * (columns / PANEL)];
        let mut scales = Vec::new();
        let mut offsets = Vec::new();
        if format == Format::Int8 {
            scales = vec![0.0; columns];
            offsets = vec![0; columns];
            let columns = scales.par_chunks_mut(PANEL).zip(offsets.par_chunks_mut(PANEL));
            let panels = packed.par_chunks_mut(lines.max(1));
            panels.zip(columns).enumerate().for_each_init(Vec::new, |column, (panel, (out, factors))| {
                pack_int8(rows, |k, j| element(k, panel * PANEL + j), column, out, factors);
            });
        } else {
            let panels = packed.par_chunks_mut(lines.max(1)).enumerate();
            panels.for_each_init(Vec::new, |column, (panel, out)| {
                for j in 0..PANEL {
                    column.clear();
                    column.extend((0..rows).map(|k| element(k, panel * PANEL + j)));
                    pack_column(format, column, j, out);
                }
            });
        }
        Self { format, panels: Panels::Packed(packed), depth, columns, scales, offsets }
    }

    /// A matrix of the same shape that stays where it is stored. The products are those of the packed
    /// one, bit for bit; a panel is packed anew for every block of rows that it is multiplied with.
    pub fn stored(
        cpu: CpuFeatures,
        format: Format,
        rows: usize,
        columns: usize,
        stored: Box<dyn Columns>,
        buffers: Arc<PanelBuffers>,
    ) -> Self {
        assert!(columns.is_multiple_of(PANEL), "{columns} columns are no whole panels");
        let depth = format.left().lines(rows);
        let stored = StoredColumns { format, rows, columns: stored, buffers };
        let (scales, offsets) = match format {
            Format::Int8 => stored.factors(cpu, columns),
            _ => (Vec::new(), Vec::new()),
        };
        Self { format, panels: Panels::Stored(stored), depth, columns, scales, offsets }
    }

    /// N, the width of a result row.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The format of its elements.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns true if [`Self::add_column`] can read its columns back as floats.
    #[must_use]
    pub fn has_columns(&self) -> bool {
        self.is_packed() && matches!(self.format, Format::F32 | Format::WideBf16 | Format::Bf16)
    }

    /// Adds column `n`, as far as it is packed, to `out`.
    ///
    /// # Panics
    /// Unless [`Self::has_columns`], and when there is no such column.
    pub fn add_column(&self, n: usize, out: &mut [f32]) {
        assert!(self.has_columns(), "columns of {:?}", self.format);
        let panel = self.packed_panel(n / PANEL).as_chunks::<{ PANEL / WORDS }>().0;
        let words = panel.iter().map(|halves| halves[n % PANEL / WORDS].0[n % WORDS]);
        if self.format == Format::F32 {
            out.iter_mut().zip(words).for_each(|(out, word)| *out += f32::from_bits(word));
        } else {
            let numbers = words.flat_map(encode::bf16_pair);
            out.iter_mut().zip(numbers).for_each(|(out, number)| *out += number);
        }
    }

    pub(super) fn panel_count(&self) -> usize {
        self.columns / PANEL
    }

    /// Returns true if its panels are packed already.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.panels, Panels::Packed(_))
    }

    /// A panel, packed now if it is not yet; one at a time on each thread.
    pub(super) fn panel(&self, cpu: CpuFeatures, number: usize) -> Panel<'_> {
        match &self.panels {
            Panels::Packed(_) => Panel::Packed(self.packed_panel(number)),
            Panels::Stored(stored) => Panel::Now(stored.panel(cpu, number, self.panel_lines(), &self.scales)),
        }
    }

    /// A panel's lines as they lie in memory; none for a matrix that is stored otherwise, and behind the
    /// last panel.
    pub(super) fn packed_panel(&self, number: usize) -> &[Line] {
        match &self.panels {
            Panels::Packed(lines) if number < self.panel_count() => {
                &lines[number * self.panel_lines()..][..self.panel_lines()]
            }
            _ => &[],
        }
    }

    fn panel_lines(&self) -> usize {
        self.lines_before(self.depth)
    }

    /// Lines of a panel for the first `depth` lines of a left-hand row.
    pub(super) fn lines_before(&self, depth: usize) -> usize {
        self.format.panel_lines(depth)
    }
}
