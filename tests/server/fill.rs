//! `/fill`: holes in texts, plain and streamed.

use serde_json::{Value, json};

use crate::completions::with;
use crate::harness::{MODELS, Server};
use crate::sse::{self, States};

/// An answer without what differs from one run to the next.
pub(crate) fn lasting(answer: &Value) -> Value {
    let mut answer = answer.clone();
    for name in ["id", "created", "type", "seq"] {
        answer.as_object_mut().unwrap().remove(name);
    }
    for name in ["queue_ms", "denoise_ms", "batch_peak"] {
        answer["diffusion"].as_object_mut().unwrap().remove(name).unwrap();
    }
    answer
}

/// The caller's text is there byte for byte, and the offsets say where the hole lies.
fn assert_spliced(choice: &Value, prefix: &str, suffix: &str) {
    let text = choice["text"].as_str().unwrap();
    let hole = &choice["holes"][0];
    let filled = hole["text"].as_str().unwrap();
    assert_eq!(text, format!("{prefix}{filled}{suffix}"));
    let start = hole["start"].as_u64().unwrap() as usize;
    let end = hole["end"].as_u64().unwrap() as usize;
    let within: String = text.chars().skip(start).take(end - start).collect();
    assert_eq!((start, within.as_str()), (prefix.chars().count(), filled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_answer_has_the_published_shape() {
    for model in MODELS {
        let server = Server::start_model(model);
        let body = json!({ "prefix": "def ", "suffix": "(x):\n", "length": 9, "seed": 7, "n": 3 });
        let answer = server.post("/fill", &body).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        let id = format!("fill-{}", answer.header("x-request-id"));
        let answer = answer.json();
        assert_eq!(answer["id"], id);
        assert_eq!((&answer["object"], &answer["model"]), (&json!("fill"), &json!(model.0)));
        assert_eq!((&answer["truncated"], &answer["diffusion"]["seed"]), (&json!(false), &json!(7)));
        let choices = answer["choices"].as_array().unwrap();
        assert_eq!(choices.len(), 3);
        for (index, choice) in choices.iter().enumerate() {
            assert_eq!(choice["index"], index);
            assert_spliced(choice, "def ", "(x):\n");
            let hole = &choice["holes"][0];
            assert_eq!(choice["score"], hole["mean_logprob"]);
            assert!(choice["score"].as_f64().unwrap() <= 0.0);
            // A document end cannot stand before text, so every position is kept.
            assert_eq!((&hole["id"], &hole["finish_reason"]), (&json!("0"), &json!("filled")));
            assert_eq!((&hole["length"], &hole["tokens"]), (&json!(9), &json!(9)));
        }
        let usage = &answer["usage"];
        let given = usage["prompt_tokens"].as_u64().unwrap();
        assert_eq!(usage["completion_tokens"], 27);
        assert_eq!((&usage["total_tokens"], given > 0), (&json!(given + 27), true));
        assert_eq!(answer["diffusion"]["generated_tokens"], 27);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_paths_give_the_same_answer_and_seeds_differ() {
    for model in MODELS {
        let server = Server::start_model(model);
        let body = json!({ "prefix": "The ", "suffix": " end", "length": 14, "seed": 11 });
        let answer = server.ok("/fill", &body).await;
        assert_eq!(lasting(&answer), lasting(&server.ok("/v1/fill", &body).await));
        let other = server.ok("/fill", &with(&body, json!({ "seed": 12 }))).await;
        assert_ne!(answer["choices"][0]["text"], other["choices"][0]["text"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_native_stream_ends_with_the_plain_answer() {
    for model in MODELS {
        let server = Server::start_model(model);
        for (suffix, order, every) in [("", "random", 1), (" end", "confidence", 1), (" end", "random", 4)] {
            let body = json!({ "prefix": "Dear ", "suffix": suffix, "length": 12, "seed": 2, "n": 2,
                               "diffusion": { "order": order } });
            let plain = server.ok("/fill", &body).await;
            let streamed =
                with(&body, json!({ "stream": true, "diffusion": { "order": order, "state_every": every } }));
            let answer = server.post("/fill", &streamed).await;
            assert_eq!(answer.header("content-type"), "text/event-stream; charset=utf-8");
            let events = sse::native(&answer.body);
            assert_eq!((events[0].0.as_str(), &events[0].1["choices"]), ("fill.start", &json!(2)));
            let mut states = States::default();
            let mut holes = Vec::new();
            for (name, data) in &events[1..events.len() - 1] {
                match name.as_str() {
                    "fill.state" => states.take(&data["state"]),
                    "fill.hole" => holes.push(data),
                    other => panic!("{other} in mid-stream"),
                }
            }
            states.assert_filled(2, 12);
            assert_ne!(states.tokens(0), states.tokens(1));
            let (last, done) = events.last().unwrap();
            assert_eq!(last, "fill.done");
            assert_eq!(lasting(done), lasting(&plain));
            assert_eq!(holes.len(), 2);
            for hole in holes {
                let of = &plain["choices"][hole["choice"].as_u64().unwrap() as usize]["holes"][0];
                assert!(of.as_object().unwrap().iter().all(|(name, value)| hole[name] == *value));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_can_be_left_out_of_a_native_stream() {
    let server = Server::start("diffullama", &[]);
    let body = json!({ "prefix": "Dear ", "length": 6, "stream": true,
                       "diffusion": { "stream_states": "none" } });
    let events = sse::native(&server.post("/fill", &body).await.body);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["fill.start", "fill.hole", "fill.done"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_text_around_the_hole_comes_back_byte_for_byte() {
    let texts = [
        ("  leading", "trailing \t "),
        ("line\r\n\r\n", "\r\nline\n\r"),
        ("Grüße, 世界 🌍🏽 e\u{301}", "\u{200d}👩‍👩‍👧 \u{202e}עברית"),
        ("\u{feff}bom\u{0}nul", "\u{7f}\u{85}\u{2028}\u{fffd}"),
        ("", "\n"),
        (" ", ""),
        ("tab\tquote\"back\\slash", "</script>&amp;%00"),
        ("▁▁under", "Ġ▒Ċ"),
    ];
    for model in ["diffugpt-s", "diffugpt-m", "diffullama", "diffullama-gqa"] {
        let server = Server::start(model, &[]);
        for (prefix, suffix) in texts {
            let body = json!({ "prefix": prefix, "suffix": suffix, "length": 5, "seed": 1, "n": 2 });
            let answer = server.ok("/fill", &body).await;
            for choice in answer["choices"].as_array().unwrap() {
                assert_spliced(choice, prefix, suffix);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_too_long_for_the_model_is_cut_for_it_and_returned_whole() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        let prefix = "ä b\r\n".repeat(500);
        let suffix = " x".repeat(300);
        let body = json!({ "prefix": prefix, "suffix": suffix, "length": 5, "seed": 1 });
        let answer = server.ok("/fill", &body).await;
        assert_eq!(answer["truncated"], true);
        assert_spliced(&answer["choices"][0], &prefix, &suffix);
        let strict = server.post("/fill", &with(&body, json!({ "truncate": false }))).await;
        strict.refusal(400, "context_length_exceeded");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parts_that_are_asked_for_are_returned() {
    let server = Server::start("diffugpt-s", &[]);
    for (parts, text, holes) in [("holes", false, true), ("text", true, false), ("both", true, true)] {
        let body = json!({ "prefix": "The ", "length": 3, "include": parts });
        let choice = server.ok("/fill", &body).await["choices"][0].clone();
        assert_eq!((choice.get("text").is_some(), choice.get("holes").is_some()), (text, holes), "{parts}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_text_is_filled_when_asked_for() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        let answer = server.ok("/fill", &json!({ "allow_empty": true, "length": 8, "seed": 3 })).await;
        assert_spliced(&answer["choices"][0], "", "");
        assert_eq!(answer["usage"]["prompt_tokens"], 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evaluations_are_bounded_by_steps_and_by_positions() {
    let server = Server::start("diffugpt-s", &[]);
    for (length, steps) in [(1, 1), (10, 1), (10, 4), (10, 512)] {
        let mut body =
            json!({ "prefix": "a", "suffix": "b", "length": length, "diffusion": { "steps": steps } });
        // Whether a word goes on takes one more.
        body["token_healing"] = json!(false);
        let passes = server.ok("/fill", &body).await["diffusion"]["forward_passes"].as_u64().unwrap();
        assert!(passes >= 1 && passes <= length.min(steps), "{length} {steps}: {passes}");
    }
}
