//! A model's own settings for holes, texts that go on, and chats.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::completions::with;
use crate::harness::{Server, unmask};
use crate::startup::{assert_last_line, copy};

const FILL: &str = "/fill";
const COMPLETE: &str = "/v1/completions";

/// A model with an own `generation_config.json`.
fn folder(settings: &Value) -> TempDir {
    let folder = copy("diffugpt-s");
    fs::write(folder.path().join("generation_config.json"), settings.to_string()).unwrap();
    folder
}

fn serve(folder: &TempDir) -> std::process::Command {
    let mut command = unmask(&["serve", "--listen", "127.0.0.1:0", "--model"]);
    command.arg(folder.path());
    command
}

/// Order of commits, T and temperature of an answer.
async fn computed(server: &Server, route: &str, body: &Value) -> Value {
    let report = server.ok(route, body).await["diffusion"].clone();
    json!([report["order"], report["steps"], report["temperature"], report["top_p"]])
}

/// Settings that an adapter brings win over those of its base.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_brings_settings_of_its_own() {
    let base = copy("diffullama");
    let adapter = copy("diffullama-gsm-lora");
    let write = |folder: &TempDir, preset: &str| {
        let settings = json!({ "unmask": { "fill": { "preset": preset } } });
        fs::write(folder.path().join("generation_config.json"), settings.to_string()).unwrap();
    };
    write(&base, "exact");
    let fill = |server: Server| async move {
        let model = server.get("/v1/models").await.json()["data"][0].clone();
        model["route_defaults"]["fill"]["preset"].clone()
    };
    let with_adapter = || {
        let mut command = serve(&base);
        command.arg("--adapter").arg(adapter.path());
        Server::spawn(command)
    };
    assert_eq!(fill(with_adapter()).await, "exact");
    write(&adapter, "greedy");
    assert_eq!(fill(with_adapter()).await, "greedy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_brings_settings_of_its_own_for_each_kind_of_request() {
    let own = json!({ "fill": { "preset": "greedy" },
                      "complete": { "preset": "confidence", "steps": 7, "temperature": 0.5, "top_p": 0.8, "min_tokens": 2 } });
    // What others write into the file stays theirs.
    let server = Server::spawn(serve(&folder(&json!({ "temperature": 1.7, "unmask": own }))));
    let hole = json!({ "prefix": "The cat", "suffix": " mat.", "length": 4, "seed": 1 });
    let text = json!({ "prompt": "The cat", "max_tokens": 9, "seed": 1 });
    let greedy = json!(["confidence", null, 0.0, 0.9]);
    assert_eq!(computed(&server, FILL, &hole).await, greedy);
    assert_eq!(computed(&server, COMPLETE, &text).await, json!(["confidence", 7, 0.5, 0.8]));
    // A text with a suffix has a hole, whatever the route is called.
    let middle = with(&text, json!({ "suffix": " mat." }));
    assert_eq!(computed(&server, COMPLETE, &middle).await, greedy);
    assert_eq!(computed(&server, "/v1/fim/completions", &middle).await, greedy);
    // A request that says something of the rule says all of it.
    let reference = json!(["random", 64, 0.95, 0.9]);
    let chosen = |diffusion: Value| with(&hole, json!({ "diffusion": diffusion }));
    assert_eq!(computed(&server, FILL, &chosen(json!({ "preset": "reference" }))).await, reference);
    assert_eq!(computed(&server, FILL, &chosen(json!({ "reproduce": true }))).await, reference);
    assert_eq!(
        computed(&server, FILL, &chosen(json!({ "steps": 5 }))).await,
        json!(["random", 5, 0.95, 0.9])
    );
    // What is no part of the rule leaves it as it is.
    let every = with(&chosen(json!({ "eos": "ignore" })), json!({ "temperature": 0.2 }));
    assert_eq!(computed(&server, FILL, &every).await, json!(["confidence", null, 0.2, 0.9]));
    // Several most probable texts would be one text.
    assert_eq!(
        computed(&server, FILL, &with(&hole, json!({ "n": 2 }))).await,
        json!(["confidence", null, 0.95, 0.9])
    );
    let model = server.get("/v1/models").await.json()["data"][0].clone();
    let defaults = |preset, steps, temperature, top_p, least| json!({ "preset": preset, "steps": steps, "temperature": temperature, "top_p": top_p, "min_tokens": least });
    let fill = defaults("greedy", 64, 0.0, 0.9, 0);
    let complete = defaults("confidence", 7, 0.5, 0.8, 2);
    let family = defaults("reference", 64, 0.95, 0.9, 0);
    assert_eq!(model["route_defaults"], json!({ "fill": fill, "complete": complete, "chat": family }));
}

#[test]
fn settings_that_no_request_could_have_are_refused_at_the_start() {
    for (own, named) in [
        (json!({ "fill": { "preset": "gredy" } }), "gredy"),
        (json!({ "fil": {} }), "fil"),
        (json!({ "fill": { "temperature": 2.5 } }), "unmask.fill.temperature"),
        (json!({ "complete": { "steps": 0 } }), "unmask.complete.steps"),
        (json!({ "chat": { "top_p": -0.1 } }), "unmask.chat.top_p"),
        (json!({ "chat": { "min_tokens": 70_000 } }), "unmask.chat.min_tokens"),
        (json!([]), "`unmask`"),
        (json!({ "fill": [] }), "[]"),
    ] {
        let folder = folder(&json!({ "unmask": own }));
        assert_last_line(serve(&folder), &["generation_config.json", named]);
    }
}
