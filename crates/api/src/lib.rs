//! The HTTP server: JSON in, canvases to the engine, text out, plain or streamed.
//!
//! [`routes`] is the table of contents. A generating route decodes its body ([`body`]), checks its
//! settings ([`options`]), lays out its canvases ([`prompt`]), starts them ([`generation`]) and shows
//! them as text ([`text_view`]) in one answer or as events ([`sse`]). Every failure becomes HTTP in
//! [`error`].

pub mod body;
pub mod config;
mod config_values;
pub mod connection;
pub mod deadlines;
pub mod error;
pub mod generation;
pub mod healthcheck;
pub mod load;
pub mod messages;
pub mod metrics;
pub mod observation;
pub mod options;
pub mod policy_names;
pub mod policy_options;
pub mod prompt;
pub mod report;
pub mod routes;
pub mod shutdown;
pub mod sse;
pub mod state;
pub mod telemetry;
pub mod template;
pub mod text_view;
pub mod trace;
pub mod verify;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Patience;
use crate::connection::Impatient;
use crate::state::AppState;

/// Serves until `stop` completes, then drains: see [`shutdown::drain`]. Returns when every answer has
/// ended, or a few seconds after that when a client does not read its own.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    stop: impl Future<Output = ()> + Send + 'static,
    patience: Patience,
) -> std::io::Result<()> {
    let app: Router = routes::app(state.clone());
    let listener =
        Impatient { listener, patience: patience.slow_reader, stalled: state.metrics.stalled.clone() };
    let (drained, watch) = watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        shutdown::drain(&state, patience.drain_delay, patience.drain_timeout).await;
        drained.send_replace(true);
    });
    let over = |mut watch: watch::Receiver<bool>| async move {
        // An error means that the task above is gone, which also ends the server.
        let _ = watch.wait_for(|drained| *drained).await;
    };
    let server = axum::serve(listener, app).with_graceful_shutdown(over(watch.clone()));
    shutdown::bounded(async { server.await }, over(watch)).await.unwrap_or(Ok(()))
}
