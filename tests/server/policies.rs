//! Decision rules over HTTP: presets, single fields, what they resolve to, and how they end.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::completions::with;
use crate::harness::Server;
use crate::sse::{self, data_lines};

const PATH: &str = "/v1/completions";
const BODY: &str = r#"{"prompt": "The cat", "max_tokens": 24, "seed": 5}"#;

fn body() -> Value {
    serde_json::from_str(BODY).unwrap()
}

/// A preset with `steps`, where it has any: elsewhere they would do nothing, and are refused.
fn preset_of(name: &str, steps: u64) -> Value {
    let without = ["exact", "budget", "threshold", "factor", "greedy", "left_to_right"].contains(&name);
    if without { json!({ "preset": name }) } else { json!({ "preset": name, "steps": steps }) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_preset_answers_repeats_itself_and_says_what_it_was() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        for (preset, order, quota) in [
            ("reference", "random", "rounds"),
            ("exact", "permutation", "count"),
            ("balanced", "permutation", "balanced"),
            ("budget", "permutation", "entropy"),
            ("confidence", "confidence", "reference_top_k"),
            ("dream", "entropy", "dream_schedule"),
            ("llada", "model_confidence", "evaluations"),
            ("threshold", "model_confidence", "threshold"),
            ("factor", "model_confidence", "factor"),
            ("remdm", "random", "rounds"),
            ("greedy", "confidence", "count"),
            ("left_to_right", "position", "count"),
        ] {
            let request = with(&body(), json!({ "diffusion": preset_of(preset, 8), "ignore_eos": true }));
            let first = server.ok(PATH, &request).await;
            let again = server.ok(PATH, &request).await;
            assert_eq!(first["choices"], again["choices"], "{preset}");
            let report = &first["diffusion"];
            assert_eq!(
                (report["order"].as_str(), report["commit_rule"].as_str()),
                (Some(order), Some(quota)),
                "{preset}"
            );
            assert_eq!(report["early_exit"], Value::Null, "{preset}");
            assert_eq!(first["usage"]["completion_tokens"], 24, "{preset}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_evaluations_follows_the_rule() {
    let server = Server::start("diffugpt-s", &[]);
    let passes = async |diffusion: Value| {
        let request = json!({ "diffusion": diffusion, "ignore_eos": true, "token_healing": false });
        let request = with(&body(), request);
        server.ok(PATH, &request).await["diffusion"]["forward_passes"].as_u64().unwrap()
    };
    assert_eq!(passes(json!({ "preset": "exact" })).await, 24);
    // ⌈8 · 24 / 32⌉
    assert_eq!(passes(json!({ "preset": "balanced", "steps": 8 })).await, 6);
    assert_eq!(passes(json!({ "k": 5 })).await, 5);
    assert_eq!(passes(json!({ "order": "stratified", "steps": 4 })).await, 4);
    assert_eq!(passes(json!({ "preset": "llada", "block_length": 8, "steps": 6 })).await, 6);
    assert_eq!(passes(json!({ "window": "left_to_right", "order": "confidence", "k": 1 })).await, 24);
    assert_eq!(passes(json!({ "entropy_budget": 1e9 })).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impossible_combinations_are_refused_by_name() {
    let server = Server::start("diffugpt-s", &[]);
    for (diffusion, fields) in [
        (json!({ "preset": "reference", "threshold": 0.5 }), ["reference", "threshold"]),
        (json!({ "preset": "exact", "steps": 5 }), ["steps", "exact"]),
        (json!({ "k": 1, "factor": 1 }), ["k", "factor"]),
        (json!({ "window": "sliding" }), ["window", "order"]),
        (json!({ "preset": "remdm", "order": "margin" }), ["order", "commit rule"]),
    ] {
        let refused = server.post(PATH, &with(&body(), json!({ "diffusion": diffusion }))).await;
        let error = refused.refusal(400, "conflicting_fields");
        let message = error["message"].as_str().unwrap();
        assert!(fields.iter().all(|field| message.contains(field)), "{message}");
    }
    for diffusion in [json!({ "threshold": 1.5 }), json!({ "factor": 0 }), json!({ "alg_temp": -1 })] {
        server
            .post(PATH, &with(&body(), json!({ "diffusion": diffusion })))
            .await
            .refusal(400, "out_of_range");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn left_to_right_text_streams_token_by_token_and_a_revised_one_at_the_end() {
    let server = Server::start("diffullama", &[]);
    for (diffusion, most) in [
        (json!({ "window": "left_to_right", "order": "confidence", "k": 1 }), usize::MAX),
        (json!({ "preset": "remdm", "eta": 0.3, "steps": 32 }), 1),
    ] {
        let plain = with(&body(), json!({ "diffusion": diffusion, "ignore_eos": true }));
        let text = server.ok(PATH, &plain).await["choices"][0]["text"].as_str().unwrap().to_owned();
        let streamed = server.post(PATH, &with(&plain, json!({ "stream": true }))).await;
        let chunks = data_lines(&streamed.body)
            .into_iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let deltas = chunks.map(|chunk| chunk["choices"][0]["text"].as_str().unwrap().to_owned());
        let deltas: Vec<String> = deltas.filter(|text| !text.is_empty()).collect();
        assert_eq!(deltas.concat(), text);
        assert!(deltas.len() <= most, "{} deltas", deltas.len());
        assert!(most == 1 || deltas.len() > 8, "{} deltas", deltas.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_stop_string_ends_the_evaluations() {
    let server = Server::start("diffullama", &[]);
    let rule = json!({ "window": "left_to_right", "order": "confidence", "k": 1 });
    let long =
        json!({ "prompt": "The", "max_tokens": 100, "seed": 3, "diffusion": rule, "ignore_eos": true });
    let whole = server.ok(PATH, &long).await;
    assert_eq!(whole["diffusion"]["forward_passes"], 100);
    let text = whole["choices"][0]["text"].as_str().unwrap();
    let stop: String = text.chars().skip(3).take(2).collect();
    let at = text.find(&stop).unwrap();
    let cut = server.ok(PATH, &with(&long, json!({ "stop": stop }))).await;
    assert_eq!(cut["choices"][0]["text"], text[..at]);
    assert_eq!(cut["choices"][0]["finish_reason"], "stop");
    assert_eq!(cut["diffusion"]["early_exit"], "stop");
    assert!(cut["diffusion"]["forward_passes"].as_u64().unwrap() < 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_document_end_stops_evaluations_and_changes_no_earlier_text() {
    let server = Server::start("diffullama", &[]);
    let eos = 2;
    let rule = json!({ "window": "left_to_right", "order": "confidence", "k": 1 });
    // A bias makes document ends likely without making them certain.
    let request = json!({ "prompt": "The", "max_tokens": 60, "seed": 4, "diffusion": rule,
                          "logit_bias": { eos.to_string(): 6 }, "min_tokens": 5 });
    let cut = server.ok(PATH, &request).await;
    assert_eq!(cut["diffusion"]["early_exit"], "eos");
    let kept = cut["usage"]["completion_tokens"].as_u64().unwrap();
    assert!(kept >= 5, "min_tokens holds: {kept}");
    assert_eq!(cut["diffusion"]["forward_passes"].as_u64().unwrap(), kept + 1);
    let mut ignoring = request;
    ignoring["diffusion"]["eos"] = json!("ignore");
    let whole = server.ok(PATH, &ignoring).await;
    let whole = &whole["choices"][0]["text"];
    let cut = &cut["choices"][0]["text"];
    assert!(whole.as_str().unwrap().starts_with(cut.as_str().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_penalties_biases_and_guidance_change_draws_and_stay_in_range() {
    let server = Server::start("diffugpt-s", &[]);
    let plain = server.ok(PATH, &body()).await;
    for change in [
        json!({ "top_k": 1 }),
        json!({ "min_p": 0.9 }),
        json!({ "repetition_penalty": 5.0 }),
        json!({ "frequency_penalty": 2.0, "presence_penalty": 2.0 }),
        json!({ "logit_bias": { "7": 100 } }),
        json!({ "diffusion": { "guidance": 3.0 } }),
    ] {
        let changed = server.ok(PATH, &with(&body(), change.clone())).await;
        assert_ne!(changed["choices"], plain["choices"], "{change}");
    }
    let forced = server.ok(PATH, &with(&body(), json!({ "logit_bias": { "7": 100 }, "top_k": 1 }))).await;
    let seven =
        server.ok(PATH, &with(&body(), json!({ "logit_bias": { "7": 100 }, "temperature": 0 }))).await;
    assert_eq!(forced["choices"], seven["choices"]);
    for (field, value) in [
        ("top_k", json!(-2)),
        ("min_p", json!(1.5)),
        ("repetition_penalty", json!(0)),
        ("frequency_penalty", json!(3)),
        ("presence_penalty", json!(-3)),
        ("logit_bias", json!({ "600": 1 })),
        ("logit_bias", json!({ "x": 1 })),
        ("logit_bias", json!({ "5": 101 })),
        ("min_tokens", json!(-1)),
    ] {
        server.post(PATH, &with(&body(), json!({ field: value }))).await.refusal(400, "out_of_range");
    }
}

/// The reported cost of an answer is the work that its rule needs: planned orders read every position once,
/// for any number of evaluations, and nothing is padded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_work_is_reported_and_is_no_more_than_needed() {
    let server = Server::start("diffugpt-s", &[]);
    for preset in ["reference", "exact", "balanced"] {
        let request =
            json!({ "diffusion": { "preset": preset }, "ignore_eos": true, "n": 2, "token_healing": false });
        let request = with(&body(), request);
        let answer = server.ok(PATH, &request).await;
        let report = &answer["diffusion"];
        let number = |name: &str| report[name].as_u64().unwrap();
        assert_eq!(number("logit_rows"), 48, "{preset}");
        // BOS, prompt and 24 generated positions.
        let canvas = 1 + answer["usage"]["prompt_tokens"].as_u64().unwrap() + 24;
        assert_eq!(number("rows_computed"), number("forward_passes") * canvas, "{preset}");
    }
    let scored =
        json!({ "diffusion": { "preset": "dream", "order": "margin", "steps": 4 }, "ignore_eos": true });
    let answer = server.ok(PATH, &with(&body(), scored)).await;
    assert!(answer["diffusion"]["logit_rows"].as_u64().unwrap() > 24, "score orders read what is open");
}

/// The reference's unconditional runs leave position 0 open; no rule may ask the network for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_answers_an_empty_prompt_as_the_reference_does() {
    let server = Server::start("diffugpt-s", &[]);
    let presets =
        ["reference", "exact", "balanced", "budget", "confidence", "dream", "llada", "threshold", "remdm"];
    for preset in presets {
        for (length, reproduce) in [(1, true), (2, true), (17, true), (1, false), (17, false)] {
            let diffusion = with(&preset_of(preset, 6), json!({ "reproduce": reproduce }));
            let request = json!({ "prompt": "", "max_tokens": length, "seed": 1, "ignore_eos": true,
                                  "diffusion": diffusion });
            let answer = server.ok(PATH, &request).await;
            assert_eq!(answer["usage"]["completion_tokens"], length, "{preset} {length} {reproduce}");
        }
    }
}

/// A viewer that asks for drafts sees the text that everybody else gets, and a guess wherever nothing stands yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drafts_cover_what_is_open_and_change_nothing() {
    let server = Server::start("diffugpt-s", &[]);
    for preset in
        ["reference", "exact", "budget", "confidence", "dream", "llada", "threshold", "remdm", "greedy"]
    {
        let diffusion = preset_of(preset, 8);
        let request = with(&body(), json!({ "diffusion": diffusion, "ignore_eos": true }));
        let plain = server.ok(PATH, &request).await;
        let drafted = with(&diffusion, json!({ "stream_states": "draft" }));
        let streamed = with(&request, json!({ "stream": true, "diffusion": drafted }));
        let answer = server.post(PATH, &streamed).await;
        assert_eq!(sse::completion(&answer.body, 1).texts[0], plain["choices"][0]["text"], "{preset}");
        let mut open: BTreeSet<u64> = (0..24).collect();
        let mut guesses = 0;
        for state in sse::states(&answer.body).iter().filter(|state| state["type"] == "step") {
            for position in state["positions"].as_array().unwrap() {
                open.remove(&position.as_u64().unwrap());
            }
            // What is masked again was not read as open by the evaluation before.
            let again: BTreeSet<u64> =
                state["remasked"].as_array().into_iter().flatten().map(|at| at.as_u64().unwrap()).collect();
            let guessed: BTreeSet<u64> = state["draft"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|guess| guess[0].as_u64().unwrap())
                .collect();
            if preset == "reference" || preset == "exact" {
                assert_eq!(guessed, open, "{preset}: {state}");
            }
            open.extend(again);
            assert!(guessed.is_subset(&open), "{preset}: {state}");
            guesses += guessed.len();
        }
        assert!(guesses > 0, "{preset}");
    }
}
