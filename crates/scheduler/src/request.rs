//! An accepted request on its way through the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use unmask_model::diffusion::DenoisingState;
use unmask_model::predictor::{Ask, Read};

use crate::event::{DenoisingEvent, Timings};

pub(crate) struct Request {
    pub(crate) samples: Vec<DenoisingState>,
    events: mpsc::Sender<DenoisingEvent>,
    submitted: Instant,
    started: Option<Instant>,
    batch_peak: usize,
    rows: u64,
    reads: u64,
    /// Samples whose reader has seen enough.
    stops: Arc<[AtomicBool]>,
}

impl Request {
    /// A request, the receiving end of its events, and the flags that stop its samples.
    pub(crate) fn new(
        samples: Vec<DenoisingState>,
        now: Instant,
    ) -> (Self, mpsc::Receiver<DenoisingEvent>, Arc<[AtomicBool]>) {
        // Room for every step and the terminal event: the engine never waits, and nothing is lost.
        let steps: usize = samples.iter().map(|sample| sample.evaluations_left() as usize).sum();
        let (events, receiver) = mpsc::channel(steps + 1);
        let stops: Arc<[AtomicBool]> = samples.iter().map(|_| AtomicBool::new(false)).collect();
        let flags = Arc::clone(&stops);
        (
            Self { samples, events, submitted: now, started: None, batch_peak: 0, rows: 0, reads: 0, stops },
            receiver,
            flags,
        )
    }

    /// The samples that still need evaluations, each with the rows that it puts into a batch.
    pub(crate) fn open_samples(&self) -> impl Iterator<Item = (u32, usize)> + '_ {
        let asks = (0..).zip(self.samples.iter().map(DenoisingState::ask));
        asks.filter_map(|(sample, ask)| Some((sample, rows(&ask?))))
    }

    /// Whether every sample is complete.
    pub(crate) fn is_complete(&self) -> bool {
        self.open_samples().next().is_none()
    }

    /// Ends the samples whose reader has seen enough, and names them. Before its first evaluation a request
    /// has shown nothing, so nothing of it is stopped.
    pub(crate) fn stop_samples(&mut self) -> Vec<u32> {
        if self.started.is_none() {
            return Vec::new();
        }
        let flagged = self.samples.iter_mut().zip(&*self.stops).zip(0..);
        flagged
            .filter_map(|((sample, stop), number)| {
                let due = sample.ask().is_some() && stop.load(Ordering::Relaxed);
                due.then(|| {
                    sample.stop();
                    number
                })
            })
            .collect()
    }

    /// Whether nobody reads the events any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.events.is_closed()
    }

    /// Notes that an evaluation of `canvases` canvases, some of them this request's, starts.
    pub(crate) fn start(&mut self, canvases: usize, now: Instant) {
        self.started.get_or_insert(now);
        self.batch_peak = self.batch_peak.max(canvases);
    }

    /// Takes the answers for one sample and reports the step; true when that sample is complete.
    pub(crate) fn advance(&mut self, sample: u32, reads: &[Read]) -> bool {
        let Some(state) = self.samples.get_mut(sample as usize) else { return true };
        if let Some(ask) = state.ask() {
            self.rows += rows(&ask) as u64;
            self.reads += ask.wants.len() as u64;
        }
        let round = state.round();
        let edits = state.act(reads);
        let (evaluation, remaining) = (state.evaluations(), state.canvas().masked());
        let done = state.ask().is_none();
        self.post(DenoisingEvent::Step { sample, evaluation, round, edits, remaining, done });
        done
    }

    /// Where the time went until `now`.
    pub(crate) fn timings(&self, now: Instant) -> Timings {
        Timings {
            queued: self.started.unwrap_or(now).duration_since(self.submitted),
            denoising: self.started.map_or(Duration::ZERO, |started| now.duration_since(started)),
            evaluations: self.samples.iter().map(DenoisingState::evaluations).sum(),
            rows: self.rows,
            reads: self.reads,
            batch_peak: self.batch_peak,
        }
    }

    /// Reports `event` if somebody still reads.
    pub(crate) fn post(&self, event: DenoisingEvent) {
        // The channel holds everything a request can report, so this fails only for a reader that left,
        // which the engine notices before the next evaluation.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            tracing::error!("a request made more evaluations than it announced; an event was lost");
        }
    }
}

/// Rows that an ask puts through the network; guidance computes a second canvas.
fn rows(ask: &Ask<'_>) -> usize {
    ask.tokens.len() * (1 + usize::from(ask.guidance.is_some()))
}
