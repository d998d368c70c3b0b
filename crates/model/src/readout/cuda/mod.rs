//! The readout on a GPU: the same law in CUDA, a block of threads for each row.
//!
//! `row.cuh` holds the algorithm, once, as passes over a row; `block.cuh` makes passes of the threads of a
//! block, or, for a C++ compiler, of a loop over them. `plan` writes what the kernel reads, `launch` runs it.

#[cfg(feature = "cuda")]
mod launch;
mod plan;
#[cfg(test)]
mod twin;

#[cfg(feature = "cuda")]
pub(crate) use self::launch::Reading;
#[cfg(feature = "cuda")]
pub(crate) use self::plan::{Place, Plan};
