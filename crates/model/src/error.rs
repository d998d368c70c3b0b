//! Errors of the crate. Each variant is one that some caller treats differently.

mod load;

pub use self::load::LoadError;
use crate::predictor::TokenId;

/// A canvas that cannot be denoised; the caller's mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanvasError {
    /// More positions than the model has.
    #[error("the canvas has {length} positions; this model's context is {limit}")]
    TooLong {
        /// Positions asked for.
        length: usize,
        /// Positions allowed.
        limit: usize,
    },
    /// A token id that is no row of the embedding.
    #[error("token id {id} is out of range; this model's vocabulary has {rows} entries, 0 to {}", rows - 1)]
    TokenOutOfVocabulary {
        /// The id given.
        id: TokenId,
        /// Rows of the embedding.
        rows: usize,
    },
    /// The head of a shifted model cannot predict the first position.
    #[error("position 0 must be given: this model predicts each token from the position before it")]
    FirstPositionOpen,
    /// A decision rule that means nothing.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A score that attention which is causal between blocks has no definition of.
    #[error(
        "this model's attention is causal between blocks of {block} positions, so that a position sees nothing of later \
         blocks; its texts are scored from left to right only"
    )]
    BlockCausalScore {
        /// Positions of a block.
        block: usize,
    },
}

/// A decision rule that means nothing; the caller's mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Two choices that do not go together.
    #[error("these values of `{first}` and `{second}` do not go together")]
    Conflict {
        /// One of them.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A number outside its range.
    #[error("`{field}` must be {allowed}")]
    Range {
        /// The number.
        field: &'static str,
        /// The allowed values.
        allowed: &'static str,
    },
}

/// An evaluation that failed; our own or the device's fault.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// A logit that is NaN or infinite.
    #[error(
        "the model computed a value that is not finite for canvas {ask} of the batch, position {position}"
    )]
    NotFinite {
        /// The ask's number in the batch.
        ask: usize,
        /// The position on its canvas.
        position: u32,
    },
    /// A want that the model cannot answer.
    #[error("position {position} of canvas {ask} cannot be read by this model")]
    Unreadable {
        /// The ask's number in the batch.
        ask: usize,
        /// The position on its canvas.
        position: u32,
    },
    /// The device has too little memory for the batch; a smaller one may fit.
    #[error("the device is out of memory: {reason}")]
    OutOfMemory {
        /// The device's message.
        reason: String,
    },
    /// The device is gone, and everything on it: no later evaluation can succeed.
    #[error("the device is lost: {reason}")]
    DeviceLost {
        /// The device's message.
        reason: String,
    },
    /// The tensor library, or anything else of the device.
    #[error("the device failed: {}", one_line(reason))]
    Device {
        /// The underlying error.
        reason: candle_core::Error,
    },
    /// A predictor of a test that fails on purpose.
    #[cfg(any(test, feature = "testing"))]
    #[error("scripted failure at call {call}")]
    Scripted {
        /// The number of the call, from 0.
        call: usize,
    },
}

impl PredictError {
    /// The number of the ask at fault, if it is a single one.
    #[must_use]
    pub fn ask(&self) -> Option<usize> {
        match self {
            Self::NotFinite { ask, .. } | Self::Unreadable { ask, .. } => Some(*ask),
            _ => None,
        }
    }
}

impl From<candle_core::Error> for PredictError {
    fn from(source: candle_core::Error) -> Self {
        #[cfg(feature = "cuda")]
        {
            use crate::device::cuda::{Fault, fault};

            match fault(&source) {
                Fault::OutOfMemory => return Self::OutOfMemory { reason: one_line(&source) },
                Fault::Lost => return Self::DeviceLost { reason: one_line(&source) },
                Fault::NoDevice | Fault::Other => {}
            }
        }
        Self::Device { reason: source }
    }
}

/// An error's first line, without the rest (of a backtrace) and without control characters (of a name that it
/// quotes).
pub(crate) fn one_line(error: &impl ToString) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_end().replace(char::is_control, " ")
}
