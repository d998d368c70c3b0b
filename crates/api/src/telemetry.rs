//! Where log lines go, and the middleware that watches every request.

use std::io::IsTerminal;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use tracing_subscriber::EnvFilter;

use crate::config::{LogArgs, LogFormat};
use crate::error::set_overload_status;
use crate::observation::Observation;
use crate::state::AppState;

/// Gives a request its id and its [`Observation`], which writes a line when the request has ended.
pub async fn observe(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let observation = Observation::begin(&request, &state);
    request.extensions_mut().insert(observation.clone());
    let mut response = next.run(request).instrument(observation.span()).await;
    set_overload_status(&mut response, state.overload_status);
    observation.answered(&response);
    if let Ok(value) = HeaderValue::from_str(&observation.id().to_string()) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    response
}

/// Sends log lines to standard error.
///
/// # Errors
/// The filter does not parse.
pub fn init(args: &LogArgs) -> Result<(), String> {
    let filter = EnvFilter::try_new(&args.log)
        .map_err(|error| format!("--log {}: {error}; try info or unmask_scheduler=debug", args.log))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match args.log_format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
