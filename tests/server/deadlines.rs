//! Requests whose time is over: in the queue, while they run, and by a budget of their own.

use std::time::Duration;

use serde_json::{Value, json};

use crate::completions::with;
use crate::gated::Gated;
use crate::harness::{Answer, Server, error_object};
use crate::sse;

/// Long enough for a request to get to its first evaluation on a busy machine.
const TIME: Duration = Duration::from_millis(3000);

/// Fills left to right, one position an evaluation, so that text is settled from the first one on.
fn ordered() -> Value {
    json!({ "window": "left_to_right", "commit_rule": "count", "order": "margin" })
}

/// Sends a request and lets `evaluations` of it end, the last of them after its deadline.
async fn expire(server: &Gated, path: &str, body: &Value, evaluations: usize) -> Answer {
    let body = with(body, json!({ "timeout_ms": TIME.as_millis() as u64 }));
    let client = tokio::spawn(server.http.post(format!("{}{path}", server.url)).json(&body).send());
    for number in 1..=evaluations {
        server.begun();
        if number == evaluations {
            server.pass(TIME).await;
        }
        server.permit();
    }
    let response = client.await.unwrap().unwrap();
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    Answer { status, headers, body: response.text().await.unwrap() }
}

/// 504, a status that clients do not retry: another attempt would take as long.
fn assert_timeout(answer: &Answer) {
    let error = answer.refusal(504, "request_timeout");
    let message = error["message"].as_str().unwrap();
    let asked = TIME.as_millis();
    assert!(
        message.contains(&format!("within the {asked} ms")) && message.contains("ended after"),
        "{message}"
    );
    assert_eq!(answer.header("x-should-retry"), "false");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_its_deadline_a_completion_gives_what_is_settled() {
    let server = Gated::start(&[], Duration::MAX).await;
    let body = json!({ "prompt": "a", "max_tokens": 8, "seed": 1, "diffusion": ordered() });
    let answer = expire(&server, "/v1/completions", &body, 3).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    let choice = &answer["choices"][0];
    let report = &answer["diffusion"];
    assert!(!choice["text"].as_str().unwrap().is_empty(), "{answer}");
    assert_eq!((&choice["finish_reason"], &report["early_exit"]), (&json!("length"), &json!("timeout")));
    assert_eq!((&report["forward_passes"], &report["returned_tokens"]), (&json!(3), &json!(3)));

    let streamed = with(&body, json!({ "stream": true }));
    let stream = sse::completion(&expire(&server, "/v1/completions", &streamed, 3).await.body, 1);
    assert_eq!(stream.texts[0], choice["text"].as_str().unwrap());
    assert_eq!((&stream.reasons[0], &stream.report["early_exit"]), (&"length".to_owned(), &json!("timeout")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_its_deadline_a_fill_gives_what_is_settled() {
    let server = Gated::start(&[], Duration::MAX).await;
    let mut body = json!({ "prefix": "a", "suffix": "b", "length": 8, "seed": 1, "diffusion": ordered() });
    body["token_healing"] = json!(false);
    let answer = expire(&server, "/fill", &body, 3).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let hole = answer.json()["choices"][0]["holes"][0].clone();
    assert_eq!((&hole["finish_reason"], &hole["tokens"]), (&json!("timeout"), &json!(3)));

    let streamed = with(&body, json!({ "stream": true }));
    let events = sse::native(&expire(&server, "/fill", &streamed, 3).await.body);
    let last: Vec<&str> = events.iter().rev().take(2).map(|(name, _)| name.as_str()).collect();
    assert_eq!(last, ["fill.done", "fill.hole"]);
    assert_eq!(events.last().unwrap().1["choices"][0]["holes"][0], hole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_its_deadline_a_request_without_settled_text_has_failed() {
    let server = Gated::start(&[], Duration::MAX).await;
    // What may be taken back is not settled.
    let body = json!({ "prompt": "a", "max_tokens": 8, "seed": 1, "diffusion": { "preset": "remdm" } });
    assert_timeout(&expire(&server, "/v1/completions", &body, 2).await);
    let streamed = expire(&server, "/v1/completions", &with(&body, json!({ "stream": true })), 2).await;
    let data = sse::data_lines(&streamed.body);
    let error = error_object(&serde_json::from_str(data[data.len() - 2]).unwrap());
    assert_eq!((streamed.status, &error["code"]), (200, &json!("request_timeout")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deadline_passes_in_the_queue_too() {
    let server = Gated::start(&["--max-running", "1"], Duration::MAX).await;
    let post = |body: Value| server.http.post(format!("{}/v1/completions", server.url)).json(&body);
    let body = json!({ "prompt": "a", "max_tokens": 1, "seed": 1 });
    let first = tokio::spawn(post(body.clone()).send());
    server.begun();
    // The header says the same as the field.
    let second = tokio::spawn(post(body).header("x-request-timeout-ms", "20").send());
    server.pass(Duration::from_millis(200)).await;
    server.permit();
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    let response = second.await.unwrap().unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-should-retry"]),
        (504, &"false".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_budget_ends_with_every_position_filled() {
    let server = Server::start("diffullama", &[]);
    // Alone this takes some hundred evaluations.
    let body = json!({ "prompt": "The", "max_tokens": 120, "n": 8, "seed": 1,
                       "diffusion": { "preset": "exact", "time_budget_ms": 1 } });
    let answer = server.ok("/v1/completions", &body).await;
    let report = &answer["diffusion"];
    assert_eq!((&report["early_exit"], &report["returned_tokens"]), (&json!("time_budget"), &json!(960)));
    assert!(report["forward_passes"].as_u64().unwrap() < 8 * 60, "{report}");
    let body = json!({ "prefix": "a", "suffix": "b", "length": 60, "diffusion": { "time_budget_ms": 1 } });
    let hole = server.ok("/fill", &body).await["choices"][0]["holes"][0].clone();
    assert_eq!((&hole["finish_reason"], &hole["tokens"]), (&json!("time_budget"), &json!(60)));
    // A budget that is not needed changes nothing.
    let plain = json!({ "prompt": "The", "max_tokens": 8, "seed": 1 });
    let roomy = with(&plain, json!({ "diffusion": { "time_budget_ms": 100_000 } }));
    let (plain, roomy) =
        (server.ok("/v1/completions", &plain).await, server.ok("/v1/completions", &roomy).await);
    assert_eq!((&roomy["choices"], &roomy["diffusion"]["early_exit"]), (&plain["choices"], &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_out_of_range_are_refused_by_name() {
    let server = Server::start("diffugpt-s", &["--request-timeout", "7"]);
    assert_eq!(server.get("/v1/models").await.json()["data"][0]["limits"]["timeout_ms"], 7000);
    for path in ["/v1/completions", "/fill"] {
        let body = if path == "/fill" { json!({ "prefix": "a" }) } else { json!({ "prompt": "a" }) };
        for time in [json!(0), json!(-1), json!(7001), json!(i64::MAX)] {
            for (field, body) in [
                ("timeout_ms", with(&body, json!({ "timeout_ms": time }))),
                ("diffusion.time_budget_ms", with(&body, json!({ "diffusion": { "time_budget_ms": time } }))),
            ] {
                let error = server.post(path, &body).await.refusal(400, "out_of_range");
                assert_eq!(error["param"], field);
                assert!(error["message"].as_str().unwrap().contains("from 1 to 7000"), "{error}");
            }
        }
        for (time, code) in [
            ("0", "out_of_range"),
            ("7001", "out_of_range"),
            ("-1", "out_of_range"),
            ("1.5", "invalid_type"),
            ("soon", "invalid_type"),
            ("", "invalid_type"),
            ("99999999999999999999", "invalid_type"),
        ] {
            let request = server.http.post(format!("{}{path}", server.url)).json(&body);
            let answer = server.send(request.header("x-request-timeout-ms", time)).await;
            assert_eq!(answer.refusal(400, code)["param"], "x-request-timeout-ms", "{time}");
        }
        assert_eq!(server.post(path, &with(&body, json!({ "timeout_ms": 7000.0 }))).await.status, 200);
    }
}
