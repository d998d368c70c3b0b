//! `GET /metrics`.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use unmask_scheduler::SubmitError;

use super::health::is_ready;
use crate::error::ApiError;
use crate::metrics::exposition::Format;
use crate::state::AppState;

/// The server's metrics as Prometheus text, or as OpenMetrics text for clients that accept
/// `application/openmetrics-text`.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses(
    (status = 200, description = "All metrics", body = String, content_type = "text/plain"),
))]
pub async fn show(State(state): State<AppState>, headers: HeaderMap) -> impl IntoResponse {
    let format = Format::of(&headers);
    let ready = is_ready(&state);
    let draining = matches!(ready, Err(ApiError::Submit(SubmitError::ShuttingDown)));
    let text = state.metrics.text(format, ready.is_ok(), draining);
    ([(header::CONTENT_TYPE, format.content_type())], text)
}
