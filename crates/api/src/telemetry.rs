//! The middleware that watches every request.

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use crate::body::renamed;
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
    if let Some(names) = renamed::header(&observation.renamed_fields()) {
        response.headers_mut().insert(HeaderName::from_static("x-deprecated-params"), names);
    }
    if let Ok(value) = HeaderValue::from_str(&observation.id().to_string()) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    response
}
