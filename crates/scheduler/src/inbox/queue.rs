//! The queue: requests that are accepted and do not run yet. It is bounded, and shared by client.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::batcher::{ClientId, RequestId};
use crate::event::DenoisingEvent;

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
