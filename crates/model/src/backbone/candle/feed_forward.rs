//! The feed-forward part of a block in candle's operations.

use candle_core::{DType, Result, Tensor};

use super::linear::{Linear, Order};
use crate::checkpoint::{Experts, FeedForward, TransformerSpec, Weights};
use crate::device::Placement;
use crate::error::LoadError;
use crate::kernel::Routing;

#[derive(Debug)]
pub(super) enum FeedForwardBlock {
    Gelu { up: Linear, down: Linear },
    SwiGlu(Gated),
    Experts(ExpertBlock),
}

#[derive(Debug)]
pub(super) struct ExpertBlock {
    /// Computes in f32 whatever the experts do.
    router: Linear,
    experts: Vec<Gated>,
    /// The expert that every row uses beside them.
    shared: Option<Gated>,
    /// What the choice adds to the score of each expert; empty where it adds nothing.
    bias: Vec<f32>,
    routing: Routing,
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
            FeedForward::Experts(experts) => {
                Self::Experts(ExpertBlock::load(weights, name, experts, spec, placement)?)
            }
        })
    }

    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu { up, down } => down.forward(&up.forward(rows)?.gelu()?),
            Self::SwiGlu(gated) => gated.forward(rows),
            Self::Experts(experts) => experts.forward(rows),
        }
    }
}

impl ExpertBlock {
    fn load(
        weights: &Weights,
        name: &str,
        experts: Experts,
        spec: &TransformerSpec,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let Experts { count, width: inner, shared, bias, routing } = experts;
        let wide = Placement { dtype: DType::F32, ..placement.clone() };
        let router = format!("{name}.gate");
        let gated = |name: String, inner| Gated::load(weights, &name, inner, spec, placement);
        let bias = bias.then(|| weights.get(&format!("{router}.expert_bias"), &[count])).transpose()?;
        Ok(Self {
            experts: (0..count)
                .map(|number| gated(format!("{name}.experts.{number}"), inner))
                .collect::<std::result::Result<_, _>>()?,
            shared: shared.map(|inner| gated(format!("{name}.shared_experts"), inner)).transpose()?,
            bias: bias.map_or_else(|| Ok(Vec::new()), |bias| bias.to_f32(placement.cpu))?,
            router: Linear::load(weights, &router, (spec.width, count), Order::OutIn, false, &wide)?,
            routing,
        })
    }

    /// The sum over the experts that each row uses, in ascending order of their numbers, and then the shared one. The
    /// router's logits go to main memory, where the rows are grouped by expert, so that the weights of each expert are
    /// read once.
    fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let logits: Vec<Vec<f32>> = self.router.forward(&rows.to_dtype(DType::F32)?)?.to_vec2()?;
        let mut members: Vec<(Vec<u32>, Vec<f32>)> = vec![Default::default(); self.experts.len()];
        let mut chosen = Vec::new();
        for (row, logits) in (0..).zip(&logits) {
            self.routing.choose(logits, &self.bias, &mut chosen);
            for (expert, weight) in &chosen {
                members[*expert as usize].0.push(row);
                members[*expert as usize].1.push(*weight);
            }
        }
        let mut total = rows.to_dtype(DType::F32)?.zeros_like()?;
        for (expert, (places, weights)) in self.experts.iter().zip(members) {
            if places.is_empty() {
                continue;
            }
            let count = places.len();
            let places = Tensor::from_vec(places, count, rows.device())?;
            let weights = Tensor::from_vec(weights, (count, 1), rows.device())?;
            let result = expert.forward(&rows.index_select(&places, 0)?)?.to_dtype(DType::F32)?;
            total = total.index_add(&places, &result.broadcast_mul(&weights)?, 0)?;
        }
        if let Some(shared) = &self.shared {
            total = (total + shared.forward(rows)?.to_dtype(DType::F32)?)?;
        }
        total.to_dtype(rows.dtype())
    }
}
