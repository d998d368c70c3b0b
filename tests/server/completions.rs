//! `/v1/completions`, plain and streamed.

use serde_json::{Value, json};

use crate::harness::{MODELS, Server};
use crate::sse;

const PATH: &str = "/v1/completions";

fn texts(answer: &Value) -> Vec<String> {
    let choices = answer["choices"].as_array().unwrap();
    choices.iter().map(|choice| choice["text"].as_str().unwrap().to_owned()).collect()
}

/// `body` with `fields` set.
pub(crate) fn with(body: &Value, fields: Value) -> Value {
    let mut body = body.clone();
    let (Value::Object(target), Value::Object(fields)) = (&mut body, fields) else { panic!("objects") };
    target.extend(fields);
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_answer_has_the_published_shape() {
    for model in MODELS {
        let server = Server::start_model(model);
        let body = json!({ "prompt": [5, 6, 7], "max_tokens": 10, "seed": 7, "n": 3 });
        let answer = server.post(PATH, &body).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        assert_eq!(answer.header("x-served-model"), model.0);
        let id = format!("cmpl-{}", answer.header("x-request-id"));
        let answer = answer.json();
        assert_eq!(answer["id"], id);
        assert_eq!((&answer["object"], &answer["model"]), (&json!("text_completion"), &json!(model.0)));
        assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
        assert!(answer["system_fingerprint"].as_str().unwrap().starts_with("unmask-"));
        let usage = &answer["usage"];
        let report = &answer["diffusion"];
        let kept = usage["completion_tokens"].as_u64().unwrap();
        assert_eq!((&usage["prompt_tokens"], &usage["total_tokens"]), (&json!(3), &json!(3 + kept)));
        assert_eq!((&report["seed"], &report["returned_tokens"]), (&json!(7), &json!(kept)));
        assert_eq!((&report["steps"], &report["order"]), (&json!(64), &json!("random")));
        assert_eq!(report["generated_tokens"], 30);
        assert!(report["forward_passes"].as_u64().unwrap() <= 30);
        let choices = answer["choices"].as_array().unwrap();
        assert_eq!(choices.len(), 3);
        for (index, choice) in choices.iter().enumerate() {
            assert_eq!((&choice["index"], &choice["logprobs"]), (&json!(index), &Value::Null));
            assert!(choice["finish_reason"] == "length" || choice["finish_reason"] == "stop");
        }
        if choices.iter().all(|choice| choice["finish_reason"] == "length") {
            assert_eq!(kept, 30);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_names_an_answer_and_its_samples_differ() {
    for model in MODELS {
        let server = Server::start_model(model);
        let body = json!({ "prompt": "The cat", "max_tokens": 24, "n": 4, "temperature": 2, "top_p": 1 });
        let first = server.ok(PATH, &with(&body, json!({ "seed": 1 }))).await;
        let again = server.ok(PATH, &with(&body, json!({ "seed": 1 }))).await;
        let other = server.ok(PATH, &with(&body, json!({ "seed": 2 }))).await;
        assert_eq!(texts(&first), texts(&again));
        let mut all = [texts(&first), texts(&other)].concat();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 8, "eight different texts");
        // Without a seed one is drawn, and sending it again repeats the answer. -1 is a seed like others.
        let drawn = server.ok(PATH, &body).await;
        let replay = with(&body, json!({ "seed": drawn["diffusion"]["seed"] }));
        assert_eq!(texts(&server.ok(PATH, &replay).await), texts(&drawn));
        for seed in [-1, i64::MIN, i64::MAX, 0] {
            let answer = server.ok(PATH, &with(&body, json!({ "seed": seed, "max_tokens": 2 }))).await;
            assert_eq!(answer["diffusion"]["seed"], seed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_the_plain_answer_in_pieces() {
    for model in MODELS {
        let server = Server::start_model(model);
        let body = json!({ "prompt": ["The cat", "def add"], "max_tokens": 20, "n": 2, "seed": 3 });
        for (order, every) in [("random", 1), ("confidence", 1), ("random", 3)] {
            let body = with(&body, json!({ "diffusion": { "order": order, "steps": 9 } }));
            let plain = server.ok(PATH, &body).await;
            let diffusion = json!({ "order": order, "steps": 9, "stream_states": "delta",
                                    "state_every": every });
            let streamed = with(
                &body,
                json!({ "stream": true, "stream_options": { "include_usage": true },
                        "diffusion": diffusion }),
            );
            let answer = server.post(PATH, &streamed).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert_eq!(answer.header("content-type"), "text/event-stream; charset=utf-8");
            assert_eq!(answer.header("cache-control"), "no-cache, no-transform");
            let stream = sse::completion(&answer.body, 4);
            assert_eq!(stream.texts, texts(&plain));
            let reasons: Vec<Value> = stream.reasons.iter().map(|reason| json!(reason)).collect();
            let plain_reasons = plain["choices"].as_array().unwrap();
            assert!(reasons.iter().eq(plain_reasons.iter().map(|choice| &choice["finish_reason"])));
            assert_eq!(stream.usage.as_ref(), Some(&plain["usage"]));
            for name in ["steps", "order", "seed", "forward_passes", "generated_tokens", "returned_tokens"] {
                assert_eq!(stream.report[name], plain["diffusion"][name], "{name}");
            }
            stream.states.assert_filled(4, 20);
            assert_eq!(json!(stream.states.kept()), plain["usage"]["completion_tokens"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_extras_has_plain_chunks_only() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        let body = json!({ "prompt": "The", "max_tokens": 16, "seed": 5 });
        let plain = server.ok(PATH, &body).await;
        let answer = server.post(PATH, &with(&body, json!({ "stream": true }))).await;
        let stream = sse::completion(&answer.body, 1);
        assert_eq!(stream.texts, texts(&plain));
        assert_eq!(stream.usage, None);
        stream.states.assert_filled(0, 0);
        let reports =
            sse::data_lines(&answer.body).iter().filter(|line| line.contains("\"diffusion\"")).count();
        assert_eq!(reports, 1, "only the final chunk says how it was denoised");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evaluations_are_bounded_by_steps_and_by_positions() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        for order in ["random", "confidence"] {
            for (length, steps) in [(1, 1), (12, 1), (12, 5), (12, 512), (1, 512)] {
                let body = json!({ "prompt": "The", "max_tokens": length, "seed": 9,
                                   "diffusion": { "steps": steps, "order": order } });
                let answer = server.ok(PATH, &body).await;
                let passes = answer["diffusion"]["forward_passes"].as_u64().unwrap();
                // The ranking of the confidence order may commit nothing in a round.
                let most = if order == "random" { length.min(steps) } else { steps };
                assert!(passes >= 1 && passes <= most, "{order} {length} {steps}: {passes}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temperature_zero_needs_no_seed_to_repeat_itself() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        for order in ["random", "confidence"] {
            let body = json!({ "prompt": "The cat", "max_tokens": 20, "temperature": 0,
                               "diffusion": { "order": order } });
            let first = server.ok(PATH, &body).await;
            assert_eq!(texts(&first), texts(&server.ok(PATH, &body).await));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prompts_and_samples_are_numbered_prompt_by_prompt() {
    let server = Server::start("diffullama", &[]);
    let body = json!({ "max_tokens": 12, "n": 2, "seed": 4 });
    let both = server.ok(PATH, &with(&body, json!({ "prompt": ["The", "Dear"] }))).await;
    let mut alone = Vec::new();
    for prompt in ["The", "Dear"] {
        alone.extend(texts(&server.ok(PATH, &with(&body, json!({ "prompt": prompt }))).await));
    }
    assert_eq!(texts(&both), alone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canvas_without_a_size_takes_what_fits() {
    for (model, context, trained) in [("diffugpt-s", 64, 48), ("diffullama", 128, 128)] {
        let server = Server::start(model, &[]);
        let ids = |count: u64| (0..count).map(|_| 5).collect::<Vec<u64>>();
        let answer = server.post(PATH, &json!({ "prompt": ids(context - 10), "seed": 1 })).await;
        assert_eq!(answer.json()["diffusion"]["generated_tokens"], 10);
        assert_eq!(!answer.header("x-unmask-warning").is_empty(), context > trained);
        let full = server.post(PATH, &json!({ "prompt": ids(context), "seed": 1 })).await;
        full.refusal(400, "context_length_exceeded");
    }
}
