//! Fields with values out of range or of the wrong type, one at a time.

use serde_json::{Value, json};

use crate::completions::with;
use crate::harness::Server;

const COMPLETIONS: &str = "/v1/completions";
const FILL: &str = "/fill";

/// A body that is fine but for `field`, which may lie inside `diffusion`, and is given as JSON text.
fn body(path: &str, field: &str, value: &str) -> String {
    let text = if path == FILL { r#""prefix":"a""# } else { r#""prompt":"a""# };
    let size = if path == FILL { r#","length":2"# } else { r#","max_tokens":2"# };
    let size = if field == "length" || field == "max_tokens" { "" } else { size };
    match field.strip_prefix("diffusion.") {
        Some(inner) => format!("{{{text}{size},\"diffusion\":{{\"{inner}\":{value}}}}}"),
        None => format!("{{{text}{size},\"{field}\":{value}}}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn integers_out_of_range_name_the_field() {
    let server = Server::start("diffugpt-s", &[]);
    for (path, field, most) in [
        (COMPLETIONS, "max_tokens", 1024_u64),
        (COMPLETIONS, "n", 8),
        (COMPLETIONS, "diffusion.steps", 512),
        (COMPLETIONS, "diffusion.state_every", u64::from(u32::MAX)),
        (FILL, "length", 1024),
        (FILL, "n", 8),
        (FILL, "diffusion.steps", 512),
    ] {
        let above = (most + 1).to_string();
        for value in ["-2", "0", "-0.0", "0.0", &above, "4294967296", "9223372036854775807"] {
            let refused = server.post_text(path, body(path, field, value)).await.refusal(400, "out_of_range");
            assert_eq!(refused["param"], field, "{value}");
        }
        for value in
            ["9223372036854775808", "-9223372036854775809", "1e308", "1.5", "\"5\"", "true", "[1]", "{}"]
        {
            let refused = server.post_text(path, body(path, field, value)).await.refusal(400, "invalid_type");
            assert_eq!(refused["param"], field, "{value}");
        }
        for value in ["1", "1.0", "1e0", "null"] {
            assert_eq!(server.post_text(path, body(path, field, value)).await.status, 200, "{field} {value}");
        }
    }
    // llama.cpp's editors write -1 for a default.
    server.post_text(FILL, body(FILL, "length", "-1")).await.refusal(400, "out_of_range");
    assert_eq!(server.post_text(COMPLETIONS, body(COMPLETIONS, "max_tokens", "-1")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_numbers_out_of_range_name_the_field() {
    let server = Server::start("diffugpt-s", &[]);
    for path in [COMPLETIONS, FILL] {
        for (field, most) in [("temperature", "2"), ("top_p", "1")] {
            for value in [
                "-1",
                "-1e-300",
                "2.0000000000000004",
                "2147483648",
                "9223372036854775808",
                "1e308",
                "-1e308",
            ] {
                let refused = server.post_text(path, body(path, field, value)).await;
                assert_eq!(refused.refusal(400, "out_of_range")["param"], field, "{value}");
            }
            for value in ["\"0.5\"", "true", "[]", "{}"] {
                let refused = server.post_text(path, body(path, field, value)).await;
                assert_eq!(refused.refusal(400, "invalid_type")["param"], field, "{value}");
            }
            for value in ["0", "-0.0", "1e-300", "5e-324", "0.5", most, "null"] {
                let answer = server.post_text(path, body(path, field, value)).await;
                assert_eq!(answer.status, 200, "{field} {value}: {}", answer.body);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_types_name_the_field() {
    let server = Server::start("diffugpt-s", &[]);
    for path in [COMPLETIONS, FILL] {
        for (field, values) in [
            ("model", ["1", "true", "[]"]),
            ("suffix", ["1", "{}", "[\"a\"]"]),
            ("seed", ["1.5", "\"1\"", "18446744073709551616"]),
            ("stop", ["1", "[1]", "{}"]),
            ("stream", ["1", "\"true\"", "[]"]),
            ("diffusion", ["1", "\"fast\"", "[4]"]),
            ("diffusion.order", ["1", "\"left\"", "null2"]),
            ("diffusion.stream_states", ["true", "\"all\"", "{}"]),
            ("diffusion.reproduce", ["1", "\"yes\"", "[]"]),
        ] {
            for value in values {
                let answer = server.post_text(path, body(path, field, value)).await;
                let code = if value == "null2" { "invalid_json" } else { "invalid_type" };
                let refused = answer.refusal(400, code);
                assert!(refused["param"] == field || value == "null2", "{field} {value}: {refused}");
            }
        }
    }
    for (field, value) in
        [("prefix", "1"), ("include", "\"some\""), ("truncate", "1"), ("allow_empty", "\"\"")]
    {
        let text = format!("{{\"suffix\":\"a\",\"{field}\":{value}}}");
        assert_eq!(server.post_text(FILL, text).await.refusal(400, "invalid_type")["param"], field);
    }
    for value in
        ["1", "true", "{}", "null", "[1, \"a\"]", "[[1], \"a\"]", "[1.5]", "[9223372036854775808]", "[[[1]]]"]
    {
        let answer = server.post_text(COMPLETIONS, format!("{{\"prompt\":{value}}}")).await;
        assert_eq!(answer.refusal(400, "invalid_type")["param"], "prompt", "{value}");
    }
    for value in ["[true]", "1"] {
        let text = format!("{{\"prompt\":\"a\",\"stream\":true,\"stream_options\":{value}}}");
        let refused = server.post_text(COMPLETIONS, text).await.refusal(400, "invalid_type");
        assert_eq!(refused["param"], "stream_options");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_fields_are_refused_where_they_would_matter() {
    let server = Server::start("diffugpt-s", &[]);
    for (path, body, param) in [
        (FILL, json!({ "prefix": "a", "prompt": "b" }), "prompt"),
        (FILL, json!({ "prefix": "a", "max_tokens": 5 }), "max_tokens"),
        (FILL, json!({ "prefix": "a", "": 5 }), ""),
        (FILL, json!({ "prefix": "a", "diffusion": { "stesp": 5 } }), "diffusion.stesp"),
        (COMPLETIONS, json!({ "prompt": "a", "diffusion": { "stesp": 5 } }), "diffusion.stesp"),
    ] {
        let refused = server.post(path, &body).await.refusal(400, "unknown_parameter");
        assert_eq!(refused["param"], param);
    }
}

/// The message for a wrong value uses the words of JSON and repeats no part of users' texts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_types_are_named_in_the_words_of_json() {
    let server = Server::start("diffugpt-s", &[]);
    for (path, body, message) in [
        (COMPLETIONS, "null", "the request body must be an object, not null"),
        (COMPLETIONS, "\"secret\"", "the request body must be an object, not a string"),
        (COMPLETIONS, "[]", "the request body must be an object, not a list"),
        (COMPLETIONS, r#"{"prompt":"a","stop":5}"#, "`stop` must be a string or a list of strings"),
        (COMPLETIONS, r#"{"prompt":"a","n":"secret"}"#, "`n` must be an integer, not a string"),
        (
            COMPLETIONS,
            r#"{"prompt":"a","temperature":1e300}"#,
            "`temperature` is 1e300; it must be from 0 to 2",
        ),
        (
            COMPLETIONS,
            r#"{"prompt":"a","diffusion":{"eos":"secret"}}"#,
            "`diffusion.eos` must be one of `cut`, `ignore`, `ban`, `distrust`",
        ),
        ("/detokenize", r#"{"tokens":["secret"]}"#, "`tokens[0]` must be an integer, not a string"),
        (
            COMPLETIONS,
            r#"{"prompt":"a","seed":-9223372036854775809}"#,
            "`seed` must be an integer from -9223372036854775808 to 18446744073709551615",
        ),
        (
            COMPLETIONS,
            r#"{"prompt":"a","diffusion":{"preset":"exact","preset":"greedy"}}"#,
            "`diffusion.preset` is given twice",
        ),
        (
            COMPLETIONS,
            r#"{"prompt":"a","repeat_penalty":2,"repetition_penalty":2}"#,
            "`repetition_penalty` is given twice; `repeat_penalty` is the same field",
        ),
        (
            COMPLETIONS,
            r#"{"prompt":"a","diffusion":{"factor":0}}"#,
            "`diffusion.factor` is 0; it must be above 0 and at most 1000",
        ),
        (
            "/v1/fim/completions",
            r#"{"prompt":"a","suffix":"b","max_tokens":-2}"#,
            "`max_tokens` is -2; it must be at least 1, or -1 for the usual most",
        ),
    ] {
        let error = server.post_text(path, body.to_owned()).await.json()["error"].clone();
        assert_eq!(error["message"], message, "{path} {body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_server_refuses_unknown_fields_on_every_route() {
    let server = Server::start("diffugpt-s", &["--strict-params"]);
    for (path, body) in [
        (COMPLETIONS, json!({ "prompt": "a", "max_tokens": 1 })),
        ("/v1/fim/completions", json!({ "prompt": "a", "max_tokens": 1 })),
        ("/infill", json!({ "input_prefix": "a", "n_predict": 1 })),
        ("/tokenize", json!({ "content": "a" })),
        ("/detokenize", json!({ "tokens": [1] })),
        (FILL, json!({ "prefix": "a", "length": 1 })),
    ] {
        server.ok(path, &body).await;
        let refused = server.post(path, &with(&body, json!({ "mirostat": 2 }))).await;
        assert_eq!(refused.refusal(400, "unknown_parameter")["param"], "mirostat", "{path}");
    }
    // JSON's null means absent: SDKs send back the messages that they got.
    let turns = json!({ "max_tokens": 2, "foo": null, "messages": [{ "role": "user", "content": "a", "refusal": null }] });
    let chats = Server::start("llada", &["--strict-params"]);
    let answer = chats.post("/v1/chat/completions", &turns).await;
    assert_eq!((answer.status, answer.header("x-ignored-params")), (200, ""), "{}", answer.body);
    let later = with(&turns, json!({ "bar": 1 }));
    let refused = chats.post("/v1/chat/completions", &later).await.refusal(400, "unknown_parameter");
    assert_eq!(refused["param"], "bar");
    let part = json!([{ "role": "user", "content": [{ "type": "text", "text": "a", "cache_control": { "type": "x" } }] }]);
    let parts = with(&turns, json!({ "messages": part }));
    let refused = chats.post("/v1/chat/completions", &parts).await.refusal(400, "unknown_parameter");
    assert_eq!(refused["param"], "messages[0].content[0].cache_control");
    // What is documented to do nothing is known.
    let known = json!({ "prompt": "a", "max_tokens": 1, "user": "u", "store": false, "best_of": 1 });
    assert_eq!(server.post(COMPLETIONS, &known).await.header("x-ignored-params"), "");
    let nested = json!({ "prompt": "a", "stream": true, "stream_options": { "zz": 1 } });
    let refused = server.post(COMPLETIONS, &nested).await.refusal(400, "unknown_parameter");
    assert_eq!(refused["param"], "stream_options.zz");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_without_effect_are_named_and_neutral_ones_are_not() {
    let server = Server::start("diffugpt-s", &[]);
    let body = json!({ "prompt": "a", "max_tokens": 2 });
    let ignored = async |fields: Value| {
        let answer = server.post(COMPLETIONS, &with(&body, fields)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.header("x-ignored-params").to_owned()
    };
    // What LangChain always sends.
    let langchain =
        json!({ "frequency_penalty": 0, "presence_penalty": 0, "logprobs": null, "n": 1, "seed": null });
    assert_eq!(ignored(langchain).await, "");
    let neutral = json!({ "echo": false, "best_of": 1, "top_k": -1, "min_p": 0.0, "logit_bias": {}, "user": "x",
                          "suffix": null, "repetition_penalty": 1.0, "stop": null, "tools": [], "metadata": {"a": 1} });
    assert_eq!(ignored(neutral).await, "");
    assert_eq!(ignored(json!({ "mirostat": 2, "zz": 1, "absent": null })).await, "mirostat,zz");
    let nested = json!({ "stream": true, "stream_options": { "include_usage": true, "chatty": 1 } });
    assert_eq!(ignored(nested).await, "stream_options.chatty");
    assert_eq!(ignored(json!({ "bad\r\nname": 1, "ünï": 2, "fine": 3 })).await, "fine");
    let mut many = json!({});
    (0..50).for_each(|number| many[format!("field_{number:02}")] = json!(number));
    assert_eq!(ignored(many).await.split(',').count(), 20);
    let twice = server.post_text(COMPLETIONS, r#"{"prompt":"a","max_tokens":2,"zz":1,"zz":2}"#).await;
    assert_eq!(twice.header("x-ignored-params"), "zz");
}
