//! Tiles in AMX: 16 rows of 64 bytes are one register, and 32 rows times a panel take all eight.
//!
//! A line of a row is a row of a left-hand register, and 16 words of half a panel are a right-hand one, so
//! both are loaded as they lie in memory. The compiler knows these instructions in assembly only.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::cell::Cell;

use super::Tile;
use crate::kernel::line::Line;
use crate::kernel::matrix::Format;

/// Rows of a register.
const ROWS: usize = 16;

/// Returns true if the processor has AMX for bfloat16 and bytes, and the system lets this process use it.
pub(in crate::kernel) fn granted() -> bool {
    const BF16_TILE_INT8: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    const REGISTERS: u64 = 1 << 17 | 1 << 18;
    if __cpuid_count(0, 0).eax < 7 || !is_x86_feature_detected!("xsave") {
        return false;
    }
    // SAFETY: there is `xgetbv` where there is `xsave`.
    #[expect(unsafe_code, reason = "asks which registers the system saves")]
    let saved = unsafe { saved_registers() };
    __cpuid_count(7, 0).edx & BF16_TILE_INT8 == BF16_TILE_INT8
        && saved & REGISTERS == REGISTERS
        && permitted()
}

/// # Safety
/// The processor has `xsave`, and the system has switched it on.
#[target_feature(enable = "xsave")]
#[expect(unsafe_code, reason = "asks which registers the system saves")]
unsafe fn saved_registers() -> u64 {
    // SAFETY: register 0 is always there.
    unsafe { _xgetbv(0) }
}

/// Asks Linux, which saves these registers only for processes that have asked.
fn permitted() -> bool {
    const ARCH_PRCTL: isize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const TILE_DATA: usize = 18;
    if !cfg!(target_os = "linux") {
        return false;
    }
    let mut result = ARCH_PRCTL;
    // SAFETY: the call takes two numbers and touches no memory of ours; the kernel overwrites rcx and r11.
    #[expect(unsafe_code, reason = "a system call that the standard library does not have")]
    unsafe {
        asm!("syscall", inlateout("rax") result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") TILE_DATA,
            out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

thread_local! {
    /// The height that this thread's registers have their shapes for; setting them takes as long as a
    /// small product. Nothing else in the process uses AMX.
    static HEIGHT: Cell<usize> = const { Cell::new(0) };
}

/// Registers 0 and 1 hold the sums of the first 16 rows, 2 and 3 those of the others; 4 and 5 the left-hand
/// sides, 6 and 7 the halves of the panel.
fn shape(height: usize) {
    if HEIGHT.get() == height {
        return;
    }
    let first = height.min(ROWS) as u8;
    // A register that is not used must have some shape.
    let second = height.saturating_sub(ROWS).max(1) as u8;
    let full = ROWS as u8;
    let mut shapes = Shapes { palette: 1, start: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
    shapes.bytes[..8].fill(size_of::<Line>() as u16);
    shapes.rows[..8].copy_from_slice(&[first, first, second, second, first, second, full, full]);
    // SAFETY: the shapes are valid ones of palette 1: at most 16 rows of 64 bytes.
    #[expect(unsafe_code, reason = "an instruction that the compiler does not know")]
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly));
    }
    HEIGHT.set(height);
}

/// The sums of the first 16 rows (`low`), or of all: made 0, read, and written.
macro_rules! zero {
    (low) => {
        "tilezero tmm0\n tilezero tmm1"
    };
    (high) => {
        "tilezero tmm0\n tilezero tmm1\n tilezero tmm2\n tilezero tmm3"
    };
}
macro_rules! resume {
    (low) => {
        "tileloadd tmm0, [{out} + {stride}]\n tileloadd tmm1, [{out} + {stride} + 64]"
    };
    (high) => {
        concat!(
            resume!(low),
            "\n tileloadd tmm2, [{high} + {stride}]\n tileloadd tmm3, [{high} + {stride} + 64]"
        )
    };
}
macro_rules! store {
    (low) => {
        "tilestored [{out} + {stride}], tmm0\n tilestored [{out} + {stride} + 64], tmm1"
    };
    (high) => {
        concat!(
            store!(low),
            "\n tilestored [{high} + {stride}], tmm2\n tilestored [{high} + {stride} + 64], tmm3"
        )
    };
}

/// Loads a line of the rows at a pointer.
macro_rules! left {
    (low $left:literal) => {
        concat!("tileloadd tmm4, [{", $left, "} + {line}]\n")
    };
    (high $left:literal) => {
        concat!(left!(low $left), "tileloadd tmm5, [{", $left, "} + {line} + 1024]\n")
    };
}
/// Loads 16 words of all columns, so many bytes into the panel.
macro_rules! right {
    ($at:literal) => {
        concat!(
            "tileloadd tmm6, [{right} + 2 * {line} + ",
            $at,
            "]\n",
            "tileloadd tmm7, [{right} + 2 * {line} + ",
            $at,
            " + 64]\n"
        )
    };
}
/// Adds what was loaded last.
macro_rules! dot {
    (low $instruction:literal) => {
        concat!($instruction, " tmm0, tmm4, tmm6\n", $instruction, " tmm1, tmm4, tmm7\n")
    };
    (high $instruction:literal) => {
        concat!(
            dot!(low $instruction),
            $instruction, " tmm2, tmm5, tmm6\n", $instruction, " tmm3, tmm5, tmm7\n"
        )
    };
}

/// Fetches what is read next: four lines in a turn of one line, eight in one of three.
macro_rules! fetch {
    (1) => {
        concat!(
            "prefetcht1 [{ahead}]\n prefetcht1 [{ahead} + 64]\n",
            "prefetcht1 [{ahead} + 128]\n prefetcht1 [{ahead} + 192]\n add {ahead}, 256"
        )
    };
    (3) => {
        concat!(fetch!(1), "\n", fetch!(1))
    };
}

/// The loop over the lines of a tile of at most 16 rows (`low`) or of more, `$lines` at a time, which meet
/// `$bytes` of the panel in `$step`. Of what is read next it fetches four lines in every turn: an eighth of
/// a panel of one line a turn, for blocks of at least eight tiles.
macro_rules! multiply {
    ($height:ident, $tile:ident, $out:ident, $stride:ident, $lines:tt, $bytes:literal, $step:expr) => {
        asm!(
            "test {resumes}, {resumes}",
            "jz 2f",
            resume!($height),
            "jmp 3f",
            "2:",
            zero!($height),
            "3:",
            "test {turns}, {turns}",
            "jz 5f",
            "4:",
            $step,
            fetch!($lines),
            "add {first}, {step}",
            "add {second}, {step}",
            "add {third}, {step}",
            concat!("add {right}, ", $bytes),
            "dec {turns}",
            "jnz 4b",
            "5:",
            store!($height),
            "/* {high} */",
            first = inout(reg) $tile.left.as_ptr() => _,
            second = inout(reg) $tile.left.as_ptr().wrapping_add($tile.stride) => _,
            third = inout(reg) $tile.left.as_ptr().wrapping_add(2 * $tile.stride) => _,
            right = inout(reg) $tile.right.as_ptr() => _,
            turns = inout(reg) $tile.depth / $lines => _,
            ahead = inout(reg) if $tile.ahead.is_empty() { $tile.right } else { $tile.ahead }.as_ptr() => _,
            resumes = in(reg) usize::from($tile.resumes),
            out = in(reg) $out.as_mut_ptr(),
            high = in(reg) $out.as_mut_ptr().wrapping_add(ROWS * $stride),
            line = in(reg) size_of::<Line>(),
            step = in(reg) $lines * $tile.stride * size_of::<Line>(),
            stride = in(reg) $stride * size_of::<f32>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// One line of the rows meets one of the panel.
macro_rules! whole {
    ($height:ident, $instruction:literal, $tile:ident, $out:ident, $stride:ident) => {
        multiply!(
            $height, $tile, $out, $stride, 1, 2048,
            concat!(right!(0), left!($height "first"), dot!($height $instruction))
        )
    };
}
/// Three lines of the rows meet three of the panel, in the order of [`super::PAIRS`].
macro_rules! parts {
    ($height:ident, $tile:ident, $out:ident, $stride:ident) => {
        multiply!(
            $height, $tile, $out, $stride, 3, 6144,
            concat!(
                right!(4096), left!($height "first"), dot!($height "tdpbf16ps"),
                right!(2048), dot!($height "tdpbf16ps"),
                left!($height "second"), dot!($height "tdpbf16ps"),
                right!(0), dot!($height "tdpbf16ps"),
                left!($height "first"), dot!($height "tdpbf16ps"),
                left!($height "third"), dot!($height "tdpbf16ps")
            )
        )
    };
}
/// Three lines of the rows meet one of the panel.
macro_rules! parts_of_rows {
    ($height:ident, $tile:ident, $out:ident, $stride:ident) => {
        multiply!(
            $height, $tile, $out, $stride, 3, 2048,
            concat!(
                right!(0), left!($height "second"), dot!($height "tdpbf16ps"),
                left!($height "first"), dot!($height "tdpbf16ps"),
                left!($height "third"), dot!($height "tdpbf16ps")
            )
        )
    };
}

/// # Safety
/// [`granted`], the slices are as long as [`Tile::multiply`] checks, and there are 1 to 32 rows.
#[expect(unsafe_code, reason = "pointers into slices whose lengths the caller has checked")]
pub(super) unsafe fn multiply(tile: &Tile<'_>, out: &mut [f32], stride: usize) {
    shape(tile.rows);
    // SAFETY: line c of row i begins c · stride + i lines behind `left`, a panel has 32 lines for every line
    // of a row (for every third one where `parts_of_rows` reads it), and row i of the result begins
    // i · stride behind `out`; the shapes keep every access to the rows that there are. All of it is inside
    // what the caller has checked. A prefetch may point anywhere.
    unsafe {
        match (tile.format, tile.rows > ROWS) {
            (Format::Int8, false) => whole!(low, "tdpbusd", tile, out, stride),
            (Format::Int8, true) => whole!(high, "tdpbusd", tile, out, stride),
            (Format::F32Parts, false) => parts!(low, tile, out, stride),
            (Format::F32Parts, true) => parts!(high, tile, out, stride),
            (Format::Bf16Parts, false) => parts_of_rows!(low, tile, out, stride),
            (Format::Bf16Parts, true) => parts_of_rows!(high, tile, out, stride),
            (_, false) => whole!(low, "tdpbf16ps", tile, out, stride),
            (_, true) => whole!(high, "tdpbf16ps", tile, out, stride),
        }
    }
}
