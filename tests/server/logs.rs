//! One line per request, when it has ended, however it ended.

use serde_json::{Value, json};

use crate::cancelling::{ONE_BY_ONE, idle, long};
use crate::harness::Server;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The lines of ended requests.
fn ended(log: &[String]) -> Vec<Value> {
    let lines = log.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["message"] == "request ended").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_one_line_without_its_text() {
    let server =
        Server::start("diffullama", &[&ONE_BY_ONE[..], &["--log-format", "json", "--log", "info"]].concat());
    let post = |path: &str, id: &str, body: &Value| {
        let request = server.http.post(format!("{}{path}", server.url)).json(body);
        let request = request.header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"));
        request.header("x-request-id", id).send()
    };
    let canary = json!({ "prompt": "canary bird\n", "max_tokens": 10, "seed": 1 });
    let plain = post("/v1/completions", "plain", &canary).await.unwrap();
    let engine = plain.headers()["x-engine-ms"].clone();
    assert_eq!(plain.headers()["openai-processing-ms"], engine);
    let plain: Value = plain.json().await.unwrap();
    let stream = json!({ "prefix": "canary", "length": 8, "stream": true });
    post("/fill", "stream", &stream).await.unwrap().text().await.unwrap();
    post("/fill", "wrong", &json!({ "prefix": "canary", "canary": 1 })).await.unwrap();
    let left = post("/v1/completions", "left", &long(true)).await.unwrap();
    drop(left);
    server.health_until("an idle engine", idle).await;
    let (_, log) = server.stop().await;

    let mut lines = ended(&log);
    lines.sort_by_key(|line| line["request_id"].as_str().unwrap().to_owned());
    let ids: Vec<&str> = lines.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["left", "plain", "stream", "wrong"], "probes are not worth a line");
    let outcomes: Vec<&str> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["cancelled", "ok", "ok", "client_error"]);
    let line = &lines[1];
    assert_eq!(
        (&line["route"], &line["status"], &line["level"]),
        (&json!("/v1/completions"), &json!(200), &json!("INFO"))
    );
    for (logged, told) in [
        ("prompt_tokens", &plain["usage"]["prompt_tokens"]),
        ("returned_tokens", &plain["usage"]["completion_tokens"]),
        ("generated_tokens", &plain["diffusion"]["generated_tokens"]),
        ("steps", &plain["diffusion"]["forward_passes"]),
        ("queue_ms", &plain["diffusion"]["queue_ms"]),
        ("denoise_ms", &plain["diffusion"]["denoise_ms"]),
        ("model", &plain["model"]),
    ] {
        assert_eq!(&line[logged], told, "{logged}");
    }
    assert_eq!((&lines[3]["code"], &lines[3]["status"]), (&json!("unknown_parameter"), &json!(400)));
    assert!(
        lines.iter().all(|line| line["trace_id"] == TRACE && line["span_id"].as_str().unwrap().len() == 16)
    );
    assert!(!log.iter().any(|line| line.contains("canary")), "{log:?}");
}
