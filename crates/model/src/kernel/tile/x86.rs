//! Tiles in the instructions of x86-64.
//!
//! One loop nest, written once as a macro, for every pair of a format and an instruction set: they
//! differ in the register, in how many rows fit, and in the step that adds a word of a row times the
//! words of one register of columns to the sums.

use std::arch::x86_64::*;

use super::Tile;
use crate::kernel::cpu_features::Unit;
use crate::kernel::line::{PANEL, WORDS};
use crate::kernel::matrix::Format;

/// Defines `$name(tile, out, out_stride)`. `$left` words of a row meet one word of a column; a step sees
/// the sums, a pointer to the row's words, and a register of columns.
macro_rules! tile {
    ($name:ident, $features:literal, $max:literal: $($rows:literal)*, $left:literal, $lanes:literal,
     $zero:expr, $resume:expr, $load:expr, $store:expr, |$sum:ident, $row:ident, $columns:ident| $step:expr) => {
        /// # Safety
        /// The processor has the features, and the slices are as long as `Tile::multiply` checks.
        #[target_feature(enable = $features)]
        #[expect(unsafe_code, reason = "pointers into slices whose lengths the caller has checked")]
        unsafe fn $name(tile: &Tile<'_>, out: &mut [f32], out_stride: usize) {
            /// # Safety
            /// As above, for `H` rows.
            #[target_feature(enable = $features)]
            #[expect(unsafe_code, reason = "as above")]
            #[expect(clippy::too_many_arguments, reason = "both operands, what is fetched, and the result")]
            unsafe fn rows<const H: usize>(
                left: *const u32,
                stride: usize,
                depth: usize,
                right: *const u32,
                mut ahead: *const i8,
                step: usize,
                resumes: bool,
                out: *mut f32,
                out_stride: usize,
            ) {
                for first in (0..PANEL).step_by(2 * $lanes) {
                    let mut sums = [[$zero; 2]; H];
                    // SAFETY: line c of row i begins c · stride + i lines behind `left`, a panel has
                    // PANEL words for every `$left` words of a row, and row i of the result begins
                    // i · out_stride behind `out`: all inside what the caller has checked. A prefetch may
                    // point anywhere.
                    unsafe {
                        if resumes {
                            for i in 0..H {
                                for j in 0..2 {
                                    sums[i][j] = $resume(out.add(i * out_stride + first + j * $lanes).cast());
                                }
                            }
                        }
                        let mut line = left;
                        let mut panel = right.add(first);
                        for _ in 0..depth {
                            for word in 0..WORDS / $left {
                                _mm_prefetch::<_MM_HINT_T1>(ahead);
                                ahead = ahead.wrapping_add(step);
                                let columns = [$load(panel.cast()), $load(panel.add($lanes).cast())];
                                for i in 0..H {
                                    let $row = line.add(i * WORDS + word * $left);
                                    for j in 0..2 {
                                        let $sum = sums[i][j];
                                        let $columns = columns[j];
                                        sums[i][j] = $step;
                                    }
                                }
                                panel = panel.add(PANEL);
                            }
                            line = line.add(stride * WORDS);
                        }
                        for i in 0..H {
                            for j in 0..2 {
                                $store(out.add(i * out_stride + first + j * $lanes).cast(), sums[i][j]);
                            }
                        }
                    }
                }
            }
            let right = tile.right.as_ptr().cast();
            let ahead = tile.ahead.as_ptr().cast();
            let step = if tile.ahead.is_empty() { 0 } else { 64 };
            let resumes = tile.resumes;
            let mut first = 0;
            while first < tile.rows {
                let height = (tile.rows - first).min($max);
                // SAFETY: rows `first..first + height` are among those that the caller has checked.
                unsafe {
                    let left = tile.left.as_ptr().add(first).cast();
                    let out = out.as_mut_ptr().add(first * out_stride);
                    match height {
                        $($rows => rows::<$rows>(
                            left, tile.stride, tile.depth, right, ahead, step, resumes, out, out_stride),)*
                        _ => rows::<$max>(
                            left, tile.stride, tile.depth, right, ahead, step, resumes, out, out_stride),
                    }
                }
                first += height;
            }
        }
    };
}

/// The word at `row` in every lane, as a float, and as integers.
macro_rules! f32x16 {
    ($row:expr) => {
        _mm512_set1_ps(f32::from_bits(*$row))
    };
}
macro_rules! f32x8 {
    ($row:expr) => {
        _mm256_set1_ps(f32::from_bits(*$row))
    };
}

/// The even and the odd bfloat16 of every word.
#[target_feature(enable = "avx512f")]
fn wide512(words: __m512i) -> [__m512; 2] {
    let odd = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32));
    [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(odd)]
}

#[target_feature(enable = "avx2")]
fn wide256(words: __m256i) -> [__m256; 2] {
    let odd = _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000_u32 as i32));
    [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)), _mm256_castsi256_ps(odd)]
}

tile!(f32_avx512, "avx512f", 14: 1 2 3 4 5 6 7 8 9 10 11 12 13, 1, 16,
    _mm512_setzero_ps(), _mm512_loadu_ps, _mm512_loadu_ps, _mm512_storeu_ps,
    |sum, row, columns| _mm512_fmadd_ps(f32x16!(row), columns, sum));

tile!(f32_avx2, "avx2,fma", 6: 1 2 3 4 5, 1, 8,
    _mm256_setzero_ps(), _mm256_loadu_ps, _mm256_loadu_ps, _mm256_storeu_ps,
    |sum, row, columns| _mm256_fmadd_ps(f32x8!(row), columns, sum));

tile!(wide_bf16_avx512, "avx512f", 12: 1 2 3 4 5 6 7 8 9 10 11, 2, 16,
_mm512_setzero_ps(), _mm512_loadu_ps, _mm512_loadu_si512, _mm512_storeu_ps,
|sum, row, columns| {
    let [even, odd] = wide512(columns);
    _mm512_fmadd_ps(f32x16!(row.add(1)), odd, _mm512_fmadd_ps(f32x16!(row), even, sum))
});

tile!(wide_bf16_avx2, "avx2,fma", 4: 1 2 3, 2, 8,
_mm256_setzero_ps(), _mm256_loadu_ps, _mm256_loadu_si256, _mm256_storeu_ps,
|sum, row, columns| {
    let [even, odd] = wide256(columns);
    _mm256_fmadd_ps(f32x8!(row.add(1)), odd, _mm256_fmadd_ps(f32x8!(row), even, sum))
});

tile!(bf16_avx512_bf16, "avx512f,avx512bf16", 14: 1 2 3 4 5 6 7 8 9 10 11 12 13, 1, 16,
_mm512_setzero_ps(), _mm512_loadu_ps, _mm512_loadu_si512, _mm512_storeu_ps,
|sum, row, columns| {
    let row = _mm512_set1_epi32(*row as i32);
    _mm512_dpbf16_ps(sum, std::mem::transmute::<__m512i, __m512bh>(row),
        std::mem::transmute::<__m512i, __m512bh>(columns))
});

tile!(bf16_avx512, "avx512f", 12: 1 2 3 4 5 6 7 8 9 10 11, 1, 16,
_mm512_setzero_ps(), _mm512_loadu_ps, _mm512_loadu_si512, _mm512_storeu_ps,
|sum, row, columns| {
    let [even, odd] = wide512(columns);
    let [left, right] = wide512(_mm512_set1_epi32(*row as i32));
    _mm512_fmadd_ps(right, odd, _mm512_fmadd_ps(left, even, sum))
});

tile!(bf16_avx2, "avx2,fma", 4: 1 2 3, 1, 8,
_mm256_setzero_ps(), _mm256_loadu_ps, _mm256_loadu_si256, _mm256_storeu_ps,
|sum, row, columns| {
    let [even, odd] = wide256(columns);
    let [left, right] = wide256(_mm256_set1_epi32(*row as i32));
    _mm256_fmadd_ps(right, odd, _mm256_fmadd_ps(left, even, sum))
});

tile!(int8_avx512_vnni, "avx512f,avx512vnni", 14: 1 2 3 4 5 6 7 8 9 10 11 12 13, 1, 16,
    _mm512_setzero_si512(), _mm512_loadu_si512, _mm512_loadu_si512, _mm512_storeu_si512,
    |sum, row, columns| _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(*row as i32), columns));

tile!(int8_avx_vnni, "avx2,avxvnni", 6: 1 2 3 4 5, 1, 8,
    _mm256_setzero_si256(), _mm256_loadu_si256, _mm256_loadu_si256, _mm256_storeu_si256,
    |sum, row, columns| _mm256_dpbusd_avx_epi32(sum, _mm256_set1_epi32(*row as i32), columns));

// Without `vpdpbusd`: the even and the odd bytes of a word as pairs of 16 bits, whose products of pairs
// are added in 32. Products of bytes would be added in 16, which saturate.
tile!(int8_avx2, "avx2", 4: 1 2 3, 1, 8,
_mm256_setzero_si256(), _mm256_loadu_si256, _mm256_loadu_si256, _mm256_storeu_si256,
|sum, row, columns| {
    let row = _mm256_set1_epi32(*row as i32);
    let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(columns));
    let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_and_si256(row, _mm256_set1_epi16(0xff)), even));
    let odd = _mm256_srai_epi16::<8>(columns);
    _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_srli_epi16::<8>(row), odd))
});

/// # Safety
/// The processor has `unit`, and the slices are as long as `Tile::multiply` checks.
#[expect(unsafe_code, reason = "calls code compiled for the unit")]
pub(super) unsafe fn multiply(tile: &Tile<'_>, unit: Unit, out: &mut [f32], out_stride: usize) {
    // SAFETY: promised by the caller; a unit of AVX-512 has AVX2 and FMA, too.
    unsafe {
        match (tile.format, unit) {
            (Format::F32, Unit::Avx2) => f32_avx2(tile, out, out_stride),
            (Format::F32, _) => f32_avx512(tile, out, out_stride),
            (Format::WideBf16, Unit::Avx2) => wide_bf16_avx2(tile, out, out_stride),
            (Format::WideBf16, _) => wide_bf16_avx512(tile, out, out_stride),
            // Those in parts come here as products of bfloat16.
            (Format::Bf16 | Format::F32Parts | Format::Bf16Parts, Unit::Avx2) => {
                bf16_avx2(tile, out, out_stride)
            }
            (Format::Bf16 | Format::F32Parts | Format::Bf16Parts, Unit::Avx512Bf16) => {
                bf16_avx512_bf16(tile, out, out_stride)
            }
            (Format::Bf16 | Format::F32Parts | Format::Bf16Parts, _) => bf16_avx512(tile, out, out_stride),
            (Format::Int8, Unit::AvxVnni) => int8_avx_vnni(tile, out, out_stride),
            (Format::Int8, Unit::Avx2) => int8_avx2(tile, out, out_stride),
            (Format::Int8, _) => int8_avx512_vnni(tile, out, out_stride),
        }
    }
}
