//! Deadlines, time in the queue, and the measured speed of evaluations.

use std::time::{Duration, Instant};

use unmask_model::predictor::MaskPredictor;

use super::Engine;
use crate::batcher::{RequestId, SampleId};
use crate::cost::Work;
use crate::error::GenerationError;
use crate::event::DenoisingEvent;
use crate::inbox::Backlog;
use crate::pace::Pace;

impl<P: MaskPredictor> Engine<P> {
    /// Ends the requests whose deadline has passed or that waited too long, and lets those whose time is
    /// nearly over finish with their next evaluation. Noticed between evaluations, so as late as the
    /// longest of them.
    pub(super) fn enforce_times(&mut self, now: Instant) {
        let ids: Vec<RequestId> = self.requests.keys().copied().collect();
        for id in ids {
            let Some(request) = self.requests.get_mut(&id) else { continue };
            let waited = request.waited(now).unwrap_or_default();
            // This evaluation and a last one have to fit before `finish_by`, or this is the last one.
            let end = now + self.last_took * 2;
            if request.deadline.is_some_and(|deadline| deadline <= now) {
                self.end(id, |request| DenoisingEvent::Expired(request.timings(now)));
            } else if waited > self.config.max_wait {
                let client = request.client;
                let retry_after = self.backlog().of(client);
                let error = GenerationError::QueueTimeout { waited, retry_after };
                self.end(id, |_| DenoisingEvent::Failed(error));
            } else if request.finish_by.is_some_and(|finish_by| finish_by <= end) {
                let samples = request.finish_next();
                // The front of the line is where the last one is put.
                for sample in samples.into_iter().rev() {
                    self.batcher.hasten(SampleId { request: id, sample });
                }
            }
        }
    }

    /// Accepted work that is not done, as time at the speed measured lately.
    pub(super) fn backlog(&self) -> Backlog {
        let mut backlog = Backlog::default();
        for request in self.requests.values() {
            let time = self.pace.actual(request.time_left());
            let of_client = backlog.0.entry(request.client).or_default();
            *of_client = of_client.saturating_add(time);
        }
        backlog
    }

    /// Compares an evaluation with what was predicted: neighbours slow a machine down, also while it is measured, and
    /// batches of many canvases can be faster than the sum of them. How full evaluations are follows.
    pub(super) fn learn(&mut self, work: Work, took: Duration) {
        self.last_took = took;
        self.pace.learn(self.config.cost.time(work), took);
        self.recent.note(work, took);
        if let Some(fitted) = self.recent.fit(&self.pace.cost(&self.config.cost)) {
            self.config.cost = fitted;
            self.pace = Pace::default();
        }
        let cost = self.pace.cost(&self.config.cost);
        self.metrics.cost(&cost);
        let target = self.config.row_target.as_ref();
        if let Some(rows) = target.and_then(|target| target.changed(self.config.max_rows, &cost)) {
            self.config.max_rows = rows;
            self.batcher.limit_rows(rows);
        }
    }
}
