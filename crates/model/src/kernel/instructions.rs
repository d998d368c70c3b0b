//! Which instructions this processor has, asked once.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::lanes::Avx512;
use super::lanes::{Lanes, Plain};
use super::matrix::Format;
#[cfg(target_arch = "x86_64")]
use super::tile::amx;

/// Vector registers that portable loops are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vectors {
    /// What every processor of the target has.
    Baseline,
    /// AVX2 and FMA: 8 lanes of f32. What has these counts bits as well.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ and VL: 16 lanes of f32.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Instructions to compute with. Only detection makes one that names more than the baseline, so whoever
/// holds it may use what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only x86-64 asks for them"))]
pub struct Instructions {
    vectors: Vectors,
    /// `vdpbf16ps` and `vcvtne2ps2bf16` on 512 bits.
    bf16: bool,
    /// `vpdpbusd`, on the width of `vectors`.
    int8: bool,
    /// AMX: both products, on tiles of 16 rows of 64 bytes.
    tiles: bool,
}

/// Which matrix instructions serve a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// The portable loops, for the registers there are.
    Portable,
    /// Multiplication and addition on 256 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Multiplication and addition on 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// `vdpbf16ps`.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// `vpdpbusd` on 256 bits.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// `vpdpbusd` on 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// `tdpbf16ps` or `tdpbusd`.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl Instructions {
    /// The portable code, without anything that is not on every processor of the target.
    #[must_use]
    pub const fn portable() -> Self {
        Self { vectors: Vectors::Baseline, bf16: false, int8: false, tiles: false }
    }

    /// All that this processor has.
    #[must_use]
    pub fn detect() -> Self {
        static FOUND: OnceLock<Instructions> = OnceLock::new();
        *FOUND.get_or_init(|| Self::available().pop().unwrap_or(Self::portable()))
    }

    /// Every set that the code distinguishes and this processor has, the portable one first: what tests
    /// go through.
    #[must_use]
    pub fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "only x86-64 has more"))]
        let mut sets = vec![Self::portable()];
        #[cfg(target_arch = "x86_64")]
        {
            let add = |sets: &mut Vec<Self>, vectors, bf16, int8, tiles| {
                let set = Self { vectors, bf16, int8, tiles };
                if !sets.contains(&set) {
                    sets.push(set);
                }
            };
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("popcnt")
            {
                add(&mut sets, Vectors::Avx2, false, false, false);
                add(&mut sets, Vectors::Avx2, false, is_x86_feature_detected!("avxvnni"), false);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    let bf16 = is_x86_feature_detected!("avx512bf16");
                    let int8 = is_x86_feature_detected!("avx512vnni");
                    add(&mut sets, Vectors::Avx512, false, false, false);
                    add(&mut sets, Vectors::Avx512, bf16, int8, false);
                    add(&mut sets, Vectors::Avx512, bf16, int8, amx::granted());
                }
            }
        }
        sets
    }

    /// Whether six products of bfloat16 take less time than one of f32.
    pub(super) fn prefers_parts(self) -> bool {
        self.tiles
    }

    /// What multiplies in this format.
    pub(super) fn unit(self, format: Format) -> Unit {
        match (format, self.vectors) {
            #[cfg(target_arch = "x86_64")]
            (Format::Bf16 | Format::Int8 | Format::F32Parts | Format::Bf16Parts, _) if self.tiles => {
                Unit::Amx
            }
            #[cfg(target_arch = "x86_64")]
            (Format::Bf16 | Format::F32Parts | Format::Bf16Parts, Vectors::Avx512) if self.bf16 => {
                Unit::Avx512Bf16
            }
            #[cfg(target_arch = "x86_64")]
            (Format::Int8, Vectors::Avx512) if self.int8 => Unit::Avx512Vnni,
            #[cfg(target_arch = "x86_64")]
            (Format::Int8, Vectors::Avx2) if self.int8 => Unit::AvxVnni,
            (_, Vectors::Baseline) => Unit::Portable,
            #[cfg(target_arch = "x86_64")]
            (_, Vectors::Avx2) => Unit::Avx2,
            #[cfg(target_arch = "x86_64")]
            (_, Vectors::Avx512) => Unit::Avx512,
        }
    }

    /// Runs a loop nest compiled for these registers.
    #[inline(always)]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,popcnt")]
        fn avx2<K: Kernel>(kernel: K) -> K::Output {
            kernel.run(Plain::<true>)
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt")]
        fn avx512<K: Kernel>(kernel: K) -> K::Output {
            // SAFETY: this function is only called where the processor has them.
            #[expect(unsafe_code, reason = "promises the instructions")]
            kernel.run(unsafe { Avx512::<false>::new() })
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,popcnt")]
        fn avx512_bf16<K: Kernel>(kernel: K) -> K::Output {
            // SAFETY: as above.
            #[expect(unsafe_code, reason = "promises the instructions")]
            kernel.run(unsafe { Avx512::<true>::new() })
        }
        match self.vectors {
            Vectors::Baseline => kernel.run(Plain::<{ cfg!(target_arch = "aarch64") }>),
            // SAFETY: the processor has these instructions, or there would be no such value.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "calls code compiled for AVX2 and FMA")]
            Vectors::Avx2 => unsafe { avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "calls code compiled for AVX-512 and BF16")]
            Vectors::Avx512 if self.bf16 => unsafe { avx512_bf16(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "calls code compiled for AVX-512")]
            Vectors::Avx512 => unsafe { avx512(kernel) },
        }
    }
}

/// A portable loop nest that is worth compiling for wider registers. `run` must be `#[inline(always)]`,
/// so that its body becomes part of the function that has the wider registers.
pub(super) trait Kernel {
    /// What it computes.
    type Output;

    /// The loop nest.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}
