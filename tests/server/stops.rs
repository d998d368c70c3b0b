//! Stop strings: the text ends before the first of them, also when it is cut into chunks.

use serde_json::{Value, json};

use crate::completions::with;
use crate::harness::Server;
use crate::sse;

/// Pieces of `text`: `count` characters from each start, where the text has that many.
fn pieces(text: &str, starts: &[usize], count: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let piece = |start: &usize| characters.get(*start..start + count).map(|piece| piece.iter().collect());
    starts.iter().filter_map(piece).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_ends_before_the_first_stop_string() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        for seed in 0..4 {
            let body = json!({ "prompt": "The cat", "max_tokens": 30, "seed": seed, "temperature": 0.5 });
            let whole = server.ok("/v1/completions", &body).await["choices"][0]["text"].clone();
            let whole = whole.as_str().unwrap();
            for count in [1, 2, 5, 9] {
                for stop in pieces(whole, &[0, 3, 8, 20], count) {
                    assert_stops(&server, &body, whole, &[stop.as_str(), "never in there"]).await;
                }
            }
            assert_stops(&server, &body, whole, &["never in there"]).await;
        }
    }
}

async fn assert_stops(server: &Server, body: &Value, whole: &str, stops: &[&str]) {
    let stopped = with(body, json!({ "stop": stops }));
    let plain = server.ok("/v1/completions", &stopped).await;
    let choice = &plain["choices"][0];
    let cut = stops.iter().filter_map(|stop| whole.find(stop)).min();
    assert_eq!(choice["text"], whole[..cut.unwrap_or(whole.len())], "{stops:?}");
    if cut.is_some() {
        assert_eq!(choice["finish_reason"], "stop");
    }
    let answer = server.post("/v1/completions", &with(&stopped, json!({ "stream": true }))).await;
    let stream = sse::completion(&answer.body, 1);
    assert_eq!(stream.texts[0], choice["text"], "{stops:?}");
    assert_eq!(json!(stream.reasons[0]), choice["finish_reason"]);
    assert!(stops.iter().all(|stop| !stream.texts[0].contains(stop)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_ends_before_the_first_stop_string() {
    let server = Server::start("diffullama", &[]);
    let body = json!({ "prefix": "The ", "suffix": " end", "length": 24, "seed": 5 });
    let whole = server.ok("/fill", &body).await["choices"][0]["holes"][0]["text"].clone();
    let whole = whole.as_str().unwrap();
    for stop in pieces(whole, &[0, 2, 9], 3) {
        let answer = server.ok("/fill", &with(&body, json!({ "stop": stop }))).await;
        let choice = &answer["choices"][0];
        let left = &whole[..whole.find(&stop).unwrap()];
        assert_eq!(
            (&choice["holes"][0]["text"], &choice["holes"][0]["finish_reason"]),
            (&json!(left), &json!("stop"))
        );
        assert_eq!(choice["text"], format!("The {left} end"));
        assert_eq!(answer["usage"]["completion_tokens"], choice["holes"][0]["tokens"]);
        assert_eq!(choice["score"].is_null(), left.is_empty());
    }
}
