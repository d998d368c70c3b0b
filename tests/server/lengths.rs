//! `/fill` where lengths are searched.

use serde_json::{Value, json};

use crate::completions::with;
use crate::fill::lasting;
use crate::harness::Server;
use crate::holes::assert_left;
use crate::sse;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_best_of_the_lengths_is_the_answer_and_asking_for_it_repeats_it() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        for score in ["mean_logprob", "sum_logprob"] {
            let body = json!({ "prefix": "The ", "suffix": " end", "length": { "min": 2, "max": 9 }, "seed": 3,
                               "n": 2, "length_search": { "candidates": 3, "score": score } });
            let answer = server.ok("/fill", &body).await;
            assert_eq!(answer["diffusion"]["canvas_tokens"], (2 + 6 + 9) * 2, "every candidate is denoised");
            for (index, choice) in answer["choices"].as_array().unwrap().iter().enumerate() {
                let hole = &choice["holes"][0];
                let tried = hole["candidates"].as_array().unwrap();
                let lengths: Vec<&Value> = tried.iter().map(|candidate| &candidate["length"]).collect();
                assert_eq!(lengths, [2, 6, 9]);
                let rated = |candidate: &&Value| candidate["score"].as_f64().unwrap();
                let best = tried.iter().max_by(|a, b| rated(a).total_cmp(&rated(b))).unwrap();
                assert_eq!((&best["score"], &best["length"]), (&choice["score"], &hole["length"]));
                let exact = with(&body, json!({ "length": hole["length"] }));
                let exact = server.ok("/fill", &exact).await["choices"][index].clone();
                assert_eq!((&exact["text"], &exact["score"]), (&choice["text"], &choice["score"]));
            }
        }
        // Several ranges are walked through together, beside a hole that has no choice.
        let segments = json!(["a", { "length": { "min": 1, "max": 5 } }, "b", { "length": 2 },
                              "c", { "length": { "min": 4, "max": 8 } }, "d"]);
        let answer = server.ok("/fill", &json!({ "segments": segments, "seed": 1 })).await;
        let lengths = |hole: usize| -> Vec<Value> {
            let tried = answer["choices"][0]["holes"][hole]["candidates"].as_array();
            tried.into_iter().flatten().map(|candidate| candidate["length"].clone()).collect()
        };
        assert_eq!(
            (lengths(0), lengths(1), lengths(2)),
            (
                vec![json!(1), json!(2), json!(4), json!(5)],
                vec![],
                vec![json!(4), json!(5), json!(7), json!(8)]
            )
        );
        assert_left(&answer, &["a", "b", "c", "d"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_length_some_up_to_32_are_tried() {
    let server = Server::start("diffullama", &[]);
    let answer = server.ok("/fill", &json!({ "prefix": "The ", "suffix": " end", "seed": 1 })).await;
    let tried = |answer: &Value| -> Vec<u64> {
        let tried = answer["choices"][0]["holes"][0]["candidates"].as_array().unwrap();
        tried.iter().map(|candidate| candidate["length"].as_u64().unwrap()).collect()
    };
    assert_eq!(tried(&answer), [1, 11, 22, 32]);
    // Several holes share a small context.
    let server = Server::start("diffugpt-s", &[]);
    let answer = server.ok("/fill", &json!({ "template": "a<fill>b<fill>c<fill>d", "seed": 1 })).await;
    assert!(*tried(&answer).last().unwrap() < 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_a_search_shows_the_winner_at_its_end() {
    let server = Server::start("diffugpt-s", &[]);
    let body = json!({ "prefix": "The ", "suffix": " end", "length": { "max": 8 }, "seed": 5, "n": 2 });
    let plain = server.ok("/fill", &body).await;
    let streamed = with(&body, json!({ "stream": true }));
    let events = sse::native(&server.post("/fill", &streamed).await.body);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["fill.start", "fill.hole", "fill.hole", "fill.done"]);
    assert_eq!(lasting(&events[3].1), lasting(&plain));
    for choice in 0..2 {
        assert_eq!(events[1 + choice].1["text"], plain["choices"][choice]["holes"][0]["text"]);
    }
    let states = with(&streamed, json!({ "diffusion": { "stream_states": "delta" } }));
    server.post("/fill", &states).await.refusal(400, "conflicting_fields");
}
