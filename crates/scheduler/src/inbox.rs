//! State shared by the handles and the engine's thread.

mod queue;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use self::queue::{Backlog, Queue, Waiting};
use crate::batcher::{ClientId, RequestId};
use crate::error::{GenerationError, SubmitError};
use crate::event::DenoisingEvent;
use crate::request::Request;

/// The stage of an engine's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineState {
    /// Takes requests.
    #[default]
    Serving,
    /// Finishes what it has and takes nothing new.
    Draining,
    /// Ended by a predictor that can not be trusted any more, or died.
    Failed,
    /// Ended in order.
    Stopped,
}

/// Counts, times and state of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStatus {
    /// Requests that run.
    pub running: usize,
    /// Requests that are accepted and do not run yet.
    pub waiting: usize,
    /// Forward passes begun so far, however many canvases shared each.
    pub evaluations: u64,
    /// Start of the evaluation under way, if there is one.
    pub evaluating_since: Option<Instant>,
    /// Time until all accepted work is done, at the speed measured lately.
    pub backlog: Duration,
    /// The stage of its life.
    pub state: EngineState,
}

/// A short-lived lock around a few plain values, and a bell for the engine when it is idle.
#[derive(Default)]
pub(crate) struct Inbox {
    contents: Mutex<Contents>,
    bell: Condvar,
}

#[derive(Default)]
pub(crate) struct Contents {
    /// Accepted since the engine last looked; all of them stand in `queue`, which is bounded.
    pub(crate) arrivals: Vec<(RequestId, Request)>,
    /// The requests that wait.
    pub(crate) queue: Queue,
    /// Requests that lost their place in the queue and have been told so.
    pub(crate) displaced: Vec<RequestId>,
    /// Work that is accepted and not done, by client.
    pub(crate) backlog: Backlog,
    /// The next request's.
    pub(crate) next_id: u64,
    pub(crate) status: EngineStatus,
    /// The grace period is over: fail what is left.
    pub(crate) abort: bool,
    /// The last handle is gone: nothing new can come.
    pub(crate) orphaned: bool,
}

impl Contents {
    /// Makes room for a request of `client` in a queue that holds `limit`.
    pub(crate) fn make_room(&mut self, client: ClientId, limit: usize) -> Result<(), SubmitError> {
        let Some(displaced) = self.queue.displace_for(client) else {
            let waiting = self.queue.len();
            let retry_after = self.backlog.of(client);
            return Err(SubmitError::QueueFull { waiting, limit, retry_after });
        };
        let retry_after = self.backlog.of(displaced.client);
        let error = GenerationError::Displaced { limit, retry_after };
        // It fails only for a client that has left. The channel is empty, since the request has not run.
        let _ = displaced.events.try_send(DenoisingEvent::Failed(error));
        self.displaced.push(displaced.id);
        Ok(())
    }

    /// Lets a request wait.
    pub(crate) fn enqueue(&mut self, request: Request) {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.queue.push(Waiting { id, client: request.client, events: request.events() });
        self.arrivals.push((id, request));
        self.status.waiting = self.queue.len();
    }
}

impl Inbox {
    /// The contents. A panic elsewhere leaves no half-made change behind, so poison is ignored.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the contents and wakes the engine.
    pub(crate) fn tell<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> T {
        let answer = change(&mut self.lock());
        self.bell.notify_one();
        answer
    }

    /// Waits for the next [`Self::tell`].
    pub(crate) fn wait<'a>(&self, contents: MutexGuard<'a, Contents>) -> MutexGuard<'a, Contents> {
        self.bell.wait(contents).unwrap_or_else(PoisonError::into_inner)
    }
}
