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

/// A request to the engine: samples to denoise, texts to score, and limits on its time.
///
/// A state is made with [`DenoisingState::new`] or [`ScoringState::new`] and holds all settings, seeds and
/// tokens. The default is empty and is refused: a request has at least one sample or text.
#[derive(Clone, Debug, Default)]
pub struct DenoiseRequest {
    /// The samples to denoise. They advance independently of each other.
    pub samples: Vec<DenoisingState>,
    /// The texts to score.
    pub texts: Vec<ScoringState>,
    /// The client, among which device time, places and queue are shared.
    pub client: ClientId,
    /// The time at which the request ends with the tokens committed by then.
    pub deadline: Option<Instant>,
    /// The time by which the request should be complete: the evaluation that should end at about this time
    /// commits all open positions. It has no effect unless it is before the deadline.
    pub finish_by: Option<Instant>,
}

/// A caller's access to an engine; cheap to clone.
///
/// Handles may be used from any thread and any async runtime. [`Self::submit`] never blocks, [`Self::status`]
/// takes a lock for a moment, and [`Self::drain`] shuts the engine down. When the last handle is dropped, the
/// engine finishes the accepted requests and its thread ends. [`Engine`](crate::Engine) has an example.
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

    /// The engine's counts and state.
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

/// The events of one request: a stream that ends with exactly one terminal event.
///
/// Dropping it cancels the request before the next evaluation. The channel has room for every event of the
/// request, so a slow reader neither loses events nor delays the engine. [`Engine`](crate::Engine) has an
/// example.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::Receiver<DenoisingEvent>,
    stops: Arc<[AtomicBool]>,
    ended: bool,
}

impl Generation {
    /// The next event; `None` after the terminal one. Cancel safe.
    pub async fn next(&mut self) -> Option<DenoisingEvent> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// Ends one sample before the next evaluation. The sample sends no further step after that; the request
    /// finishes when its other samples do.
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
