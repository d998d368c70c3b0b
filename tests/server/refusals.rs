//! Requests that are well-formed and cannot be served.

use serde_json::{Value, json};

use crate::completions::with;
use crate::harness::Server;

const COMPLETIONS: &str = "/v1/completions";
const FILL: &str = "/fill";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_names_its_reason_and_harms_nothing() {
    let server = Server::start("diffugpt-s", &[]);
    let texts = |count: usize| vec!["a"; count];
    let stops = |count: usize, length: usize| vec!["x".repeat(length); count];
    let cases: Vec<(&str, Value, &str, Value)> = vec![
        (COMPLETIONS, json!({}), "missing_field", json!("prompt")),
        (COMPLETIONS, json!({ "prompt": [] }), "out_of_range", json!("prompt")),
        (COMPLETIONS, json!({ "prompt": texts(65) }), "out_of_range", json!("prompt")),
        (COMPLETIONS, json!({ "prompt": [[]] }), "conflicting_fields", json!("prompt")),
        (COMPLETIONS, json!({ "prompt": [-1] }), "invalid_token", json!("prompt")),
        (COMPLETIONS, json!({ "prompt": [600] }), "invalid_token", json!("prompt")),
        (COMPLETIONS, json!({ "prompt": [4_294_967_296_u64] }), "invalid_token", json!("prompt")),
        (COMPLETIONS, json!({ "prompt": [i64::MAX] }), "invalid_token", json!("prompt")),
        (COMPLETIONS, json!({ "prompt": [[1], [2, i64::MIN]] }), "invalid_token", json!("prompt")),
        (COMPLETIONS, json!({ "prompt": "a b ".repeat(100) }), "context_length_exceeded", json!("prompt")),
        (COMPLETIONS, json!({ "prompt": vec![5; 64] }), "context_length_exceeded", json!("prompt")),
        (
            COMPLETIONS,
            json!({ "prompt": "a", "max_tokens": 64 }),
            "context_length_exceeded",
            json!("max_tokens"),
        ),
        (
            COMPLETIONS,
            json!({ "prompt": "a", "suffix": "a b ".repeat(100), "diffusion": { "reproduce": true } }),
            "context_length_exceeded",
            json!("prompt"),
        ),
        (COMPLETIONS, json!({ "prompt": "a", "stop": stops(33, 1) }), "out_of_range", json!("stop")),
        (COMPLETIONS, json!({ "prompt": "a", "stop": stops(1, 257) }), "out_of_range", json!("stop")),
        (COMPLETIONS, json!({ "prompt": "a", "stop": "" }), "out_of_range", json!("stop")),
        (
            COMPLETIONS,
            json!({ "prompt": "a", "stream_options": {} }),
            "conflicting_fields",
            json!("stream_options"),
        ),
        (
            COMPLETIONS,
            json!({ "prompt": "a", "diffusion": { "stream_states": "delta" } }),
            "conflicting_fields",
            json!("diffusion.stream_states"),
        ),
        (FILL, json!({}), "conflicting_fields", json!("prefix")),
        (FILL, json!({ "prefix": "", "suffix": null }), "conflicting_fields", json!("prefix")),
        (FILL, json!({ "prefix": "a", "length": 64 }), "context_length_exceeded", json!("length")),
        (
            FILL,
            json!({ "prefix": "a", "diffusion": { "stream_states": "delta" } }),
            "conflicting_fields",
            json!("diffusion.stream_states"),
        ),
    ];
    for (path, body, code, param) in cases {
        let refused = server.post(path, &body).await.refusal(400, code);
        assert_eq!(refused["param"], param, "{path} {body}");
        assert_eq!(refused["type"], "invalid_request_error");
        // The same before a stream begins.
        let mut streamed = body.clone();
        if code != "conflicting_fields" {
            streamed["stream"] = json!(true);
            server.post(path, &streamed).await.refusal(400, code);
        }
    }
    server.ok(COMPLETIONS, &json!({ "prompt": "a", "max_tokens": 3 })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsupported_fields_are_refused_unless_they_ask_for_nothing() {
    let server = Server::start("diffugpt-s", &[]);
    for (field, value) in [
        ("best_of", json!(3)),
        ("response_format", json!({ "type": "json_object" })),
        ("guided_regex", json!("a+")),
        ("tools", json!([{}])),
        ("use_beam_search", json!("yes")),
    ] {
        let mut body = json!({ "prompt": "a" });
        body[field] = value;
        let refused = server.post(COMPLETIONS, &body).await.refusal(400, "unsupported_parameter");
        assert_eq!(refused["param"], field);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_model_is_404_and_none_is_the_one_served() {
    let server = Server::start("diffugpt-s", &[]);
    for (path, field) in [(COMPLETIONS, "prompt"), (FILL, "prefix")] {
        for model in ["gpt-4", "diffugpt-S", "x\u{1b}[31m\r\nred", &"long".repeat(10_000)] {
            let refused = server.post(path, &json!({ field: "a", "model": model })).await;
            let refused = refused.refusal(404, "model_not_found");
            let message = refused["message"].as_str().unwrap();
            assert!(message.contains("diffugpt-s") && message.len() < 200, "{message}");
            assert!(!message.contains(char::is_control), "{message}");
            assert_eq!(refused["param"], "model");
        }
        for model in [json!("diffugpt-s"), json!(""), Value::Null] {
            server.ok(path, &json!({ field: "a", "model": model })).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_product_of_all_factors_is_bounded() {
    let server = Server::start("diffugpt-s", &["--max-cost", "1200"]);
    // A position of context, ten given and ten generated, ten evaluations, six samples.
    let ids = vec![5; 10];
    let cost = |n: u64, prompts: usize, steps: u64| json!({ "prompt": vec![ids.clone(); prompts], "max_tokens": 10, "n": n, "diffusion": { "steps": steps } });
    for fits in [cost(6, 1, 512), cost(3, 2, 10), cost(8, 1, 7)] {
        server.ok(COMPLETIONS, &fits).await;
    }
    for over in [cost(7, 1, 512), cost(2, 4, 10), cost(8, 8, 1)] {
        let refused = server.post(COMPLETIONS, &over).await.refusal(400, "request_too_expensive");
        assert!(refused["message"].as_str().unwrap().contains("1200"), "{refused}");
    }
    // In confidence order every round counts.
    let ranked = json!({ "prompt": ids, "max_tokens": 10,
                         "diffusion": { "steps": 61, "order": "confidence" } });
    server.post(COMPLETIONS, &ranked).await.refusal(400, "request_too_expensive");
    // Guidance computes every canvas twice.
    let guided = |n: u64| with(&cost(n, 1, 10), json!({ "diffusion": { "steps": 10, "guidance": 1 } }));
    server.ok(COMPLETIONS, &guided(3)).await;
    server.post(COMPLETIONS, &guided(4)).await.refusal(400, "request_too_expensive");
    // So does every length that is filled: up to 12 positions behind two, as many evaluations of each.
    let searched = |candidates: u64, n: u64| {
        json!({ "prefix": "a", "length": { "min": 13 - candidates, "max": 12 }, "n": n,
                                                     "length_search": { "candidates": candidates } })
    };
    server.ok(FILL, &searched(3, 6)).await;
    server.post(FILL, &searched(3, 8)).await.refusal(400, "request_too_expensive");
    server.ok(FILL, &searched(5, 5)).await;
    server.post(FILL, &searched(5, 8)).await.refusal(400, "request_too_expensive");
    let fill = json!({ "prefix": "a", "length": 40 });
    server.post(FILL, &fill).await.refusal(400, "request_too_expensive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_set_by_flags_hold() {
    let flags =
        ["--max-steps", "4", "--max-samples", "2", "--max-prompts", "2", "--max-generated-tokens", "8"];
    let server = Server::start("diffugpt-s", &flags);
    for (fields, param) in [
        (json!({ "diffusion": { "steps": 5 } }), "diffusion.steps"),
        (json!({ "n": 3 }), "n"),
        (json!({ "prompt": ["a", "b", "c"] }), "prompt"),
        (json!({ "max_tokens": 9 }), "max_tokens"),
    ] {
        let body = with(&json!({ "prompt": "a" }), fields);
        assert_eq!(server.post(COMPLETIONS, &body).await.refusal(400, "out_of_range")["param"], param);
    }
    let whole = json!({ "prompt": ["a", "b"], "n": 2, "diffusion": { "steps": 4 } });
    assert_eq!(server.ok(COMPLETIONS, &whole).await["diffusion"]["generated_tokens"], 32);
    let limits = server.get("/v1/models").await.json()["data"][0]["limits"].clone();
    assert_eq!(
        (&limits["steps"], &limits["generated_tokens"], &limits["n"]),
        (&json!(4), &json!(8), &json!(2))
    );
    assert_eq!(
        (&limits["stops"], &limits["stop_bytes"], &limits["holes"]),
        (&json!(32), &json!(256), &json!(64))
    );
}
