//! The networks: packed token ids to hidden states to logits, every position seeing its whole canvas.

mod candle;
mod cpu;
#[cfg(any(test, feature = "cuda"))]
mod cuda;
mod packed;

use candle_core::{Result, Tensor, bail};

use self::candle::Transformer;
use self::cpu::Trunk;
pub use self::cpu::{Computed, Memory, Network, StoredAs, Times};
pub use self::packed::{CanvasRows, KeyValues, PackedRows};
use crate::checkpoint::{TransformerSpec, Weights};
use crate::device::Placement;
use crate::error::LoadError;

/// A network without time input: the noise level reaches it only as the number of mask tokens.
#[derive(Debug)]
pub enum Backbone {
    /// On the CPU, in our kernels.
    Cpu(Box<Trunk>),
    /// In candle's operations, as on a GPU.
    Candle(Box<Transformer>),
}

/// Called with the name and value of the hidden states as they are computed: `embedding`, `block.0` …,
/// `final_norm`, each (rows, width). On the CPU also `router.0` …, how much each expert of a block counts in each row
/// (rows, experts).
pub type Observe<'a> = &'a mut dyn FnMut(&str, &Tensor) -> Result<()>;

/// State passed from the trunk to the head, and the memory that both compute in.
#[derive(Debug)]
pub enum Workspace {
    /// For [`Backbone::Cpu`].
    Cpu(Box<cpu::Workspace>),
    /// For [`Backbone::Candle`].
    Device {
        /// Hidden states of the rows that were asked for.
        hidden: Option<Tensor>,
        /// Logits of some of them.
        logits: Vec<f32>,
    },
}

impl Workspace {
    /// The time spent in each part since the last call; zero on a GPU.
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
        spec: &TransformerSpec,
        weights: &Weights,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        if placement.device.is_cpu() {
            return Ok(Self::Cpu(Box::new(Trunk::load(spec, weights, placement.numbers, placement.cpu)?)));
        }
        Self::in_candle(spec, weights, placement)
    }

    /// [`Self::load`] with candle's operations on any device, so that the path of a GPU is tested without
    /// one.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn in_candle(
        spec: &TransformerSpec,
        weights: &Weights,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        #[cfg(feature = "cuda")]
        if placement.needs_our_product() && spec.head_width > cuda::LARGEST_HEAD {
            return Err(LoadError::WideHeads { found: spec.head_width, largest: cuda::LARGEST_HEAD });
        }
        Ok(Self::Candle(Box::new(Transformer::load(spec, weights, placement)?)))
    }

    /// The GPU that computes, if one does.
    #[cfg(feature = "cuda")]
    #[must_use]
    pub fn gpu(&self) -> Option<&candle_core::CudaDevice> {
        let device = match self {
            Self::Cpu(_) => return None,
            Self::Candle(model) => model.device(),
        };
        device.as_cuda_device().ok()
    }

    /// Bytes that the keys and values of one position take in all layers.
    #[must_use]
    pub fn memo_bytes(&self, spec: &TransformerSpec) -> u64 {
        match self {
            Self::Cpu(trunk) => trunk.memo_bytes(),
            Self::Candle(model) => {
                let numbers = 2 * spec.layers() * spec.kv_head_count * spec.head_width;
                (numbers * model.number_bytes()) as u64
            }
        }
    }

    /// Memory for one caller at a time.
    #[must_use]
    pub fn workspace(&self) -> Workspace {
        match self {
            Self::Cpu(trunk) => {
                let (numbers, head) = trunk.numbers();
                Workspace::Cpu(Box::new(cpu::Workspace::new(numbers, head)))
            }
            Self::Candle(_) => Workspace::Device { hidden: None, logits: Vec::new() },
        }
    }

    /// The trunk, for all canvases at once: linear layers see one matrix of all rows, attention runs
    /// within each canvas, and nothing is padded. Leaves the hidden states after the final norm of the
    /// rows `asked` (ascending) in the workspace. Returns the keys and values of the canvases that keep some
    /// ([`PackedRows::keep`]), in order.
    ///
    /// # Errors
    /// The device failed, or a token or position lies outside the model.
    pub fn hidden(
        &self,
        rows: &PackedRows,
        asked: &[u32],
        workspace: &mut Workspace,
        observe: Option<Observe<'_>>,
    ) -> Result<Vec<KeyValues>> {
        let mut ignore = |_: &str, _: &Tensor| Ok(());
        match (self, workspace) {
            (Self::Cpu(trunk), Workspace::Cpu(workspace)) => trunk.hidden(rows, asked, workspace, observe),
            (Self::Candle(model), Workspace::Device { hidden, .. }) => {
                let (found, kept) = model.hidden(rows, asked, observe.unwrap_or(&mut ignore))?;
                *hidden = found;
                Ok(kept.into_iter().map(KeyValues::Tensors).collect())
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
        match (self, workspace) {
            (Self::Candle(model), Workspace::Device { hidden, .. }) => model.logits(places, hidden.as_ref()),
            _ => bail!("the logits are in main memory"),
        }
    }
}
