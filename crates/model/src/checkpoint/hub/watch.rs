//! Transfers that may not stand still.
//!
//! A read has no time limit of its own, so a server that stops sending would be waited for as long as its connection lasts.
//! A transfer runs on a thread of its own, and every read tells the caller's.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::super::progress::ByteProgress;
use super::failure::Failure;

/// One thing that a transfer tells.
enum Told<T> {
    /// Bytes begin to come, after so many of an earlier transfer; so many there are in all.
    Begun(u64, u64),
    /// So many bytes more.
    Bytes(u64),
    /// The transfer is over.
    Ended(Result<T, Failure>),
}

/// Tells the other side of a channel. A side that has given up is told nothing.
pub(super) struct Teller<T>(Sender<Told<T>>);

impl<T> Teller<T> {
    /// Bytes begin to come, after `start` of an earlier transfer; there are `size` in all.
    pub(super) fn begun(&self, start: u64, size: u64) {
        let _ = self.0.send(Told::Begun(start, size));
    }

    /// So many bytes more.
    pub(super) fn bytes(&self, count: u64) {
        let _ = self.0.send(Told::Bytes(count));
    }
}

/// Runs `transfer`, and shows what it brings as `progress`. Blocks.
///
/// # Errors
/// [`Failure::Stalled`] if nothing is told for as long as `limit`. The thread stays with the connection then, and
/// holds the file's lock: this process cannot take the transfer up again, but the next one can.
pub(super) fn watched<T: Send + 'static>(
    limit: Duration,
    progress: &mut ByteProgress,
    transfer: impl FnOnce(&Teller<T>) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (sender, told) = channel();
    let run = move || {
        let ended = transfer(&Teller(sender.clone()));
        let _ = sender.send(Told::Ended(ended));
    };
    std::thread::Builder::new()
        .name("unmask-transfer".to_owned())
        .spawn(run)
        .map_err(|error| Failure::Cache(error.to_string()))?;
    follow(limit, progress, &told)
}

fn follow<T>(limit: Duration, progress: &mut ByteProgress, told: &Receiver<Told<T>>) -> Result<T, Failure> {
    loop {
        match told.recv_timeout(limit) {
            Ok(Told::Begun(start, size)) => progress.resume(start, size),
            Ok(Told::Bytes(count)) => progress.advance(count),
            Ok(Told::Ended(ended)) => return ended,
            Err(RecvTimeoutError::Timeout) => return Err(Failure::Stalled(limit)),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Answer("the transfer ended".to_owned()));
            }
        }
    }
}
