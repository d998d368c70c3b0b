//! LLaDA, Dream and LLaDA-MoE over HTTP: their own rules, templates, ends and position 0.

use serde_json::{Value, json};

use crate::harness::{Server, golden};

/// Golden models, and the preset and order that they are sampled with when a request says nothing.
const FAMILIES: [(&str, &str, &str, &str); 3] = [
    ("llada", "llada", "model_confidence", "evaluations"),
    ("dream", "dream", "entropy", "dream_schedule"),
    ("llada-moe", "llada", "model_confidence", "evaluations"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_family_s_own_rule_is_the_default_and_is_shown() {
    for (model, preset, order, quota) in FAMILIES {
        let server = Server::start(model, &[]);
        let entry = server.get("/v1/models").await.json()["data"][0].clone();
        assert_eq!(entry["diffusion"]["family"], model);
        assert_eq!(entry["sampling_defaults"]["preset"], preset, "{model}");
        assert_eq!(entry["sampling_defaults"]["order"], order, "{model}");
        let request = json!({ "prompt": "The ship", "max_tokens": 12, "ignore_eos": true,
                              "token_healing": false });
        let answer = server.ok("/v1/completions", &request).await;
        let report = &answer["diffusion"];
        assert_eq!((&report["order"], &report["commit_rule"]), (&json!(order), &json!(quota)), "{model}");
        assert_eq!(answer["usage"]["completion_tokens"], 12, "{model}");
        // Steps that commit nothing are not made.
        assert!(report["forward_passes"].as_u64().unwrap() <= 12, "{model}: {report}");
        let threshold = json!({ "prompt": "The ship", "max_tokens": 12, "ignore_eos": true,
                                "diffusion": { "threshold": 0.2, "order": "model_confidence" } });
        let answer = server.ok("/v1/completions", &threshold).await;
        assert_eq!(answer["diffusion"]["commit_rule"], "threshold", "{model}");
    }
}

/// Nothing is put before a text; where a prefix is empty, position 0 is generated like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_are_filled_from_position_0_on() {
    for (model, ..) in FAMILIES {
        let server = Server::start(model, &[]);
        for (prefix, suffix) in [("", ""), ("", " ships"), ("The", " ships"), ("The ", "")] {
            let request = json!({ "prefix": prefix, "suffix": suffix, "length": 6, "seed": 3,
                                  "allow_empty": true });
            let answer = server.ok("/fill", &request).await;
            let text = answer["choices"][0]["text"].as_str().unwrap_or_default().to_owned();
            assert!(text.starts_with(prefix) && text.ends_with(suffix), "{model}: {answer}");
        }
        let counted = server.ok("/tokenize", &json!({ "content": "The ship", "add_special": true })).await;
        let plain = server.ok("/tokenize", &json!({ "content": "The ship", "add_special": false })).await;
        assert_eq!(counted["tokens"], plain["tokens"], "{model}");
    }
}

/// Whole chats as the models' templates write them, special tokens and all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chats_have_the_golden_tokens() {
    for (model, ..) in FAMILIES {
        let server = Server::start(model, &[]);
        let path = golden(model).join("golden-chat.json");
        let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let request = json!({ "messages": case["messages"],
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

/// The end of a turn ends a text like the end of a document; either may be banned or distrusted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_of_a_text_ends_it() {
    for (model, eos, turn) in [("llada", 601, 611), ("dream", 600, 602), ("llada-moe", 561, 567)] {
        let server = Server::start(model, &[]);
        for end in [eos, turn] {
            let request = json!({ "prompt": "The ship", "max_tokens": 8, "token_healing": false, "logit_bias": { end.to_string(): 100 } });
            let answer = server.ok("/v1/completions", &request).await;
            assert_eq!(answer["choices"][0]["text"], "", "{model} {end}");
            assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{model} {end}");
            let mut banned = request.clone();
            banned["ignore_eos"] = json!(true);
            let answer = server.ok("/v1/completions", &banned).await;
            assert_eq!(answer["usage"]["completion_tokens"], 8, "{model} {end}");
        }
        let distrust = json!({ "prompt": "The ship", "max_tokens": 8, "diffusion": { "eos": "distrust" } });
        server.ok("/v1/completions", &distrust).await;
    }
}
