//! Whole answers as clients read them, one file each in `snapshots/`.
//!
//! `INSTA_UPDATE=always cargo test --release --workspace --test server snapshots` writes them anew. What differs from one
//! run or processor to the next stands in brackets.

use insta::assert_json_snapshot;
use serde_json::{Map, Value, json};

use crate::harness::Server;

/// Numbers that the network computes: their last digits are the processor's.
const COMPUTED: [&str; 6] = ["logprob", "mean_logprob", "probability", "margin", "score", "token_logprobs"];

/// An answer in which times, identifiers and computed numbers are names of themselves.
fn lasting(answer: Value) -> Value {
    match answer {
        Value::Object(fields) => Value::Object(fields.into_iter().map(lasting_field).collect::<Map<_, _>>()),
        Value::Array(items) => items.into_iter().map(lasting).collect(),
        other => other,
    }
}

fn lasting_field((name, value): (String, Value)) -> (String, Value) {
    let measured = name.ends_with("_ms") || name.ends_with("_second") || name == "created";
    let value = match name.as_str() {
        "id" if value.as_str().is_some_and(|id| id.len() > 16) => json!("[id]"),
        "request_id" => json!("[id]"),
        "system_fingerprint" | "version" | "build_info" => json!("[version]"),
        // The first two follow the samples that meet in an evaluation, the others the machine's memory and open files.
        "batch_peak" | "evaluations" | "limit_bytes" | "connections" => json!("[number]"),
        "top_logprobs" => computed(value),
        name if COMPUTED.contains(&name) => computed(value),
        _ if measured && value.is_number() => json!("[time]"),
        _ => lasting(value),
    };
    (name, value)
}

/// A value in which all fractions are hidden.
fn computed(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, computed(value))).collect(),
        Value::Array(items) => items.into_iter().map(computed).collect(),
        Value::Number(number) if number.is_f64() => json!("[number]"),
        other => other,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers() {
    let server = Server::start_embedded();
    let fill = json!({
        "segments": ["class Stack:\n    def __len__(self):\n        return len(", { "hole": "object", "length": 1 },
                     "._items)\n\n    def push(self, item):\n        self._items.", { "length": 1 }, "(item)\n"],
        "seed": 7, "temperature": 0,
    });
    let choices = json!({
        "segments": ["def __init__(self, path=", { "choices": ["None", "True", "0"] }, "):\n    pass\n"], "seed": 7,
    });
    let completion = json!({ "prompt": "import os\nimport ", "max_tokens": 4, "seed": 7, "temperature": 0, "logprobs": 1 });
    let chat =
        json!({ "messages": [{ "role": "user", "content": "Hello!" }], "max_tokens": 4, "seed": 7, "n": 2 });
    let infill = json!({ "input_prefix": "def add(a, b):\n", "prompt": "    return ", "input_suffix": "\n", "n_predict": 8,
                         "seed": 7 });
    let fim = json!({ "prompt": "with open(path) as", "suffix": ":\n    for line in f:\n", "max_tokens": 2, "seed": 7 });
    for (name, path, body) in [
        ("fill", "/fill", fill),
        ("choices", "/fill", choices),
        ("completion", "/v1/completions", completion),
        ("chat", "/v1/chat/completions", chat),
        ("infill", "/infill", infill),
        ("fim", "/v1/fim/completions", fim),
        ("tokenize", "/tokenize", json!({ "prompt": "import os" })),
    ] {
        assert_json_snapshot!(name, lasting(server.ok(path, &body).await));
    }
    for (name, path) in [("models", "/v1/models"), ("health", "/health"), ("props", "/props")] {
        assert_json_snapshot!(name, lasting(server.get(path).await.json()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals() {
    let server = Server::start_embedded();
    for (name, path, body) in [
        ("no_prompt", "/v1/completions", json!({})),
        ("wrong_type", "/v1/completions", json!({ "prompt": "a", "temperature": "hot" })),
        ("out_of_range", "/v1/completions", json!({ "prompt": "a", "temperature": 3 })),
        ("unknown_field", "/fill", json!({ "prefix": "a", "lenght": 3 })),
        ("other_model", "/v1/completions", json!({ "prompt": "a", "model": "gpt-4" })),
        ("conflict", "/fill", json!({ "prefix": "a", "diffusion": { "preset": "exact", "steps": 8 } })),
        ("too_many_tokens", "/v1/completions", json!({ "prompt": "a", "max_tokens": 100_000 })),
        ("too_long", "/v1/completions", json!({ "prompt": "a", "max_tokens": 256 })),
    ] {
        let answer = server.post(path, &body).await;
        let refusal = json!({ "status": answer.status, "body": answer.json() });
        assert_json_snapshot!(format!("refused_{name}"), lasting(refusal));
    }
}
