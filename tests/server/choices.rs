//! `/fill` holes with `choices`: typed decisions.

use serde_json::{Value, json};

use crate::completions::with;
use crate::fill::lasting;
use crate::harness::Server;
use crate::holes::assert_left;
use crate::sse;

fn decided(answer: &Value, hole: usize) -> Value {
    answer["choices"][0]["holes"][hole].clone()
}

fn floats(hole: &Value, field: &str) -> Vec<f64> {
    hole["choices"].as_array().unwrap().iter().map(|choice| choice[field].as_f64().unwrap()).collect()
}

/// At the end of a text an alternative's log-probability is the one that the same text gets from scoring.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_choice_is_as_probable_as_scoring_says() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        let choices = ["e", " on the mat", " quickly", "\n"];
        let fill = json!({ "segments": ["The cat", { "hole": "what", "choices": choices }], "token_healing": false });
        let hole = decided(&server.ok("/fill", &fill).await, 0);
        let logprobs = floats(&hole, "logprob");
        let tokens = |text: &str| json!({ "prompt": text, "add_special_tokens": text == "The cat" });
        let before = server.ok("/tokenize", &tokens("The cat")).await["tokens"].as_array().unwrap().clone();
        for (choice, logprob) in choices.iter().zip(&logprobs) {
            // As a piece: what a tokenizer puts before a text is not wanted between two.
            let marked = server.ok("/tokenize", &tokens(&format!("\n{choice}"))).await;
            let newline = server.ok("/tokenize", &tokens("\n")).await;
            let skip = newline["tokens"].as_array().unwrap().len();
            let alternative = &marked["tokens"].as_array().unwrap()[skip..];
            let prompt: Vec<&Value> = before.iter().chain(alternative).collect();
            let score = json!({ "prompt": prompt, "max_tokens": 0, "echo": true, "logprobs": 0,
                                "diffusion": { "score": { "from": before.len() } } });
            let score = server.ok("/v1/completions", &score).await["diffusion"]["score"].clone();
            let total = score["prompts"][0]["total"].as_f64().unwrap();
            assert!((total - logprob).abs() < 1e-4, "{choice:?}: {logprob}, not {total}");
        }
        let best = logprobs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let winner = logprobs.iter().position(|logprob| *logprob == best).unwrap();
        assert_eq!((&hole["text"], &hole["finish_reason"]), (&json!(choices[winner]), &json!("chosen")));
        let mut shares = floats(&hole, "probability");
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!((shares[winner] / shares[0] - (best - logprobs[0]).exp()).abs() < 1e-9 / shares[0]);
        shares.sort_by(|a, b| b.total_cmp(a));
        assert!((hole["margin"].as_f64().unwrap() - (shares[0] - shares[1])).abs() < 1e-12);
    }
}

/// Users ask for this because it is cheap: any number of decisions of one token costs one evaluation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_of_one_token_share_an_evaluation() {
    let server = Server::start("diffugpt-s", &[]);
    let choice = json!({ "choices": ["a", "b", "c"] });
    let body = json!({ "segments": ["The ", choice, " cat ", choice, " sat ", choice, "."] });
    let before = server.health().await.evaluations.unwrap();
    let answer = server.ok("/fill", &body).await;
    assert_eq!(answer["diffusion"]["batch_peak"], 9);
    assert_eq!(answer["diffusion"]["forward_passes"], 9, "logical ones, one per alternative");
    assert_eq!(server.health().await.evaluations, Some(before + 1));
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    assert_eq!(server.ok("/fill", &body).await["choices"], answer["choices"], "no chance is in it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_decided_stands_when_the_rest_is_generated() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        let animal = json!({ "hole": "animal", "choices": [" cat", " dog", " 🐈‍⬛ ünï"] });
        let place = json!({ "hole": "where", "length": { "min": 2, "max": 5 } });
        let end = json!({ "hole": "end", "choices": ["\n", " \r\n"] });
        let mut body = json!({ "segments": ["The", animal, " sat", place, ".", end], "seed": 5, "n": 2 });
        // What is written out is text, whose edges would be healed.
        body["token_healing"] = json!(false);
        let answer = server.ok("/fill", &body).await;
        assert_left(&answer, &["The", " sat", ".", ""]);
        let hole = decided(&answer, 0);
        assert!([" cat", " dog", " 🐈‍⬛ ünï"].iter().any(|choice| hole["text"] == *choice));
        assert_eq!(answer["choices"][1]["holes"][0], hole);
        // The same request with the decisions written out; GPT-2's tokens never reach across a space.
        if model == "diffugpt-s" {
            let text = |number: usize| decided(&answer, number)["text"].clone();
            let written = json!(["The", text(0), " sat", place, ".", text(2)]);
            let written = server.ok("/fill", &with(&body, json!({ "segments": written }))).await;
            assert_eq!(answer["choices"][1]["holes"][1]["text"], written["choices"][1]["holes"][0]["text"]);
        }
        let fixed = with(
            &body,
            json!({ "segments": ["The", animal, " sat", { "hole": "where", "length": 3 }, "."] }),
        );
        let plain = server.ok("/fill", &fixed).await;
        let stream = server.post("/fill", &with(&fixed, json!({ "stream": true }))).await;
        let events = sse::native(&stream.body);
        assert_eq!(lasting(&events.last().unwrap().1), lasting(&plain));
        let first = events.iter().position(|event| event.0 == "fill.hole").unwrap();
        assert_eq!(events[first].1["id"], "animal");
        assert_eq!(
            events[1].1["state"]["holes"],
            json!([{ "id": "where", "position": 0, "length": 3 }]),
            "only this one is denoised"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn choices_that_are_none_are_refused_with_the_field() {
    let server = Server::start("diffugpt-s", &[]);
    let many: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    for (hole, code) in [
        (json!({ "choices": [] }), "out_of_range"),
        (json!({ "choices": many }), "out_of_range"),
        (json!({ "choices": [""] }), "out_of_range"),
        (json!({ "choices": ["a", "a"] }), "out_of_range"),
        (json!({ "choices": ["x".repeat(1025)] }), "out_of_range"),
        (json!({ "choices": ["a"], "length": 2 }), "conflicting_fields"),
        (json!({ "choices": ["a"], "stop": "b" }), "conflicting_fields"),
        (json!({ "choices": ["a"], "temperature": 0 }), "conflicting_fields"),
    ] {
        let error = server.post("/fill", &json!({ "segments": ["a", hole] })).await.refusal(400, code);
        assert_eq!(error["param"], "segments[1].choices", "{hole}");
    }
    let long = json!({ "segments": ["a", { "choices": ["word ".repeat(200)] }] });
    server.post("/fill", &long).await.refusal(400, "context_length_exceeded");
    let typed = json!({ "segments": ["a", { "choices": "b" }] });
    server.post("/fill", &typed).await.refusal(400, "invalid_type");
}
