//! `diffusion.kv_cache`: keys and values that a request keeps, and what they change.

use serde_json::{Value, json};

use crate::completions::with;
use crate::harness::Server;

const MODELS: [&str; 3] = ["diffugpt-s", "llada", "dream"];

fn body(cache: &Value) -> Value {
    let body = json!({ "prefix": "The quick brown ", "suffix": " dog.", "length": 9, "seed": 5, "temperature": 0.8,
                       "diffusion": { "preset": "confidence", "steps": 9 } });
    let mut diffusion = body["diffusion"].clone();
    diffusion.as_object_mut().unwrap().extend(cache.as_object().unwrap().clone());
    with(&body, json!({ "diffusion": diffusion }))
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["text"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_rows_are_not_computed_and_the_seed_repeats_the_text() {
    for model in MODELS {
        let server = Server::start(model, &[]);
        let without = Server::start(model, &["--kv-cache-memory", "0"]);
        let whole = server.ok("/fill", &body(&json!({}))).await;
        assert_eq!(whole["diffusion"]["kv_cache"], "off");
        for cache in [
            json!({ "kv_cache": "dual", "near": 0 }),
            json!({ "kv_cache": "dual", "near": 1, "refresh": 3 }),
            json!({ "kv_cache": "prefix", "near": 0 }),
        ] {
            let body = body(&cache);
            let alone = server.ok("/fill", &body).await;
            let report = &alone["diffusion"];
            assert_eq!(report["kv_cache"], cache["kv_cache"], "{model}");
            assert_eq!(report["near"], cache["near"], "{model}");
            let rows = |answer: &Value| answer["diffusion"]["rows_computed"].as_u64().unwrap();
            assert!(rows(&alone) < rows(&whole), "{model} {cache}: {} and {}", rows(&alone), rows(&whole));
            // Among others, and where nothing is kept.
            let other = with(&body, json!({ "seed": 6 }));
            let (a, b, c) = tokio::join!(
                server.ok("/fill", &body),
                server.ok("/fill", &other),
                without.ok("/fill", &body),
            );
            assert_eq!(text(&a), text(&alone), "{model} {cache}");
            assert_ne!(b["diffusion"]["seed"], a["diffusion"]["seed"]);
            assert_eq!(text(&c), text(&alone), "{model} {cache}: without memory");
            assert!(rows(&c) > rows(&whole), "{model} {cache}: without memory, all is computed again");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_before_every_evaluation_gives_the_text_without() {
    for model in MODELS {
        let server = Server::start(model, &[]);
        let whole = server.ok("/fill", &body(&json!({}))).await;
        let kept = server.ok("/fill", &body(&json!({ "kv_cache": "dual", "refresh": 1 }))).await;
        assert_eq!(text(&kept), text(&whole), "{model}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_chooses_where_a_request_does_not() {
    let server = Server::start("llada", &["--kv-cache", "prefix", "--kv-cache-memory", "1M"]);
    let default = server.ok("/fill", &body(&json!({}))).await;
    assert_eq!(default["diffusion"]["kv_cache"], "prefix");
    let off = server.ok("/fill", &body(&json!({ "kv_cache": "off" }))).await;
    assert_eq!(off["diffusion"]["kv_cache"], "off");
    let models = server.get("/v1/models").await.json();
    let shown = &models["data"][0]["diffusion"]["kv_cache"];
    assert_eq!(shown["limit_bytes"], 1 << 20);
    assert_eq!(shown["default"], "prefix");
    assert!(shown["bytes_per_token"].as_u64().unwrap() > 0);
    assert_eq!(shown["block_length"], Value::Null);
    // A model in blocks keeps them in any case, and exactly.
    let blocks = Server::start("sdar", &["--kv-cache", "dual"]);
    let models = blocks.get("/v1/models").await.json();
    assert_eq!(models["data"][0]["diffusion"]["kv_cache"]["default"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_in_memory_when_the_requests_have_ended() {
    let server = Server::start("llada", &[]);
    server.ok("/fill", &body(&json!({ "kv_cache": "dual", "refresh": 2 }))).await;
    // The engine clears them after it has sent the last event.
    for _ in 0..1000 {
        let metrics = server.get("/metrics").await.body;
        let value = |name: &str| -> f64 {
            let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        if value("unmask_kv_cache_bytes{") == 0.0 {
            assert!(value("unmask_kv_cache_rebuilds_total") >= 2.0, "every second evaluation");
            assert!(value("unmask_kv_cache_hits_total") >= 1.0);
            return;
        }
    }
    panic!("keys and values are still in memory");
}
