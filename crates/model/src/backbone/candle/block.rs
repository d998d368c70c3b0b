//! One block in candle's operations.

use candle_core::{Result, Tensor};

use super::attention::{Canvases, attention};
use super::feed_forward::FeedForwardBlock;
use super::linear::{Linear, Order};
use super::norm::Norm;
use super::rotary::Rotary;
use crate::checkpoint::{BlockNames, Projections, TransformerSpec, Weights};
use crate::device::Placement;
use crate::error::LoadError;
use crate::kernel::Heads;

#[derive(Debug)]
pub(super) struct Block {
    norm_1: Norm,
    projection: Projection,
    /// Norms of query and key heads before the rotation.
    head_norms: Option<[Norm; 2]>,
    output: Linear,
    norm_2: Norm,
    feed_forward: FeedForwardBlock,
    heads: Heads,
}

/// Queries, keys and values.
#[derive(Debug)]
enum Projection {
    /// In one product, in that order: so many columns of each.
    Fused(Linear, [usize; 3]),
    Separate([Linear; 3]),
}

impl Projection {
    fn forward(&self, rows: &Tensor) -> Result<[Tensor; 3]> {
        match self {
            Self::Fused(linear, [query, key, value]) => {
                let fused = linear.forward(rows)?;
                let part = |first, columns| fused.narrow(1, first, columns);
                Ok([part(0, *query)?, part(*query, *key)?, part(query + key, *value)?])
            }
            Self::Separate([query, key, value]) => {
                Ok([query.forward(rows)?, key.forward(rows)?, value.forward(rows)?])
            }
        }
    }
}

impl Block {
    pub(super) fn load(
        weights: &Weights,
        names: &BlockNames,
        number: usize,
        spec: &TransformerSpec,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let name = |part: &str| format!("{}{number}.{part}", names.blocks);
        let heads = spec.heads();
        let width = spec.width;
        let biases = spec.biases;
        let wide = heads.count * heads.width;
        let narrow = heads.shared * heads.width;
        let order = Order::of(spec);
        let linear =
            |part: &str, shape, bias| Linear::load(weights, &name(part), shape, order, bias, placement);
        let projection = match spec.projections {
            Projections::Fused => {
                Projection::Fused(linear("attn.c_attn", (width, 3 * width), biases.qkv)?, [width; 3])
            }
            Projections::Stacked => {
                let columns = [wide, narrow, narrow];
                let size = (width, columns.iter().sum());
                Projection::Fused(linear("self_attn.qkv_proj", size, biases.qkv)?, columns)
            }
            Projections::Separate => Projection::Separate([
                linear("self_attn.q_proj", (width, wide), biases.qkv)?,
                linear("self_attn.k_proj", (width, narrow), biases.qkv)?,
                linear("self_attn.v_proj", (width, narrow), biases.qkv)?,
            ]),
        };
        let head_norm = |part: &str| Norm::of_heads(weights, &name(part), spec, placement);
        let head_norms = if spec.head_norm {
            Some([head_norm("self_attn.q_norm")?, head_norm("self_attn.k_norm")?])
        } else {
            None
        };
        let kind = spec.feed_forward[number];
        Ok(Self {
            norm_1: Norm::load(weights, &name(names.norm_1), spec, placement)?,
            projection,
            head_norms,
            output: linear(names.output, (wide, width), biases.output)?,
            norm_2: Norm::load(weights, &name(names.norm_2), spec, placement)?,
            feed_forward: FeedForwardBlock::load(weights, &name("mlp"), kind, spec, placement)?,
            heads,
        })
    }

    /// Queries, keys and values of all rows; [`Self::mix`] goes on.
    pub(super) fn project(&self, rows: &Tensor, rotary: Option<&Rotary>) -> Result<[Tensor; 3]> {
        let [mut query, mut key, value] = self.projection.forward(&self.norm_1.forward(rows)?)?;
        if let Some([query_norm, key_norm]) = &self.head_norms {
            query = query_norm.forward_heads(&query)?;
            key = key_norm.forward_heads(&key)?;
        }
        if let Some(rotary) = rotary {
            query = rotary.rotate(&query)?;
            key = rotary.rotate(&key)?;
        }
        Ok([query, key, value])
    }

    /// The rest of layer `layer`, of the rows `asked` only when there are such: the others are seen by attention and
    /// leave nothing.
    pub(super) fn mix(
        &self,
        rows: &Tensor,
        projected: [Tensor; 3],
        (canvases, layer): (&Canvases, usize),
        asked: Option<&Tensor>,
    ) -> Result<Tensor> {
        let mixed = attention(&projected, canvases, layer, self.heads)?;
        let (rows, mixed) = (only(rows, asked)?, only(&mixed, asked)?);
        let rows = (rows + self.output.forward(&mixed)?)?;
        let inner = self.feed_forward.forward(&self.norm_2.forward(&rows)?)?;
        rows + inner
    }
}

/// The rows `asked`, or all.
fn only(rows: &Tensor, asked: Option<&Tensor>) -> Result<Tensor> {
    asked.map_or_else(|| Ok(rows.clone()), |asked| rows.index_select(asked, 0))
}
