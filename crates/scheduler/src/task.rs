//! The work that a request advances evaluation by evaluation.

use unmask_model::diffusion::{DenoisingState, ScoringState};
use unmask_model::predictor::{Ask, Work};

/// A canvas that is denoised or a text that is scored: both ask, and both take answers.
pub(crate) enum Task {
    Denoise(Box<DenoisingState>),
    Score(Box<ScoringState>),
}

impl Task {
    /// The reads of the next evaluation; `None` when the task is done.
    pub(crate) fn ask(&self) -> Option<Ask<'_>> {
        match self {
            Self::Denoise(sample) => sample.ask(),
            Self::Score(text) => text.ask(),
        }
    }

    /// Evaluations used so far.
    pub(crate) fn evaluations(&self) -> u32 {
        match self {
            Self::Denoise(sample) => sample.evaluations(),
            Self::Score(text) => text.evaluations(),
        }
    }

    /// The most evaluations that it can still use.
    pub(crate) fn evaluations_left(&self) -> u32 {
        match self {
            Self::Denoise(sample) => sample.evaluations_left(),
            Self::Score(text) => text.evaluations_left(),
        }
    }

    /// The most events that it will report.
    pub(crate) fn events(&self) -> usize {
        match self {
            Self::Denoise(sample) => sample.evaluations_left() as usize,
            Self::Score(_) => 1,
        }
    }

    /// The work that it may still compute.
    pub(crate) fn work_left(&self) -> Work {
        match self {
            Self::Denoise(sample) => sample.work_left(),
            Self::Score(text) => {
                let each = text.ask().map_or(Work::default(), |ask| Work::of(&ask, 0));
                each.times(text.evaluations_left())
            }
        }
    }

    /// Returns true if keys and values are kept between its evaluations.
    pub(crate) fn keeps(&self) -> bool {
        matches!(self, Self::Denoise(sample) if sample.keeps())
    }

    /// Positions of its canvas.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Denoise(sample) => sample.canvas().tokens().len(),
            Self::Score(text) => text.ask().map_or(0, |ask| ask.tokens.len()),
        }
    }
}
