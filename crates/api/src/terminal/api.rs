//! The API that is asked: this process's own, or a server's. Either way the same routes answer with the same
//! events.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, Method, Request, Response, StatusCode, Uri, header};
use futures_util::{Stream, TryStreamExt, stream};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::Value;
use sse_stream::SseStream;
use tower::ServiceExt;
use unmask_scheduler::{CostModel, Engine, EngineConfig};

use super::visible::visible_line;
use crate::access::Access;
use crate::client;
use crate::clock::now;
use crate::config::{LoadArgs, Patience, Secret};
use crate::fair_pool::FairPool;
use crate::limits::Limits;
use crate::load::load;
use crate::routes;
use crate::state::{AppState, room_for_bodies};

/// The most bytes that are read of an error.
const ERROR_BYTES: usize = 64 * 1024;

/// The most bytes that are read of a plain answer.
const ANSWER_BYTES: usize = 64 << 20;

/// Timeout of a request to this process: its user can see it and stop it.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The reason that no more events come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// A text that is not the URL of a server.
    #[error("--url {0} is not of the form http://host:port")]
    Url(Uri),
    /// A connection that was refused or broke.
    #[error("{url} does not answer: {reason}")]
    Unreachable { url: Uri, reason: String },
    /// The request was refused.
    #[error("{0}")]
    Refused(String),
    /// A server refused it.
    #[error("{url} says {status}: {message}")]
    RefusedBy { url: Uri, status: StatusCode, message: String },
    /// A URL with a name or password in it.
    #[error("--url holds a user name or a password, which are not sent; --api-key names a key")]
    Credentials,
    /// Another server.
    #[error("{url} {said}; --url must name an Unmask server")]
    Foreign { url: Uri, said: String },
    /// The answer broke off.
    #[error("the answer broke off: {0}")]
    Broken(String),
}

/// The server or the model that arguments name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    /// A running server; without one, a model is loaded.
    pub(crate) url: Option<&'a Uri>,
    /// The key for that server.
    pub(crate) key: Option<&'a Secret>,
    /// The model to load; without one, the embedded model.
    pub(crate) model: Option<&'a str>,
    /// Loading of the model.
    pub(crate) load: &'a LoadArgs,
}

/// The API that is called: this process's or a server's.
pub(crate) enum Api {
    /// The routes of this process, with a model of its own behind them, and a description of that.
    Here(Router, String),
    /// A server, and the key for it.
    At(Uri, Option<Secret>),
}

impl Api {
    /// Opens the named server, or loads a model into this process.
    ///
    /// # Errors
    /// The URL is none, or the model cannot be loaded.
    pub(crate) fn open(source: Source<'_>) -> anyhow::Result<Self> {
        let Some(url) = source.url else { return routes_of(source) };
        if client::holds_credentials(url) {
            return Err(AskError::Credentials.into());
        }
        let host = url.host().is_some_and(|host| !host.is_empty());
        if url.scheme_str() != Some("http") || !host || url.query().is_some() {
            return Err(AskError::Url(url.clone()).into());
        }
        Ok(Self::At(url.clone(), source.key.cloned()))
    }

    /// Description of the model that computes in this process, or the server's address.
    pub(crate) fn model(&self) -> String {
        match self {
            Self::Here(_, model) => model.clone(),
            Self::At(url, _) => url.to_string(),
        }
    }

    /// The data of the events that answer a request, one after another.
    pub(crate) fn ask(&self, path: &str, body: &Value) -> impl Stream<Item = Result<String, AskError>> {
        stream::once(self.begin(path, body.to_string())).try_flatten()
    }

    async fn begin(
        &self,
        path: &str,
        body: String,
    ) -> Result<impl Stream<Item = Result<String, AskError>> + use<>, AskError> {
        let response = self.accepted(self.send(Method::POST, path, body).await?).await?;
        let kind = text_of(&response, header::CONTENT_TYPE);
        if !kind.starts_with("text/event-stream") {
            return Err(self.foreign(format!("answers with {}, not with events", visible_line(&kind))));
        }
        let events = SseStream::new(response.into_body());
        let broken = |error: sse_stream::Error| AskError::Broken(visible_line(&error.to_string()));
        Ok(events.map_err(broken).try_filter_map(async |event| Ok(event.data)))
    }

    /// The whole answer to a request: POST with a body, GET without.
    pub(crate) async fn answer(&self, path: &str, body: Option<&Value>) -> Result<Value, AskError> {
        let response = match body {
            Some(body) => self.send(Method::POST, path, body.to_string()).await?,
            None => self.send(Method::GET, path, String::new()).await?,
        };
        let response = self.accepted(response).await?;
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(broken)?;
        serde_json::from_slice(&body.to_bytes()).map_err(broken)
    }

    /// The answer, unless it refuses the request.
    async fn accepted(&self, response: Response<Body>) -> Result<Response<Body>, AskError> {
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let location = text_of(&response, header::LOCATION);
        if status.is_redirection() {
            return Err(self.foreign(format!("says {status}, and leads to {}", visible_line(&location))));
        }
        let body = Limited::new(response.into_body(), ERROR_BYTES).collect().await.map_err(broken)?;
        let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        let busy = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
        let message = match body["error"]["message"].as_str() {
            Some(message) => visible_line(message),
            // A balancer between answers so while a server starts.
            None if busy => "no reason given".to_owned(),
            None => return Err(self.foreign(format!("says {status} without a reason"))),
        };
        Err(match self {
            Self::Here(..) => AskError::Refused(message),
            Self::At(url, _) => AskError::RefusedBy { url: url.clone(), status, message },
        })
    }

    fn foreign(&self, said: String) -> AskError {
        match self {
            Self::Here(..) => AskError::Refused(said),
            Self::At(url, _) => AskError::Foreign { url: url.clone(), said },
        }
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Result<Response<Body>, AskError> {
        let request = Request::builder().method(method).uri(match self {
            Self::Here(..) => path.to_owned(),
            Self::At(url, _) => {
                let url = url.to_string();
                let url = url.trim_end_matches('/');
                // The base URL of OpenAI's clients ends in what some of the paths begin with.
                format!("{}{path}", url.strip_suffix("/v1").unwrap_or(url))
            }
        });
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let request = match self {
            Self::At(_, Some(key)) => request.header(header::AUTHORIZATION, format!("Bearer {}", key.0)),
            _ => request,
        };
        match self {
            Self::Here(routes, _) => {
                let request = request.body(Body::from(body)).map_err(broken)?;
                Ok(routes.clone().oneshot(request).await.unwrap_or_else(|never| match never {}))
            }
            Self::At(url, _) => {
                let request = request.body(Full::from(body)).map_err(broken)?;
                let unreachable = |reason| AskError::Unreachable { url: url.clone(), reason };
                Ok(client::send(request).await.map_err(unreachable)?.map(Body::new))
            }
        }
    }
}

/// A header's text; empty where there is none.
fn text_of(response: &Response<Body>, name: HeaderName) -> String {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn broken(error: impl std::fmt::Display) -> AskError {
    AskError::Broken(error.to_string())
}

/// The server's own routes, with their default limits. Evaluations are not timed first: there are no other
/// clients.
fn routes_of(source: Source<'_>) -> anyhow::Result<Api> {
    let start = now();
    let loaded = load(source.model, source.load)?;
    let described = loaded.description();
    let (predictor, model, (metrics, engine_metrics)) = loaded.served_as(None, now() - start);
    let config = EngineConfig::default();
    let limits = Limits::default();
    let canvas = limits.canvas.min(model.limits.context);
    let routes = routes::app(AppState {
        engine: Engine::spawn(predictor, config, engine_metrics).context("cannot start the engine")?,
        model: Arc::new(model),
        slots: config.max_running,
        queue: (config.queue, config.max_wait),
        patience: Patience::default(),
        access: Arc::new(Access::default()),
        cost: CostModel::default(),
        limits: Limits { canvas, timeout: Some(PATIENCE), ..limits },
        draining: Arc::default(),
        pool: FairPool::of_machine(),
        bodies: room_for_bodies(),
        watchdog: PATIENCE,
        overload_status: StatusCode::SERVICE_UNAVAILABLE,
        playground: false,
        metrics: Arc::new(metrics),
    });
    Ok(Api::Here(routes, described))
}
