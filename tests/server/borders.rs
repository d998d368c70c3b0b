//! Requests as other programs write them, and files as other programs saved them.

use std::fs;

use serde_json::{Map, Value, json};

use crate::chat::start;
use crate::completions::with;
use crate::harness::{Server, unmask};
use crate::sse;
use crate::startup::copy;

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

fn user(text: &str) -> Value {
    json!([{ "role": "user", "content": text }])
}

/// Libraries save with a tokenizer what they were last called with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_truncation_cuts_no_prompt() {
    let text = "The cat sat on the mat and looked.";
    for saved in [
        json!({ "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0 }),
        json!({ "direction": "Left", "max_length": 3, "strategy": "OnlyFirst", "stride": 1 }),
    ] {
        let folder = copy("diffugpt-s");
        let path = folder.path().join("tokenizer.json");
        let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        tokenizer["truncation"] = saved;
        fs::write(&path, tokenizer.to_string()).unwrap();
        let template = fs::canonicalize(crate::harness::golden("../templates/pipes.jinja")).unwrap();
        let mut command = unmask(&["serve", "--listen", "127.0.0.1:0", "--model"]);
        command.arg(folder.path()).arg("--chat-template").arg(&template);
        let cut = Server::spawn(command);
        let whole = start("diffugpt-s", "pipes");
        for (path, body) in [
            (COMPLETIONS, json!({ "prompt": text, "max_tokens": 4, "seed": 1 })),
            (COMPLETIONS, json!({ "prompt": text, "max_tokens": 0, "echo": true, "logprobs": 1 })),
            ("/fill", json!({ "prefix": text, "suffix": " Then it ran.", "length": 3, "seed": 1 })),
            ("/fill", json!({ "segments": [text, { "hole": "a", "choices": [" It", " A long while"] }] })),
            ("/tokenize", json!({ "prompt": text })),
            (CHAT, json!({ "messages": user("Hello there"), "max_tokens": 2, "seed": 1 })),
            ("/infill", json!({ "input_prefix": text, "input_suffix": "", "n_predict": 3, "seed": 1 })),
        ] {
            let found = cut.ok(path, &body).await;
            let expected = whole.ok(path, &body).await;
            for part in ["choices", "usage", "tokens", "content", "tokens_evaluated"] {
                assert_eq!(found[part], expected[part], "{path} {part}");
            }
        }
    }
}

/// The name of a token in `top_logprobs` is one of its own, and the token that stands there is among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_alternative_has_a_name_of_its_own() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        for (path, body) in [
            (COMPLETIONS, json!({ "prompt": "x = '日本語'", "echo": true, "logprobs": 5, "max_tokens": 0 })),
            (
                COMPLETIONS,
                json!({ "prompt": "日本", "logprobs": 20, "max_tokens": 20, "n": 2, "seed": 3, "temperature": 2 }),
            ),
            (
                "/v1/fim/completions",
                json!({ "prompt": "日", "suffix": "語", "logprobs": 20, "max_tokens": 12, "seed": 4 }),
            ),
        ] {
            let plain = server.ok(path, &body).await;
            let mut answers = plain["choices"].as_array().unwrap().clone();
            if body["echo"].is_null() {
                let streamed = server.post(path, &with(&body, json!({ "stream": true }))).await;
                answers.extend(sse::chunks(&streamed.body).iter().map(|chunk| chunk["choices"][0].clone()));
            }
            let asked = body["logprobs"].as_u64().unwrap() as usize;
            let mut bytes = 0;
            for logprobs in answers.iter().map(|choice| &choice["logprobs"]).filter(|found| !found.is_null())
            {
                let list = |name: &str| logprobs[name].as_array().unwrap().clone();
                for ((token, own), top) in
                    list("tokens").iter().zip(list("token_logprobs")).zip(list("top_logprobs"))
                {
                    let token = token.as_str().unwrap();
                    assert!(!token.contains('\u{fffd}'), "{token}");
                    bytes += usize::from(token.starts_with("bytes:\\x"));
                    let Some(top) = top.as_object() else { continue };
                    assert!((asked..=asked + 1).contains(&top.len()), "{model} {path}: {top:?}");
                    assert_eq!(top.get(token), Some(&own), "{model} {path}: {token} in {top:?}");
                }
            }
            assert!(bytes > 0 || path != COMPLETIONS, "{model} {path}: no token is a part of a character");
        }
        let chat = start(model, "pipes");
        let body = json!({ "messages": user("日本語"), "logprobs": true, "top_logprobs": 20, "max_tokens": 20,
                           "seed": 5, "temperature": 2 });
        for token in chat.ok(CHAT, &body).await["choices"][0]["logprobs"]["content"].as_array().unwrap() {
            let names =
                token["top_logprobs"].as_array().unwrap().iter().map(|top| top["token"].as_str().unwrap());
            let names: std::collections::BTreeSet<&str> = names.collect();
            assert!(names.iter().all(|name| !name.contains('\u{fffd}')), "{names:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_that_would_change_the_answer_do_not_pass_without_effect() {
    let server = start("diffugpt-m", "pipes");
    for (field, asks, neutral) in [
        ("stop_token_ids", json!([5]), json!([])),
        ("allowed_token_ids", json!([5, 6]), json!(null)),
        ("bad_words", json!(["a"]), json!([])),
        ("include_stop_str_in_output", json!(true), json!(false)),
        ("prompt_logprobs", json!(1), json!(null)),
        ("skip_special_tokens", json!(false), json!(true)),
        ("truncate_prompt_tokens", json!(4), json!(null)),
        ("length_penalty", json!(0.5), json!(1)),
        ("early_stopping", json!(true), json!(false)),
        ("return_token_ids", json!(true), json!(false)),
        ("logits_processors", json!(["x"]), json!([])),
        ("function_call", json!({ "name": "f" }), json!("none")),
    ] {
        for (path, body) in [
            (COMPLETIONS, json!({ "prompt": "a", "max_tokens": 1 })),
            (CHAT, json!({ "messages": user("a"), "max_tokens": 1 })),
            ("/v1/fim/completions", json!({ "prompt": "a", "max_tokens": 1 })),
        ] {
            let given =
                |value: &Value| with(&body, Map::from_iter([(field.to_owned(), value.clone())]).into());
            let refused = server.post(path, &given(&asks)).await.refusal(400, "unsupported_parameter");
            assert_eq!(refused["param"], field);
            let passed = server.post(path, &given(&neutral)).await;
            assert_eq!(
                (passed.status, passed.header("x-ignored-params")),
                (200, ""),
                "{field}: {}",
                passed.body
            );
        }
    }
    let chat_name = json!({ "prompt": "a", "max_completion_tokens": 3, "seed": 1, "ignore_eos": true });
    assert_eq!(server.ok(COMPLETIONS, &chat_name).await["diffusion"]["generated_tokens"], 3);
    let both = with(&chat_name, json!({ "max_tokens": 9 }));
    assert_eq!(server.ok(COMPLETIONS, &both).await["diffusion"]["generated_tokens"], 3);
    let wrong = with(&chat_name, json!({ "max_completion_tokens": 4096 }));
    let refused = server.post(COMPLETIONS, &wrong).await;
    assert_eq!(refused.json()["error"]["param"], "max_completion_tokens", "{}", refused.body);
    let stops: Vec<String> = (0..32).map(|number| format!("never {number}")).collect();
    server.ok(COMPLETIONS, &json!({ "prompt": "a", "max_tokens": 1, "stop": stops })).await;
    let more: Vec<String> = (0..33).map(|number| format!("never {number}")).collect();
    let more = json!({ "prompt": "a", "stop": more });
    server.post(COMPLETIONS, &more).await.refusal(400, "out_of_range");
}

/// The last turn of an agent: what its tools said, and no more tools.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations_with_tools_end_in_an_answer() {
    let folder = copy("diffugpt-m");
    let text = "{% for m in messages %}[{{ m.role }}:{{ m.name }}:{{ m.tool_call_id }}]{{ m.content }}\
                {% for call in m.tool_calls %}<{{ call.function.name }} {{ call.function.arguments | tojson }}>\
                {% endfor %}{% endfor %}";
    fs::write(folder.path().join("chat_template.jinja"), text).unwrap();
    let mut command = unmask(&["serve", "--listen", "127.0.0.1:0", "--model"]);
    command.arg(folder.path());
    let server = Server::spawn(command);
    let call = json!({ "id": "c1", "type": "function",
                       "function": { "name": "sky", "arguments": "{\"of\": \"<|endoftext|>\"}" } });
    let body = json!({ "messages": [
        { "role": "user", "content": "Sky?" },
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "c1", "name": "sky", "content": "blue" },
    ] });
    let prompt = server.ok("/apply-template", &body).await["prompt"].clone();
    let expected = "[user::]Sky?[assistant::]<sky {\"of\": \"<|endoftext|>\"}>[tool:sky:c1]blue";
    assert_eq!(prompt, expected);
    let special = server
        .ok("/tokenize", &with(&body, json!({ "with_pieces": true, "add_special_tokens": false })))
        .await;
    let named =
        special["tokens"].as_array().unwrap().iter().filter(|token| token["piece"] == "<|endoftext|>");
    assert_eq!(named.count(), 0, "what a tool's arguments say is text");
    let last = json!({ "messages": [{ "role": "user", "content": "a" }, { "role": "assistant" },
                                    { "role": "tool", "content": "b" }],
                       "max_tokens": 2, "tool_choice": "none",
                       "tools": [{ "type": "function", "function": { "name": "sky" } }] });
    let answer = server.post(CHAT, &last).await;
    assert_eq!((answer.status, answer.header("x-ignored-params")), (200, ""), "{}", answer.body);
}

/// Clients send some variables to every model.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_that_a_template_does_not_read_are_named_in_a_header() {
    let server = start("diffugpt-m", "pipes");
    let body = json!({ "messages": user("a"), "max_tokens": 1,
                       "chat_template_kwargs": { "enable_thinking": false, "more": { "of": [1] } } });
    for path in [CHAT, "/apply-template", "/tokenize"] {
        let answer = server.post(path, &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let ignored = answer.header("x-ignored-params");
        let named = "chat_template_kwargs.enable_thinking,chat_template_kwargs.more";
        assert!(ignored.ends_with(named), "{path}: {ignored}");
    }
    for name in ["messages", "add_generation_prompt", "bos_token"] {
        let kwargs = Map::from_iter([(name.to_owned(), json!("x"))]);
        let refused = server.post(CHAT, &with(&body, json!({ "chat_template_kwargs": kwargs }))).await;
        assert_eq!(refused.refusal(400, "unknown_parameter")["param"], "chat_template_kwargs");
    }
    let file = crate::harness::golden("../templates/pipes.jinja").display().to_string();
    let strict = Server::start("diffugpt-m", &["--strict-params", "--chat-template", &file]);
    let refused = strict.post(CHAT, &body).await.refusal(400, "unknown_parameter");
    assert_eq!(refused["param"], "chat_template_kwargs.enable_thinking");
}

/// Editors cut texts by UTF-16 units.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_of_surrogate_pairs_are_repaired_for_editors_and_named_elsewhere() {
    let server = Server::start("diffugpt-s", &[]);
    for half in [r"\ud83d", r"\ude00", r"\uD83D\ud83d"] {
        let whole =
            half.replace(r"\ud83d", "\u{fffd}").replace(r"\uD83D", "\u{fffd}").replace(r"\ude00", "\u{fffd}");
        for (path, field, rest) in [
            ("/infill", "input_prefix", r#""input_suffix":"","n_predict":2,"seed":1"#),
            ("/v1/fim/completions", "prompt", r#""suffix":"b","max_tokens":2,"seed":1"#),
        ] {
            let cut = server.post_text(path, format!("{{\"{field}\":\"a{half}\",{rest}}}")).await;
            let repaired = server.post_text(path, format!("{{\"{field}\":\"a{whole}\",{rest}}}")).await;
            assert_eq!((cut.status, repaired.status), (200, 200), "{path}: {}", cut.body);
            for part in ["content", "choices"] {
                assert_eq!(cut.json()[part], repaired.json()[part], "{path}");
            }
        }
        for (path, body) in [
            (COMPLETIONS, format!("{{\"prompt\":\"a{half}\"}}")),
            (CHAT, format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"{half}\"}}]}}")),
            ("/fill", format!("{{\"prefix\":\"{half}b\"}}")),
            ("/tokenize", format!("{{\"prompt\":\"{half}\"}}")),
        ] {
            let refused = server.post_text(path, body).await.refusal(400, "invalid_json");
            let message = refused["message"].as_str().unwrap();
            assert!(message.contains("surrogate") && message.contains(&half[..6]), "{message}");
        }
    }
    let pair = server.post_text(COMPLETIONS, r#"{"prompt":"a\ud83d\ude00","max_tokens":1}"#).await;
    assert_eq!(pair.status, 200);
    let marked = "\u{feff}{\"prompt\":\"a\",\"input_prefix\":\"\",\"input_suffix\":\"\"}";
    for path in [COMPLETIONS, "/infill", "/fill", "/tokenize"] {
        let refused = server.post_text(path, marked).await.refusal(400, "invalid_json");
        assert!(refused["message"].as_str().unwrap().contains("byte order mark"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeds_have_64_bits_and_wrong_integers_are_refused() {
    let server = start("diffugpt-m", "pipes");
    for seed in ["9223372036854775808", "18446744073709551615", "-1", "-9223372036854775808", "7"] {
        for (path, body) in [
            (COMPLETIONS, format!("{{\"prompt\":\"a\",\"max_tokens\":4,\"seed\":{seed}}}")),
            (COMPLETIONS, format!("{{\"prompt\":\"a\",\"max_tokens\":4,\"random_seed\":{seed}}}")),
            (CHAT, format!("{{\"messages\":{},\"max_tokens\":4,\"seed\":{seed}}}", user("a"))),
            ("/fill", format!("{{\"prefix\":\"a\",\"length\":4,\"seed\":{seed}}}")),
        ] {
            let answer = server.post_text(path, body.clone()).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let seen = answer.json();
            assert_eq!(seen["diffusion"]["seed"].to_string(), seed, "{path}");
            let again = server.post_text(path, body).await.json();
            assert_eq!(again["choices"], seen["choices"]);
        }
    }
    for (field, value) in [
        ("seed", "18446744073709551616"),
        ("seed", "-9223372036854775809"),
        ("top_k", "18446744073709551616"),
        ("top_k", "1.5"),
        ("max_tokens", "1e30"),
        ("n", "9223372036854775808"),
    ] {
        let refused =
            server.post_text(COMPLETIONS, format!("{{\"prompt\":\"a\",\"{field}\":{value}}}")).await;
        let refused = refused.refusal(400, "invalid_type");
        let message = refused["message"].as_str().unwrap();
        let told = match field {
            // Seeds have a range of their own.
            "seed" => message.contains("from -9223372036854775808 to 18446744073709551615"),
            _ => ["is not an integer", "is out of range"].iter().any(|told| message.contains(told)),
        };
        assert!(told && !message.contains("9223372036854775807"), "{message}");
    }
}

/// `usage`, /tokenize and errors about the context count a prompt alike: without the document start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_has_one_count() {
    for (model, context) in [("diffugpt-s", 64), ("diffullama", 128)] {
        let server = Server::start(model, &[]);
        for text in ["hello", "The cat sat on the mat.", ""] {
            let counted = server.ok("/tokenize", &json!({ "prompt": text })).await["count"].as_u64().unwrap();
            let body = json!({ "prompt": text, "max_tokens": 1 });
            let usage = server.ok(COMPLETIONS, &body).await["usage"]["prompt_tokens"].as_u64().unwrap();
            let filled = json!({ "prefix": text, "length": 1, "allow_empty": true });
            let fill = server.ok("/fill", &filled).await["usage"]["prompt_tokens"].as_u64().unwrap();
            assert_eq!((counted, usage, fill), (counted, counted, counted), "{text}");
            let most = context - counted - 1;
            server.ok(COMPLETIONS, &json!({ "prompt": text, "max_tokens": most })).await;
            let long = json!({ "prompt": text, "max_tokens": most + 1 });
            if most + 1 > context {
                continue;
            }
            let refused = server.post(COMPLETIONS, &long).await.refusal(400, "context_length_exceeded");
            let message = refused["message"].as_str().unwrap();
            assert!(message.contains(&format!(": {counted} are given")), "{message}");
            assert!(message.contains("document start"), "{message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_base_urls_are_told_the_right_path() {
    let server = Server::start("diffugpt-s", &[]);
    for (path, meant) in [
        ("/chat/completions", CHAT),
        ("/completions", COMPLETIONS),
        ("/models", "/v1/models"),
        ("/v1/v1/chat/completions", CHAT),
        ("/v1/v1/v1/models", "/v1/models"),
        ("//v1/chat/completions", CHAT),
        ("/v1//completions", COMPLETIONS),
        ("/v1/chat/completions/", CHAT),
        ("/v1/completions//", COMPLETIONS),
        ("/fim/completions", "/v1/fim/completions"),
        ("/v1/tokenize", "/tokenize"),
        ("/v1/health", "/health"),
        ("/v1/apply-template", "/apply-template"),
        ("/docs/", "/docs"),
        ("/fill/", "/fill"),
    ] {
        let refused = server.raw(
            format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            .as_bytes(),
        );
        assert!(refused.starts_with("HTTP/1.1 404 "), "{path}: {refused}");
        assert!(refused.contains(&format!("use {meant}")), "{path}: {refused}");
        // The other routes do not begin with it.
        assert_eq!(refused.contains("base URL"), meant.starts_with("/v1/"), "{path}: {refused}");
    }
    for path in ["/v1", "/v1/"] {
        let refused = server.get(path).await.refusal(404, "not_found");
        assert!(refused["message"].as_str().unwrap().contains(CHAT), "{refused}");
    }
    let refused = server.get("/nowhere/at/all").await.refusal(404, "not_found");
    assert!(refused["message"].as_str().unwrap().contains("openapi.json"), "{refused}");
}

/// Clients of drafts replace the text with every chunk that has one, so an empty text must be one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_draft_stands_for_an_empty_answer_too() {
    let server = start("diffullama", "pipes");
    let mut empty = 0;
    for seed in 0..60 {
        let body = json!({ "messages": user("Hello"), "max_tokens": 6, "seed": seed, "temperature": 2,
                           "stop": ["a", "e", "i", "o", "u", " ", "▁"] });
        let plain = server.ok(CHAT, &body).await["choices"][0]["message"]["content"].clone();
        let answer = server.post(CHAT, &with(&body, json!({ "diffusing": true }))).await;
        let mut shown = Value::Null;
        for chunk in sse::chunks(&answer.body) {
            if chunk["diffusion_meta"]["diffusion_content"] == true {
                let text = &chunk["choices"][0]["delta"]["content"];
                assert!(text.is_string(), "{chunk}");
                shown = text.clone();
            }
        }
        assert_eq!(shown, plain, "seed {seed}");
        empty += usize::from(plain == "");
    }
    assert!(empty > 0, "no answer is empty");
}

/// The check of a balancer: HTTP/1.0 without `Host`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_are_answered_as_all_that_probe_send_them() {
    let server = Server::start("diffugpt-s", &[]);
    for path in ["/ready", "/live", "/health", "/metrics"] {
        for request in [
            format!("GET {path} HTTP/1.0\r\n\r\n"),
            format!("GET {path} HTTP/1.0\r\nUser-Agent: HAProxy\r\n\r\n"),
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: close\r\n\r\n"),
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost.\r\nUser-Agent: kube-probe/1.31\r\nConnection: close\r\n\r\n"
            ),
            format!("GET {path} HTTP/1.1\r\nHost: host.docker.internal:8080\r\nConnection: close\r\n\r\n"),
            format!("GET {path} HTTP/1.1\r\nHost: 0.0.0.0:8080\r\nConnection: close\r\n\r\n"),
        ] {
            let answer = server.raw(request.as_bytes());
            assert!(answer.starts_with("HTTP/1.") && answer[8..].starts_with(" 200 "), "{request}: {answer}");
        }
    }
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let request = format!("GET /version HTTP/1.1\r\nHost: {}:8080\r\nConnection: close\r\n\r\n", name.trim());
    let answer = server.raw(request.as_bytes());
    assert!(answer.contains(" 200 OK"), "{request}: {answer}");
    let foreign = "GET /ready HTTP/1.0\r\nHost: evil.example\r\n\r\n";
    assert!(server.raw(foreign.as_bytes()).contains(" 403 "));
}
