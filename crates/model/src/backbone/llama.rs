//! DiffuLLaMA's forward pass: LLaMA with full attention (paper 2410.17891, section 3; `model.py` of the
//! reference).

use candle_core::{Device, Result, Tensor};
use candle_nn::ops::rms_norm;
use candle_nn::rotary_emb::rope_thd;

use super::attention::{Canvases, attention};
use super::linear::{Linear, Order};
use super::{Observe, PackedRows, load_blocks, only};
use crate::checkpoint::{ModelConfig, Weights};
use crate::device::Placement;
use crate::error::LoadError;
use crate::kernel::Heads;

/// Embedding, pre-norm blocks with rotated positions, a final norm and a head of its own (tied to the
/// embedding when the file has none).
#[derive(Debug)]
pub struct Llama {
    tokens: Tensor,
    rotary: Rotary,
    blocks: Vec<Block>,
    norm: Norm,
    pub(super) head: Linear,
}

#[derive(Debug)]
struct Block {
    norm_1: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm_2: Norm,
    gate: Linear,
    up: Linear,
    down: Linear,
    heads: Heads,
}

#[derive(Debug)]
struct Norm {
    gain: Tensor,
    epsilon: f32,
}

/// cos and sin of position × θ^(−2i/width), (context, width/2) each.
#[derive(Debug)]
struct Rotary {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    /// Angles are f32 products and only their cosine and sine are rounded, as in the reference.
    fn new(config: &ModelConfig, placement: &Placement) -> Result<Self> {
        let half = config.head_width / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| 1.0 / (config.rope_theta as f32).powf((2 * i) as f32 / config.head_width as f32))
            .collect();
        let angles: Vec<f32> = (0..config.context)
            .flat_map(|position| frequencies.iter().map(move |frequency| position as f32 * frequency))
            .collect();
        let table = |function: fn(f32) -> f32| {
            let values = angles.iter().map(|&angle| function(angle)).collect();
            Tensor::from_vec(values, (config.context, half), &placement.device)?.to_dtype(placement.dtype)
        };
        Ok(Self { cos: table(f32::cos)?, sin: table(f32::sin)? })
    }

    /// The rows of both tables for these positions.
    fn at(&self, positions: &Tensor) -> Result<Self> {
        Ok(Self { cos: self.cos.index_select(positions, 0)?, sin: self.sin.index_select(positions, 0)? })
    }

    /// Rotates every head of (rows, heads · width): element i of a head pairs with i + width/2.
    fn rotate(&self, rows: &Tensor, head_width: usize) -> Result<Tensor> {
        let (count, width) = rows.dims2()?;
        let heads = rows.reshape((1, count, width / head_width, head_width))?;
        rope_thd(&heads, &self.cos, &self.sin)?.reshape((count, width))
    }
}

impl Norm {
    fn load(
        weights: &Weights,
        name: &str,
        config: &ModelConfig,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let gain = weights.get(&format!("{name}.weight"), &[config.width])?.to_device(placement)?;
        Ok(Self { gain, epsilon: config.norm_epsilon as f32 })
    }

    fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        rms_norm(rows, &self.gain, self.epsilon)
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
            Linear::load(weights, &format!("{name}.{part}"), shape, Order::OutIn, false, placement)
        };
        let norm = |part: &str| Norm::load(weights, &format!("{name}.{part}"), config, placement);
        let heads = config.heads();
        let (width, inner) = (config.width, config.mlp_width);
        let (wide, narrow) = (heads.count * heads.width, heads.shared * heads.width);
        Ok(Self {
            norm_1: norm("input_layernorm")?,
            query: linear("self_attn.q_proj", (width, wide))?,
            key: linear("self_attn.k_proj", (width, narrow))?,
            value: linear("self_attn.v_proj", (width, narrow))?,
            output: linear("self_attn.o_proj", (wide, width))?,
            norm_2: norm("post_attention_layernorm")?,
            gate: linear("mlp.gate_proj", (width, inner))?,
            up: linear("mlp.up_proj", (width, inner))?,
            down: linear("mlp.down_proj", (inner, width))?,
            heads,
        })
    }

    /// Of the rows `asked` only, when there are such: the others are seen by attention and leave nothing.
    fn forward(
        &self,
        rows: &Tensor,
        canvases: &Canvases<'_>,
        rotary: &Rotary,
        asked: Option<&Tensor>,
    ) -> Result<Tensor> {
        let normed = self.norm_1.forward(rows)?;
        let query = rotary.rotate(&self.query.forward(&normed)?, self.heads.width)?;
        let key = rotary.rotate(&self.key.forward(&normed)?, self.heads.width)?;
        let mixed = attention(&query, &key, &self.value.forward(&normed)?, canvases, self.heads)?;
        let (rows, mixed) = (only(rows, asked)?, only(&mixed, asked)?);
        let rows = (rows + self.output.forward(&mixed)?)?;
        let normed = self.norm_2.forward(&rows)?;
        let inner = (self.gate.forward(&normed)?.silu()? * self.up.forward(&normed)?)?;
        rows + self.down.forward(&inner)?
    }
}

impl Llama {
    pub(super) fn load(
        config: &ModelConfig,
        weights: &Weights,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let embedding = weights.embedding(config.width)?;
        let head = Linear::head(weights, &embedding, placement)?;
        let load = |i| Block::load(weights, &format!("layers.{i}"), config, placement);
        let rotary = Rotary::new(config, placement)
            .map_err(|reason| LoadError::Device { device: format!("{:?}", placement.device), reason })?;
        Ok(Self {
            tokens: embedding.to_device(placement)?,
            rotary,
            blocks: load_blocks(config.layers, load)?,
            norm: Norm::load(weights, "norm", config, placement)?,
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
        let mut rows = self.tokens.index_select(&ids, 0)?;
        observe("embedding", &rows)?;
        let rotary = self.rotary.at(&positions)?;
        for (i, block) in self.blocks.iter().enumerate() {
            let asked = asked.filter(|_| i + 1 == self.blocks.len());
            rows = block.forward(&rows, &canvases, &rotary, asked)?;
            observe(&format!("block.{i}"), &rows)?;
        }
        rows = self.norm.forward(&rows)?;
        observe("final_norm", &rows)?;
        Ok(rows)
    }
}
