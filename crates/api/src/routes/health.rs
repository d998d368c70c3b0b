//! Probes: is the process alive, should a balancer send it requests.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use unmask_scheduler::{EngineState, EngineStatus, SubmitError};
use utoipa::ToSchema;

use crate::clock::now;
use crate::error::{ApiError, ErrorBody};
use crate::state::AppState;

/// The state of the server.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    status: &'static str,
    /// Requests being denoised.
    running: usize,
    /// Requests in the queue.
    waiting: usize,
    /// Evaluations of the network since the start, shared ones counted once.
    evaluations: u64,
}

/// Liveness: fails once the engine has failed or an evaluation does not end; restart the process then.
#[utoipa::path(get, path = "/live", tag = "operations", responses(
    (status = 200, description = "The engine works", body = Health),
    (status = 503, description = "The engine has failed or is stuck; restart the process", body = ErrorBody),
))]
pub async fn live(State(state): State<AppState>) -> Result<Json<Health>, ApiError> {
    let status = state.engine.status();
    if matches!(status.state, EngineState::Failed | EngineState::Stopped) {
        return Err(SubmitError::EngineStopped.into());
    }
    check_progress(&status, now(), state.watchdog)?;
    Ok(Json(status.into()))
}

/// Refuses an evaluation that has taken longer than `watchdog`.
fn check_progress(status: &EngineStatus, now: Instant, watchdog: Duration) -> Result<(), ApiError> {
    match status.evaluating_since.map(|since| now.saturating_duration_since(since)) {
        Some(since) if since > watchdog => Err(ApiError::Stuck { since }),
        _ => Ok(()),
    }
}

/// Readiness: fails while the server is stopping. A full queue does not count, since each request then gets
/// its own 503.
#[utoipa::path(get, path = "/ready", tag = "operations", responses(
    (status = 200, description = "Send requests", body = Health),
    (status = 503, description = "Send none", body = ErrorBody),
))]
pub async fn ready(State(state): State<AppState>) -> Result<Json<Health>, ApiError> {
    is_ready(&state).map(|status| Json(status.into()))
}

/// The engine's status, when requests are welcome.
pub(super) fn is_ready(state: &AppState) -> Result<EngineStatus, ApiError> {
    let status = state.engine.status();
    match status.state {
        EngineState::Serving if !state.draining.load(Ordering::Relaxed) => Ok(status),
        EngineState::Serving | EngineState::Draining => Err(SubmitError::ShuttingDown.into()),
        EngineState::Failed | EngineState::Stopped => Err(SubmitError::EngineStopped.into()),
    }
}

/// The same as `/ready`.
#[utoipa::path(get, path = "/health", tag = "operations", responses(
    (status = 200, description = "Send requests", body = Health),
    (status = 503, description = "Send none", body = ErrorBody),
))]
pub async fn health(state: State<AppState>) -> Result<Json<Health>, ApiError> {
    ready(state).await
}

impl From<EngineStatus> for Health {
    fn from(status: EngineStatus) -> Self {
        let EngineStatus { running, waiting, evaluations, .. } = status;
        Self { status: "ok", running, waiting, evaluations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_evaluation_that_takes_too_long_is_stuck() {
        let now = now();
        let watchdog = Duration::from_secs(2);
        let check = |age: Option<u64>| {
            let evaluating_since = age.map(|age| now - Duration::from_millis(age));
            let status = EngineStatus { evaluating_since, ..EngineStatus::default() };
            check_progress(&status, now, watchdog).map_err(|error| error.status().as_u16())
        };
        assert_eq!((check(None), check(Some(2000)), check(Some(2001))), (Ok(()), Ok(()), Err(503)));
    }
}
