//! Linear layers, in candle's operations or our GPU kernel.

use candle_core::{Result, Tensor};

use crate::checkpoint::{Projections, StoredTensor, TransformerSpec, Weights};
use crate::device::Placement;
use crate::error::LoadError;

/// The order of a weight matrix's axes in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// GPT-2's convolutions of width 1.
    InOut,
    /// All other linear layers.
    OutIn,
}

impl Order {
    /// That of a network's files.
    pub(super) fn of(spec: &TransformerSpec) -> Self {
        match spec.projections {
            Projections::Fused => Self::InOut,
            Projections::Separate | Projections::Stacked => Self::OutIn,
        }
    }
}

/// x·W + b: (in, out) and (out).
#[derive(Debug)]
pub(super) struct Linear {
    /// Lies as in its file, as products take either order; but for our kernel as (out, in).
    matrix: Tensor,
    bias: Option<Tensor>,
    #[cfg(feature = "cuda")]
    by_our_kernel: bool,
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
        let by_our_kernel = placement.needs_our_product();
        let as_it_lies = stored.to_device(placement)?;
        let matrix = match order {
            Order::OutIn => as_it_lies.t(),
            Order::InOut if by_our_kernel => as_it_lies.t().and_then(|turned| turned.contiguous()?.t()),
            Order::InOut => Ok(as_it_lies),
        };
        Ok(Self {
            matrix: matrix.map_err(|source| stored.failed(source))?,
            bias,
            #[cfg(feature = "cuda")]
            by_our_kernel,
        })
    }

    fn product(&self, rows: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if self.by_our_kernel {
            return crate::backbone::cuda::product(rows, &self.matrix);
        }
        rows.matmul(&self.matrix)
    }

    /// (rows, in) to (rows, out).
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let product = self.product(rows)?;
        match &self.bias {
            None => Ok(product),
            Some(bias) => product.broadcast_add(bias),
        }
    }
}
