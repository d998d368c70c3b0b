//! Signals: running answers end well, new requests are refused, the process exits.

use serde_json::json;

use crate::cancelling::long;
use crate::completions::with;
use crate::harness::{Health, Server, error_object};
use crate::sse;

const STEP: &str = r#""type":"step""#;

fn not_ready(health: &Health) -> bool {
    health.running.is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_server_stops_at_once() {
    for signal in ["TERM", "INT"] {
        let server = Server::start("diffugpt-s", &[]);
        server.ok("/v1/completions", &json!({ "prompt": "a", "max_tokens": 1 })).await;
        server.signal(signal);
        let address = server.address().to_owned();
        let (status, log) = server.ended().await;
        assert_eq!(status.code(), Some(0), "{log:?}");
        assert!(log.last().unwrap().contains("stopped"), "{log:?}");
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_time_to_drain_a_completion_stream_ends_with_an_error() {
    let server = Server::start("diffullama", &["--max-batch-tokens", "128", "--drain-timeout", "0"]);
    let mut events = server.open("/v1/completions", &long(true)).await;
    events.read_until(STEP).await;
    server.signal("TERM");
    let body = events.rest().await;
    let data = sse::data_lines(&body);
    let error = serde_json::from_str(data[data.len() - 2]).unwrap();
    assert_eq!(error_object(&error)["code"], "server_draining");
    assert_eq!(data.last(), Some(&"[DONE]"));
    let (status, log) = server.ended().await;
    assert_eq!(status.code(), Some(0), "{log:?}");
    // It was not refused for a lack of room, which would look like a server that is too small.
    let line = log.iter().find(|line| line.contains("request ended")).unwrap();
    assert!(line.contains(r#"outcome="drained""#), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_time_to_drain_a_native_stream_ends_with_an_error() {
    let flags = ["--max-batch-tokens", "128", "--drain-timeout", "0", "--max-samples", "256"];
    let server = Server::start("diffullama", &flags);
    let body = json!({ "prefix": "The", "length": 120, "n": 256, "stream": true,
                       "diffusion": { "steps": 512 } });
    let mut events = server.open("/fill", &body).await;
    events.read_until(STEP).await;
    server.signal("TERM");
    let events = sse::native(&events.rest().await);
    let (name, data) = events.last().unwrap();
    assert_eq!((name.as_str(), &data["error"]["code"]), ("error", &json!("server_draining")));
    let (status, log) = server.ended().await;
    assert_eq!(status.code(), Some(0), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_time_to_drain_a_plain_request_is_told_to_go_elsewhere() {
    let server = Server::start("diffullama", &["--max-batch-tokens", "128", "--drain-timeout", "0"]);
    let request = server.http.post(format!("{}/v1/completions", server.url)).json(&long(false)).send();
    let client = tokio::spawn(request);
    server.health_until("evaluations", |health| health.evaluations > Some(0)).await;
    server.signal("TERM");
    let response = client.await.unwrap().unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    assert_eq!(error_object(&response.json().await.unwrap())["code"], "server_draining");
    assert_eq!(server.ended().await.0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_time_to_drain_a_running_stream_finishes() {
    let server = Server::start("diffullama", &["--max-batch-tokens", "128", "--drain-timeout", "600"]);
    let body =
        json!({ "prompt": "The", "n": 8, "max_tokens": 120, "seed": 1, "diffusion": { "steps": 512 } });
    let plain = server.ok("/v1/completions", &body).await;
    let diffusion = json!({ "steps": 512, "stream_states": "delta" });
    let streamed = with(&body, json!({ "stream": true, "diffusion": diffusion }));
    let mut events = server.open("/v1/completions", &streamed).await;
    events.read_until(STEP).await;
    server.signal("TERM");
    let stream = sse::completion(&events.rest().await, 8);
    let texts: Vec<&str> =
        plain["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(stream.texts, texts);
    let (status, log) = server.ended().await;
    assert_eq!(status.code(), Some(0), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_drains_new_requests_are_refused() {
    let server = Server::start("diffullama", &["--max-batch-tokens", "128", "--drain-timeout", "600"]);
    let mut events = server.open("/v1/completions", &long(true)).await;
    events.read_until(STEP).await;
    server.signal("TERM");
    server.health_until("not ready", not_ready).await;
    for path in ["/v1/completions", "/fill"] {
        let body = if path == "/fill" { json!({ "prefix": "a" }) } else { json!({ "prompt": "a" }) };
        // The flag that /health shows is raised a moment before the engine refuses.
        let refused = loop {
            let answer = server.post(path, &body).await;
            if answer.status != 200 {
                break answer;
            }
        };
        refused.refusal(503, "server_draining");
        assert_eq!((refused.header("retry-after"), refused.header("connection")), ("1", "close"));
    }
    server.get("/ready").await.refusal(503, "server_draining");
    assert_eq!(server.get("/live").await.status, 200);
    drop(events);
    assert_eq!(server.ended().await.0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_served_before_the_drain_and_a_second_signal_ends_it() {
    let server = Server::start("diffugpt-s", &["--drain-delay", "600"]);
    server.signal("TERM");
    server.health_until("not ready", not_ready).await;
    server.ok("/v1/completions", &json!({ "prompt": "a", "max_tokens": 4 })).await;
    server.signal("TERM");
    assert_eq!(server.ended().await.0.code(), Some(143));
}
