//! Transfers that may not stand still.
//!
//! The hub's library reads without a limit, so a server that stops sending would be waited for as long as its
//! connection lasts. A transfer runs on a thread of its own, and every read tells the caller's.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use hf_hub::api::Progress;
use hf_hub::api::sync::ApiError;

use super::failure::{Failure, guarded};
use super::report::Report;

/// One thing that a transfer tells.
enum Told<T> {
    /// A request begins, for a file of so many bytes.
    Begun(usize, String),
    /// So many bytes more.
    Bytes(usize),
    /// The file is whole.
    Whole,
    /// The transfer is over.
    Ended(Result<T, Failure>),
}

/// Tells the other side of a channel. A side that has given up is told nothing.
pub(super) struct Teller<T>(Sender<Told<T>>);

impl<T> Progress for Teller<T> {
    fn init(&mut self, size: usize, file: &str) {
        let _ = self.0.send(Told::Begun(size, file.to_owned()));
    }

    fn update(&mut self, size: usize) {
        let _ = self.0.send(Told::Bytes(size));
    }

    fn finish(&mut self) {
        let _ = self.0.send(Told::Whole);
    }
}

/// Runs `transfer`, and hands what it brings to `report`. Blocks.
///
/// # Errors
/// [`Failure::Stalled`] if no byte arrives for as long as `limit`. The thread stays with the connection then, and
/// holds the file's lock: this process cannot take the transfer up again, but the next one can.
pub(super) fn watched<T: Send + 'static>(
    limit: Duration,
    report: &mut Report,
    transfer: impl FnOnce(Teller<T>) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, Failure> {
    let (sender, told) = channel();
    let teller = Teller(sender.clone());
    let run = move || {
        let ended = guarded(|| transfer(teller));
        let _ = sender.send(Told::Ended(ended));
    };
    std::thread::Builder::new()
        .name("unmask-transfer".to_owned())
        .spawn(run)
        .map_err(|error| Failure::Cache(error.to_string()))?;
    follow(limit, report, &told)
}

fn follow<T>(limit: Duration, mut report: &mut Report, told: &Receiver<Told<T>>) -> Result<T, Failure> {
    loop {
        match told.recv_timeout(limit) {
            Ok(Told::Begun(size, file)) => report.init(size, &file),
            Ok(Told::Bytes(size)) => report.update(size),
            Ok(Told::Whole) => report.finish(),
            Ok(Told::Ended(ended)) => return ended,
            Err(RecvTimeoutError::Timeout) => return Err(Failure::Stalled(limit)),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Answer("the transfer ended".to_owned()));
            }
        }
    }
}
