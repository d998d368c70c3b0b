//! Sixteen numbers in a register of AVX-512.

use std::arch::x86_64::*;

use super::{LANES, Lanes, rounded};

/// Registers of AVX-512. With `BF16` the processor rounds to bfloat16 itself; what is below the smallest
/// normal number then becomes 0, which is what its products take it for.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct Avx512<const BF16: bool>(());

impl<const BF16: bool> Avx512<BF16> {
    /// # Safety
    /// The processor has AVX-512 F and DQ, and BF16 if the parameter is true.
    #[inline(always)]
    #[expect(unsafe_code, reason = "a value is a promise")]
    pub(in crate::kernel) unsafe fn new() -> Self {
        Self(())
    }
}

/// Calls intrinsics.
macro_rules! avx512 {
    ($value:expr) => {{
        // SAFETY: a value of this type is a promise that the processor has the instructions; loads and stores
        // are of arrays of just that size.
        #[expect(unsafe_code, reason = "instructions that the value promises")]
        unsafe {
            $value
        }
    }};
}

impl<const BF16: bool> Lanes for Avx512<BF16> {
    type F = __m512;

    #[inline(always)]
    fn fused(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        avx512!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> __m512 {
        avx512!(_mm512_loadu_ps(values.as_ptr()))
    }

    #[inline(always)]
    fn store(self, values: __m512, out: &mut [f32; LANES]) {
        avx512!(_mm512_storeu_ps(out.as_mut_ptr(), values));
    }

    #[inline(always)]
    fn expect_load(self, values: &[f32; LANES]) {
        avx512!(_mm_prefetch::<_MM_HINT_T1>(values.as_ptr().cast()));
    }

    #[inline(always)]
    fn expect_store(self, out: &[f32; LANES]) {
        avx512!(_mm_prefetch::<_MM_HINT_ET0>(out.as_ptr().cast()));
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // An estimate and one step of Newton's; a division would keep a port of the processor for long.
        avx512!({
            let estimate = _mm512_rcp14_ps(b);
            let error = _mm512_fnmadd_ps(b, estimate, _mm512_set1_ps(1.0));
            _mm512_mul_ps(a, _mm512_fmadd_ps(estimate, error, estimate))
        })
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        avx512!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn largest(self, values: __m512) -> f32 {
        avx512!(_mm512_reduce_max_ps(values))
    }

    #[inline(always)]
    fn sum(self, values: __m512) -> f32 {
        avx512!({
            let low = _mm512_castps512_ps256(values);
            let high = _mm512_extractf32x8_ps::<1>(values);
            let eight = _mm256_add_ps(low, high);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        })
    }

    #[inline(always)]
    fn split(self, t: __m512) -> [__m512; 2] {
        // Scaling takes the floor itself.
        [t, avx512!(_mm512_reduce_ps::<_MM_FROUND_TO_NEG_INF>(t))]
    }

    #[inline(always)]
    fn scale(self, a: __m512, n: __m512) -> __m512 {
        avx512!(_mm512_scalef_ps(a, n))
    }

    #[inline(always)]
    fn above(self, a: __m512, b: __m512) -> u16 {
        avx512!(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b))
    }

    #[inline(always)]
    fn if_above(self, a: __m512, b: __m512, value: __m512) -> __m512 {
        avx512!(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), value))
    }

    #[inline(always)]
    fn places(self, bits: u16, first: u32, out: &mut [u32; LANES]) {
        avx512!({
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let places = _mm512_add_epi32(lanes, _mm512_set1_epi32(first as i32));
            let packed = _mm512_maskz_compress_epi32(bits, places);
            _mm512_storeu_si512(out.as_mut_ptr().cast(), packed);
        });
    }

    #[inline(always)]
    fn differences(self, a: &[f32; LANES], b: &[i32; LANES]) -> __m512 {
        avx512!({
            let a = _mm512_loadu_si512(a.as_ptr().cast());
            _mm512_cvtepi32_ps(_mm512_sub_epi32(a, _mm512_loadu_si512(b.as_ptr().cast())))
        })
    }

    #[inline(always)]
    fn add_wide(self, sums: &mut [f64; LANES], values: __m512) {
        let (low, high) = sums.split_at_mut(LANES / 2);
        avx512!({
            let wide = _mm512_cvtps_pd(_mm512_castps512_ps256(values));
            _mm512_storeu_pd(low.as_mut_ptr(), _mm512_add_pd(_mm512_loadu_pd(low.as_ptr()), wide));
            let wide = _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(values));
            _mm512_storeu_pd(high.as_mut_ptr(), _mm512_add_pd(_mm512_loadu_pd(high.as_ptr()), wide));
        });
    }

    #[inline(always)]
    fn bf16(self, low: __m512, high: __m512) -> [u32; LANES] {
        if BF16 {
            return avx512!(std::mem::transmute::<__m512bh, [u32; LANES]>(_mm512_cvtne2ps_pbh(high, low)));
        }
        let mut values = [[0.0; LANES]; 2];
        self.store(low, &mut values[0]);
        self.store(high, &mut values[1]);
        rounded(values[0], values[1])
    }

    #[inline(always)]
    fn lowest_bytes(self, values: __m512) -> [u32; LANES / 4] {
        avx512!(std::mem::transmute::<__m128i, [u32; LANES / 4]>(_mm512_cvtepi32_epi8(_mm512_castps_si512(
            values
        ))))
    }

    #[inline(always)]
    fn widened(self, words: &[u32; LANES]) -> [__m512; 2] {
        let (low, high) = words.split_at(LANES / 2);
        avx512!({
            let low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(low.as_ptr().cast()));
            let high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(high.as_ptr().cast()));
            [
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(low)),
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(high)),
            ]
        })
    }
}
