//! The readout on a GPU: the same law in CUDA, a block of threads for each row.
//!
//! `row.cuh` holds the algorithm, once, as passes over a row; `block.cuh` makes passes of the threads of a
//! block, or, for a C++ compiler, of a loop over them. `plan` writes what a kernel reads.

mod plan;
#[cfg(test)]
mod twin;
