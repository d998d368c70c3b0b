//! The events of a running request.

use std::time::Duration;

use unmask_model::diffusion::{EarlyExit, Edit, SequenceScore};
use unmask_model::predictor::{Position, TokenId};

use crate::error::GenerationError;

/// One event of a request: any number of steps, the scores, then exactly one of the other three.
#[derive(Clone, Debug)]
pub enum DenoisingEvent {
    /// One evaluation of one sample.
    Step {
        /// The sample's number in the request, from 0.
        sample: u32,
        /// The number of the evaluation of this sample, from 1.
        evaluation: u32,
        /// The round of this sample's schedule, 1..=T; empty rounds are skipped.
        round: u32,
        /// Positions that were committed or masked again; may be empty.
        edits: Vec<Edit>,
        /// Positions of this sample that are still masked.
        remaining: usize,
        /// With drafts, the most probable tokens at the open positions.
        draft: Vec<(Position, TokenId)>,
        /// True at the sample's last step. Positions may still be masked then, if no part of them would be
        /// shown.
        done: bool,
        /// The reason for an end before the schedule's, if there was one.
        early_exit: Option<EarlyExit>,
    },
    /// A text's score; those of all texts come together before [`Self::Finished`].
    Scored {
        /// The text's number in the request, from 0.
        text: u32,
        /// Its score.
        score: SequenceScore,
    },
    /// Every sample and every text is complete.
    Finished(Timings),
    /// The deadline passed first; what was committed until then stands.
    Expired(Timings),
    /// The request ended early.
    Failed(GenerationError),
}

impl DenoisingEvent {
    /// Returns true if the stream ends with this event.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        !matches!(self, Self::Step { .. } | Self::Scored { .. })
    }
}

/// Times and amounts of work of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// From acceptance to the start of the first evaluation.
    pub queued: Duration,
    /// From the start of the first evaluation to the end of the last.
    pub denoising: Duration,
    /// Evaluations summed over the samples: logical ones, however many shared a forward pass.
    pub evaluations: u32,
    /// Rows that went through the network: canvas lengths, summed over evaluations; guidance counts twice.
    pub rows: u64,
    /// Rows of logits that were read.
    pub reads: u64,
    /// The largest number of canvases in an evaluation that this request was part of, its own included.
    pub batch_peak: usize,
}

impl Timings {
    /// The sum for a request that ran as two parts, one after the other.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self {
            queued: self.queued + next.queued,
            denoising: self.denoising + next.denoising,
            evaluations: self.evaluations + next.evaluations,
            rows: self.rows + next.rows,
            reads: self.reads + next.reads,
            batch_peak: self.batch_peak.max(next.batch_peak),
        }
    }
}
