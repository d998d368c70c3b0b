//! Evaluations that fail: who pays, and whether the predictor is trusted afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use unmask_model::predictor::MaskPredictor;

use super::Engine;
use crate::batcher::SampleId;
use crate::error::GenerationError;
use crate::event::DenoisingEvent;
use crate::inbox::EngineState;
use crate::probe::Probe;

/// Positions of the canvas that tests the predictor after a panic.
const PROBE: usize = 8;

impl<P: MaskPredictor> Engine<P> {
    /// Fails the request at fault. An error that names its canvas costs that request only; one that does
    /// not, in a batch of several requests, costs nobody yet: each canvas is evaluated again alone, and
    /// who fails alone is at fault. The others were not touched, so their texts stay what they are.
    pub(super) fn fail(&mut self, batch: &[SampleId], error: &GenerationError) {
        self.metrics.failed();
        self.broken = matches!(error, GenerationError::Panicked) && !self.answers_a_probe();
        let named = match error {
            GenerationError::Predict(error) => error.ask().and_then(|ask| batch.get(ask)),
            _ => None,
        };
        let alone = batch.iter().all(|id| id.request == batch[0].request);
        let culprit = named.or_else(|| batch.first().filter(|_| alone || self.broken));
        tracing::error!(%error, canvases = batch.len(), at_fault = culprit.is_some(), "an evaluation failed");
        match culprit {
            Some(id) => self.end(id.request, |_| DenoisingEvent::Failed(error.clone())),
            None => self.suspects.extend(batch),
        }
    }

    /// Whether the predictor, which has just panicked, still evaluates a canvas of nobody's.
    fn answers_a_probe(&mut self) -> bool {
        let limits = self.predictor.limits();
        let probe = Probe::new(&limits, PROBE.min(limits.context));
        catch_unwind(AssertUnwindSafe(|| probe.evaluate(&mut self.predictor, 1)))
            .is_ok_and(|done| done.is_ok())
    }
}

/// A panic outside the predictor ends the thread: nobody may wait for it afterwards.
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
        }
    }
}
