//! Networks in candle's operations, as on a GPU.

mod attention;
mod block;
mod feed_forward;
mod layers;
mod linear;
mod norm;
mod rotary;

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

use self::attention::Canvases;
use self::block::Block;
pub(super) use self::layers::LayerTensors;
use self::linear::Linear;
use self::norm::Norm;
use self::rotary::Rotary;
use super::{Observe, PackedRows};
use crate::checkpoint::{BlockNames, Positions, TransformerSpec, Visibility, Weights};
use crate::device::Placement;
use crate::error::LoadError;
use crate::kernel::Heads;

/// A network whose tensors are candle's.
#[derive(Debug)]
pub struct Transformer {
    tokens: Tensor,
    /// Vectors that are added to the embedding.
    positions: Option<Tensor>,
    rotary: Option<Rotary>,
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
    visibility: Visibility,
    heads: Heads,
}

impl Transformer {
    /// Reads the weights onto the device.
    pub(super) fn load(
        spec: &TransformerSpec,
        weights: &Weights,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let embedding = weights.embedding(spec.width)?;
        let head = Linear::head(weights, &embedding, placement)?;
        let positions = match spec.positions {
            Positions::Learned => {
                Some(weights.get("wpe.weight", &[spec.context, spec.width])?.to_device(placement)?)
            }
            Positions::Rotary(_) => None,
        };
        let rotary = spec.rotation().map(|rotation| Rotary::new(rotation, spec, placement)).transpose();
        let rotary = rotary
            .map_err(|reason| LoadError::Device { device: format!("{:?}", placement.device), reason })?;
        let names = BlockNames::of(spec);
        let load = |number| Block::load(weights, names, number, spec, placement);
        Ok(Self {
            tokens: embedding.to_device(placement)?,
            positions,
            rotary,
            blocks: load_blocks(spec.layers(), load)?,
            norm: Norm::load(weights, names.last, spec, placement)?,
            head,
            visibility: spec.visibility,
            heads: spec.heads(),
        })
    }

    /// Bytes of a number of a hidden state.
    pub(super) fn number_bytes(&self) -> usize {
        self.tokens.dtype().size_in_bytes()
    }

    pub(super) fn device(&self) -> &Device {
        self.tokens.device()
    }

    /// The hidden states after the final norm of the rows `asked`, if there are such, and the keys and values of the
    /// canvases that keep some.
    pub(super) fn hidden(
        &self,
        packed: &PackedRows,
        asked: &[u32],
        observe: Observe<'_>,
    ) -> Result<(Option<Tensor>, Vec<LayerTensors>)> {
        let (mut rows, canvases, rotary) = self.begin(packed)?;
        let some = 1..packed.rows();
        let some = some.contains(&asked.len()).then(|| Tensor::new(asked, self.device())).transpose()?;
        observe("embedding", &rows)?;
        let mut kept = vec![LayerTensors::default(); canvases.keeping().count()];
        for (i, block) in self.blocks.iter().enumerate() {
            let last = i + 1 == self.blocks.len();
            let parts = block.project(&rows, rotary.as_ref())?;
            let [_, key, value] = &parts;
            for (kept, canvas) in kept.iter_mut().zip(canvases.keeping()) {
                kept.push([canvas.kept(i, 0, key)?, canvas.kept(i, 1, value)?])?;
            }
            // Behind the last keys and values nothing else may be wanted.
            if last && asked.is_empty() {
                return Ok((None, kept));
            }
            rows = block.mix(&rows, parts, (&canvases, i), some.as_ref().filter(|_| last))?;
            observe(&format!("block.{i}"), &rows)?;
        }
        rows = self.norm.forward(&rows)?;
        observe("final_norm", &rows)?;
        Ok((Some(rows), kept))
    }

    /// The embedded rows, where they lie, and their rotation.
    fn begin(&self, packed: &PackedRows) -> Result<(Tensor, Canvases, Option<Rotary>)> {
        let (ids, positions) = packed.on(self.device())?;
        let mut rows = self.tokens.index_select(&ids, 0)?;
        if let Some(table) = &self.positions {
            rows = (rows + table.index_select(&positions, 0)?)?;
        }
        let canvases = Canvases::new(packed, self.visibility, self.heads, &rows)?;
        let rotary = self.rotary.as_ref().map(|rotary| rotary.at(&positions)).transpose()?;
        Ok((rows, canvases, rotary))
    }

    /// The logits of some of the rows of `hidden`, (places, vocabulary) in f32.
    pub(super) fn logits(&self, places: &[u32], hidden: Option<&Tensor>) -> Result<Tensor> {
        let Some(hidden) = hidden else { bail!("there are no hidden states") };
        let rows = match places {
            // Neighbours are there already, and nothing has to be uploaded.
            [first, .., last] if (last - first) as usize == places.len() - 1 => {
                hidden.narrow(0, *first as usize, places.len())?
            }
            [only] => hidden.narrow(0, *only as usize, 1)?,
            _ => hidden.index_select(&Tensor::new(places, hidden.device())?, 0)?,
        };
        self.head.forward(&rows)?.to_dtype(DType::F32)
    }
}

/// Blocks that are loaded at the same time. Some take memory for conversions meanwhile, which must not grow with
/// the number of cores.
const LOADED_AT_ONCE: usize = 4;

/// All blocks, side by side, so that the file is read on while a part of it is on its way to the device. The
/// first one goes ahead: candle's modules of kernels must not be loaded by several threads at the same time,
/// of which the last one would unload the others' while they may be at work.
fn load_blocks<B: Send>(
    count: usize,
    load: impl Fn(usize) -> std::result::Result<B, LoadError> + Sync,
) -> std::result::Result<Vec<B>, LoadError> {
    let mut blocks = Vec::with_capacity(count);
    for first in std::iter::once(0).chain((1..count).step_by(LOADED_AT_ONCE)) {
        let behind = if first == 0 { 1 } else { first + LOADED_AT_ONCE }.min(count);
        let some: std::result::Result<Vec<B>, _> = (first..behind).into_par_iter().map(&load).collect();
        blocks.extend(some?);
    }
    Ok(blocks)
}
