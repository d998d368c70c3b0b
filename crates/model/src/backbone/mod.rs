//! The networks: packed token ids to hidden states to logits, every position seeing its whole canvas.

mod attention;
mod cpu;
#[cfg(any(test, feature = "cuda"))]
mod cuda;
mod gpt2;
mod linear;
mod llama;

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

pub use self::cpu::Times;
use self::cpu::Trunk;
use self::gpt2::Gpt2;
use self::llama::Llama;
use crate::checkpoint::{Architecture, ModelConfig, Weights};
use crate::device::Placement;
use crate::error::LoadError;
use crate::predictor::TokenId;

/// A network without time input: the noise level reaches it only as the number of mask tokens.
#[derive(Debug)]
pub enum Backbone {
    /// Either network on the CPU, in our kernels.
    Cpu(Box<Trunk>),
    /// GPT-2, the trunk of DiffuGPT, in candle's operations.
    Gpt2(Gpt2),
    /// LLaMA, the trunk of DiffuLLaMA, in candle's operations.
    Llama(Llama),
}

/// Called with the name and value of the hidden states as they are computed: `embedding`, `block.0` …,
/// `final_norm`, each (rows, width).
pub type Observe<'a> = &'a mut dyn FnMut(&str, &Tensor) -> Result<()>;

/// What a backbone remembers from the trunk to the head, and the memory that it computes in.
#[derive(Debug)]
pub enum Workspace {
    /// Of [`Backbone::Cpu`].
    Cpu(Box<cpu::Workspace>),
    /// Of a network in candle's operations.
    Device {
        /// Hidden states of the rows that were asked for.
        hidden: Option<Tensor>,
        /// Logits of some of them.
        logits: Vec<f32>,
    },
}

impl Workspace {
    /// Where the time went since the last call; on the CPU only.
    pub fn take_times(&mut self) -> Times {
        match self {
            Self::Cpu(workspace) => workspace.take_times(),
            Self::Device { .. } => Times::default(),
        }
    }
}

/// Rows of logits.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a> {
    values: &'a [f32],
    stride: usize,
    vocabulary: usize,
}

impl<'a> Logits<'a> {
    /// One logit for each row of the embedding; `None` for a row that was not computed.
    #[must_use]
    pub fn row(&self, number: usize) -> Option<&'a [f32]> {
        self.values.chunks_exact(self.stride).nth(number).map(|row| &row[..self.vocabulary])
    }
}

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
        if placement.device.is_cpu() {
            return Ok(Self::Cpu(Box::new(Trunk::load(config, weights, placement.numbers, placement.cpu)?)));
        }
        Self::in_candle(config, weights, placement)
    }

    /// As [`Self::load`], in candle's operations on any device: so the path of a GPU is tested without one.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn in_candle(
        config: &ModelConfig,
        weights: &Weights,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        #[cfg(feature = "cuda")]
        if placement.needs_our_product() && config.head_width > cuda::LARGEST_HEAD {
            return Err(LoadError::WideHeads { found: config.head_width, largest: cuda::LARGEST_HEAD });
        }
        Ok(match config.architecture {
            Architecture::Gpt2 => Self::Gpt2(Gpt2::load(config, weights, placement)?),
            Architecture::Llama => Self::Llama(Llama::load(config, weights, placement)?),
        })
    }

    /// The GPU that computes, if one does.
    #[cfg(feature = "cuda")]
    #[must_use]
    pub fn gpu(&self) -> Option<&candle_core::CudaDevice> {
        let device = match self {
            Self::Cpu(_) => return None,
            Self::Gpt2(model) => model.device(),
            Self::Llama(model) => model.device(),
        };
        device.as_cuda_device().ok()
    }

    /// Memory for one caller at a time, on a pool of `threads`.
    #[must_use]
    pub fn workspace(&self, threads: usize) -> Workspace {
        match self {
            Self::Cpu(trunk) => {
                let (numbers, head) = trunk.numbers();
                Workspace::Cpu(Box::new(cpu::Workspace::new(numbers, head, threads)))
            }
            Self::Gpt2(_) | Self::Llama(_) => Workspace::Device { hidden: None, logits: Vec::new() },
        }
    }

    /// The trunk, for all canvases at once: linear layers see one matrix of all rows, attention runs
    /// within each canvas, and nothing is padded. Leaves the hidden states after the final norm of the
    /// rows `asked` (ascending) in the workspace.
    ///
    /// # Errors
    /// The device failed, or a token or position lies outside the model.
    pub fn hidden(
        &self,
        rows: &PackedRows,
        asked: &[u32],
        workspace: &mut Workspace,
        observe: Option<Observe<'_>>,
    ) -> Result<()> {
        let mut nobody = |_: &str, _: &Tensor| Ok(());
        let fewer = |device| (asked.len() < rows.rows()).then(|| Tensor::new(asked, device)).transpose();
        match (self, workspace) {
            (Self::Cpu(trunk), Workspace::Cpu(workspace)) => trunk.hidden(rows, asked, workspace, observe),
            (Self::Gpt2(model), Workspace::Device { hidden, .. }) => {
                let asked = fewer(model.device())?;
                *hidden = Some(model.hidden(rows, asked.as_ref(), observe.unwrap_or(&mut nobody))?);
                Ok(())
            }
            (Self::Llama(model), Workspace::Device { hidden, .. }) => {
                let asked = fewer(model.device())?;
                *hidden = Some(model.hidden(rows, asked.as_ref(), observe.unwrap_or(&mut nobody))?);
                Ok(())
            }
            _ => bail!("the workspace is another backbone's"),
        }
    }

    /// The logits of some of the rows asked for, by their places among them (ascending), one row after
    /// another. With the shift, row i speaks of position i + 1.
    ///
    /// # Errors
    /// The device failed.
    pub fn logits<'a>(&self, places: &[u32], workspace: &'a mut Workspace) -> Result<Logits<'a>> {
        let Self::Cpu(trunk) = self else {
            let found = self.logits_on_device(places, workspace)?;
            let vocabulary = found.dim(1)?;
            let Workspace::Device { logits, .. } = workspace else {
                bail!("the workspace is another backbone's");
            };
            *logits = found.flatten_all()?.to_vec1()?;
            return Ok(Logits { values: logits, stride: vocabulary, vocabulary });
        };
        let Workspace::Cpu(workspace) = workspace else {
            bail!("the workspace is another backbone's");
        };
        let (stride, vocabulary) = trunk.logits_shape();
        Ok(Logits { values: trunk.logits(places, workspace), stride, vocabulary })
    }

    /// The same, (places, vocabulary) in f32, where they were computed.
    ///
    /// # Errors
    /// The device failed, or this is the CPU's backbone.
    pub fn logits_on_device(&self, places: &[u32], workspace: &Workspace) -> Result<Tensor> {
        let head = match self {
            Self::Gpt2(model) => &model.head,
            Self::Llama(model) => &model.head,
            Self::Cpu(_) => bail!("the logits are in main memory"),
        };
        let Workspace::Device { hidden: Some(hidden), .. } = workspace else {
            bail!("there are no hidden states");
        };
        let rows = match places {
            // Neighbours are there already, and nothing has to be uploaded.
            [first, .., last] if (last - first) as usize == places.len() - 1 => {
                hidden.narrow(0, *first as usize, places.len())?
            }
            [only] => hidden.narrow(0, *only as usize, 1)?,
            _ => hidden.index_select(&Tensor::new(places, hidden.device())?, 0)?,
        };
        head.forward(&rows)?.to_dtype(DType::F32)
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

/// The rows `asked`, or all.
fn only(rows: &Tensor, asked: Option<&Tensor>) -> Result<Tensor> {
    asked.map_or_else(|| Ok(rows.clone()), |asked| rows.index_select(asked, 0))
}

/// Several canvases of any lengths, one after another.
#[derive(Debug, Default)]
pub struct PackedRows {
    /// Token ids, (rows).
    ids: Vec<TokenId>,
    /// Position of each row on its own canvas, (rows).
    positions: Vec<u32>,
    /// Rows of each canvas, in order.
    lengths: Vec<usize>,
}

impl PackedRows {
    /// Packs canvases, none of them empty.
    pub fn new<'a>(canvases: impl IntoIterator<Item = &'a [TokenId]>) -> Self {
        let mut packed = Self::default();
        for canvas in canvases {
            packed.ids.extend_from_slice(canvas);
            packed.positions.extend(0..canvas.len() as u32);
            packed.lengths.push(canvas.len());
        }
        packed
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Token ids and positions on a device, (rows) each.
    fn on(&self, device: &Device) -> Result<(Tensor, Tensor)> {
        Ok((Tensor::new(self.ids.as_slice(), device)?, Tensor::new(self.positions.as_slice(), device)?))
    }
}
