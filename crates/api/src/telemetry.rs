//! The middleware that every request passes: it is watched, and let in.

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use crate::error::set_overload_status;
use crate::observation::Observation;
use crate::renamed;
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

/// Lets a request pass whose client may ask, and says on its answer how much more it may ask.
pub async fn admit(
    State(state): State<AppState>,
    observation: Observation,
    request: Request,
    next: Next,
) -> Response {
    let access = &state.access;
    let client = match access.identify(&request) {
        Ok(client) => client,
        Err(refused) => return refused.into_response(),
    };
    observation.asked_by(client.clone());
    let mut response = match access.count(&client, request.method()) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    access.describe(&client, response.headers_mut());
    response
}

/// Lets a request pass that calls the server by one of its names.
pub async fn check_host(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match state.access.check_host(&request) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}
