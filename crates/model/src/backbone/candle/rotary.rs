//! The rotation of queries and keys in candle's operations.

use candle_core::{Result, Tensor};
use candle_nn::rotary_emb::rope_thd;

use crate::checkpoint::{Rotation, TransformerSpec};
use crate::device::Placement;

/// cos and sin of the angles of every position, (context, turned/2) each.
#[derive(Debug)]
pub(super) struct Rotary {
    cos: Tensor,
    sin: Tensor,
    head_width: usize,
    /// Elements of a head that are rotated, the first ones.
    turned: usize,
}

impl Rotary {
    /// Angles are f32 products and only their cosine and sine are rounded, as in the reference.
    pub(super) fn new(rotation: &Rotation, spec: &TransformerSpec, placement: &Placement) -> Result<Self> {
        let (frequencies, factor) = rotation.frequencies(spec.head_width);
        let angles: Vec<f32> = (0..spec.context)
            .flat_map(|position| frequencies.iter().map(move |frequency| position as f32 * frequency))
            .collect();
        let table = |function: fn(f32) -> f32| {
            let values = angles.iter().map(|&angle| factor * function(angle)).collect();
            let shape = (spec.context, frequencies.len());
            Tensor::from_vec(values, shape, &placement.device)?.to_dtype(placement.dtype)
        };
        let (head_width, turned) = (spec.head_width, rotation.width(spec.head_width));
        Ok(Self { cos: table(f32::cos)?, sin: table(f32::sin)?, head_width, turned })
    }

    /// The rows of both tables for these positions.
    pub(super) fn at(&self, positions: &Tensor) -> Result<Self> {
        let cos = self.cos.index_select(positions, 0)?;
        let sin = self.sin.index_select(positions, 0)?;
        Ok(Self { cos, sin, ..*self })
    }

    /// Rotates every head of (rows, heads · width): element i of a head pairs with i + turned/2.
    pub(super) fn rotate(&self, rows: &Tensor) -> Result<Tensor> {
        let (count, width) = rows.dims2()?;
        let heads = rows.reshape((1, count, width / self.head_width, self.head_width))?;
        let rest = self.head_width - self.turned;
        let turned = if rest == 0 { heads.clone() } else { heads.narrow(3, 0, self.turned)?.contiguous()? };
        let turned = rope_thd(&turned, &self.cos, &self.sin)?;
        let heads = if rest == 0 {
            turned
        } else {
            Tensor::cat(&[&turned, &heads.narrow(3, self.turned, rest)?], 3)?
        };
        heads.reshape((count, width))
    }
}
