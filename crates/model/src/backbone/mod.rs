//! The networks: packed token ids to hidden states to logits, every position seeing its whole canvas.

mod attention;
mod gpt2;
mod linear;
mod llama;

use candle_core::{Device, Result, Tensor};

use self::gpt2::Gpt2;
use self::llama::Llama;
use crate::checkpoint::{Architecture, ModelConfig, Weights};
use crate::device::Placement;
use crate::error::LoadError;
use crate::predictor::TokenId;

/// A network without time input: the noise level reaches it only as the number of mask tokens.
#[derive(Debug)]
pub enum Backbone {
    /// GPT-2, the trunk of DiffuGPT.
    Gpt2(Gpt2),
    /// LLaMA, the trunk of DiffuLLaMA.
    Llama(Llama),
}

/// Called with the name and value of the hidden states as they are computed: `embedding`, `block.0` …,
/// `final_norm`, each (rows, width).
pub type Observe<'a> = &'a mut dyn FnMut(&str, &Tensor) -> Result<()>;

impl Backbone {
    /// Reads the weights onto the device.
    ///
    /// # Errors
    /// A tensor is missing, has another shape than the configuration implies, or a type that cannot be
    /// computed with.
    pub fn load(
        config: &ModelConfig,
        weights: &Weights,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        Ok(match config.architecture {
            Architecture::Gpt2 => Self::Gpt2(Gpt2::load(config, weights, placement)?),
            Architecture::Llama => Self::Llama(Llama::load(config, weights, placement)?),
        })
    }

    /// The hidden states after the final norm, (rows, width), of all canvases at once: linear layers see
    /// one matrix of all rows, attention runs within each canvas, and nothing is padded.
    ///
    /// # Errors
    /// The device failed.
    pub fn hidden(&self, rows: &PackedRows, observe: Observe<'_>) -> Result<Tensor> {
        match self {
            Self::Gpt2(model) => model.hidden(rows, observe),
            Self::Llama(model) => model.hidden(rows, observe),
        }
    }

    /// The logits, (rows, vocabulary), of chosen rows of hidden states. With the shift, row i speaks of
    /// position i + 1.
    ///
    /// # Errors
    /// The device failed.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gpt2(model) => model.head.forward(hidden),
            Self::Llama(model) => model.head.forward(hidden),
        }
    }
}

/// Several canvases of any lengths, one after another.
#[derive(Debug)]
pub struct PackedRows {
    /// Token ids, (rows).
    ids: Tensor,
    /// Position of each row on its own canvas, (rows).
    positions: Tensor,
    /// Rows of each canvas, in order.
    lengths: Vec<usize>,
}

impl PackedRows {
    /// Packs canvases, none of them empty.
    ///
    /// # Errors
    /// The device failed.
    pub fn new<'a>(canvases: impl IntoIterator<Item = &'a [TokenId]>, device: &Device) -> Result<Self> {
        let mut ids = Vec::new();
        let mut positions = Vec::new();
        let mut lengths = Vec::new();
        for canvas in canvases {
            ids.extend_from_slice(canvas);
            positions.extend(0..canvas.len() as u32);
            lengths.push(canvas.len());
        }
        let rows = ids.len();
        let ids = Tensor::from_vec(ids, rows, device)?;
        let positions = Tensor::from_vec(positions, rows, device)?;
        Ok(Self { ids, positions, lengths })
    }
}
