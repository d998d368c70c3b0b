//! Keys and values that are kept after an evaluation.

use candle_core::Result;
use candle_core::Tensor;

/// Keys and values of the first positions of a canvas, a pair for each layer: (positions, shared · width) each.
#[derive(Clone, Debug, Default)]
pub struct LayerTensors(Vec<[Tensor; 2]>);

impl LayerTensors {
    /// Positions.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.first().and_then(|[key, _]| key.dim(0).ok()).unwrap_or(0)
    }

    /// Those of the first `count` positions, or of all if there are fewer.
    ///
    /// # Errors
    /// The device failed.
    pub fn first(&self, count: usize) -> Result<Self> {
        let count = count.min(self.count());
        if count == self.count() {
            return Ok(self.clone());
        }
        let part = |[key, value]: &[Tensor; 2]| Ok([key.narrow(0, 0, count)?, value.narrow(0, 0, count)?]);
        Ok(Self(self.0.iter().map(part).collect::<Result<_>>()?))
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bytes = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        self.0.iter().flatten().map(bytes).sum()
    }

    /// One layer.
    pub(super) fn layer(&self, number: usize) -> Option<&[Tensor; 2]> {
        self.0.get(number)
    }

    /// Adds the next layer, as a copy: what is given may be a part of a larger tensor.
    pub(super) fn push(&mut self, layer: [Tensor; 2]) -> Result<()> {
        let [key, value] = layer;
        self.0.push([key.force_contiguous()?, value.force_contiguous()?]);
        Ok(())
    }
}
