//! What a request has the engine advance, evaluation by evaluation.

use unmask_model::diffusion::{DenoisingState, ScoringState};
use unmask_model::predictor::Ask;

/// A canvas that is denoised or a text that is scored: both ask, and both take answers.
pub(crate) enum Task {
    Denoise(DenoisingState),
    Score(ScoringState),
}

impl Task {
    /// What the next evaluation must read, or `None` when this is done.
    pub(crate) fn ask(&self) -> Option<Ask<'_>> {
        match self {
            Self::Denoise(sample) => sample.ask(),
            Self::Score(text) => text.ask(),
        }
    }

    /// How many evaluations it has consumed.
    pub(crate) fn evaluations(&self) -> u32 {
        match self {
            Self::Denoise(sample) => sample.evaluations(),
            Self::Score(text) => text.evaluations(),
        }
    }

    /// How many evaluations it can still consume.
    pub(crate) fn evaluations_left(&self) -> u32 {
        match self {
            Self::Denoise(sample) => sample.evaluations_left(),
            Self::Score(text) => text.evaluations_left(),
        }
    }

    /// How many events it will report at most.
    pub(crate) fn events(&self) -> usize {
        match self {
            Self::Denoise(sample) => sample.evaluations_left() as usize,
            Self::Score(_) => 1,
        }
    }
}
