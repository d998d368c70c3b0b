//! Instruction sets that the kernels distinguish.

use std::fmt;
use std::str::FromStr;

#[cfg(target_arch = "x86_64")]
use super::lanes::Avx512;
use super::lanes::{Lanes, Plain};
use super::matrix::Format;
#[cfg(target_arch = "x86_64")]
use super::tile::amx;

/// Instruction set that a kernel computes with: one of the levels that the code distinguishes.
///
/// A value is a proof that this processor has the instructions, because only [`Self::detect`],
/// [`Self::available`] and [`Self::from_str`] make one above [`Self::portable`]. It is detected once, at
/// start, and then an argument of all that computes. So a test runs what an older processor would run:
///
/// ```
/// use unmask_model::kernel::{CpuFeatures, largest};
///
/// for cpu in CpuFeatures::available() {
///     assert_eq!(largest(cpu, &[1.0, 3.0, 2.0]), 3.0, "{cpu}");
/// }
/// assert_eq!("portable".parse(), Ok(CpuFeatures::portable()));
/// ```
///
/// Levels round differently, so results agree bit for bit at one level, not across levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuFeatures(Level);

/// Levels of x86-64, each with the instructions of those that its comment names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// Instructions that every processor of the target has.
    Portable,
    /// AVX2, FMA and POPCNT: 8 lanes of f32.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// `Avx2` and `vpdpbusd` on 256 bits.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// `Avx2` and AVX-512 F, BW, DQ and VL: 16 lanes of f32.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// `Avx512` and `vpdpbusd` on 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// `Avx512Vnni`, and `vdpbf16ps` and `vcvtne2ps2bf16` on 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// `Avx512Bf16` and AMX: products of bfloat16 and of bytes on tiles of 16 rows of 64 bytes.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

/// Name of a level that this processor does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not one of the instruction sets of this processor; it has {}", names())]
pub struct UnavailableCpu {
    /// The name that was asked for.
    pub name: String,
}

/// Instructions that multiply matrices of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// The portable loops.
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

impl CpuFeatures {
    /// The portable code, which runs on every processor of the target.
    #[must_use]
    pub const fn portable() -> Self {
        Self(Level::Portable)
    }

    /// The highest level of this processor. It asks the processor each time; call it once, at start.
    #[must_use]
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or(Self::portable())
    }

    /// All levels of this processor, from the portable one upwards: the ones that tests go through.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(detected());
        }
        levels.drain(..).map(Self).collect()
    }

    /// Name of the level, such as `avx512-bf16`; [`Self::from_str`] reads it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => "avx512-vnni",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => "avx512-bf16",
            #[cfg(target_arch = "x86_64")]
            Level::Amx => "amx",
        }
    }

    /// Returns true if six products of bfloat16 take less time than one of f32.
    pub(super) fn prefers_parts(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Amx => true,
            _ => false,
        }
    }

    /// Instructions that multiply matrices of `format`.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn unit(self, _: Format) -> Unit {
        Unit::Portable
    }

    /// Instructions that multiply matrices of `format`.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn unit(self, format: Format) -> Unit {
        match (self.0, format) {
            (Level::Portable, _) => Unit::Portable,
            (Level::AvxVnni, Format::Int8) => Unit::AvxVnni,
            // On 512 bits, products of bytes without `vpdpbusd` gain too little.
            (Level::Avx2 | Level::AvxVnni, _) | (Level::Avx512, Format::Int8) => Unit::Avx2,
            (_, Format::F32 | Format::WideBf16) | (Level::Avx512, _) => Unit::Avx512,
            (Level::Amx, _) => Unit::Amx,
            (_, Format::Int8) => Unit::Avx512Vnni,
            (Level::Avx512Vnni, _) => Unit::Avx512,
            (Level::Avx512Bf16, _) => Unit::Avx512Bf16,
        }
    }

    /// Runs a loop nest compiled for the registers of this level.
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
        match self.0 {
            Level::Portable => kernel.run(Plain::<{ cfg!(target_arch = "aarch64") }>),
            // SAFETY: the processor has these instructions, or there would be no such value.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "calls code compiled for AVX2 and FMA")]
            Level::Avx2 | Level::AvxVnni => unsafe { avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "calls code compiled for AVX-512")]
            Level::Avx512 | Level::Avx512Vnni => unsafe { avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "calls code compiled for AVX-512 and BF16")]
            Level::Avx512Bf16 | Level::Amx => unsafe { avx512_bf16(kernel) },
        }
    }
}

impl fmt::Display for CpuFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CpuFeatures {
    type Err = UnavailableCpu;

    /// The level of that name, if this processor has it.
    fn from_str(name: &str) -> Result<Self, UnavailableCpu> {
        let found = Self::available().into_iter().find(|cpu| cpu.name() == name);
        found.ok_or_else(|| UnavailableCpu { name: name.to_owned() })
    }
}

/// Names of the levels that this processor has.
fn names() -> String {
    CpuFeatures::available().iter().map(|cpu| cpu.name()).collect::<Vec<_>>().join(", ")
}

/// Levels above the portable one, from the lowest upwards.
#[cfg(target_arch = "x86_64")]
fn detected() -> Vec<Level> {
    let mut levels = Vec::new();
    let has_avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("popcnt");
    if !has_avx2 {
        return levels;
    }
    levels.push(Level::Avx2);
    if is_x86_feature_detected!("avxvnni") {
        levels.push(Level::AvxVnni);
    }
    let has_avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    if !has_avx512 {
        return levels;
    }
    levels.push(Level::Avx512);
    if !is_x86_feature_detected!("avx512vnni") {
        return levels;
    }
    levels.push(Level::Avx512Vnni);
    if !is_x86_feature_detected!("avx512bf16") {
        return levels;
    }
    levels.push(Level::Avx512Bf16);
    if amx::granted() {
        levels.push(Level::Amx);
    }
    levels
}

/// Portable loop nest that is worth compiling for wider registers. `run` must be `#[inline(always)]`,
/// so that its body becomes part of the function that has the wider registers.
pub(super) trait Kernel {
    /// Its result.
    type Output;

    /// The loop nest.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_found_by_its_name() {
        for cpu in CpuFeatures::available() {
            assert_eq!(cpu.to_string().parse(), Ok(cpu));
        }
    }

    #[test]
    fn a_level_that_is_not_there_is_refused_with_those_that_are() {
        let refused = "avx1024".parse::<CpuFeatures>().map_err(|error| error.to_string());
        let Err(message) = refused else { unreachable!("there is no such level") };
        assert!(message.starts_with("`avx1024` is not one of") && message.contains("portable"), "{message}");
    }
}
