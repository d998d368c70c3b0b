//! Norms in candle's operations.

use candle_core::{Result, Tensor};
use candle_nn::ops::{layer_norm, rms_norm};

use crate::checkpoint::{NormKind, TransformerSpec, Weights};
use crate::device::Placement;
use crate::error::LoadError;

/// A norm over the last dimension.
#[derive(Debug)]
pub(super) struct Norm {
    gain: Tensor,
    /// The bias of LayerNorm; RMSNorm has none.
    bias: Option<Tensor>,
    epsilon: f32,
}

impl Norm {
    /// A norm of hidden states.
    pub(super) fn load(
        weights: &Weights,
        name: &str,
        spec: &TransformerSpec,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let part = |part: &str| weights.get(&format!("{name}.{part}"), &[spec.width])?.to_device(placement);
        let bias = (spec.norm == NormKind::Layer).then(|| part("bias")).transpose()?;
        Ok(Self { gain: part("weight")?, bias, epsilon: spec.norm_epsilon as f32 })
    }

    /// An RMS norm of heads.
    pub(super) fn of_heads(
        weights: &Weights,
        name: &str,
        spec: &TransformerSpec,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let gain = weights.get(&format!("{name}.weight"), &[spec.head_width])?.to_device(placement)?;
        Ok(Self { gain, bias: None, epsilon: spec.norm_epsilon as f32 })
    }

    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => layer_norm(rows, &self.gain, bias, self.epsilon),
            None => rms_norm(rows, &self.gain, self.epsilon),
        }
    }

    /// Normalises every head of (rows, heads · width) separately.
    pub(super) fn forward_heads(&self, rows: &Tensor) -> Result<Tensor> {
        let (count, width) = rows.dims2()?;
        let head = self.gain.dim(0)?;
        let heads = rows.contiguous()?.reshape((count * (width / head), head))?;
        self.forward(&heads)?.reshape((count, width))
    }
}
