//! The callers' side: submit a request, read its events, shut the engine down.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use unmask_model::diffusion::{DenoisingState, ScoringState};

use crate::batcher::ClientId;
use crate::config::EngineConfig;
use crate::engine;
use crate::error::{GenerationError, SubmitError};
use crate::event::DenoisingEvent;
use crate::inbox::{EngineState, EngineStatus, Inbox};
use crate::request::Request;

/// What a caller asks of the engine.
#[derive(Clone, Debug, Default)]
pub struct DenoiseRequest {
    /// The samples to denoise. They advance independently of each other.
    pub samples: Vec<DenoisingState>,
    /// The texts to score. There is at least one sample or text.
    pub texts: Vec<ScoringState>,
    /// Who asks.
    pub client: ClientId,
    /// Ends the request with what it has by then: nobody waits for it any longer.
    pub deadline: Option<Instant>,
    /// Makes the evaluation that should end at about this time the last one: it commits all that is open.
    /// Sooner than the deadline, or it has no effect.
    pub finish_by: Option<Instant>,
}

/// A caller's access to an engine; cheap to clone. When the last one is dropped, the engine finishes what
/// it has accepted and ends.
#[derive(Clone)]
pub struct EngineHandle {
    connection: Arc<Connection>,
}

struct Connection {
    inbox: Arc<Inbox>,
    config: EngineConfig,
    /// Closed when the engine's thread ends.
    ended: watch::Receiver<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.inbox.tell(|contents| contents.orphaned = true);
    }
}

impl EngineHandle {
    pub(crate) fn new(inbox: Arc<Inbox>, config: EngineConfig, ended: watch::Receiver<()>) -> Self {
        Self { connection: Arc::new(Connection { inbox, config, ended }) }
    }

    /// Hands a request to the engine. Never blocks. When the queue is full, the newest request of the client with
    /// most in it makes room for a client with fewer, and ends with [`GenerationError::Displaced`].
    ///
    /// # Errors
    /// The request has neither samples nor texts, its client has its share of a full queue already, or the engine
    /// drains or has ended.
    pub fn submit(&self, request: DenoiseRequest) -> Result<Generation, SubmitError> {
        if request.samples.is_empty() && request.texts.is_empty() {
            return Err(SubmitError::NoSamples);
        }
        let EngineConfig { queue: limit, cost, .. } = self.connection.config;
        let (request, events, stops) = Request::new(request, &cost, engine::now());
        self.connection.inbox.tell(|contents| {
            match contents.status.state {
                EngineState::Serving if contents.queue.len() >= limit => {
                    contents.make_room(request.client, limit)?;
                }
                EngineState::Serving => {}
                EngineState::Draining => return Err(SubmitError::ShuttingDown),
                EngineState::Failed | EngineState::Stopped => return Err(SubmitError::EngineStopped),
            }
            contents.enqueue(request);
            Ok(())
        })?;
        Ok(Generation { events, stops, ended: false })
    }

    /// What the engine is doing.
    #[must_use]
    pub fn status(&self) -> EngineStatus {
        self.connection.inbox.lock().status
    }

    /// Shuts the engine down: refuses new requests at once, lets the accepted ones finish within `grace`,
    /// fails the rest with [`GenerationError::ShuttingDown`] and returns when the thread has ended. An
    /// evaluation under way is waited for. Needs tokio's timer unless `grace` is zero.
    ///
    /// A future dropped early leaves the engine draining, without a deadline.
    pub async fn drain(&self, grace: Duration) {
        let inbox = &self.connection.inbox;
        inbox.tell(|contents| {
            if contents.status.state == EngineState::Serving {
                contents.status.state = EngineState::Draining;
            }
        });
        if grace.is_zero() || tokio::time::timeout(grace, self.ended()).await.is_err() {
            inbox.tell(|contents| contents.abort = true);
            self.ended().await;
        }
    }

    /// Returns when the engine's thread has ended, for whatever reason; [`Self::status`] says which.
    pub async fn ended(&self) {
        let mut ended = self.connection.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

impl fmt::Debug for EngineHandle {
    /// Shows the status; what is queued are prompts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineHandle").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// The events of one request. Dropping it cancels the request before the next evaluation.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::Receiver<DenoisingEvent>,
    stops: Arc<[AtomicBool]>,
    ended: bool,
}

impl Generation {
    /// The next event; `None` after the terminal one. Cancel safe. Events are kept until they are read,
    /// so a slow reader loses nothing and holds nobody up.
    pub async fn next(&mut self) -> Option<DenoisingEvent> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// Ends one sample before the next evaluation: its reader has seen enough. It sends no further step
    /// once that has happened; the request finishes when its other samples do.
    pub fn stop(&self, sample: u32) {
        if let Some(stop) = self.stops.get(sample as usize) {
            stop.store(true, Ordering::Relaxed);
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<DenoisingEvent>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // A sender that left without a last word means that the engine died.
        let event = ready!(self.events.poll_recv(context))
            .unwrap_or(DenoisingEvent::Failed(GenerationError::EngineStopped));
        self.ended = event.is_terminal();
        Poll::Ready(Some(event))
    }
}

impl Stream for Generation {
    type Item = DenoisingEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<DenoisingEvent>> {
        self.poll_event(context)
    }
}
