//! Logits to tokens: the readout on the CPU (`row`) and on a GPU (`cuda`).

#[cfg(any(test, feature = "cuda"))]
pub(crate) mod cuda;
mod row;

pub(crate) use self::row::read_row_before;
pub use self::row::{RowContext, Scratch, read_row};
