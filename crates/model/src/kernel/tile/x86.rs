//! Tiles in the instructions of x86-64.
//!
//! One loop nest for every pair of a format and an instruction set. A [`Step`] is what differs between them: the
//! registers, the rows that fit, and how a word of a row times the words of one register of columns is added to the
//! sums.

mod steps;

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use self::steps::*;
use super::Tile;
use crate::kernel::cpu_features::Unit;
use crate::kernel::line::{PANEL, WORDS};
use crate::kernel::matrix::Format;

/// The step of a loop.
///
/// # Safety
/// Its functions need the instructions of [`Self::rows`]'s features.
#[expect(unsafe_code, reason = "instructions that the processor has to have, and pointers")]
trait Step: Sized {
    type Sum: Register;
    type Columns: Register;
    /// Most rows of a tile: the sums of each take two registers.
    const ROWS: usize;
    /// Words of a row that meet one word of a column.
    const LEFT: usize = 1;

    /// The sums, with the products of the words at `row` and the words of `columns` added.
    unsafe fn step(sum: Self::Sum, row: *const u32, columns: Self::Columns) -> Self::Sum;

    /// [`rows`], compiled for the step's instructions.
    unsafe fn rows<const H: usize>(strip: Strip);
}

/// Some rows of a tile, and where their sums go.
#[derive(Clone, Copy)]
struct Strip {
    /// Line c of row i begins c · stride + i lines behind it.
    left: *const u32,
    stride: usize,
    depth: usize,
    /// A panel has [`PANEL`] words for every [`Step::LEFT`] words of a row.
    right: *const u32,
    /// Prefetched line by line; may point anywhere.
    ahead: *const i8,
    /// Bytes between prefetches.
    step: usize,
    /// True if the sums go on from what is in `out`.
    resumes: bool,
    /// Row i of the result begins i · `out_stride` behind it.
    out: *mut u32,
    out_stride: usize,
}

/// The first `H` rows of a strip.
///
/// # Safety
/// The processor has the step's instructions, and `H` rows lie inside what the strip points to.
#[inline(always)]
#[expect(unsafe_code, reason = "pointers whose bounds the caller has checked")]
#[allow(clippy::needless_range_loop, reason = "an index is a register's")]
unsafe fn rows<S: Step, const H: usize>(strip: Strip) {
    if H > S::ROWS {
        return;
    }
    let Strip { left, stride, depth, right, mut ahead, step, resumes, out, out_stride } = strip;
    let lanes = S::Sum::WORDS;
    for first in (0..PANEL).step_by(2 * lanes) {
        // SAFETY: promised by the caller. A prefetch may point anywhere.
        unsafe {
            let mut sums = [[S::Sum::zero(); 2]; H];
            if resumes {
                for i in 0..H {
                    for j in 0..2 {
                        sums[i][j] = S::Sum::load(out.add(i * out_stride + first + j * lanes));
                    }
                }
            }
            let mut line = left;
            let mut panel = right.add(first);
            for _ in 0..depth {
                for word in 0..WORDS / S::LEFT {
                    _mm_prefetch::<_MM_HINT_T1>(ahead);
                    ahead = ahead.wrapping_add(step);
                    let columns = [S::Columns::load(panel), S::Columns::load(panel.add(lanes))];
                    for i in 0..H {
                        let row = line.add(i * WORDS + word * S::LEFT);
                        for j in 0..2 {
                            sums[i][j] = S::step(sums[i][j], row, columns[j]);
                        }
                    }
                    panel = panel.add(PANEL);
                }
                line = line.add(stride * WORDS);
            }
            for i in 0..H {
                for j in 0..2 {
                    sums[i][j].store(out.add(i * out_stride + first + j * lanes));
                }
            }
        }
    }
}

/// A tile in strips of as many rows as fit.
///
/// # Safety
/// The processor has the step's instructions, and the slices are as long as `Tile::multiply` checks.
#[expect(unsafe_code, reason = "pointers into slices whose lengths the caller has checked")]
unsafe fn strips<S: Step>(tile: &Tile<'_>, out: &mut [f32], out_stride: usize) {
    for first in (0..tile.rows).step_by(S::ROWS) {
        // SAFETY: these rows are among those that the caller has checked.
        unsafe {
            let strip = Strip {
                left: tile.left.as_ptr().add(first).cast(),
                stride: tile.stride,
                depth: tile.depth,
                right: tile.right.as_ptr().cast(),
                ahead: tile.ahead.as_ptr().cast(),
                step: if tile.ahead.is_empty() { 0 } else { 64 },
                resumes: tile.resumes,
                out: out.as_mut_ptr().add(first * out_stride).cast(),
                out_stride,
            };
            match (tile.rows - first).min(S::ROWS) {
                1 => S::rows::<1>(strip),
                2 => S::rows::<2>(strip),
                3 => S::rows::<3>(strip),
                4 => S::rows::<4>(strip),
                5 => S::rows::<5>(strip),
                6 => S::rows::<6>(strip),
                7 => S::rows::<7>(strip),
                8 => S::rows::<8>(strip),
                9 => S::rows::<9>(strip),
                10 => S::rows::<10>(strip),
                11 => S::rows::<11>(strip),
                12 => S::rows::<12>(strip),
                13 => S::rows::<13>(strip),
                _ => S::rows::<14>(strip),
            }
        }
    }
}

/// # Safety
/// The processor has `unit`, and the slices are as long as `Tile::multiply` checks.
#[expect(unsafe_code, reason = "calls code compiled for the unit")]
pub(super) unsafe fn multiply(tile: &Tile<'_>, unit: Unit, out: &mut [f32], out_stride: usize) {
    // SAFETY: promised by the caller; a unit of AVX-512 has AVX2 and FMA, too.
    unsafe {
        match (tile.format, unit) {
            (Format::F32, Unit::Avx2) => strips::<F32Avx2>(tile, out, out_stride),
            (Format::F32, _) => strips::<F32Avx512>(tile, out, out_stride),
            (Format::WideBf16, Unit::Avx2) => strips::<WideBf16Avx2>(tile, out, out_stride),
            (Format::WideBf16, _) => strips::<WideBf16Avx512>(tile, out, out_stride),
            // Those in parts come here as products of bfloat16.
            (Format::Bf16 | Format::F32Parts | Format::Bf16Parts, Unit::Avx2) => {
                strips::<Bf16Avx2>(tile, out, out_stride)
            }
            (Format::Bf16 | Format::F32Parts | Format::Bf16Parts, Unit::Avx512Bf16) => {
                strips::<Bf16Avx512Bf16>(tile, out, out_stride)
            }
            (Format::Bf16 | Format::F32Parts | Format::Bf16Parts, _) => {
                strips::<Bf16Avx512>(tile, out, out_stride)
            }
            (Format::Int8, Unit::AvxVnni) => strips::<Int8AvxVnni>(tile, out, out_stride),
            (Format::Int8, Unit::Avx2) => strips::<Int8Avx2>(tile, out, out_stride),
            (Format::Int8, _) => strips::<Int8Avx512Vnni>(tile, out, out_stride),
        }
    }
}
