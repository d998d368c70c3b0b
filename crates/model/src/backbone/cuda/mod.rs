//! Kernels whose rows never depend on each other: attention, within canvases of any lengths, and for
//! `--deterministic` the product, as cuBLAS chooses its tiles, and with them the order of its sums, by the
//! number of rows.
//!
//! `product.cuh` and `attention.cuh` (`attention_f32.cuh`) hold the algorithms, written in what `simt.cuh`
//! declares; `kernels.cu` makes a kernel for each type. `plan` divides work into blocks, `launch` runs it.
//! `simulated.cuh` is a GPU's block of threads on a processor, which `twin.cpp` runs the same sources on.

#[cfg(feature = "cuda")]
mod launch;
mod plan;
#[cfg(test)]
mod twin;

#[cfg(feature = "cuda")]
pub(super) use self::launch::{Tiles, attention, product};
#[cfg(feature = "cuda")]
pub(super) use self::plan::{Extent, LARGEST_HEAD};
