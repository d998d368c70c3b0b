//! Evaluations that fail: who pays, and whether the predictor is trusted afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use unmask_model::error::PredictError;
use unmask_model::predictor::MaskPredictor;

use super::Engine;
use crate::batcher::SampleId;
use crate::error::GenerationError;
use crate::event::DenoisingEvent;
use crate::inbox::EngineState;
use crate::probe::Probe;

/// Positions of the canvas that tests the predictor after a panic.
const PROBE: usize = 8;

/// The reason for which the predictor is not called any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It panicked on an empty canvas.
    Panicked,
    /// Its device is gone.
    DeviceLost,
}

impl Broken {
    /// For the log.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Panicked => "the predictor panicked on an empty canvas, too; the engine stops",
            Self::DeviceLost => "the device is lost; the engine stops, and the process must be started again",
        }
    }
}

impl<P: MaskPredictor> Engine<P> {
    /// Fails the request at fault. An error that names its canvas fails that request only. An error without a
    /// name in a batch of several requests fails none at first: each canvas is evaluated again alone, and a
    /// request whose canvas fails alone is at fault. A failed evaluation changes nothing, so the other texts
    /// stay what they are.
    ///
    /// When memory runs out, only a canvas that is too large by itself is at fault, and later batches are
    /// smaller. A lost device ends the engine.
    pub(super) fn fail(&mut self, batch: &[SampleId], error: &GenerationError) {
        self.metrics.failed();
        let cause = match error {
            GenerationError::Predict(error) => Some(error.as_ref()),
            _ => None,
        };
        let out_of_memory = matches!(cause, Some(PredictError::OutOfMemory { .. }));
        // A canvas that is alone goes alone whatever the budget.
        if out_of_memory && batch.len() > 1 {
            self.shrink(batch);
        }
        self.broken = match error {
            GenerationError::Panicked if !self.answers_a_probe() => Some(Broken::Panicked),
            _ if matches!(cause, Some(PredictError::DeviceLost { .. })) => Some(Broken::DeviceLost),
            _ => None,
        };
        let named = cause.and_then(PredictError::ask).and_then(|ask| batch.get(ask));
        let same_request = batch.iter().all(|id| id.request == batch[0].request);
        let alone = if out_of_memory { batch.len() == 1 } else { same_request };
        let culprit = named.or_else(|| batch.first().filter(|_| alone || self.broken.is_some()));
        tracing::error!(%error, canvases = batch.len(), at_fault = culprit.is_some(), "an evaluation failed");
        match culprit {
            Some(id) => self.end(id.request, |_| DenoisingEvent::Failed(error.clone())),
            None => self.suspects.extend(batch),
        }
    }

    /// Half the rows of a batch that was too large are the budget from now on.
    fn shrink(&mut self, batch: &[SampleId]) {
        let asks = batch.iter().filter_map(|id| self.ask(*id));
        let rows: u64 = asks.map(|ask| self.predictor.work(&ask).rows).sum();
        let budget = usize::try_from(rows / 2).unwrap_or(usize::MAX).clamp(1, self.config.max_rows);
        tracing::warn!(from = self.config.max_rows, to = budget, "rows per evaluation: memory ran out");
        self.config.max_rows = budget;
        if let Some(target) = &mut self.config.row_target {
            target.limit(budget);
        }
        self.batcher.limit_rows(budget);
    }

    /// Evaluates an empty canvas after a panic; returns true if the predictor still answers.
    fn answers_a_probe(&mut self) -> bool {
        let limits = self.predictor.limits();
        let probe = Probe::new(&limits, PROBE.min(limits.context));
        catch_unwind(AssertUnwindSafe(|| probe.evaluate(&mut self.predictor, 1)))
            .is_ok_and(|done| done.is_ok())
    }
}

/// Empties the inbox and marks the engine failed after a panic outside the predictor, so that no caller waits
/// for it.
impl<P: MaskPredictor> Drop for Engine<P> {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("the engine's thread panicked; the engine stops");
            let mut contents = self.inbox.lock();
            contents.status.state = EngineState::Failed;
            contents.status.running = 0;
            contents.status.waiting = 0;
            contents.status.evaluating_since = None;
            contents.arrivals.clear();
            contents.queue.clear();
        }
    }
}
