//! SDAR, LLaDA2, Fast-dLLM v2 and Stable-DiffCoder over HTTP: networks whose attention is causal between blocks.

use serde_json::{Value, json};

use crate::completions::with;
use crate::harness::{Server, golden};
use crate::sse;

const PATH: &str = "/v1/completions";

/// Golden models, their presets, the positions of a block, and the ends of a text.
const MODELS: [(&str, &str, u64, [u32; 2]); 4] = [
    ("sdar", "sdar", 4, [560, 562]),
    ("llada2", "llada2", 32, [561, 567]),
    ("fast-dllm-v2", "fast_dllm_v2", 8, [560, 562]),
    ("stable-diffcoder", "stable_diffcoder", 4, [560, 560]),
];

fn body(length: u64) -> Value {
    json!({ "prompt": "The ship sails", "max_tokens": length, "seed": 3, "ignore_eos": true })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rule_of_the_authors_is_the_default_and_is_shown() {
    for (model, preset, block, _) in MODELS {
        let server = Server::start(model, &[]);
        let entry = server.get("/v1/models").await.json()["data"][0].clone();
        assert_eq!(entry["diffusion"]["family"], model);
        assert_eq!(entry["diffusion"]["attention"], "block_causal", "{model}");
        assert_eq!(entry["diffusion"]["block_lengths"], json!([block, block]), "{model}");
        assert_eq!(entry["sampling_defaults"]["preset"], preset, "{model}");
        assert_eq!(entry["sampling_defaults"]["steps"], block, "{model}");
        let answer = server.ok(PATH, &body(40)).await;
        let report = &answer["diffusion"];
        let shown =
            ["window", "commit_rule", "order"].map(|field| report[field].as_str().unwrap().to_owned());
        let order = if model == "stable-diffcoder" { "model_confidence" } else { "confidence" };
        assert_eq!(shown, ["block", "per_block", order], "{model}: {report}");
        assert_eq!((&report["block_length"], &report["steps"]), (&json!(block), &json!(block)), "{model}");
        assert_eq!(answer["usage"]["completion_tokens"], 40, "{model}");
        assert_eq!(answer["choices"][0], server.ok(PATH, &body(40)).await["choices"][0], "{model}");
        // The canvas grows: no evaluation computes what comes after its block.
        let passes = report["forward_passes"].as_u64().unwrap();
        let whole = (answer["usage"]["prompt_tokens"].as_u64().unwrap() + 40).next_multiple_of(block);
        assert!(report["rows_computed"].as_u64().unwrap() < passes * whole, "{model}: {report}");
    }
}

/// Rules of other families in blocks: those that cross blocks are refused in the words of the request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_goes_through_the_blocks_or_is_refused_by_name() {
    for (model, _, block, _) in MODELS {
        let server = Server::start(model, &[]);
        for preset in [
            "reference",
            "exact",
            "balanced",
            "budget",
            "dream",
            "llada",
            "threshold",
            "factor",
            "greedy",
            "sdar",
            "llada2.1",
        ] {
            let request = with(&body(12), json!({ "diffusion": { "preset": preset } }));
            let answer = server.ok(PATH, &request).await;
            assert_eq!(answer["usage"]["completion_tokens"], 12, "{model} {preset}");
            assert_eq!(answer["diffusion"]["block_length"], block, "{model} {preset}");
        }
        let parts = with(&body(12), json!({ "diffusion": { "block_length": block / 2 } }));
        let answer = server.ok(PATH, &parts).await;
        assert_eq!(answer["diffusion"]["block_length"], block / 2, "{model}");
        assert_eq!(answer["usage"]["completion_tokens"], 12, "{model}");
        for (diffusion, param) in [
            (json!({ "preset": "confidence" }), "diffusion.preset"),
            (json!({ "preset": "remdm" }), "diffusion.preset"),
            (json!({ "window": "all" }), "diffusion.window"),
            (json!({ "window": "left_to_right", "order": "margin" }), "diffusion.window"),
            (json!({ "block_length": block + 1 }), "diffusion.block_length"),
            (json!({ "preset": "exact", "editing_threshold": 0.5 }), "diffusion.editing_threshold"),
            (json!({ "revise": "none", "max_post_steps": 2 }), "diffusion.revise"),
        ] {
            let request = with(&body(12), json!({ "diffusion": diffusion }));
            let answer = server.post(PATH, &request).await;
            let error = answer.json()["error"].clone();
            assert_eq!(answer.status, 400, "{model} {diffusion}");
            assert_eq!(error["param"], param, "{model} {diffusion}: {error}");
        }
    }
}

/// The network does not see the text after a hole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_after_a_hole_is_refused_with_the_reason() {
    let (prefix, suffix) = ("def f(", ")");
    for (model, ..) in MODELS {
        let server = Server::start(model, &[]);
        for (path, request, param) in [
            ("/fill", json!({ "prefix": prefix, "suffix": suffix, "length": 4 }), "suffix"),
            ("/fill", json!({ "segments": [prefix, { "hole": "a", "length": 2 }, suffix] }), "segments"),
            ("/fill", json!({ "template": "a <fill> b" }), "template"),
            ("/infill", json!({ "input_prefix": prefix, "input_suffix": suffix }), "input_suffix"),
            (PATH, json!({ "prompt": prefix, "suffix": suffix }), "suffix"),
            ("/v1/fim/completions", json!({ "prompt": prefix, "suffix": suffix }), "suffix"),
        ] {
            let answer = server.post(path, &request).await;
            let error = answer.json()["error"].clone();
            assert_eq!((answer.status, &error["param"]), (400, &json!(param)), "{model} {path}: {error}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("causal between blocks"), "{model} {path}: {message}");
        }
        let range = json!({ "prefix": prefix, "length": { "min": 2, "max": 5 } });
        let error = server.post("/fill", &range).await.json()["error"].clone();
        assert_eq!(error["param"], "length", "{model}: {error}");
        // Without such text it goes on, and a length that is not given is a maximum.
        for request in [json!({ "prefix": prefix, "length": 4 }), json!({ "prefix": prefix })] {
            let answer = server.ok("/fill", &request).await;
            assert!(answer["choices"][0]["text"].as_str().unwrap().starts_with(prefix), "{model}: {answer}");
        }
        server.ok("/infill", &json!({ "input_prefix": prefix, "n_predict": 5 })).await;
    }
}

/// From left to right the log-probability of a text is what the network says of it; other scores need both sides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_are_scored_from_left_to_right_only() {
    for (model, ..) in MODELS {
        let server = Server::start(model, &[]);
        let scored = |score: Value| {
            json!({ "prompt": "The ship sails", "max_tokens": 0, "echo": true, "logprobs": 0,
                    "diffusion": { "score": score } })
        };
        let answer = server.ok(PATH, &scored(json!({ "mode": "chain" }))).await;
        let logprobs = answer["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap().clone();
        assert!(logprobs.iter().skip(1).all(|value| value.as_f64().unwrap() <= 0.0), "{model}: {logprobs:?}");
        for mode in ["pll", "elbo"] {
            let answer = server.post(PATH, &scored(json!({ "mode": mode }))).await;
            let error = answer.json()["error"].clone();
            assert_eq!(
                (answer.status, &error["param"]),
                (400, &json!("diffusion.score")),
                "{model} {mode}: {error}"
            );
        }
        let choices = json!({ "segments": ["The ship", { "hole": "what", "choices": [" sails", " sinks"] }],
                              "token_healing": false });
        let hole = server.ok("/fill", &choices).await["choices"][0]["holes"][0].clone();
        let shares: f64 = hole["choices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|choice| choice["probability"].as_f64().unwrap())
            .sum();
        assert!((shares - 1.0).abs() < 1e-6, "{model}: {hole}");
    }
}

/// A text ends with its block: what was asked for beyond it costs nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_leaves_later_blocks_uncomputed() {
    for (model, _, block, ends) in MODELS {
        let server = Server::start(model, &[]);
        for end in ends {
            let request = json!({ "prompt": "The ship sails", "max_tokens": 96, "token_healing": false,
                                  "logit_bias": { end.to_string(): 100 } });
            let answer = server.ok(PATH, &request).await;
            assert_eq!(answer["choices"][0]["text"], "", "{model} {end}");
            assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{model} {end}");
            assert_eq!(answer["diffusion"]["early_exit"], "eos", "{model} {end}");
            let passes = answer["diffusion"]["forward_passes"].as_u64().unwrap();
            assert!(passes <= block, "{model} {end}: {passes}");
        }
    }
}

/// Tokens of the block at work may give way to others; what has been streamed stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edited_texts_are_streamed_as_their_blocks_close() {
    for (model, ..) in MODELS {
        let server = Server::start(model, &[]);
        for early_stop in [false, true] {
            let diffusion = json!({ "preset": "llada2.1", "threshold": 0.1, "editing_threshold": 0.05,
                                    "max_post_steps": 3, "early_stop": early_stop });
            let request = with(&body(40), json!({ "temperature": 1.0, "diffusion": diffusion }));
            let plain = server.ok(PATH, &request).await;
            let report = &plain["diffusion"];
            assert_eq!(report["revise"], "edit", "{model}");
            let numbers =
                ["editing_threshold", "max_post_steps", "early_stop"].map(|field| report[field].clone());
            assert_eq!(numbers, [json!(0.05), json!(3), json!(early_stop)], "{model}");
            let streamed = with(&request, json!({ "stream": true }));
            let answer = server.post(PATH, &streamed).await;
            assert_eq!(sse::completion(&answer.body, 1).texts[0], plain["choices"][0]["text"], "{model}");
        }
    }
}

/// Whole chats as the models' templates write them, special tokens and all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chats_have_the_golden_tokens() {
    for (model, ..) in MODELS {
        let server = Server::start(model, &[]);
        let Ok(cases) = std::fs::read(golden(model).join("golden-chat.json")) else { continue };
        let file: Value = serde_json::from_slice(&cases).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let request = json!({ "messages": case["messages"], "chat_template_kwargs": case["kwargs"],
                                  "add_generation_prompt": case["add_generation_prompt"] });
            let rendered = server.ok("/apply-template", &request).await;
            assert_eq!(rendered["prompt"], case["text"], "{model}");
            let tokenized = server.ok("/tokenize", &request).await;
            assert_eq!(tokenized["tokens"], case["ids"], "{model}: {}", case["text"]);
        }
        let chat =
            json!({ "messages": [{ "role": "user", "content": "How many ships?" }], "max_tokens": 16 });
        let answer = server.ok("/v1/chat/completions", &chat).await;
        assert_eq!(answer["choices"][0]["message"]["role"], "assistant", "{model}");
    }
}
