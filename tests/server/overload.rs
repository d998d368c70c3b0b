//! More requests than the queue holds.

use serde_json::json;

use crate::cancelling::long;
use crate::harness::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_harms_nobody_who_is_in() {
    let flags = ["--queue", "1", "--max-running", "1", "--max-rows", "128"];
    let server = Server::start("diffullama", &flags);
    let mut first = server.open("/v1/completions", &long(true)).await;
    first.read_until(r#""ev":"step""#).await;
    let body = json!({ "prompt": "The", "max_tokens": 20, "seed": 3 });
    let second = tokio::spawn(server.http.post(format!("{}/v1/completions", server.url)).json(&body).send());
    server.health_until("a request in the queue", |health| health.waiting == Some(1)).await;
    for (path, body) in
        [("/v1/completions", body.clone()), ("/fill", json!({ "prefix": "a", "stream": true }))]
    {
        let refused = server.post(path, &body).await;
        let error = refused.refusal(503, "server_overloaded");
        assert_eq!((refused.header("retry-after"), &error["type"]), ("1", &json!("server_error")));
    }
    // A full queue is no reason to send the balancer away.
    assert_eq!(server.get("/ready").await.status, 200);
    drop(first);
    let second: serde_json::Value = second.await.unwrap().unwrap().json().await.unwrap();
    let alone = server.ok("/v1/completions", &body).await;
    assert_eq!(second["choices"], alone["choices"]);
}
