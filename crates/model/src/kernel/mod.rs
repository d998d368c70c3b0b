//! CPU arithmetic whose result for a row depends on that row alone.
//!
//! Thresholds and rankings are discontinuous: one changed bit can flip one commit and, with it, all
//! later context. So every output element here is one chain of operations in a fixed order (a product
//! sums over ascending k in a single accumulator; a softmax sums left to right), whatever the number of
//! rows, their place in the batch, and the number of threads. Blocking and threading only decide *when*
//! an element is computed.
//!
//! One portable body serves all processors; on x86-64 it is compiled a second time with AVX2 and FMA and
//! chosen at run time. The two round differently, so results agree bit for bit on one machine, not
//! across machines.

mod attention;
mod elementwise;
mod matmul;
mod simd;

pub use attention::{Heads, Rows, attention};
pub use elementwise::{exponentials, gelu_tanh, largest, swiglu, wide_sum};
pub use matmul::{PackedMatrix, Storage};

/// A pointer that parallel tasks write through, each to elements of its own.
#[derive(Clone, Copy)]
struct SharedOutput(*mut f32);

#[expect(unsafe_code, reason = "tasks write disjoint elements of one output")]
// SAFETY: the pointer is only dereferenced through `slice`, whose callers own disjoint elements.
unsafe impl Send for SharedOutput {}
#[expect(unsafe_code, reason = "tasks write disjoint elements of one output")]
// SAFETY: as for `Send`.
unsafe impl Sync for SharedOutput {}

impl SharedOutput {
    /// The elements `at..at + length` as a slice to write.
    ///
    /// # Safety
    /// The range lies inside the output, the output outlives the slice, and no other task touches the
    /// range meanwhile.
    #[expect(unsafe_code, clippy::mut_from_ref, reason = "tasks write disjoint elements of one output")]
    unsafe fn slice(&self, at: usize, length: usize) -> &mut [f32] {
        // SAFETY: promised by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), length) }
    }
}
