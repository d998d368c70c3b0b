//! `unmask` without a model: it serves and verifies the one that it carries. If these failed, a newcomer's
//! first command would.

use std::process::Stdio;

use serde_json::json;

use crate::harness::{Server, unmask};
use crate::sse;

const NAME: &str = "unmask-code";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_model_the_embedded_one_is_served_under_its_name() {
    let server = Server::start_embedded();
    let models = server.get("/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], NAME);
    let answer = server.ok("/v1/completions", &json!({ "model": NAME, "prompt": "import " })).await;
    assert_eq!(answer["model"], NAME);
    let (_, log) = server.stop().await;
    let told = |line: &String| line.contains("embedded model") && line.contains("--model");
    assert!(log.iter().any(told), "the log says how to serve another: {log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn default_lengths_shrink_to_what_is_left_of_its_small_context() {
    let server = Server::start_embedded();
    let context = server.get("/v1/models").await.json()["data"][0]["max_model_len"].as_u64().unwrap();
    // Ids are taken as they are, without a document start before them: five positions are left.
    let prompt = vec![json!(5); context as usize - 5];
    let answer = server.ok("/v1/completions", &json!({ "prompt": prompt, "ignore_eos": true })).await;
    assert_eq!(
        (&answer["usage"]["completion_tokens"], &answer["diffusion"]["forward_passes"]),
        (&json!(5), &json!(5))
    );
    let file = "    def close(self):\n        pass\n\n".repeat(context as usize);
    let answer = server.ok("/fill", &json!({ "prefix": file, "suffix": file })).await;
    let hole = &answer["choices"][0]["holes"][0];
    assert_eq!((&answer["truncated"], hole["candidates"].as_array().unwrap().len()), (&json!(true), 8));
}

#[test]
fn verify_without_a_model_checks_the_embedded_one() {
    let output = unmask(&["verify"]).stdout(Stdio::piped()).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let first = out.lines().next().unwrap().split_whitespace();
    assert_eq!((first.collect::<Vec<_>>(), out.lines().last()), (vec!["model", NAME], Some("ok")), "{out}");
}

/// Cursors after a blank, which is a part of the next word's token. Values of the embedded model with healing
/// (its own, as recorded) and without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_behind_a_blank_gets_a_word() {
    let server = Server::start_embedded();
    let places = [
        ("class Stack:\n    def __len__(self):\n        return ", "\n", "self", "1"),
        ("def add(a, b):\n    return ", "\n", "a", "1"),
        ("x = ", "\nprint(x)\n", "x", "1"),
        ("import ", "\n\ndef main():\n    sys.exit(0)\n", "sys", "42"),
        (
            "from pathlib import Path\n\ndef read(path):\n    text = ",
            ".read_text()\n    return text\n",
            "self",
            "\"\"",
        ),
        ("for i in ", ":\n    print(i)\n", "range", "1"),
        ("if x is ", ":\n    return\n", "None", "0"),
        ("try:\n    import json\nexcept ", ":\n    json = None\n", "ImportError", "Value"),
        ("    raise ", "\n", "ValueError", "1"),
        ("with ", " as f:\n    text = f.read()\n", "open", "1"),
    ];
    for (prefix, suffix, healed, plain) in places {
        for (healing, expected) in [(true, healed), (false, plain)] {
            let body = json!({ "prefix": prefix, "suffix": suffix, "length": 1, "temperature": 0, "token_healing": healing });
            let answer = server.ok("/fill", &body).await;
            assert_eq!(answer["choices"][0]["holes"][0]["text"], expected, "{prefix:?}, healing {healing}");
            assert_eq!(answer["choices"][0]["text"], format!("{prefix}{expected}{suffix}"));
        }
    }
    let choices = json!({
        "segments": ["def get(d, key, default=", { "choices": ["None", "True", "0"] }, "):\n    return d.get(key, default)\n"],
    });
    let hole = server.ok("/fill", &choices).await["choices"][0]["holes"][0].clone();
    assert_eq!(hole["text"], "None", "{hole}");
    // An indentation is a token of its own, with all its blanks.
    let body = json!({ "prefix": "class Stack:\n    def __init__(self):\n        ", "suffix": ".items = []\n",
                       "length": 1, "temperature": 0 });
    assert_eq!(server.ok("/fill", &body).await["choices"][0]["holes"][0]["text"], "self");
    // Inside a word: its beginning and its rest are one token.
    let body = json!({ "prefix": "if default is", "suffix": ":\n    default = {}\n", "length": 1, "temperature": 0 });
    assert_eq!(
        server.ok("/fill", &body).await["choices"][0]["holes"][0]["text"],
        " None",
        "a word that is whole"
    );
}

/// A newcomer's first prompts: a text that ends at once looks like a fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_that_go_on_and_chats_are_not_empty() {
    let server = Server::start_embedded();
    for prompt in ["import numpy as np\n", "def f(x):\n", "#!/usr/bin/env python3\n"] {
        for seed in 0..4 {
            let plain = json!({ "prompt": prompt, "max_tokens": 16, "seed": seed });
            let answer = server.ok("/v1/completions", &plain).await;
            assert_ne!(answer["choices"][0]["text"], "", "{prompt} {seed}");
        }
    }
    // The family's rule is one word away, and it may end at once.
    let reference =
        json!({ "prompt": "def f(x):\n", "seed": 1, "diffusion": { "preset": "exact" }, "temperature": 0.3 });
    assert_eq!(server.ok("/v1/completions", &reference).await["choices"][0]["text"], "");
    let one = json!({ "prompt": "a = ", "max_tokens": 1, "seed": 0 });
    assert_eq!(server.ok("/v1/completions", &one).await["usage"]["completion_tokens"], 1);
}

/// Bytes that are no characters would be written into users' files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_hold_whole_characters_and_text_of_their_own() {
    let server = Server::start_embedded();
    for (prefix, suffix) in [("\r\nxé", ""), ("# Ü", "\n"), ("# 日本", "\nx = 1\n"), ("# Größe: é", "\n")]
    {
        for length in [json!(1), json!(3), json!({ "min": 1, "max": 6 })] {
            let body = json!({ "prefix": prefix, "suffix": suffix, "length": length, "seed": 1 });
            let text = server.ok("/fill", &body).await["choices"][0]["holes"][0]["text"].clone();
            assert!(!text.as_str().unwrap().ends_with('\u{fffd}'), "{prefix:?} {length}: {text}");
        }
    }
    let body = json!({ "prefix": "x = va", "suffix": "lue\n", "length": 1 });
    let hole = &server.ok("/fill", &body).await["choices"][0]["holes"][0];
    assert_ne!(hole["text"], "", "{hole}");
}

/// The first token after a healed blank spells the blank as well, and the last token before a text may spell what follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunks_log_probabilities_are_those_of_its_text() {
    let server = Server::start_embedded();
    for seed in 0..6 {
        for body in [
            json!({ "prompt": "import ", "max_tokens": 4 }),
            json!({ "prompt": "import ", "suffix": "\n\nos.path.join()", "max_tokens": 3 }),
            json!({ "prompt": "for i in ran", "suffix": "ge(3):\n", "max_tokens": 3 }),
        ] {
            let body =
                crate::completions::with(&body, json!({ "logprobs": 1, "stream": true, "seed": seed }));
            for chunk in sse::chunks(&server.post("/v1/completions", &body).await.body) {
                let Some(tokens) = chunk["choices"][0]["logprobs"]["tokens"].as_array() else { continue };
                let spelled: String = tokens.iter().map(|token| token.as_str().unwrap()).collect();
                assert_eq!(chunk["choices"][0]["text"], spelled, "{body}");
            }
        }
    }
}

/// llama.cpp's and vLLM's own fields.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn special_tokens_are_recognised_where_a_request_says_so() {
    let server = Server::start_embedded();
    let count = async |fields| server.ok("/tokenize", &fields).await["count"].as_u64().unwrap();
    assert_eq!(count(json!({ "content": "<|mask|>" })).await, 1);
    assert!(count(json!({ "content": "<|mask|>", "parse_special": false })).await > 1);
    assert!(count(json!({ "content": "a<|mask|>" })).await > 2);
    assert_eq!(count(json!({ "content": "a<|mask|>", "parse_special": true })).await, 2);
    let named = json!({ "content": "import os", "return_token_strs": true });
    assert_eq!(server.ok("/tokenize", &named).await["token_strs"], json!(["import", "Ġos"]));
}
