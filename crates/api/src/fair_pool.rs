//! Pools that clients share: for work that takes a processor (decoding large bodies, rendering templates, tokenizing)
//! and for what holds memory (large bodies on their way).
//!
//! A pool has room for so much at a time: pieces of work, or bytes. Clients take turns, each with one piece, and no
//! client has more than its share of the room. Work runs on threads that serve nothing else. It is not
//! begun for a client that has left, and work under way can ask whether anything still waits for it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use unmask_scheduler::ClientId;

/// Gives room to clients in turns.
#[derive(Clone)]
pub struct FairPool(Arc<Shared>);

struct Shared {
    room: usize,
    /// The most that one client may have of it.
    share: usize,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    /// Room that pieces hold.
    running: usize,
    /// Each client's part of it.
    running_of: BTreeMap<ClientId, usize>,
    /// Clients that wait, the next one first.
    order: VecDeque<ClientId>,
    of: BTreeMap<ClientId, VecDeque<Waiting>>,
}

/// A piece that waits for room.
struct Waiting {
    size: usize,
    sender: oneshot::Sender<Turn>,
}

/// A flag of work: its request has been given up.
#[derive(Clone, Debug, Default)]
pub struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    /// Returns true if nothing waits for the result.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The work panicked; the panic hook has logged where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a piece of work panicked")]
pub struct Panicked;

impl FairPool {
    /// A pool with so much room, of which one client may have as much as `share`.
    #[must_use]
    pub fn new(room: usize, share: usize) -> Self {
        let (room, share) = (room.max(1), share.clamp(1, room.max(1)));
        Self(Arc::new(Shared { room, share, lines: Mutex::default() }))
    }

    /// A pool with as much room as the machine has processors, all of which one client may have.
    #[must_use]
    pub fn of_machine() -> Self {
        let room = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(room, room)
    }

    /// Room for a piece of `client` of this size, or of the client's whole share if that is less, when its turn comes.
    /// It is free again when what is returned is dropped. Dropping the future takes it out of the line.
    pub async fn turn(&self, client: ClientId, size: usize) -> Turn {
        match self.0.begin(client, size.min(self.0.share)) {
            Ok(turn) => turn,
            Err(waiting) => match waiting.await {
                Ok(turn) => turn,
                // Its sender is only ever dropped with the pool, which `self` holds.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Runs `work` for `client` when its turn comes. Dropping the future takes it out of the line, or tells work
    /// that has begun that it is abandoned.
    ///
    /// # Errors
    /// The work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        client: ClientId,
        work: impl FnOnce(&Abandoned) -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let turn = self.turn(client, 1).await;
        let abandoned = Abandoned::default();
        let told = AbandonOnDrop(abandoned.clone());
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&abandoned);
            drop(turn);
            done
        });
        let done = done.await.map_err(|_| Panicked);
        drop(told);
        done
    }
}

struct AbandonOnDrop(Abandoned);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Room for one piece; the next in line gets it when it is dropped.
#[must_use]
pub struct Turn {
    pool: Option<Arc<Shared>>,
    client: ClientId,
    size: usize,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.pass_on(self.client, self.size);
        }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, client: ClientId, size: usize) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut lines = self.lock();
        // Pieces that wait for room go first; those that wait for their client's share hold up no other client.
        let first = !lines.of.contains_key(&client) && !lines.any_waits_for_room(self.share);
        if first && lines.running + size <= self.room && lines.of_client(client) + size <= self.share {
            lines.start(client, size);
            return Ok(Turn { pool: Some(Arc::clone(self)), client, size });
        }
        let (sender, receiver) = oneshot::channel();
        lines.push(client, Waiting { size, sender });
        Err(receiver)
    }

    /// `client` has ended a piece; those that there is room for now begin.
    fn pass_on(self: Arc<Self>, client: ClientId, size: usize) {
        self.lock().end(client, size);
        loop {
            let next = self.lock().pop(self.room, self.share);
            let Some((client, Waiting { size, sender })) = next else { return };
            // A client that has left gives its turn back.
            if let Err(mut turn) = sender.send(Turn { pool: Some(Arc::clone(&self)), client, size }) {
                turn.pool = None;
                self.lock().end(client, size);
            }
        }
    }
}

impl Lines {
    fn push(&mut self, client: ClientId, waiting: Waiting) {
        let line = self.of.entry(client).or_default();
        line.retain(|waiting| !waiting.sender.is_closed());
        line.push_back(waiting);
        if !self.order.contains(&client) {
            self.order.push_back(client);
        }
    }

    /// Starts the next piece of the first client whose `share` it fits, if it fits the `room` too.
    fn pop(&mut self, room: usize, share: usize) -> Option<(ClientId, Waiting)> {
        let head =
            |client: &ClientId| self.of.get(client).and_then(VecDeque::front).map_or(0, |next| next.size);
        let fits = |client: &ClientId| self.of_client(*client) + head(client) <= share;
        let index = self.order.iter().position(fits)?;
        if self.running + head(&self.order[index]) > room {
            return None;
        }
        let client = self.order.remove(index)?;
        let line = self.of.get_mut(&client)?;
        let next = line.pop_front();
        if line.is_empty() {
            self.of.remove(&client);
        } else {
            self.order.push_back(client);
        }
        let next = next?;
        self.start(client, next.size);
        Some((client, next))
    }

    /// Returns true if a piece waits that fits its client's `share`.
    fn any_waits_for_room(&self, share: usize) -> bool {
        let fits = |(client, line): (&ClientId, &VecDeque<Waiting>)| {
            line.front().is_some_and(|next| self.of_client(*client) + next.size <= share)
        };
        self.of.iter().any(fits)
    }

    fn of_client(&self, client: ClientId) -> usize {
        self.running_of.get(&client).copied().unwrap_or(0)
    }

    fn start(&mut self, client: ClientId, size: usize) {
        self.running += size;
        *self.running_of.entry(client).or_default() += size;
    }

    fn end(&mut self, client: ClientId, size: usize) {
        self.running -= size;
        if let Some(held) = self.running_of.get_mut(&client) {
            *held -= size;
            if *held == 0 {
                self.running_of.remove(&client);
            }
        }
    }
}

impl fmt::Debug for FairPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FairPool").field("room", &self.0.room).finish_non_exhaustive()
    }
}
