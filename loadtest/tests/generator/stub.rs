//! A server that does what the first word of a request's text says.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use unmask_loadtest::client::Server;

/// The stub's counters.
#[derive(Clone, Default)]
struct Counters {
    /// Requests that are being answered.
    running: Arc<AtomicU64>,
    /// Requests that were answered, of all kinds.
    answered: Arc<AtomicU64>,
    /// Requests for a canvas of [`LONG`].
    long: Arc<AtomicU64>,
}

/// Ends a request, however it ends.
struct Running(Arc<AtomicU64>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A canvas that is answered the first time and then never again.
pub(crate) const LONG: u64 = 100;

/// Starts a stub; it ends with the test's runtime.
pub(crate) async fn start() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let routes = Router::new()
        .route("/v1/models", get(models))
        .route("/health", get(health))
        .route("/v1/completions", post(answer))
        .route("/fill", post(answer))
        .with_state(Counters::default());
    tokio::spawn(async { axum::serve(listener, routes).await });
    Server { address, patience: Duration::from_secs(20), deadline: None, key: None }
}

async fn models() -> Json<Value> {
    Json(json!({ "data": [{ "id": "stub", "max_model_len": 120, "limits": { "generated_tokens": LONG } }] }))
}

async fn health(State(counters): State<Counters>) -> Json<Value> {
    Json(json!({ "running": counters.running.load(Ordering::SeqCst), "waiting": 0 }))
}

async fn answer(State(counters): State<Counters>, Json(body): Json<Value>) -> Response {
    counters.running.fetch_add(1, Ordering::SeqCst);
    let running = Running(counters.running.clone());
    let number = counters.answered.fetch_add(1, Ordering::SeqCst);
    let fill = body.get("prefix").is_some();
    let said = body[if fill { "prefix" } else { "prompt" }].as_str().unwrap();
    let canvas = body[if fill { "length" } else { "max_tokens" }].as_u64().unwrap();
    if canvas == LONG && counters.long.fetch_add(1, Ordering::SeqCst) > 0 {
        pending::<()>().await;
    }
    let text =
        if said.starts_with("drift") { format!("text {number}") } else { format!("of {}", body["seed"]) };
    match said.split(' ').next().unwrap() {
        "refuse" => refusal(StatusCode::SERVICE_UNAVAILABLE, "server_overloaded", Some(3)),
        "refuse-bare" => refusal(StatusCode::SERVICE_UNAVAILABLE, "server_overloaded", None),
        "drain" => refusal(StatusCode::SERVICE_UNAVAILABLE, "server_draining", Some(1)),
        "expire" => refusal(StatusCode::GATEWAY_TIMEOUT, "request_timeout", None),
        "break" => refusal(StatusCode::INTERNAL_SERVER_ERROR, "engine_error", None),
        how if body["stream"] == true => stream(how.to_owned(), fill, &text, running),
        _ => Json(whole(&text)).into_response(),
    }
}

fn refusal(status: StatusCode, code: &str, retry_after: Option<u64>) -> Response {
    let mut response = (status, Json(json!({ "error": { "code": code } }))).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn whole(text: &str) -> Value {
    json!({ "choices": [{ "index": 0, "text": text, "finish_reason": "length" }], "diffusion": report() })
}

fn report() -> Value {
    json!({ "forward_passes": 4, "rows_computed": 80, "generated_tokens": 8, "returned_tokens": 8,
        "queue_ms": 2.0, "denoise_ms": 12.0, "batch_peak": 3 })
}

/// Four states, then the end that `how` names.
fn stream(how: String, fill: bool, text: &str, running: Running) -> Response {
    let state = if fill {
        json!({ "type": "fill.state", "state": { "type": "step" } })
    } else {
        json!({ "choices": [{ "text": "", "finish_reason": null }], "diffusion": { "type": "step" } })
    };
    let mut events = vec![state.to_string(); 4];
    match how.as_str() {
        "cut" | "hang" => {}
        "error-event" => events.push(json!({ "error": { "code": "engine_error" } }).to_string()),
        _ if fill => {
            let mut done = whole(text);
            done["type"] = json!("fill.done");
            events.push(done.to_string());
        }
        _ => events.extend([whole(text).to_string(), "[DONE]".to_owned()]),
    }
    let sent = tokio_stream::iter(events).map(|data| Ok::<_, Infallible>(Event::default().data(data)));
    let open = how == "hang";
    // Owns `running`: the request lasts until its stream is dropped.
    let end = futures_util::stream::once(async move {
        if open {
            pending::<()>().await;
        }
        drop(running);
        Ok(Event::default().comment("over"))
    });
    Sse::new(sent.chain(end)).into_response()
}
