//! Editors' routes: `/v1/fim/completions` and `/infill`.

use serde_json::{Value, json};

use crate::completions::with;
use crate::harness::Server;
use crate::sse;

const FIM: &str = "/v1/fim/completions";
const INFILL: &str = "/infill";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fim_answer_is_a_completion_in_both_dialects() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        let body = json!({ "prompt": "def add", "suffix": "return", "max_tokens": 12 });
        let plain = server.ok("/v1/completions", &with(&body, json!({ "seed": 5 }))).await;
        let answer = server.ok(FIM, &with(&body, json!({ "random_seed": 5 }))).await;
        let choice = &answer["choices"][0];
        let text = &plain["choices"][0]["text"];
        assert_eq!(answer["object"], "chat.completion");
        assert_eq!((&choice["text"], &choice["message"]["content"]), (text, text));
        assert_eq!((&answer["usage"], &answer["diffusion"]["seed"]), (&plain["usage"], &json!(5)));
        let streamed = server.post(FIM, &with(&body, json!({ "random_seed": 5, "stream": true }))).await;
        let mut texts = String::new();
        let mut deltas = String::new();
        for line in sse::data_lines(&streamed.body).iter().filter(|line| **line != "[DONE]") {
            let chunk: Value = serde_json::from_str(line).unwrap();
            assert_eq!(chunk["object"], "chat.completion.chunk");
            texts += chunk["choices"][0]["text"].as_str().unwrap();
            deltas += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        }
        assert_eq!((json!(texts), json!(deltas)), (text.clone(), text.clone()));
    }
    let server = Server::start("diffugpt-s", &[]);
    server.post(FIM, &json!({ "suffix": "a" })).await.refusal(400, "missing_field");
}

/// Zed asks for 350 tokens unless told otherwise, whatever the model can generate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_tokens_than_there_can_be_are_a_maximum_for_editors() {
    let server = Server::start("diffugpt-s", &[]);
    let most =
        server.get("/v1/models").await.json()["data"][0]["limits"]["generated_tokens"].as_u64().unwrap();
    let body = json!({ "prompt": "def add", "max_tokens": most + 100, "seed": 5 });
    let between = with(&body, json!({ "suffix": "return" }));
    let whole = server.ok(FIM, &with(&body, json!({ "max_tokens": most }))).await;
    let text = |answer: &Value| answer["choices"][0]["text"].clone();
    assert_eq!(text(&server.ok(FIM, &body).await), text(&whole));
    let found = text(&server.ok(FIM, &between).await);
    assert_eq!(text(&server.ok("/v1/completions", &between).await), found);
    server.post("/v1/completions", &body).await.refusal(400, "out_of_range");
    let minimum = with(&between, json!({ "min_tokens": most + 1 }));
    server.post(FIM, &minimum).await.refusal(400, "out_of_range");
}

/// Editors send whole files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_long_file_what_is_near_the_cursor_is_kept() {
    let server = Server::start("diffugpt-s", &[]);
    let line = "value = compute(first, second)\n";
    let far = json!({ "prompt": line.repeat(4000), "suffix": line.repeat(4000), "max_tokens": 8, "seed": 5 });
    let near = json!({ "prompt": line.repeat(40), "suffix": line.repeat(40), "max_tokens": 8, "seed": 5 });
    for route in [FIM, "/v1/completions"] {
        let answer = server.ok(route, &far).await;
        assert_eq!(answer["diffusion"]["truncated"], true, "{route}");
        assert_eq!(
            answer["choices"][0]["text"],
            server.ok(route, &near).await["choices"][0]["text"],
            "{route}"
        );
        let short = server.ok(route, &json!({ "prompt": "a", "suffix": "b", "max_tokens": 4 })).await;
        assert_eq!(short["diffusion"].get("truncated"), None, "{route}");
    }
    let end = json!({ "prompt": line.repeat(4000), "max_tokens": 8 });
    assert_eq!(server.ok(FIM, &end).await["usage"]["completion_tokens"], 8);
    server.post("/v1/completions", &end).await.refusal(400, "context_length_exceeded");
    // An editor's cursor at the end of the file.
    let cursor = server.ok("/v1/completions", &with(&end, json!({ "suffix": "" }))).await;
    assert_eq!(
        (&cursor["usage"]["completion_tokens"], &cursor["diffusion"]["truncated"]),
        (&json!(8), &json!(true))
    );
    let exact = with(&far, json!({ "diffusion": { "reproduce": true } }));
    server.post(FIM, &exact).await.refusal(400, "context_length_exceeded");
}

/// A request of llama.vim, with its own settings.
fn vim(prefix: &str, line: &str, suffix: &str) -> Value {
    json!({ "id_slot": 0, "input_prefix": prefix, "input_suffix": suffix, "input_extra":
            [{ "filename": "a.py", "text": "import os", "time": 1 }], "prompt": line, "n_predict": 16,
            "n_indent": 0, "stop": [], "top_k": 40, "top_p": 0.9, "stream": false,
            "samplers": ["top_k", "top_p", "infill"], "cache_prompt": true, "seed": 3, "temperature": 1 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_infill_is_the_completion_of_what_stands_around_the_cursor() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        let body = vim("def f():\n", "    x", "\n\n");
        let answer = server.post(INFILL, &body).await;
        assert_eq!((answer.status, answer.header("x-ignored-params").contains("samplers")), (200, false));
        let answer = answer.json();
        let same = json!({ "prompt": "import os\ndef f():\n    x", "suffix": "\n\n", "max_tokens": 16, "seed": 3,
                           "top_k": 40, "top_p": 0.9, "temperature": 1 });
        let plain = server.ok("/v1/completions", &same).await;
        assert_eq!(answer["content"], plain["choices"][0]["text"]);
        assert_eq!(answer["tokens_evaluated"], plain["usage"]["prompt_tokens"]);
        assert_eq!(answer["tokens_predicted"], plain["usage"]["completion_tokens"]);
        assert_eq!((&answer["stop"], &answer["truncated"]), (&json!(true), &json!(false)));
        assert_eq!(answer["timings"]["predicted_n"], answer["tokens_predicted"]);
        let streamed = server.post(INFILL, &with(&body, json!({ "stream": true }))).await;
        let mut text = String::new();
        let blocks: Vec<&str> = streamed.body.split("\n\n").filter(|block| !block.is_empty()).collect();
        let (last, parts) = blocks.split_last().unwrap();
        for part in parts {
            let part: Value = serde_json::from_str(part.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(part["stop"], false);
            text += part["content"].as_str().unwrap();
        }
        let last: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
        // Clients that add up what all events bring have the text once.
        assert_eq!((&json!(text), &last["content"]), (&answer["content"], &json!("")));
        assert_eq!((&last["stop"], &last["tokens_predicted"]), (&json!(true), &answer["tokens_predicted"]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warming_up_asks_nothing_of_the_engine() {
    let server = Server::start("diffugpt-s", &[]);
    let before = server.health().await.evaluations;
    let body = with(&vim("a", "b", "c"), json!({ "n_predict": 0, "t_max_predict_ms": 1 }));
    let answer = server.ok(INFILL, &body).await;
    assert_eq!((&answer["content"], &answer["stop"]), (&json!(""), &json!(true)));
    assert_eq!(server.ok(INFILL, &with(&body, json!({ "response_fields": [""] }))).await, json!({}));
    let two = server.ok(INFILL, &with(&body, json!({ "n_cmpl": 2 }))).await;
    assert_eq!((&two[0]["index"], &two[1]["index"]), (&json!(0), &json!(1)));
    assert_eq!(server.health().await.evaluations, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_are_chosen_by_path_and_several_answers_are_a_list() {
    let server = Server::start("diffugpt-s", &[]);
    let fields = json!({ "response_fields": ["content", "timings/prompt_n", "nothing", "timings/nothing"] });
    let answer = server.ok(INFILL, &with(&vim("a", "b", "c"), fields)).await;
    let mut names: Vec<&String> = answer.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["content", "timings/prompt_n"]);
    let answers = server.ok(INFILL, &with(&vim("a", "b", "c"), json!({ "n_cmpl": 2 }))).await;
    assert_eq!((&answers[0]["index"], &answers[1]["index"]), (&json!(0), &json!(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_files_are_cut_to_what_is_near_the_cursor() {
    let server = Server::start("diffugpt-s", &[]);
    let file = "x = 1\n".repeat(200);
    let answer = server.ok(INFILL, &vim(&file, "y", &file)).await;
    assert_eq!(answer["truncated"], true);
    let short = server.ok(INFILL, &with(&vim("a", "b", "c"), json!({ "n_predict": -1, "seed": -1 }))).await;
    assert_eq!(short["truncated"], false);
    for (field, value) in [("n_predict", -2), ("n_indent", -1), ("n_cmpl", 9), ("t_max_predict_ms", -1)] {
        let body = with(&vim("a", "b", "c"), json!({ field: value }));
        let refused = server.post(INFILL, &body).await.refusal(400, "out_of_range");
        assert_eq!(refused["param"], field, "{refused}");
    }
    let states =
        with(&vim("a", "b", "c"), json!({ "stream": true, "diffusion": { "stream_states": "delta" } }));
    let refused = server.post(INFILL, &states).await.refusal(400, "conflicting_fields");
    assert!(refused["message"].as_str().unwrap().contains("not streamed on /infill"), "{refused}");
    // The editors of llama.cpp send these, and nothing of them is unknown.
    let editors = with(&vim("a", "b", "c"), json!({ "t_max_prompt_ms": 500 }));
    assert_eq!(server.post(INFILL, &editors).await.header("x-ignored-params"), "input_extra[0].time");
}

/// Penalties and biases mean the same as on the other routes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn penalties_and_biases_count_in_an_infill() {
    let server = Server::start("diffugpt-s", &[]);
    let body = with(&vim("a", "b", ""), json!({ "n_predict": 3, "temperature": 0, "ignore_eos": true }));
    for bias in [json!({ "40": 100 }), json!([[40, 100]])] {
        let answer = server.ok(INFILL, &with(&body, json!({ "logit_bias": bias }))).await;
        let plain = json!({ "prompt": "import os\nab", "max_tokens": 3, "temperature": 0, "top_k": 40, "seed": 3,
                            "ignore_eos": true, "logit_bias": { "40": 100 } });
        let plain = server.ok("/v1/completions", &plain).await;
        assert_eq!(answer["content"], plain["choices"][0]["text"]);
    }
    for (fields, param) in [
        (json!({ "presence_penalty": 99 }), "presence_penalty"),
        (json!({ "repeat_penalty": 99 }), "repetition_penalty"),
        (json!({ "logit_bias": { "abc": 9 } }), "logit_bias"),
        (json!({ "logit_bias": { "040": 9 } }), "logit_bias"),
    ] {
        let refused = server.post(INFILL, &with(&body, fields)).await.refusal(400, "out_of_range");
        assert_eq!(refused["param"], param);
    }
    let twice = r#"{"input_prefix":"a","n_predict":1,"logit_bias":{"40":1,"40":2}}"#;
    let refused = server.post_text(INFILL, twice.to_owned()).await.refusal(400, "invalid_type");
    assert!(refused["message"].as_str().unwrap().contains("token 40 is given twice"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_editor_that_cannot_wait_gets_the_whole_text_sooner() {
    let server = Server::start("diffullama", &[]);
    let before = server.health().await.evaluations.unwrap();
    // Without the limit this takes a hundred evaluations.
    let hurry = json!({ "n_predict": 100, "n_cmpl": 8, "t_max_predict_ms": 1,
                        "diffusion": { "preset": "exact" } });
    let answers = server.ok(INFILL, &with(&vim("a", "b", ""), hurry)).await;
    assert_eq!(answers.as_array().unwrap().len(), 8);
    let took = server.health().await.evaluations.unwrap() - before;
    assert!(took < 60, "{took}");
}
