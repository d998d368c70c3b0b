//! From the signal to the exit.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::state::AppState;

/// How long connections may take to end after the engine has ended every request.
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

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
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

    /// Waits for the next one.
    pub async fn next(&mut self) {
        // Without a handler the process would simply be ended.
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Waits for a first signal, and from then on ends the process at the next one.
pub async fn first(mut signals: Signals) {
    signals.next().await;
    tokio::spawn(async move {
        signals.next().await;
        tracing::warn!("second signal: ending at once");
        std::process::exit(130);
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
