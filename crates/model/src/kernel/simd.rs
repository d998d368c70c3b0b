//! One place that chooses between the portable code and its copy for AVX2 and FMA.

/// A loop nest that is worth compiling for wider registers. `run` must be `#[inline(always)]`, so that
/// its body becomes part of the function that has the wider registers.
pub(super) trait Kernel {
    /// What it computes.
    type Output;

    /// The loop nest. `FUSED` says that a multiplication and an addition with one rounding
    /// (`f32::mul_add`) is one instruction here.
    fn run<const FUSED: bool>(self) -> Self::Output;
}

/// Runs a kernel in the widest form that this processor has.
#[inline(always)]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        #[target_feature(enable = "avx2,fma")]
        fn wide<K: Kernel>(kernel: K) -> K::Output {
            kernel.run::<true>()
        }
        // SAFETY: the processor has AVX2 and FMA, as just asked.
        #[expect(unsafe_code, reason = "calls code compiled for AVX2 and FMA")]
        return unsafe { wide(kernel) };
    }
    kernel.run::<{ cfg!(target_arch = "aarch64") }>()
}

/// Lanes of a reduction: element i is added to lane i mod 16, then the lanes in order. Fixed, so that a
/// sum depends on nothing but its terms, and wide enough to vectorise.
const LANES: usize = 16;

/// The sum of `values` in f64.
#[inline(always)]
pub(super) fn wide_sum(values: &[f32]) -> f64 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(*value);
    }
    lanes.iter().sum()
}

/// The largest of `values`; NaN is passed over.
#[inline(always)]
pub(super) fn largest(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    rest.iter().chain(&lanes).copied().fold(f32::NEG_INFINITY, f32::max)
}
