//! Deadlines, time in the queue, and the measured speed of evaluations.

use std::time::{Duration, Instant};

use unmask_model::predictor::MaskPredictor;

use super::Engine;
use crate::batcher::{RequestId, SampleId};
use crate::cost::Work;
use crate::error::GenerationError;
use crate::event::DenoisingEvent;
use crate::inbox::Backlog;

/// Share of the newest evaluation in the measured speed.
const NEWEST: f64 = 0.1;

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

    /// What is accepted and not done, at the speed measured lately.
    pub(super) fn backlog(&self) -> Backlog {
        let mut backlog = Backlog::default();
        for request in self.requests.values() {
            let time = self.slowdown.applied(request.time_left());
            let of_client = backlog.0.entry(request.client).or_default();
            *of_client = of_client.saturating_add(time);
        }
        backlog
    }

    /// Compares an evaluation with its prediction.
    pub(super) fn learn(&mut self, work: Work, took: Duration) {
        self.last_took = took;
        self.slowdown.learn(self.config.cost.time(work), took);
    }
}

/// Ratio of measured to predicted time, a moving average over evaluations: neighbours slow a machine down, and
/// batches of many canvases can be faster than the sum of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slowdown(f64);

impl Default for Slowdown {
    fn default() -> Self {
        Self(1.0)
    }
}

impl Slowdown {
    fn learn(&mut self, predicted: Duration, took: Duration) {
        let ratio = took.as_secs_f64() / predicted.as_secs_f64().max(1e-9);
        self.0 += NEWEST * (ratio - self.0);
    }

    /// The time that a prediction should really take.
    fn applied(self, predicted: Duration) -> Duration {
        Duration::try_from_secs_f64(predicted.as_secs_f64() * self.0).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_follow_the_measured_speed() {
        let (predicted, took) = (Duration::from_millis(10), Duration::from_millis(30));
        let mut slowdown = Slowdown::default();
        assert_eq!(slowdown.applied(predicted), predicted);
        slowdown.learn(predicted, took);
        assert_eq!(slowdown.applied(predicted), Duration::from_millis(12), "a tenth of the way");
        (0..100).for_each(|_| slowdown.learn(predicted, took));
        assert!(slowdown.applied(predicted).abs_diff(took) < Duration::from_micros(10));
        assert!(slowdown.applied(Duration::MAX) == Duration::MAX);
    }
}
