//! The innermost loops: a tile of rows times one panel of 32 columns.
//!
//! Every sum is one chain over ascending k in one accumulator, whatever the height of the tile. The
//! chains of `f32` and `WideBf16` are the same on every unit with fused multiplication.

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::cpu_features::{CpuFeatures, Unit};
use super::line::{Line, Numbers, PANEL, PARTS, WORDS};
use super::matrix::Format;

/// Most rows of a tile on any unit.
pub(super) const MOST_ROWS: usize = 32;

/// The parts of a row and of a column that are multiplied, in this order; the products left out are below
/// 2⁻²⁴ of the whole, as f32 rounds. The parts of a row that a bfloat16 meets are in the same order, so that
/// a column whose other parts are 0 gives the same bits.
const PAIRS: [(usize, usize); 6] = [(0, 2), (0, 1), (1, 1), (1, 0), (0, 0), (2, 0)];
const PAIRS_OF_ROWS: [(usize, usize); 3] = [(1, 0), (0, 0), (2, 0)];

/// Sizes of the loops of a product on one unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocking {
    /// Most rows of a tile.
    pub(super) height: usize,
    /// Tiles that take turns with a panel.
    pub(super) tiles: usize,
    /// Lines of its rows after which a tile makes room for the next one, which then finds the same lines of
    /// the panel in the first-level cache.
    pub(super) lines: usize,
}

/// 14 rows with 2 registers of columns take 28 of the 32 registers of AVX-512; AMX has tiles for the sums of
/// 32, and is fast enough to wait for them when they leave the first-level cache.
pub(super) fn blocking(cpu: CpuFeatures, format: Format) -> Blocking {
    match cpu.unit(format) {
        #[cfg(target_arch = "x86_64")]
        Unit::Amx if format.left() == Numbers::Parts => {
            Blocking { height: MOST_ROWS, tiles: 16, lines: 2 * PARTS }
        }
        #[cfg(target_arch = "x86_64")]
        Unit::Amx => Blocking { height: MOST_ROWS, tiles: 8, lines: 8 },
        _ => Blocking { height: 14, tiles: 36, lines: 12 },
    }
}

/// Most rows of a tile.
pub(super) fn height(cpu: CpuFeatures, format: Format) -> usize {
    blocking(cpu, format).height
}

/// The sums of a tile; those of integers are `i32`, bit for bit.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [[f32; PANEL]; MOST_ROWS]);

impl Sums {
    pub(super) const fn new() -> Self {
        Self([[0.0; PANEL]; MOST_ROWS])
    }
}

/// Some rows times one panel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile<'a> {
    pub(super) format: Format,
    /// Lines from the first row's first on; line c of row r is at c · stride + r.
    pub(super) left: &'a [Line],
    pub(super) stride: usize,
    /// Number of rows.
    pub(super) rows: usize,
    /// Lines of a row.
    pub(super) depth: usize,
    pub(super) right: &'a [Line],
    /// True if the sums continue from the values in the output; the bits are those of a single loop.
    pub(super) resumes: bool,
    /// Lines that are read next and are prefetched; may be empty.
    pub(super) ahead: &'a [Line],
}

impl Tile<'_> {
    /// Writes row r of the result to `out[r · out_stride..][..32]`.
    ///
    /// # Panics
    /// When one of the slices is too short for the shape.
    pub(super) fn multiply(&self, cpu: CpuFeatures, out: &mut [f32], out_stride: usize) {
        let Self { format, left, stride, rows, depth, right, .. } = *self;
        if rows == 0 {
            return;
        }
        assert!(rows <= height(cpu, format), "{rows} rows of a tile");
        assert!(depth == 0 || left.len() >= (depth - 1) * stride + rows, "left-hand lines");
        assert!(right.len() >= format.panel_lines(depth), "right-hand lines");
        assert!(out.len() >= (rows - 1) * out_stride + PANEL, "output");
        match cpu.unit(format) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the shapes were checked above, and a unit is only named by instructions that the
            // processor has; AMX tiles have at most 32 rows.
            #[expect(unsafe_code, reason = "calls code compiled for instructions asked for")]
            Unit::Amx => unsafe { amx::multiply(self, out, out_stride) },
            _ if format.left() == Numbers::Parts => self.multiply_parts(cpu, out, out_stride),
            Unit::Portable => portable::multiply(self, cpu, out, out_stride),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "calls code compiled for instructions asked for")]
            unit => unsafe { x86::multiply(self, unit, out, out_stride) },
        }
    }

    /// One product of bfloat16 after another, for units that have no loop of their own.
    fn multiply_parts(&self, cpu: CpuFeatures, out: &mut [f32], out_stride: usize) {
        let Self { format, left, stride, depth, right, resumes, .. } = *self;
        let pairs = if format == Format::F32Parts { &PAIRS[..] } else { &PAIRS_OF_ROWS[..] };
        let mut tile = Tile { format: Format::Bf16, depth: 0, ahead: &[], ..*self };
        if depth == 0 {
            return tile.multiply(cpu, out, out_stride);
        }
        tile.depth = 1;
        for group in 0..depth / PARTS {
            for (number, &(row, column)) in pairs.iter().enumerate() {
                tile.resumes = resumes || group + number > 0;
                tile.left = &left[(group * PARTS + row) * stride..];
                tile.right = &right[format.panel_lines(group * PARTS) + column * WORDS * (PANEL / WORDS)..];
                tile.multiply(cpu, out, out_stride);
            }
        }
    }
}
