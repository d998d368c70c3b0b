//! The whole API on one screen.

pub mod chat;
pub mod completions;
mod docs;
pub mod fill;
pub mod fim;
pub mod health;
pub mod infill;
pub mod metrics;
pub mod models;
pub mod openai;
pub mod openapi;
pub mod server;
pub mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use unmask_scheduler::Timings;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::openapi::document;
use crate::access::MetricsDoor;
use crate::clock::now;
use crate::error::{ApiError, shown};
use crate::fair_pool::Abandoned;
use crate::observation::Observation;
use crate::playground;
use crate::prompt::Layout;
use crate::request::options::Settings;
use crate::state::{AppState, ServedModel};
use crate::telemetry;

/// The routes that ask for a key where there are keys, with their documentation, which therefore cannot drift
/// apart. Whatever path is in neither table asks for one too.
fn keyed() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(completions::complete))
        .routes(routes!(chat::chat))
        .routes(routes!(fill::fill))
        .routes(routes!(fill::fill_v1))
        .routes(routes!(fim::fim))
        .routes(routes!(infill::infill))
        .routes(routes!(models::list))
        // Names may hold slashes, raw or as %2F.
        .route("/v1/models/{*id}", axum::routing::get(models::retrieve))
        .routes(routes!(tokens::tokenize))
        .routes(routes!(tokens::detokenize))
        .routes(routes!(tokens::info))
        .routes(routes!(tokens::template::apply_template))
        .routes(routes!(server::version))
        .routes(routes!(server::props))
        .routes(routes!(openapi::serve))
}

/// The routes that everybody may ask: what watches the server has no key.
fn open() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::health))
}

/// A route of the first kind, the second, or of neither: see [`MetricsDoor`].
fn metrics() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(metrics::show))
}

/// The application.
pub fn app(state: AppState) -> Router {
    let (keyed, open) = match state.access.metrics() {
        MetricsDoor::Open => (keyed(), open().merge(metrics())),
        MetricsDoor::Keyed => (keyed().merge(metrics()), open()),
        MetricsDoor::Admin => (keyed(), open()),
    };
    let keyed = router(keyed).fallback(not_found).layer(from_fn_with_state(state.clone(), telemetry::admit));
    // The pages hold nothing that a key protects, and the first one asks for a key itself.
    let page = if state.playground { playground::routes().merge(docs::routes()) } else { Router::new() };
    let router = keyed
        .merge(router(open))
        .merge(named_methods(page))
        .layer(DefaultBodyLimit::max(state.limits.body_bytes))
        .layer(CatchPanicLayer::custom(|_| ApiError::Internal.into_response()));
    entrance(across_origins(router, &state), state)
}

/// The routes for monitoring, at an address of their own.
pub fn admin(state: AppState) -> Router {
    entrance(router(open().merge(metrics())).fallback(not_for_monitoring), state)
}

/// The probes, for the thread of the connections. All other requests are for [`app`] or [`admin`], which answer the
/// same to probes.
pub fn probes(state: AppState) -> Router {
    entrance(across_origins(router(open()), &state), state)
}

/// [`probes`] for connections beyond the server's limit: everything else is refused.
pub fn crowded(state: AppState) -> Router {
    let limit = state.patience.connections;
    let router = router(open()).fallback(async move || ApiError::Crowded { limit });
    entrance(across_origins(router, &state), state)
}

/// Other sites' pages may call, if any may.
fn across_origins(router: Router<AppState>, state: &AppState) -> Router<AppState> {
    match state.access.cors() {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

/// The middleware of every request, on every listener.
fn entrance(router: Router<AppState>, state: AppState) -> Router {
    router
        .layer(from_fn_with_state(state.clone(), telemetry::check_host))
        .layer(from_fn_with_state(state.clone(), telemetry::observe))
        .with_state(state)
}

async fn not_for_monitoring(uri: Uri) -> ApiError {
    let instead = "this address has /metrics, /live, /ready and /health; the API is at the server's own";
    ApiError::NotFound { path: shown(uri.path()), instead: instead.to_owned() }
}

async fn not_found(uri: Uri) -> ApiError {
    let path = uri.path();
    let meant = meant(path);
    // Other servers' routes, which their clients try here.
    let instead = match meant.as_str() {
        "/v1/responses" | "/v1/messages" | "/api/chat" => "use /v1/chat/completions".to_owned(),
        "/completion" | "/api/generate" => "use /v1/completions".to_owned(),
        "/v1/embeddings" | "/embeddings" | "/api/embed" => "this server has no embeddings".to_owned(),
        "/v1" | "/" => "OpenAI's routes are /v1/completions, /v1/chat/completions and /v1/models".to_owned(),
        _ if !NAMES.contains(&meant.as_str()) || meant == path => {
            "GET /docs or /openapi.json lists the routes".to_owned()
        }
        _ if meant.starts_with("/v1/") => {
            format!(
                "use {meant}: the base URL of OpenAI's clients here ends with /v1, without a slash behind it"
            )
        }
        _ => format!("use {meant}"),
    };
    ApiError::NotFound { path: shown(path), instead }
}

/// Routes that wrong base URLs lead beside.
const NAMES: [&str; 16] = [
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/fim/completions",
    "/v1/models",
    "/v1/fill",
    "/fill",
    "/infill",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/health",
    "/live",
    "/ready",
    "/metrics",
    "/docs",
    "/openapi.json",
];

/// The path without doubled slashes, a slash at its end and a doubled `/v1`, and with a `/v1` that a route needs.
fn meant(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    while parts.starts_with(&["v1", "v1"]) {
        parts.remove(0);
    }
    let joined = format!("/{}", parts.join("/"));
    let below = |prefix: &str| NAMES.contains(&format!("{prefix}{joined}").as_str());
    let beyond = joined.strip_prefix("/v1").filter(|rest| NAMES.contains(rest));
    match beyond {
        _ if NAMES.contains(&joined.as_str()) => joined,
        Some(rest) => rest.to_owned(),
        None if below("/v1") => format!("/v1{joined}"),
        None => joined,
    }
}

/// Routes that say which methods they have.
fn router(routes: OpenApiRouter<AppState>) -> Router<AppState> {
    named_methods(routes.split_for_parts().0)
}

fn named_methods(router: Router<AppState>) -> Router<AppState> {
    router.method_not_allowed_fallback(async |method: Method, uri: Uri| ApiError::MethodNotAllowed {
        method: shown(method.as_str()),
        path: shown(uri.path()),
    })
}

/// Refuses a request for a model that is not served; absent and empty mean the one that is.
fn check_model(asked: Option<&str>, model: &ServedModel) -> Result<(), ApiError> {
    match asked {
        None | Some("") => Ok(()),
        Some(asked) if asked == model.id => Ok(()),
        Some(asked) => Err(ApiError::ModelNotFound { asked: shown(asked), served: model.id.clone() }),
    }
}

/// Checks and tokenizes in the pool, when it is the client's turn. A request that turns out to be too long is
/// charged what its texts are taken for: it has cost as much as others.
async fn lay_out<T: Send + 'static>(
    state: &AppState,
    observation: &Observation,
    texts: usize,
    work: impl FnOnce(&Abandoned) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let metrics = Arc::clone(&state.metrics);
    let work = move |abandoned: &Abandoned| {
        let start = now();
        let done = work(abandoned);
        metrics.tokenized(now().saturating_duration_since(start));
        done
    };
    let done = state.pool.run(observation.client(), work).await.map_err(|_| ApiError::Internal)?;
    if let Err(ApiError::ContextLength { .. }) = done {
        observation.spend(estimated_tokens(texts));
    }
    done
}

/// The charge of texts of so many bytes, before their tokens are known.
fn estimated_tokens(bytes: usize) -> usize {
    bytes.div_ceil(4)
}

/// Headers that tell how long the engine had a request, in milliseconds: queue and denoising.
fn put_times(mut response: Response, timings: &Timings) -> Response {
    let milliseconds = (timings.queued + timings.denoising).as_millis().to_string();
    for name in ["x-engine-ms", "openai-processing-ms"] {
        insert(response.headers_mut(), name, &milliseconds);
    }
    response
}

/// Headers that tell about an answer: the model, fields without effect, and a canvas longer than the
/// model was trained for.
fn annotate(response: &mut Response, state: &AppState, ignored: &[String], layouts: &[Layout]) {
    let headers = response.headers_mut();
    insert(headers, "x-served-model", &state.model.id);
    if !ignored.is_empty() {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']');
        let names: Vec<&str> =
            ignored.iter().take(20).map(String::as_str).filter(|name| name.chars().all(plain)).collect();
        let mut list = names.join(",");
        list.truncate(512);
        insert(headers, "x-ignored-params", &list);
    }
    let longest = layouts.iter().map(|layout| layout.length(&state.model)).max().unwrap_or(0);
    if let Some(trained) = state.model.profile.trained_length.filter(|trained| longest > *trained) {
        let text = format!("canvas of {longest} positions; the model was trained on at most {trained}");
        insert(headers, "x-unmask-warning", &text);
    }
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// States ride on streams only.
fn check_states(settings: &Settings, stream: bool) -> Result<(), ApiError> {
    if settings.states == crate::request::options::StreamStates::None || stream {
        return Ok(());
    }
    let message = "`diffusion.stream_states` needs `stream`: true".to_owned();
    Err(ApiError::Conflict { param: "diffusion.stream_states".to_owned(), message })
}
