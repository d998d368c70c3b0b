//! The thread that owns the device: receive, choose a batch, evaluate it, report, again.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;
use std::{fmt, io, mem, thread};

use tokio::sync::watch;
use unmask_model::predictor::{Ask, MaskPredictor, Read};

use crate::batcher::{Batcher, RequestId, SampleId};
use crate::config::EngineConfig;
use crate::error::GenerationError;
use crate::event::DenoisingEvent;
use crate::handle::EngineHandle;
use crate::inbox::{EngineState, Inbox};
use crate::request::Request;

/// Panics of the predictor in a row after which it is not trusted any more.
const PANICS_IN_A_ROW: u32 = 2;

/// The crate's only clock.
#[expect(clippy::disallowed_methods, reason = "the engine measures its requests")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Evaluates the requests of all handles on one thread.
pub struct Engine<P: MaskPredictor> {
    predictor: P,
    batcher: Batcher,
    requests: BTreeMap<RequestId, Request>,
    next_id: u64,
    panics: u32,
    inbox: Arc<Inbox>,
}

impl<P: MaskPredictor> Engine<P> {
    /// Starts the thread `unmask-engine`, which owns the predictor until it ends.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn spawn(predictor: P, config: EngineConfig) -> io::Result<EngineHandle> {
        let inbox = Arc::new(Inbox::default());
        let (ended, watch) = watch::channel(());
        let engine = Self {
            predictor,
            batcher: Batcher::new(config.max_rows, config.max_running),
            requests: BTreeMap::new(),
            next_id: 0,
            panics: 0,
            inbox: Arc::clone(&inbox),
        };
        thread::Builder::new().name("unmask-engine".into()).spawn(move || {
            engine.run();
            // Closes the watch after the predictor and its device memory are gone, also on a panic.
            drop(ended);
        })?;
        Ok(EngineHandle::new(inbox, config.queue, watch))
    }

    fn run(mut self) {
        while self.receive() {
            self.drop_cancelled();
            self.stop_samples();
            let batch = self.batcher.next_batch();
            if batch.is_empty() {
                continue;
            }
            match self.evaluate(&batch) {
                Ok(answers) => self.advance(&batch, &answers),
                Err(error) => self.fail_batch(&batch, &error),
            }
            if self.panics == PANICS_IN_A_ROW {
                tracing::error!(panics = self.panics, "the predictor panicked repeatedly; the engine stops");
                return self.stop(EngineState::Failed, &GenerationError::EngineStopped);
            }
        }
        self.stop(EngineState::Stopped, &GenerationError::ShuttingDown);
    }

    /// Takes in what has arrived; waits only when there is nothing to do. False means the end.
    fn receive(&mut self) -> bool {
        let inbox = Arc::clone(&self.inbox);
        let mut contents = inbox.lock();
        while contents.arrivals.is_empty() && self.requests.is_empty() {
            if contents.orphaned || contents.status.state == EngineState::Draining {
                return false;
            }
            contents = inbox.wait(contents);
        }
        if contents.abort {
            return false;
        }
        let arrivals = mem::take(&mut contents.arrivals);
        drop(contents);
        let accepted: Vec<RequestId> = arrivals.into_iter().map(|request| self.accept(request)).collect();
        accepted.into_iter().for_each(|id| self.finish_if_complete(id));
        true
    }

    fn accept(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.batcher.add(id, request.open_samples());
        self.requests.insert(id, request);
        id
    }

    fn drop_cancelled(&mut self) {
        let batcher = &mut self.batcher;
        self.requests.retain(|id, request| {
            let cancelled = request.is_cancelled();
            if cancelled {
                batcher.cancel(*id);
            }
            !cancelled
        });
        self.publish(0);
    }

    /// Ends the samples whose reader has seen enough.
    fn stop_samples(&mut self) {
        let mut touched = Vec::new();
        for (id, request) in &mut self.requests {
            for sample in request.stop_samples() {
                self.batcher.retire(SampleId { request: *id, sample });
                touched.push(*id);
            }
        }
        touched.into_iter().for_each(|id| self.finish_if_complete(id));
    }

    /// One forward pass for the samples of `batch`: the reads of each, as many as it asked for.
    fn evaluate(&mut self, batch: &[SampleId]) -> Result<Vec<Vec<Read>>, GenerationError> {
        self.publish(1);
        let now = now();
        for sample in batch {
            if let Some(request) = self.requests.get_mut(&sample.request) {
                request.start(batch.len(), now);
            }
        }
        let asks: Vec<Ask<'_>> = batch
            .iter()
            .filter_map(|id| self.requests.get(&id.request)?.samples.get(id.sample as usize)?.ask())
            .collect();
        // A failed call changes nothing of the predictor, by its contract, so it can be called again.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.predictor.predict(&asks)));
        let Ok(outcome) = outcome else {
            self.panics += 1;
            return Err(GenerationError::Panicked);
        };
        self.panics = 0;
        let answers = outcome.map_err(|error| GenerationError::Predict(Arc::new(error)))?;
        count("canvases", batch.len(), answers.len())?;
        for (ask, reads) in asks.iter().zip(&answers) {
            count("reads", ask.wants.len(), reads.len())?;
        }
        Ok(answers)
    }

    fn advance(&mut self, batch: &[SampleId], answers: &[Vec<Read>]) {
        for (id, reads) in batch.iter().zip(answers) {
            let request = self.requests.get_mut(&id.request);
            if request.is_some_and(|request| request.advance(id.sample, reads)) {
                self.batcher.retire(*id);
                self.finish_if_complete(id.request);
            }
        }
    }

    fn finish_if_complete(&mut self, id: RequestId) {
        if self.requests.get(&id).is_some_and(Request::is_complete) {
            self.end(id, |request| DenoisingEvent::Finished(request.timings(now())));
        }
    }

    fn fail_batch(&mut self, batch: &[SampleId], error: &GenerationError) {
        // Where one canvas is at fault, the others were not touched and are evaluated again.
        let culprit = match error {
            GenerationError::Predict(error) => error.ask().and_then(|ask| batch.get(ask)),
            _ => None,
        };
        let failing = culprit.map_or(batch, std::slice::from_ref);
        tracing::error!(%error, canvases = batch.len(), failing = failing.len(), "an evaluation failed");
        for id in failing {
            self.end(id.request, |_| DenoisingEvent::Failed(error.clone()));
        }
    }

    /// Removes a request, then gives it its last word: whoever reads it finds the status up to date.
    fn end(&mut self, id: RequestId, last: impl FnOnce(&Request) -> DenoisingEvent) {
        if let Some(request) = self.requests.remove(&id) {
            self.batcher.cancel(id);
            self.publish(0);
            request.post(last(&request));
        }
    }

    /// Refuses everything from here on and fails what is left.
    fn stop(&mut self, state: EngineState, error: &GenerationError) {
        let arrivals = {
            let mut contents = self.inbox.lock();
            contents.status.state = state;
            mem::take(&mut contents.arrivals)
        };
        for request in arrivals {
            self.accept(request);
        }
        while let Some(&id) = self.requests.keys().next() {
            self.end(id, |_| DenoisingEvent::Failed(error.clone()));
        }
    }

    /// Updates what the handles see.
    fn publish(&self, evaluations: u64) {
        let mut contents = self.inbox.lock();
        contents.status.running = self.requests.len() - self.batcher.waiting();
        contents.status.waiting = self.batcher.waiting() + contents.arrivals.len();
        contents.status.evaluations += evaluations;
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
            contents.arrivals.clear();
        }
    }
}

impl<P: MaskPredictor> fmt::Debug for Engine<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("requests", &self.requests.len()).finish_non_exhaustive()
    }
}

fn count(what: &'static str, expected: usize, found: usize) -> Result<(), GenerationError> {
    if expected == found { Ok(()) } else { Err(GenerationError::Miscounted { what, expected, found }) }
}
