//! Tiles in plain Rust, for processors without the instructions of the others.

use super::Tile;
use crate::kernel::cpu_features::{CpuFeatures, Kernel};
use crate::kernel::encode::bf16_pair;
use crate::kernel::lanes::Lanes;
use crate::kernel::line::{PANEL, WORDS};
use crate::kernel::matrix::Format;

/// Rows and columns that are summed at a time, few enough for the registers of most processors.
const HEIGHT: usize = 4;
const WIDTH: usize = 16;

pub(super) fn multiply(tile: &Tile<'_>, cpu: CpuFeatures, out: &mut [f32], out_stride: usize) {
    for first in (0..tile.rows).step_by(HEIGHT) {
        let rows = HEIGHT.min(tile.rows - first);
        let part = Tile { left: &tile.left[first..], rows, ..*tile };
        let out = &mut out[first * out_stride..];
        for column in (0..PANEL).step_by(WIDTH) {
            cpu.run(Part { tile: &part, column, out, out_stride });
        }
    }
}

struct Part<'a> {
    tile: &'a Tile<'a>,
    column: usize,
    out: &'a mut [f32],
    out_stride: usize,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        match self.tile.format {
            Format::F32 => self.sum::<1, f32>(|sum, left, right| {
                lanes.fused(f32::from_bits(left[0]), f32::from_bits(right), sum)
            }),
            Format::WideBf16 => self.sum::<2, f32>(|sum, left, right| {
                let [low, high] = bf16_pair(right);
                let sum = lanes.fused(f32::from_bits(left[0]), low, sum);
                lanes.fused(f32::from_bits(left[1]), high, sum)
            }),
            // Those in parts come here as products of bfloat16.
            Format::Bf16 | Format::F32Parts | Format::Bf16Parts => self.sum::<1, f32>(|sum, left, right| {
                let left = bf16_pair(left[0]);
                let right = bf16_pair(right);
                lanes.fused(left[1], right[1], lanes.fused(left[0], right[0], sum))
            }),
            Format::Int8 => self.sum::<1, i32>(|sum, left, right| {
                let left = left[0].to_le_bytes();
                let right = right.to_le_bytes().map(|byte| byte as i8);
                let term = |place: usize| i32::from(left[place]) * i32::from(right[place]);
                sum + (term(0) + term(1)) + (term(2) + term(3))
            }),
        }
    }
}

/// An accumulator, kept in the bits of an f32.
trait Sum: Copy + Default {
    fn bits(self) -> f32;
    fn from_bits(bits: f32) -> Self;
}

impl Sum for f32 {
    #[inline(always)]
    fn bits(self) -> f32 {
        self
    }

    #[inline(always)]
    fn from_bits(bits: f32) -> Self {
        bits
    }
}

impl Sum for i32 {
    #[inline(always)]
    fn bits(self) -> f32 {
        f32::from_bits(self as u32)
    }

    #[inline(always)]
    fn from_bits(bits: f32) -> Self {
        bits.to_bits() as i32
    }
}

impl Part<'_> {
    /// `LEFT` words of a row meet one word of a column.
    #[inline(always)]
    fn sum<const LEFT: usize, S: Sum>(self, step: impl Fn(S, &[u32; LEFT], u32) -> S) {
        let Self { tile, column, out, out_stride } = self;
        let mut sums = [[S::default(); WIDTH]; HEIGHT];
        if tile.resumes {
            for (sums, out) in sums[..tile.rows].iter_mut().zip(out.chunks(out_stride)) {
                for (sum, bits) in sums.iter_mut().zip(&out[column..]) {
                    *sum = S::from_bits(*bits);
                }
            }
        }
        let panel = tile.right.as_chunks::<{ PANEL / WORDS }>().0;
        for line in 0..tile.depth {
            let rows = &tile.left[line * tile.stride..][..tile.rows];
            // Rows that are not there repeat the last one; their sums are not written.
            let rows: [&[[u32; LEFT]]; HEIGHT] =
                std::array::from_fn(|i| rows[i.min(tile.rows - 1)].0.as_chunks::<LEFT>().0);
            let panel = &panel[line * (WORDS / LEFT)..][..WORDS / LEFT];
            for (word, columns) in panel.iter().enumerate() {
                let columns = &columns[column / WORDS].0;
                for i in 0..HEIGHT {
                    let left = rows[i][word];
                    for j in 0..WIDTH {
                        sums[i][j] = step(sums[i][j], &left, columns[j]);
                    }
                }
            }
        }
        for (row, sums) in sums[..tile.rows].iter().enumerate() {
            let out = &mut out[row * out_stride + column..][..WIDTH];
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = sum.bits();
            }
        }
    }
}
