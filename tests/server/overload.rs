//! More requests than the queue holds.

use serde_json::json;

use crate::cancelling::long;
use crate::harness::{Answer, Server};

/// The client is told when to come back, twice the same, and within the minute after which SDKs give up.
fn assert_retry(refused: &Answer) {
    let number = |name: &str| refused.header(name).parse::<u64>().unwrap();
    let seconds = number("retry-after");
    let milliseconds = number("retry-after-ms");
    assert!((1..=60).contains(&seconds) && milliseconds.div_ceil(1000) == seconds, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_harms_no_accepted_request() {
    let flags = ["--max-queued-requests", "1", "--max-running", "1", "--max-batch-tokens", "128"];
    let server = Server::start("diffullama", &flags);
    let mut first = server.open("/v1/completions", &long(true)).await;
    first.read_until(r#""type":"step""#).await;
    let body = json!({ "prompt": "The", "max_tokens": 20, "seed": 3 });
    let second = tokio::spawn(server.http.post(format!("{}/v1/completions", server.url)).json(&body).send());
    server.health_until("a request in the queue", |health| health.waiting == Some(1)).await;
    for (path, body) in
        [("/v1/completions", body.clone()), ("/fill", json!({ "prefix": "a", "stream": true }))]
    {
        let refused = server.post(path, &body).await;
        let error = refused.refusal(503, "server_overloaded");
        assert_eq!(error["type"], "server_error");
        assert_retry(&refused);
    }
    // A full queue is no reason to send the balancer away.
    assert_eq!(server.get("/ready").await.status, 200);
    drop(first);
    let second: serde_json::Value = second.await.unwrap().unwrap().json().await.unwrap();
    let alone = server.ok("/v1/completions", &body).await;
    assert_eq!(second["choices"], alone["choices"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_waits_too_long_is_told_to_come_back() {
    let flags = [
        "--max-running",
        "1",
        "--max-batch-tokens",
        "128",
        "--max-queue-time",
        "1",
        "--overload-status",
        "429",
    ];
    let server = Server::start("diffullama", &flags);
    let mut first = server.open("/v1/completions", &long(true)).await;
    first.read_until(r#""type":"step""#).await;
    let refused = server.post("/v1/completions", &json!({ "prompt": "The", "max_tokens": 4 })).await;
    refused.refusal(429, "server_overloaded");
    assert_retry(&refused);
    // A stream begins with its first evaluation, so that this is still a status that balancers understand.
    let streamed = server.post("/fill", &json!({ "prefix": "The", "stream": true })).await;
    streamed.refusal(429, "server_overloaded");
    assert_retry(&streamed);
    assert_eq!(server.get("/ready").await.status, 200);
}
