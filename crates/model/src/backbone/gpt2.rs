//! DiffuGPT's forward pass: GPT-2 with full attention (paper 2410.17891, section 3; `model.py` of the
//! reference).

use candle_core::{Device, Result, Tensor};
use candle_nn::ops::layer_norm;

use super::attention::{Canvases, attention};
use super::linear::{Linear, Order};
use super::{Observe, PackedRows, load_blocks, only};
use crate::checkpoint::{ModelConfig, Weights};
use crate::device::Placement;
use crate::error::LoadError;
use crate::kernel::Heads;

/// Token and position embeddings, pre-norm blocks, a final norm, and a head tied to the embedding unless
/// the file has one.
#[derive(Debug)]
pub struct Gpt2 {
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
    pub(super) head: Linear,
}

#[derive(Debug)]
struct Block {
    norm_1: Norm,
    /// Query, key and value in one projection, in that order.
    attention_in: Linear,
    attention_out: Linear,
    norm_2: Norm,
    expand: Linear,
    contract: Linear,
    heads: Heads,
}

#[derive(Debug)]
struct Norm {
    gain: Tensor,
    bias: Tensor,
    epsilon: f32,
}

impl Norm {
    fn load(
        weights: &Weights,
        name: &str,
        config: &ModelConfig,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let part = |part: &str| weights.get(&format!("{name}.{part}"), &[config.width])?.to_device(placement);
        Ok(Self { gain: part("weight")?, bias: part("bias")?, epsilon: config.norm_epsilon as f32 })
    }

    fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        layer_norm(rows, &self.gain, &self.bias, self.epsilon)
    }
}

impl Block {
    fn load(
        weights: &Weights,
        name: &str,
        config: &ModelConfig,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let linear = |part: &str, shape| {
            Linear::load(weights, &format!("{name}.{part}"), shape, Order::InOut, true, placement)
        };
        let norm = |part: &str| Norm::load(weights, &format!("{name}.{part}"), config, placement);
        let (width, inner) = (config.width, config.mlp_width);
        Ok(Self {
            norm_1: norm("ln_1")?,
            attention_in: linear("attn.c_attn", (width, 3 * width))?,
            attention_out: linear("attn.c_proj", (width, width))?,
            norm_2: norm("ln_2")?,
            expand: linear("mlp.c_fc", (width, inner))?,
            contract: linear("mlp.c_proj", (inner, width))?,
            heads: config.heads(),
        })
    }

    /// Of the rows `asked` only, when there are such: the others are seen by attention and leave nothing.
    fn forward(&self, rows: &Tensor, canvases: &Canvases<'_>, asked: Option<&Tensor>) -> Result<Tensor> {
        let width = rows.dim(1)?;
        let fused = self.attention_in.forward(&self.norm_1.forward(rows)?)?;
        let part = |i: usize| fused.narrow(1, i * width, width);
        let mixed = attention(&part(0)?, &part(1)?, &part(2)?, canvases, self.heads)?;
        let (rows, mixed) = (only(rows, asked)?, only(&mixed, asked)?);
        let rows = (rows + self.attention_out.forward(&mixed)?)?;
        let inner = self.expand.forward(&self.norm_2.forward(&rows)?)?.gelu()?;
        rows + self.contract.forward(&inner)?
    }
}

impl Gpt2 {
    pub(super) fn load(
        config: &ModelConfig,
        weights: &Weights,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let embedding = weights.embedding(config.width)?;
        let head = Linear::head(weights, &embedding, placement)?;
        let load = |i| Block::load(weights, &format!("h.{i}"), config, placement);
        Ok(Self {
            tokens: embedding.to_device(placement)?,
            positions: weights.get("wpe.weight", &[config.context, config.width])?.to_device(placement)?,
            blocks: load_blocks(config.layers, load)?,
            norm: Norm::load(weights, "ln_f", config, placement)?,
            head,
        })
    }

    pub(super) fn device(&self) -> &Device {
        self.tokens.device()
    }

    pub(super) fn hidden(
        &self,
        packed: &PackedRows,
        asked: Option<&Tensor>,
        observe: Observe<'_>,
    ) -> Result<Tensor> {
        let (ids, positions) = packed.on(self.device())?;
        let canvases = Canvases::new(&packed.lengths, &self.tokens)?;
        let tokens = self.tokens.index_select(&ids, 0)?;
        let mut rows = (tokens + self.positions.index_select(&positions, 0)?)?;
        observe("embedding", &rows)?;
        for (i, block) in self.blocks.iter().enumerate() {
            let asked = asked.filter(|_| i + 1 == self.blocks.len());
            rows = block.forward(&rows, &canvases, asked)?;
            observe(&format!("block.{i}"), &rows)?;
        }
        rows = self.norm.forward(&rows)?;
        observe("final_norm", &rows)?;
        Ok(rows)
    }
}
