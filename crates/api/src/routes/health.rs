//! Probes: is the process alive, should a balancer send it requests.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use unmask_scheduler::{EngineState, SubmitError};
use utoipa::ToSchema;

use crate::error::{ApiError, ErrorBody};
use crate::state::AppState;

/// How the server is.
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

/// Whether the process should be left running: no, once the engine has failed.
#[utoipa::path(get, path = "/live", tag = "operations", responses(
    (status = 200, description = "The engine works", body = Health),
    (status = 503, description = "The engine has failed; restart the process", body = ErrorBody),
))]
pub async fn live(State(state): State<AppState>) -> Response {
    match state.engine.status().state {
        EngineState::Failed | EngineState::Stopped => {
            ApiError::from(SubmitError::EngineStopped).into_response()
        }
        EngineState::Serving | EngineState::Draining => ok(&state),
    }
}

/// Whether to send requests here: not while the server is stopping. A full queue does not count, since
/// each request then gets its own 503.
#[utoipa::path(get, path = "/ready", tag = "operations", responses(
    (status = 200, description = "Send requests", body = Health),
    (status = 503, description = "Send none", body = ErrorBody),
))]
pub async fn ready(State(state): State<AppState>) -> Response {
    if state.draining.load(Ordering::Relaxed) {
        return ApiError::from(SubmitError::ShuttingDown).into_response();
    }
    match state.engine.status().state {
        EngineState::Serving => ok(&state),
        EngineState::Draining => ApiError::from(SubmitError::ShuttingDown).into_response(),
        EngineState::Failed | EngineState::Stopped => {
            ApiError::from(SubmitError::EngineStopped).into_response()
        }
    }
}

/// The same as `/ready`.
#[utoipa::path(get, path = "/health", tag = "operations", responses(
    (status = 200, description = "Send requests", body = Health),
    (status = 503, description = "Send none", body = ErrorBody),
))]
pub async fn health(state: State<AppState>) -> Response {
    ready(state).await
}

fn ok(state: &AppState) -> Response {
    let status = state.engine.status();
    let health = Health {
        status: "ok",
        running: status.running,
        waiting: status.waiting,
        evaluations: status.evaluations,
    };
    (StatusCode::OK, Json(health)).into_response()
}
