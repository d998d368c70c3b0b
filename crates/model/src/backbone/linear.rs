//! Linear layers in candle's operations.

use candle_core::{Result, Tensor};

use crate::checkpoint::{StoredTensor, Weights};
use crate::device::Placement;
use crate::error::LoadError;

/// How a weight matrix lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// GPT-2's convolutions of width 1.
    InOut,
    /// Everybody else's linear layers.
    OutIn,
}

/// x·W + b: (in, out) and (out).
#[derive(Debug)]
pub(super) struct Linear {
    /// Lies as in its file: products take either order.
    matrix: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `{name}.weight`, in × out, and `{name}.bias` when `bias` is set.
    pub(super) fn load(
        weights: &Weights,
        name: &str,
        (width_in, width_out): (usize, usize),
        order: Order,
        bias: bool,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let shape = match order {
            Order::InOut => [width_in, width_out],
            Order::OutIn => [width_out, width_in],
        };
        let stored = weights.get(&format!("{name}.weight"), &shape)?;
        let bias = bias.then(|| weights.get(&format!("{name}.bias"), &[width_out])).transpose()?;
        Self::new(&stored, order, bias.as_ref(), placement)
    }

    /// The head over `embedding`'s rows: the file's own, or the embedding itself when it has none.
    pub(super) fn head(
        weights: &Weights,
        embedding: &StoredTensor,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let own = weights.head(embedding.shape()[0], embedding.shape()[1])?;
        Self::new(own.as_ref().unwrap_or(embedding), Order::OutIn, None, placement)
    }

    /// From a matrix that was read already.
    fn new(
        stored: &StoredTensor,
        order: Order,
        bias: Option<&StoredTensor>,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let bias = bias.map(|bias| bias.to_device(placement)).transpose()?;
        let mut matrix = stored.to_device(placement)?;
        if order == Order::OutIn {
            matrix = matrix.t().map_err(|source| stored.failed(source))?;
        }
        Ok(Self { matrix, bias })
    }

    /// (rows, in) to (rows, out).
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let product = rows.matmul(&self.matrix)?;
        match &self.bias {
            None => Ok(product),
            Some(bias) => product.broadcast_add(bias),
        }
    }
}
