//! The feed-forward part of a block in candle's operations.

use candle_core::{DType, Result, Tensor};

use super::linear::{Linear, Order};
use crate::checkpoint::{Experts, FeedForward, TransformerSpec, Weights};
use crate::device::Placement;
use crate::error::LoadError;
use crate::kernel::chosen_experts;

#[derive(Debug)]
pub(super) enum FeedForwardBlock {
    Gelu {
        up: Linear,
        down: Linear,
    },
    SwiGlu(Gated),
    Experts {
        /// Computes in f32 whatever the experts do.
        router: Linear,
        experts: Vec<Gated>,
        used: usize,
    },
}

/// down(silu(gate(x)) · up(x)).
#[derive(Debug)]
pub(super) struct Gated {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Gated {
    fn load(
        weights: &Weights,
        name: &str,
        inner: usize,
        spec: &TransformerSpec,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let width = spec.width;
        let bias = spec.biases.feed_forward;
        let linear = |part: &str, shape| {
            Linear::load(weights, &format!("{name}.{part}"), shape, Order::OutIn, bias, placement)
        };
        Ok(Self {
            gate: linear("gate_proj", (width, inner))?,
            up: linear("up_proj", (width, inner))?,
            down: linear("down_proj", (inner, width))?,
        })
    }

    fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let inner = (self.gate.forward(rows)?.silu()? * self.up.forward(rows)?)?;
        self.down.forward(&inner)
    }
}

impl FeedForwardBlock {
    pub(super) fn load(
        weights: &Weights,
        name: &str,
        kind: FeedForward,
        spec: &TransformerSpec,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let width = spec.width;
        let bias = spec.biases.feed_forward;
        let linear = |part: &str, shape| {
            Linear::load(weights, &format!("{name}.{part}"), shape, Order::of(spec), bias, placement)
        };
        Ok(match kind {
            FeedForward::Gelu { width: inner } => {
                Self::Gelu { up: linear("c_fc", (width, inner))?, down: linear("c_proj", (inner, width))? }
            }
            FeedForward::SwiGlu { width: inner } => {
                Self::SwiGlu(Gated::load(weights, name, inner, spec, placement)?)
            }
            FeedForward::Experts(Experts { count, used, width: inner }) => {
                let wide = Placement { dtype: DType::F32, ..placement.clone() };
                let router = format!("{name}.gate");
                let router = Linear::load(weights, &router, (width, count), Order::OutIn, false, &wide)?;
                let each = |number| {
                    Gated::load(weights, &format!("{name}.experts.{number}"), inner, spec, placement)
                };
                Self::Experts {
                    router,
                    experts: (0..count).map(each).collect::<std::result::Result<_, _>>()?,
                    used,
                }
            }
        })
    }

    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu { up, down } => down.forward(&up.forward(rows)?.gelu()?),
            Self::SwiGlu(gated) => gated.forward(rows),
            Self::Experts { router, experts, used } => route(rows, router, experts, *used),
        }
    }
}

/// The sum over the experts that each row uses, in ascending order of their numbers. The router's logits go to main
/// memory, where the rows are grouped by expert, so that the weights of each expert are read once.
fn route(rows: &Tensor, router: &Linear, experts: &[Gated], used: usize) -> Result<Tensor> {
    let logits: Vec<Vec<f32>> = router.forward(&rows.to_dtype(DType::F32)?)?.to_vec2()?;
    let mut members: Vec<(Vec<u32>, Vec<f32>)> = vec![Default::default(); experts.len()];
    let mut chosen = Vec::new();
    for (row, logits) in (0..).zip(&logits) {
        chosen_experts(logits, used, &mut chosen);
        for (expert, weight) in &chosen {
            members[*expert as usize].0.push(row);
            members[*expert as usize].1.push(*weight);
        }
    }
    let mut total = rows.to_dtype(DType::F32)?.zeros_like()?;
    for (expert, (places, weights)) in experts.iter().zip(members) {
        if places.is_empty() {
            continue;
        }
        let count = places.len();
        let places = Tensor::from_vec(places, count, rows.device())?;
        let weights = Tensor::from_vec(weights, (count, 1), rows.device())?;
        let result = expert.forward(&rows.index_select(&places, 0)?)?.to_dtype(DType::F32)?;
        total = total.index_add(&places, &result.broadcast_mul(&weights)?, 0)?;
    }
    total.to_dtype(rows.dtype())
}
