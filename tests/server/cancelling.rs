//! Clients that go away: what they asked for is not computed to its end.

use serde_json::{Value, json};

use crate::harness::{Health, Server};

/// Each canvas of [`long`] fills an evaluation by itself.
pub(crate) const ONE_BY_ONE: [&str; 2] = ["--max-batch-tokens", "128"];

/// Samples of [`long`].
const SAMPLES: u64 = 512;

/// A request of more than fifty thousand evaluations, half a minute's work, for `diffullama`.
pub(crate) fn long(stream: bool) -> Value {
    let mut body = json!({ "prompt": vec!["The"; 64], "n": 8, "max_tokens": 120, "seed": 1,
                           "diffusion": { "steps": 512 }, "stream": stream });
    if stream {
        body["diffusion"]["stream_states"] = json!("delta");
    }
    body
}

pub(crate) fn idle(health: &Health) -> bool {
    (health.running, health.waiting) == (Some(0), Some(0))
}

/// The engine is idle, did not finish `long`, and evaluates no other request.
pub(crate) async fn assert_cancelled(server: &Server) {
    let before = server.health_until("an idle engine", idle).await.evaluations.unwrap();
    let short = json!({ "prompt": "The", "max_tokens": 120, "seed": 1, "diffusion": { "steps": 512 } });
    let passes = server.ok("/v1/completions", &short).await["diffusion"]["forward_passes"].as_u64().unwrap();
    assert_eq!(server.health().await.evaluations, Some(before + passes), "another request was computing");
    assert!(before < SAMPLES * passes, "{before} evaluations of about {}", SAMPLES * passes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_dropped_stops_the_engine() {
    for path in ["/v1/completions", "/fill"] {
        let server = Server::start("diffullama", &[&ONE_BY_ONE[..], &["--max-samples", "512"]].concat());
        let body = match path {
            "/fill" => json!({ "prefix": "The", "length": 120, "n": 512, "stream": true, "seed": 1,
                               "diffusion": { "steps": 512 } }),
            _ => long(true),
        };
        let mut events = server.open(path, &body).await;
        events.read_until(r#""type":"step""#).await;
        assert_eq!(server.health().await.running, Some(1));
        drop(events);
        assert_cancelled(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_before_its_answer_stops_the_engine() {
    let server = Server::start("diffullama", &ONE_BY_ONE);
    let request = server.http.post(format!("{}/v1/completions", server.url)).json(&long(false)).send();
    let client = tokio::spawn(request);
    server.health_until("evaluations", |health| health.evaluations > Some(3)).await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    assert_cancelled(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_the_queue_is_forgotten_while_others_run() {
    let server = Server::start("diffullama", &[&ONE_BY_ONE[..], &["--max-running", "1"]].concat());
    let mut first = server.open("/v1/completions", &long(true)).await;
    first.read_until(r#""type":"step""#).await;
    // In the queue there is nothing to read for ten seconds; who leaves does not wait for it.
    let request = server.http.post(format!("{}/v1/completions", server.url)).json(&long(true)).send();
    let second = tokio::spawn(request);
    server.health_until("a request in the queue", |health| health.waiting == Some(1)).await;
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    let health = server.health_until("an empty queue", |health| health.waiting == Some(0)).await;
    assert_eq!(health.running, Some(1));
    drop(first);
    assert_cancelled(&server).await;
}
