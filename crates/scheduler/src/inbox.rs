//! State shared by the handles and the engine's thread: what has arrived, the queue of what waits, the status. The queue
//! is bounded, and shared by client.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

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

/// The requests that wait, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<Waiting>,
}

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) id: RequestId,
    pub(crate) client: ClientId,
    /// The channel on which it learns that it has lost its place.
    pub(crate) events: mpsc::Sender<DenoisingEvent>,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn push(&mut self, waiting: Waiting) {
        self.waiting.push_back(waiting);
    }

    /// Leaves only the requests that `waits` holds for.
    pub(crate) fn retain(&mut self, waits: impl Fn(RequestId) -> bool) {
        self.waiting.retain(|waiting| waits(waiting.id));
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Takes out the newest request of the client with most, if that has at least two more than `client`:
    /// otherwise the two would only change roles.
    pub(crate) fn displace_for(&mut self, client: ClientId) -> Option<Waiting> {
        let mut counts: BTreeMap<ClientId, usize> = BTreeMap::new();
        self.waiting.iter().for_each(|waiting| *counts.entry(waiting.client).or_default() += 1);
        let own = counts.get(&client).copied().unwrap_or(0);
        let (richest, most) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        if most < own + 2 {
            return None;
        }
        let newest = self.waiting.iter().rposition(|waiting| waiting.client == richest)?;
        self.waiting.remove(newest)
    }
}

/// Predicted device time of all that is accepted and not done, by client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog(pub(crate) BTreeMap<ClientId, Duration>);

impl Backlog {
    /// When all of it should be done.
    pub(crate) fn total(&self) -> Duration {
        self.0.values().copied().fold(Duration::ZERO, Duration::saturating_add)
    }

    /// When a client's own share of it should be done: clients get the same device time, so it takes as many times
    /// as long as there are clients, and no longer than everything together.
    pub(crate) fn of(&self, client: ClientId) -> Duration {
        let own = self.0.get(&client).copied().unwrap_or_default();
        let clients = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        own.saturating_mul(clients).min(self.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(clients: &[u64]) -> Queue {
        let mut queue = Queue::default();
        for (id, client) in (0..).map(RequestId).zip(clients) {
            queue.push(Waiting { id, client: ClientId(*client), events: mpsc::channel(1).0 });
        }
        queue
    }

    fn displaced(queue: &mut Queue, client: u64) -> Option<u64> {
        queue.displace_for(ClientId(client)).map(|waiting| waiting.id.0)
    }

    #[test]
    fn the_newest_of_the_client_with_most_makes_room() {
        let mut crowded = queue(&[1, 2, 1, 1, 2, 1, 3]);
        assert_eq!(displaced(&mut crowded, 3), Some(5));
        assert_eq!(displaced(&mut crowded, 3), Some(3));
        // All have two or one by now: another place would only change sides.
        assert_eq!((displaced(&mut crowded, 3), displaced(&mut crowded, 1)), (None, None));
        assert_eq!(displaced(&mut crowded, 9), Some(4));
    }

    #[test]
    fn a_client_with_most_displaces_none() {
        assert_eq!(displaced(&mut queue(&[1, 1, 1]), 1), None);
        assert_eq!(displaced(&mut Queue::default(), 1), None);
    }

    #[test]
    fn a_clients_wait_follows_from_its_own_work() {
        let seconds = Duration::from_secs;
        let backlog = Backlog([(ClientId(1), seconds(90)), (ClientId(2), seconds(2))].into());
        assert_eq!(backlog.of(ClientId(2)), seconds(4));
        assert_eq!(backlog.of(ClientId(1)), seconds(92));
        assert_eq!(backlog.of(ClientId(3)), seconds(0));
    }
}
