//! From the signal to the exit.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use crate::state::AppState;

/// Exit statuses of a process that SIGINT and SIGTERM end, as shells have them.
const INTERRUPTED: i32 = 130;
#[cfg(unix)]
const TERMINATED: i32 = 143;

/// The longest time in which connections may end after the engine has ended every request.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// The signals that ask the process to stop: SIGTERM and SIGINT.
#[cfg(unix)]
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one: the status of a process that it ends.
    pub async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => TERMINATED,
            _ = self.interrupt.recv() => INTERRUPTED,
        }
    }
}

/// Ctrl-C, where there are no other signals.
#[cfg(not(unix))]
#[derive(Debug)]
pub struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// Never; the type is that of the other systems.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    /// Waits for the next one: the status of a process that it ends.
    pub async fn next(&mut self) -> i32 {
        // Without a handler the process would simply be ended.
        let _ = tokio::signal::ctrl_c().await;
        INTERRUPTED
    }
}

/// A start that a signal ends at once: there is nothing yet to finish. The first process of a container has no other
/// way to hear of one.
#[derive(Debug)]
pub struct Starting {
    over: oneshot::Sender<()>,
    task: JoinHandle<Signals>,
}

impl Starting {
    /// Watches from now on, in the runtime that is entered; `asked` is the status of a process that did as it was
    /// asked, where the end is no failure.
    #[must_use]
    pub fn watch(mut signals: Signals, asked: Option<i32>) -> Self {
        let (over, ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            tokio::select! {
                status = signals.next() => {
                    tracing::info!("ended by a signal before it began");
                    std::process::exit(asked.unwrap_or(status));
                }
                _ = ended => signals,
            }
        });
        Self { over, task }
    }

    /// The start is over: signals are for what follows.
    ///
    /// # Errors
    /// The task that watched has failed.
    pub async fn over(self) -> Result<Signals, JoinError> {
        // The task has ended only if the process does.
        let _ = self.over.send(());
        self.task.await
    }
}

/// Waits for a first signal, and from then on ends the process at the next one.
pub async fn first(mut signals: Signals) {
    signals.next().await;
    tokio::spawn(async move {
        let status = signals.next().await;
        tracing::warn!("second signal: ending at once");
        std::process::exit(status);
    });
}

/// Not ready at once; after `delay` no new requests; the others have `grace` to finish, then they end
/// with an error. Returns when the engine has ended, and with it every answer.
pub async fn drain(state: &AppState, delay: Duration, grace: Duration) {
    state.draining.store(true, Ordering::Relaxed);
    let status = state.engine.status();
    tracing::info!(running = status.running, waiting = status.waiting, "stopping");
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    state.engine.drain(grace).await;
}

/// The server's own end: connections whose clients do not read are not waited for for ever.
pub async fn bounded(ended: impl Future<Output = ()>) {
    if tokio::time::timeout(LAST_BYTES, ended).await.is_err() {
        tracing::info!("some connections did not end");
    }
}
