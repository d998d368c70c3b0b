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

/// Whether the processor has AMX for bfloat16 and bytes, and the system lets this process use it.
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

/// What `ldtilecfg` reads.
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

/// The loop over the lines of a tile of at most 16 rows, or of more. Of what is read next it fetches four
/// lines at a time: an eighth of a panel, for blocks of at least eight tiles.
macro_rules! multiply {
    (low $instruction:literal, $tile:ident, $out:ident, $stride:ident) => {
        multiply!(@ $tile, $out, $stride,
            ("tilezero tmm0", "tilezero tmm1"),
            ("tileloadd tmm0, [{out} + {stride}]", "tileloadd tmm1, [{out} + {stride} + 64]"),
            (concat!($instruction, " tmm0, tmm4, tmm6"), concat!($instruction, " tmm1, tmm4, tmm7")),
            ("/* {high} */"))
    };
    (high $instruction:literal, $tile:ident, $out:ident, $stride:ident) => {
        multiply!(@ $tile, $out, $stride,
            ("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3"),
            ("tileloadd tmm0, [{out} + {stride}]", "tileloadd tmm1, [{out} + {stride} + 64]",
             "tileloadd tmm2, [{high} + {stride}]", "tileloadd tmm3, [{high} + {stride} + 64]"),
            ("tileloadd tmm5, [{left} + {line} + 1024]",
             concat!($instruction, " tmm0, tmm4, tmm6"), concat!($instruction, " tmm1, tmm4, tmm7"),
             concat!($instruction, " tmm2, tmm5, tmm6"), concat!($instruction, " tmm3, tmm5, tmm7")),
            ("tilestored [{high} + {stride}], tmm2", "tilestored [{high} + {stride} + 64], tmm3"))
    };
    (@ $tile:ident, $out:ident, $stride:ident, ($($zero:expr),*), ($($resume:expr),*), ($($step:expr),*),
     ($($store:expr),*)) => {
        asm!(
            "test {resumes}, {resumes}",
            "jz 2f",
            $($resume,)*
            "jmp 3f",
            "2:",
            $($zero,)*
            "3:",
            "test {depth}, {depth}",
            "jz 5f",
            "4:",
            "tileloadd tmm6, [{right} + 2 * {line}]",
            "tileloadd tmm7, [{right} + 2 * {line} + 64]",
            "tileloadd tmm4, [{left} + {line}]",
            $($step,)*
            "prefetcht1 [{ahead}]",
            "prefetcht1 [{ahead} + 64]",
            "prefetcht1 [{ahead} + 128]",
            "prefetcht1 [{ahead} + 192]",
            "prefetcht1 [{ahead} + 256]",
            "prefetcht1 [{ahead} + 320]",
            "prefetcht1 [{ahead} + 384]",
            "prefetcht1 [{ahead} + 448]",
            "add {ahead}, {fetched}",
            "add {left}, {step}",
            "add {right}, 2048",
            "dec {depth}",
            "jnz 4b",
            "5:",
            "tilestored [{out} + {stride}], tmm0",
            "tilestored [{out} + {stride} + 64], tmm1",
            $($store,)*
            left = inout(reg) $tile.left.as_ptr() => _,
            right = inout(reg) $tile.right.as_ptr() => _,
            depth = inout(reg) $tile.depth => _,
            ahead = inout(reg) $tile.ahead.as_ptr() => _,
            resumes = in(reg) usize::from($tile.resumes),
            out = in(reg) $out.as_mut_ptr(),
            high = in(reg) $out.as_mut_ptr().wrapping_add(ROWS * $stride),
            fetched = in(reg) if $tile.ahead.is_empty() { 0 } else { 8 * size_of::<Line>() },
            line = in(reg) size_of::<Line>(),
            step = in(reg) $tile.stride * size_of::<Line>(),
            stride = in(reg) $stride * size_of::<f32>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// # Safety
/// [`granted`], the slices are as long as [`Tile::multiply`] checks, and there are 1 to 32 rows.
#[expect(unsafe_code, reason = "pointers into slices whose lengths the caller has checked")]
pub(super) unsafe fn multiply(tile: &Tile<'_>, out: &mut [f32], stride: usize) {
    shape(tile.rows);
    // SAFETY: line c of row i begins c · stride + i lines behind `left`, a panel has 32 lines for every line
    // of a row, and row i of the result begins i · stride behind `out`; the shapes keep every access to the
    // rows that there are. All of it is inside what the caller has checked.
    unsafe {
        match (tile.format, tile.rows > ROWS) {
            (Format::Int8, false) => multiply!(low "tdpbusd", tile, out, stride),
            (Format::Int8, true) => multiply!(high "tdpbusd", tile, out, stride),
            (_, false) => multiply!(low "tdpbf16ps", tile, out, stride),
            (_, true) => multiply!(high "tdpbf16ps", tile, out, stride),
        }
    }
}
