//! Registers of x86-64, and the steps of every format in every instruction set.

use std::arch::x86_64::*;

use super::{Step, Strip, rows};

/// A register of 32-bit words.
///
/// # Safety
/// Every function needs a processor that has the register, and a pointer to as many words as it holds.
#[expect(unsafe_code, reason = "instructions that the processor has to have, and pointers")]
pub(super) unsafe trait Register: Copy {
    /// Words in it.
    const WORDS: usize;
    unsafe fn zero() -> Self;
    unsafe fn load(words: *const u32) -> Self;
    unsafe fn store(self, words: *mut u32);
}

macro_rules! register {
    ($type:ty, $words:literal, $zero:ident, $load:ident, $store:ident) => {
        #[expect(unsafe_code, reason = "promised by the caller")]
        // SAFETY: as many words are read and written as the register holds.
        unsafe impl Register for $type {
            const WORDS: usize = $words;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: the caller's processor has the register.
                unsafe { $zero() }
            }

            #[inline(always)]
            unsafe fn load(words: *const u32) -> Self {
                // SAFETY: and the pointer is to as many words as it holds.
                unsafe { $load(words.cast()) }
            }

            #[inline(always)]
            unsafe fn store(self, words: *mut u32) {
                // SAFETY: as above.
                unsafe { $store(words.cast(), self) }
            }
        }
    };
}

register!(__m256, 8, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps);
register!(__m256i, 8, _mm256_setzero_si256, _mm256_loadu_si256, _mm256_storeu_si256);
register!(__m512, 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps);
register!(__m512i, 16, _mm512_setzero_si512, _mm512_loadu_si512, _mm512_storeu_si512);

/// Defines a [`Step`]: its registers, rows and instructions, and the sum with one product more.
macro_rules! step {
    ($(#[$doc:meta])* $name:ident: $sum:ty, $columns:ty, $rows:literal rows, $left:literal left, $features:literal,
     |$old:ident, $row:ident, $words:ident| $new:expr) => {
        $(#[$doc])*
        pub(super) struct $name;

        #[expect(unsafe_code, reason = "instructions that the processor has to have, and pointers")]
        impl Step for $name {
            type Sum = $sum;
            type Columns = $columns;
            const ROWS: usize = $rows;
            const LEFT: usize = $left;

            #[inline(always)]
            unsafe fn step($old: $sum, $row: *const u32, $words: $columns) -> $sum {
                // SAFETY: promised by the caller: instructions and pointer.
                unsafe { $new }
            }

            #[target_feature(enable = $features)]
            unsafe fn rows<const H: usize>(strip: Strip) {
                // SAFETY: promised by the caller.
                unsafe { rows::<Self, H>(strip) }
            }
        }
    };
}

/// The word at `row` in every lane, as floats.
#[inline(always)]
#[expect(unsafe_code, reason = "an instruction that the processor has to have, and a pointer")]
unsafe fn floats512(row: *const u32) -> __m512 {
    // SAFETY: promised by the caller.
    unsafe { _mm512_set1_ps(f32::from_bits(*row)) }
}

#[inline(always)]
#[expect(unsafe_code, reason = "as above")]
unsafe fn floats256(row: *const u32) -> __m256 {
    // SAFETY: as above.
    unsafe { _mm256_set1_ps(f32::from_bits(*row)) }
}

/// The even and the odd bfloat16 of every word.
#[inline(always)]
#[expect(unsafe_code, reason = "instructions that the processor has to have")]
unsafe fn wide512(words: __m512i) -> [__m512; 2] {
    // SAFETY: promised by the caller.
    unsafe {
        let odd = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32));
        [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(odd)]
    }
}

#[inline(always)]
#[expect(unsafe_code, reason = "as above")]
unsafe fn wide256(words: __m256i) -> [__m256; 2] {
    // SAFETY: as above.
    unsafe {
        let odd = _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000_u32 as i32));
        [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)), _mm256_castsi256_ps(odd)]
    }
}

step!(F32Avx512: __m512, __m512, 14 rows, 1 left, "avx512f",
    |sum, row, columns| _mm512_fmadd_ps(floats512(row), columns, sum));

step!(F32Avx2: __m256, __m256, 6 rows, 1 left, "avx2,fma",
    |sum, row, columns| _mm256_fmadd_ps(floats256(row), columns, sum));

step!(WideBf16Avx512: __m512, __m512i, 12 rows, 2 left, "avx512f", |sum, row, columns| {
    let [even, odd] = wide512(columns);
    _mm512_fmadd_ps(floats512(row.add(1)), odd, _mm512_fmadd_ps(floats512(row), even, sum))
});

step!(WideBf16Avx2: __m256, __m256i, 4 rows, 2 left, "avx2,fma", |sum, row, columns| {
    let [even, odd] = wide256(columns);
    _mm256_fmadd_ps(floats256(row.add(1)), odd, _mm256_fmadd_ps(floats256(row), even, sum))
});

step!(Bf16Avx512Bf16: __m512, __m512i, 14 rows, 1 left, "avx512f,avx512bf16", |sum, row, columns| {
    let row = _mm512_set1_epi32(*row as i32);
    let pairs = |words| std::mem::transmute::<__m512i, __m512bh>(words);
    _mm512_dpbf16_ps(sum, pairs(row), pairs(columns))
});

step!(Bf16Avx512: __m512, __m512i, 12 rows, 1 left, "avx512f", |sum, row, columns| {
    let [even, odd] = wide512(columns);
    let [left, right] = wide512(_mm512_set1_epi32(*row as i32));
    _mm512_fmadd_ps(right, odd, _mm512_fmadd_ps(left, even, sum))
});

step!(Bf16Avx2: __m256, __m256i, 4 rows, 1 left, "avx2,fma", |sum, row, columns| {
    let [even, odd] = wide256(columns);
    let [left, right] = wide256(_mm256_set1_epi32(*row as i32));
    _mm256_fmadd_ps(right, odd, _mm256_fmadd_ps(left, even, sum))
});

step!(Int8Avx512Vnni: __m512i, __m512i, 14 rows, 1 left, "avx512f,avx512vnni",
    |sum, row, columns| _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(*row as i32), columns));

step!(Int8AvxVnni: __m256i, __m256i, 6 rows, 1 left, "avx2,avxvnni",
    |sum, row, columns| _mm256_dpbusd_avx_epi32(sum, _mm256_set1_epi32(*row as i32), columns));

step!(
/// Without `vpdpbusd`: the even and the odd bytes of a word as pairs of 16 bits, whose products of pairs are added in 32.
/// Products of bytes would be added in 16, which saturate.
Int8Avx2: __m256i, __m256i, 4 rows, 1 left, "avx2", |sum, row, columns| {
    let row = _mm256_set1_epi32(*row as i32);
    let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(columns));
    let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_and_si256(row, _mm256_set1_epi16(0xff)), even));
    let odd = _mm256_srai_epi16::<8>(columns);
    _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_srli_epi16::<8>(row), odd))
});
