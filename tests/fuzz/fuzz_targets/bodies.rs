//! Any bytes as the body of a request; the first byte chooses the route. There is always an answer, it is
//! never the server's fault, and every error has the same four keys.
#![no_main]

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;
use unmask_api::routes::app;
use unmask_api::state::AppState;
use unmask_fuzz::{ROUTES, application};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

static STATE: LazyLock<AppState> = LazyLock::new(|| application(&["--max-cost", "4000"]));

async fn answer(route: &str, body: &[u8]) -> (StatusCode, Vec<u8>) {
    let request = Request::post(route).header("host", "localhost").header("content-type", "application/json");
    let request = request.body(Body::from(body.to_vec())).expect("a request");
    let response = app(STATE.clone()).oneshot(request).await.expect("an answer");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a whole body");
    (status, body.to_bytes().to_vec())
}

fn check_error(error: &Value) {
    let mut keys: Vec<&str> = error.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["code", "message", "param", "type"], "{error}");
    assert!(error["code"].is_string() && error["type"].is_string(), "{error}");
    assert!(error["param"].is_string() || error["param"].is_null(), "{error}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
}

/// Checks the lines after `data:` in a stream; its other lines are of no interest here.
fn check_stream(text: &str) {
    let events = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
    for event in events.filter(|event| *event != "[DONE]") {
        let event: Value = serde_json::from_str(event).expect("JSON in a stream");
        if let Some(error) = event.get("error") {
            check_error(error);
            assert_ne!(error["code"], "engine_error", "{event}");
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((first, body)) = input.split_first() else { return };
    let route = ROUTES[usize::from(*first) % ROUTES.len()];
    let (status, body) = RUNTIME.block_on(answer(route, body));
    let text = String::from_utf8(body).expect("UTF-8");
    let allowed = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    assert!(!status.is_server_error() || allowed.contains(&status), "{route}: {status} {text}");
    match serde_json::from_str::<Value>(&text) {
        Ok(answer) if !status.is_success() => check_error(&answer["error"]),
        Ok(_) => {}
        Err(_) => {
            assert!(status.is_success(), "{route}: {status} {text}");
            check_stream(&text);
        }
    }
});
