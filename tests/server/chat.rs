//! `/v1/chat/completions`, plain and streamed.

use serde_json::{Map, Value, json};

use crate::completions::with;
use crate::harness::{Server, golden};
use crate::sse;

const PATH: &str = "/v1/chat/completions";

/// A server of a golden model with one of the templates of the test data.
pub(crate) fn start(model: &str, template: &str) -> Server {
    let file = golden("../templates").join(format!("{template}.jinja")).display().to_string();
    Server::start(model, &["--chat-template", &file])
}

fn user(text: &str) -> Value {
    json!([{ "role": "user", "content": text }])
}

fn contents(answer: &Value) -> Vec<String> {
    let choices = answer["choices"].as_array().unwrap();
    choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_answer_has_the_published_shape() {
    for model in ["diffugpt-m", "diffullama"] {
        let server = start(model, "pipes");
        let body = json!({ "messages": user("Hi"), "max_tokens": 10, "seed": 7, "n": 3 });
        let answer = server.post(PATH, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let id = format!("chatcmpl-{}", answer.header("x-request-id"));
        let answer = answer.json();
        assert_eq!((&answer["id"], &answer["object"]), (&json!(id), &json!("chat.completion")));
        assert_eq!(answer["diffusion"]["generated_tokens"], 30);
        let choices = answer["choices"].as_array().unwrap();
        assert_eq!(choices.len(), 3);
        for (index, choice) in choices.iter().enumerate() {
            assert_eq!((&choice["index"], &choice["message"]["role"]), (&json!(index), &json!("assistant")));
            assert!(choice["message"]["content"].is_string());
            assert_eq!((choice.get("delta"), &choice["logprobs"]), (None, &Value::Null));
            assert!(choice["finish_reason"] == "length" || choice["finish_reason"] == "stop");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_is_a_completion_of_the_rendered_prompt() {
    for model in ["diffugpt-m", "diffullama"] {
        let server = start(model, "pipes");
        let messages = json!([{ "role": "developer", "content": "Do." },
                              { "role": "user", "content": [{ "type": "text", "text": "Hi" }] }]);
        let tokens = server.ok("/tokenize", &json!({ "messages": messages })).await;
        let given = tokens["count"].as_u64().unwrap();
        let settings = json!({ "max_tokens": 12, "seed": 3, "temperature": 1.5 });
        let chat = server.ok(PATH, &with(&settings, json!({ "messages": messages }))).await;
        let prompt = with(&settings, json!({ "prompt": tokens["tokens"] }));
        let completion = server.ok("/v1/completions", &prompt).await;
        assert_eq!(contents(&chat)[0], completion["choices"][0]["text"].as_str().unwrap());
        assert_eq!(chat["usage"]["prompt_tokens"], given, "the document start is not counted");
        assert_eq!(tokens["tokens"].as_array().unwrap().len() as u64, given + 1, "and stands there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_the_plain_answer_in_pieces() {
    for model in ["diffugpt-m", "diffullama"] {
        let server = start(model, "pipes");
        let body = json!({ "messages": user("Say something."), "max_tokens": 20, "n": 2, "seed": 3 });
        let plain = server.ok(PATH, &body).await;
        for states in ["none", "delta"] {
            let streamed = with(
                &body,
                json!({ "stream": true, "stream_options": { "include_usage": true },
                        "diffusion": { "stream_states": states } }),
            );
            let answer = server.post(PATH, &streamed).await;
            assert_eq!(answer.header("content-type"), "text/event-stream; charset=utf-8");
            let stream = sse::chat(&answer.body, 2);
            assert_eq!(stream.texts, contents(&plain));
            let reasons = plain["choices"].as_array().unwrap().iter().map(|choice| &choice["finish_reason"]);
            assert!(stream.reasons.iter().map(|reason| json!(reason)).eq(reasons.cloned()));
            assert_eq!(stream.usage.as_ref(), Some(&plain["usage"]));
            assert_eq!(stream.report["forward_passes"], plain["diffusion"]["forward_passes"]);
            if states == "delta" {
                stream.states.assert_filled(2, 20);
            } else {
                stream.states.assert_filled(0, 0);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_string_never_appears_in_an_answer() {
    let server = start("diffugpt-m", "pipes");
    let body = json!({ "messages": user("Hi"), "max_tokens": 30, "seed": 4, "ignore_eos": true });
    let whole = contents(&server.ok(PATH, &body).await).remove(0);
    let at = whole.char_indices().nth(whole.chars().count() / 2).unwrap().0;
    let stop: String = whole[at..].chars().take(2).collect();
    let stopped = with(&body, json!({ "stop": stop }));
    let plain = server.ok(PATH, &stopped).await;
    let text = &contents(&plain)[0];
    assert!(whole.starts_with(text) && !text.contains(&stop));
    assert_eq!(plain["choices"][0]["finish_reason"], "stop");
    let stream = sse::chat(&server.post(PATH, &with(&stopped, json!({ "stream": true }))).await.body, 1);
    assert_eq!(&stream.texts[0], text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canvas_without_a_size_takes_what_fits_up_to_256() {
    let server = start("diffullama", "pipes");
    let body = json!({ "messages": user("Hi"), "seed": 1 });
    let answer = server.ok(PATH, &body).await;
    let given = answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(answer["diffusion"]["generated_tokens"], 128 - 1 - given);
    let most = with(&body, json!({ "max_completion_tokens": 3, "max_tokens": 5 }));
    assert_eq!(server.ok(PATH, &most).await["diffusion"]["generated_tokens"], 3);
    let long = json!({ "messages": user(&"a b ".repeat(100)) });
    let refused = server.post(PATH, &long).await.refusal(400, "context_length_exceeded");
    assert_eq!(refused["param"], "messages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_template_the_operator_is_told_the_flag() {
    let server = Server::start("diffugpt-s", &[]);
    let refused = server.post(PATH, &json!({ "messages": user("Hi") })).await;
    let error = refused.refusal(400, "chat_template_missing");
    assert!(error["message"].as_str().unwrap().contains("--chat-template"));
    let models = server.get("/v1/models").await.json();
    assert_eq!(models["data"][0]["capabilities"], json!(["completion", "fill", "score"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_messages_are_refused_by_name() {
    let server = start("diffugpt-m", "brackets");
    let image = json!([{ "type": "text", "text": "a" },
                       { "type": "image_url", "image_url": { "url": "http://127.0.0.1:1/" } }]);
    let crowd: Value =
        (0..100_000).map(|number| (format!("k{number}"), json!(number))).collect::<Map<_, _>>().into();
    let many: Vec<Value> = (0..257).map(|_| json!({ "role": "user", "content": "" })).collect();
    let cases = [
        (json!({}), "missing_field", json!("messages")),
        (json!({ "messages": [] }), "out_of_range", json!("messages")),
        (json!({ "messages": many }), "out_of_range", json!("messages")),
        (json!({ "messages": [{ "content": "a" }] }), "missing_field", json!("messages[0].role")),
        (
            json!({ "messages": [{ "role": "robot", "content": "a" }] }),
            "invalid_type",
            json!("messages[0].role"),
        ),
        (
            json!({ "messages": [{ "role": "user", "content": null }] }),
            "missing_field",
            json!("messages[0].content"),
        ),
        (
            json!({ "messages": [{ "role": "user", "content": 1 }] }),
            "invalid_type",
            json!("messages[0].content"),
        ),
        (
            json!({ "messages": [{ "role": "user", "content": image }] }),
            "unsupported_content_type",
            json!("messages[0].content[1]"),
        ),
        (
            json!({ "messages": [{ "role": "assistant", "content": "a" }] }),
            "chat_template_error",
            json!("messages"),
        ),
        (json!({ "messages": user("a"), "tools": [{}] }), "unsupported_parameter", json!("tools")),
        (json!({ "messages": user("a"), "echo": true }), "unsupported_parameter", json!("echo")),
        (
            json!({ "messages": user("a"), "chat_template": "x" }),
            "unsupported_parameter",
            json!("chat_template"),
        ),
        (
            json!({ "messages": user("a"), "chat_template_kwargs": { "messages": [] } }),
            "unknown_parameter",
            json!("chat_template_kwargs"),
        ),
        (
            json!({ "messages": user("a"), "chat_template_kwargs": { "tokenize": true } }),
            "unknown_parameter",
            json!("chat_template_kwargs"),
        ),
        (
            json!({ "messages": user("a"), "chat_template_kwargs": crowd }),
            "out_of_range",
            json!("chat_template_kwargs"),
        ),
        (
            json!({ "messages": user("a"), "tools": [{}], "tool_choice": "required" }),
            "unsupported_parameter",
            json!("tool_choice"),
        ),
        (
            json!({ "messages": user("a"), "continue_final_message": true }),
            "conflicting_fields",
            json!("continue_final_message"),
        ),
        (json!({ "messages": user("a"), "max_tokens": 0 }), "out_of_range", json!("max_tokens")),
    ];
    for (body, code, param) in cases {
        let refused = server.post(PATH, &body).await.refusal(400, code);
        assert_eq!(refused["param"], param, "{body}: {refused}");
    }
    let error = server.post(PATH, &json!({ "messages": [{ "role": "assistant", "content": "a" }] })).await;
    assert!(
        error.json()["error"]["message"].as_str().unwrap().contains("roles must alternate"),
        "{}",
        error.body
    );
    // What asks for nothing passes.
    let neutral = json!({ "messages": user("a"), "max_tokens": 2, "tools": [], "logprobs": false,
                          "response_format": { "type": "text" }, "tool_choice": "none", "user": "u" });
    assert_eq!(server.post(PATH, &neutral).await.header("x-ignored-params"), "");
    server.ok(PATH, &neutral).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_the_assistant_is_continued_where_it_ends() {
    let server = start("diffullama", "pipes");
    let messages =
        json!([{ "role": "user", "content": "Hi" }, { "role": "assistant", "content": "Well, </s> " }]);
    let continued = json!({ "messages": messages, "continue_final_message": true });
    let prompt = server.ok("/apply-template", &continued).await["prompt"].clone();
    // The space too, which the template does not trim: message and answer are one text.
    assert_eq!(prompt, "<|user|>\nHi</s>\n<|assistant|>\nWell, </s> ");
    let sdar = Server::start("sdar", &[]);
    let code = json!({ "continue_final_message": true, "messages":
        [{ "role": "user", "content": "a" }, { "role": "assistant", "content": "def f():\n    " }] });
    let prompt = sdar.ok("/apply-template", &code).await["prompt"].clone();
    assert!(prompt.as_str().unwrap().ends_with("assistant\ndef f():\n    "), "{prompt}");
    let body = with(&continued, json!({ "max_tokens": 4, "seed": 1 }));
    assert_eq!(server.ok(PATH, &body).await["diffusion"]["generated_tokens"], 4);
}

/// Also of tokens that spell a part of a character, which no text follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_every_token_s_log_probability() {
    let server = Server::start("llada", &[]);
    for seed in [1, 3, 73, 93] {
        let body = json!({ "messages": user("hi"), "max_tokens": 12, "temperature": 1.0, "logprobs": true, "seed": seed });
        let whole = server.ok(PATH, &body).await["choices"][0]["logprobs"]["content"].clone();
        let streamed = server.post(PATH, &with(&body, json!({ "stream": true }))).await.body;
        let chunks = streamed.lines().filter_map(|line| line.strip_prefix("data: {"));
        let chunks = chunks.map(|chunk| serde_json::from_str::<Value>(&format!("{{{chunk}")).unwrap());
        let parts: Vec<Value> = chunks
            .filter_map(|chunk| Some(chunk["choices"][0]["logprobs"]["content"].as_array()?.clone()))
            .flatten()
            .collect();
        assert_eq!(json!(parts), whole, "{seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_format_ends_in_its_separator() {
    let server = Server::start("diffugpt-m", &["--chat-template", "diffullama-sft"]);
    let messages = json!([{ "role": "user", "content": "one" }, { "role": "assistant", "content": "two" },
                          { "role": "user", "content": "What is 1 + 1?" }]);
    let tokens = server.ok("/tokenize", &json!({ "messages": messages })).await["tokens"].clone();
    let question = server.ok("/tokenize", &json!({ "prompt": "What is 1 + 1?" })).await["tokens"].clone();
    let mut expected = question.as_array().unwrap().clone();
    // `sep_token` of its tokenizer_config.json.
    expected.push(json!(272));
    assert_eq!(tokens, json!(expected));
    assert!(server.ok(PATH, &json!({ "messages": messages, "seed": 1 })).await["choices"].is_array());
    let alpaca = Server::start("diffullama", &["--chat-template", "alpaca"]);
    let prompt = alpaca.ok("/apply-template", &json!({ "messages": user("Add 1 and 1.") })).await;
    let prompt = prompt["prompt"].as_str().unwrap();
    assert!(prompt.ends_with("### Instruction:\nAdd 1 and 1.\n\n### Response:\n"), "{prompt}");
}

/// Clients of Mercury replace the text with every chunk; the last draft is the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drafts_replace_each_other_and_end_in_the_answer() {
    let server = start("diffullama", "chatml");
    let body = json!({ "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 20, "seed": 8 });
    for stop in [json!(null), json!(["e", "a"])] {
        let body = with(&body, json!({ "stop": stop }));
        let plain = server.ok("/v1/chat/completions", &body).await;
        let drafts = with(&body, json!({ "diffusing": true, "stream_options": { "include_usage": true } }));
        let chunks = sse::chunks(&server.post("/v1/chat/completions", &drafts).await.body);
        let (drafts, tail) = chunks.split_at(chunks.len() - 2);
        let mut progress = 0.0;
        for draft in drafts {
            assert_eq!(draft["choices"][0]["delta"]["role"], "assistant");
            assert_eq!(draft["diffusion_meta"]["diffusion_content"], true);
            let now = draft["diffusion_meta"]["diffusion_progress"].as_f64().unwrap();
            assert!((progress..=1.0).contains(&now), "{now} after {progress}");
            progress = now;
        }
        let last = &drafts[drafts.len() - 1]["choices"][0];
        let choice = &plain["choices"][0];
        assert_eq!(last["delta"].get("content").unwrap_or(&json!("")), &choice["message"]["content"]);
        assert_eq!((&last["finish_reason"], progress), (&choice["finish_reason"], 1.0));
        assert!(
            drafts.len() > 3 && drafts[0]["choices"][0]["delta"]["content"].as_str().unwrap().contains('▒')
        );
        let closing = &tail[0]["choices"][0];
        assert_eq!((&closing["delta"], &closing["finish_reason"]), (&json!({}), &choice["finish_reason"]));
        assert_eq!((&tail[1]["choices"], &tail[1]["usage"]), (&json!([]), &plain["usage"]));
    }
    for (param, value) in [("n", json!(2)), ("stream", json!(false))] {
        let conflicting = with(&body, json!({ "diffusing": true, param: value }));
        let answer = server.post("/v1/chat/completions", &conflicting).await;
        assert_eq!(answer.refusal(400, "conflicting_fields")["param"], param);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answers_tokens_come_with_their_log_probabilities() {
    let server = start("diffullama", "chatml");
    let body = json!({ "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 8, "seed": 8,
                       "logprobs": true, "top_logprobs": 2 });
    let answer = server.ok("/v1/chat/completions", &body).await;
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(answer["usage"]["completion_tokens"], tokens.len());
    for token in &tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 2);
        assert!(top[0]["logprob"].as_f64() >= top[1]["logprob"].as_f64());
        assert!(token["logprob"].as_f64().unwrap() <= top[0]["logprob"].as_f64().unwrap());
    }
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap().clone())
        .map(|byte| byte.as_u64().unwrap() as u8)
        .collect();
    assert_eq!(answer["choices"][0]["message"]["content"], *String::from_utf8_lossy(&bytes));
    let alone = with(&body, json!({ "logprobs": false }));
    assert_eq!(
        server.post("/v1/chat/completions", &alone).await.refusal(400, "conflicting_fields")["param"],
        "top_logprobs"
    );
}
