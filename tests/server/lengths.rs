//! `/fill` where lengths are searched.

use serde_json::{Value, json};

use crate::completions::with;
use crate::fill::lasting;
use crate::harness::Server;
use crate::holes::assert_left;
use crate::sse;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_the_best_of_the_lengths_and_asking_for_one_repeats_it() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        for score in ["fit", "mean_logprob", "sum_logprob"] {
            let body = json!({ "prefix": "The ", "suffix": " end", "length": { "min": 2, "max": 9 }, "seed": 3,
                               "n": 2, "length_search": { "candidates": 3, "score": score } });
            let answer = server.ok("/fill", &body).await;
            let choices = answer["choices"].as_array().unwrap();
            let tried = choices[0]["holes"][0]["candidates"].as_array().unwrap().clone();
            let lengths: Vec<u64> =
                tried.iter().map(|candidate| candidate["length"].as_u64().unwrap()).collect();
            assert!(
                lengths.len() == 3
                    && lengths.is_sorted()
                    && lengths.iter().all(|length| (2..10).contains(length))
            );
            let canvas = answer["diffusion"]["generated_tokens"].as_u64().unwrap();
            assert_eq!(canvas, lengths.iter().sum::<u64>(), "every candidate is denoised");
            // Every answer has a length of its own, the best one first.
            let mut rated = tried.clone();
            rated.sort_by(|a, b| b["score"].as_f64().unwrap().total_cmp(&a["score"].as_f64().unwrap()));
            for (choice, best) in choices.iter().zip(rated) {
                let hole = &choice["holes"][0];
                assert_eq!((&best["score"], &best["length"]), (&choice["score"], &hole["length"]));
                let exact = with(&body, json!({ "length": hole["length"] }));
                let exact = server.ok("/fill", &exact).await["choices"][0].clone();
                assert_eq!(exact["text"], choice["text"]);
                // The fit compares distances; a length that is given has none.
                assert_eq!(exact["score"] == choice["score"], score != "fit");
            }
        }
        // Several ranges are walked through together, beside a hole that has no choice.
        let segments = json!(["a", { "length": { "min": 1, "max": 5 } }, "b", { "length": 2 },
                              "c", { "length": { "min": 4, "max": 8 } }, "d"]);
        let answer = server.ok("/fill", &json!({ "segments": segments, "seed": 1 })).await;
        let lengths = |hole: usize| -> Vec<u64> {
            let tried = answer["choices"][0]["holes"][hole]["candidates"].as_array();
            tried.into_iter().flatten().map(|candidate| candidate["length"].as_u64().unwrap()).collect()
        };
        assert_eq!((lengths(0).len(), lengths(1), lengths(2).len()), (5, vec![], 5));
        assert!(lengths(0).iter().zip(lengths(2)).all(|(first, third)| first + 3 == third));
        assert_left(&answer, &["a", "b", "c", "d"]);
    }
}

/// More answers than lengths: several of each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_lengths_give_many_answers() {
    let server = Server::start("diffugpt-s", &[]);
    let body =
        json!({ "prefix": "The ", "suffix": " end", "length": { "min": 2, "max": 3 }, "n": 5, "seed": 3 });
    let answer = server.ok("/fill", &body).await;
    let choices = answer["choices"].as_array().unwrap();
    // Bytes that are no characters come last, whatever their score.
    let rank = |choice: &Value| {
        let whole = !choice["holes"][0]["text"].as_str().unwrap().contains('\u{fffd}');
        (whole, choice["score"].as_f64().unwrap())
    };
    let ranks: Vec<(bool, f64)> = choices.iter().map(rank).collect();
    assert!(ranks.len() == 5 && ranks.is_sorted_by(|a, b| a >= b), "{ranks:?}");
    assert_eq!(answer["diffusion"]["generated_tokens"], 3 * (2 + 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_length_the_best_up_to_32_are_filled() {
    let server = Server::start("diffullama", &[]);
    let answer = server.ok("/fill", &json!({ "prefix": "The ", "suffix": " end", "seed": 1 })).await;
    let tried = |answer: &Value| -> Vec<u64> {
        let tried = answer["choices"][0]["holes"][0]["candidates"].as_array().unwrap();
        tried.iter().map(|candidate| candidate["length"].as_u64().unwrap()).collect()
    };
    assert!(tried(&answer).len() == 8 && tried(&answer).is_sorted() && tried(&answer)[7] <= 32);
    // Several holes share a small context.
    let server = Server::start("diffugpt-s", &[]);
    let answer = server.ok("/fill", &json!({ "template": "a<fill>b<fill>c<fill>d", "seed": 1 })).await;
    assert!(*tried(&answer).last().unwrap() < 32);
}

/// Editors and SDKs say how much they would take, not how much they want.
#[cfg(feature = "embedded")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_between_two_others_gets_the_length_that_fits() {
    let server = Server::start_embedded();
    let (before, after) = ("class Stack:\n    def __len__(self):\n        return len(self.", ")\n");
    for route in ["/v1/completions", "/v1/fim/completions"] {
        let body = json!({ "prompt": before, "suffix": after, "max_tokens": 48 });
        let answer = server.ok(route, &body).await;
        let used = answer["usage"]["completion_tokens"].as_u64().unwrap();
        assert!(used <= 4, "{answer}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        let exactly = with(&body, json!({ "max_tokens": 6, "min_tokens": 6 }));
        let answer = server.ok(route, &exactly).await;
        assert_eq!(
            (&answer["usage"]["completion_tokens"], &answer["choices"][0]["finish_reason"]),
            (&json!(6), &json!("length"))
        );
        // The reference fills what it is given.
        let same = with(&body, json!({ "max_tokens": 6, "diffusion": { "reproduce": true } }));
        assert_eq!(server.ok(route, &same).await["diffusion"]["generated_tokens"], 6);
    }
    let body = json!({ "input_prefix": before, "input_suffix": after, "n_predict": 128 });
    let answer = server.ok("/infill", &body).await;
    assert!(answer["tokens_predicted"].as_u64().unwrap() <= 4 && answer["stop_type"] == "eos", "{answer}");
    let one = server.ok("/infill", &with(&body, json!({ "n_predict": 1 }))).await;
    assert_eq!((&one["tokens_predicted"], &one["stop_type"]), (&json!(1), &json!("limit")));
}

/// Comparing lengths takes time, too: with a budget shorter than an evaluation of so long a prefix, none is compared.
#[cfg(feature = "embedded")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_bounds_the_search_for_a_length() {
    let server = Server::start_embedded();
    let (before, after) = ("value = compute(first, second)\n".repeat(80) + "return ", "\n");
    let hole = json!({ "prefix": before, "suffix": after, "length": { "min": 1, "max": 32 }, "seed": 5 });
    let infill = json!({ "input_prefix": before, "input_suffix": after, "n_predict": 64, "seed": 5 });
    for (route, body, budget) in [
        ("/fill", hole, json!({ "diffusion": { "time_budget_ms": 1 } })),
        ("/infill", infill, json!({ "t_max_predict_ms": 1 })),
    ] {
        let evaluations = async |body: &Value| {
            let before = server.health().await.evaluations.unwrap();
            server.ok(route, body).await;
            server.health().await.evaluations.unwrap() - before
        };
        let usual = evaluations(&body).await;
        let hurried = evaluations(&with(&body, budget)).await;
        assert!(usual > 2 && hurried <= 2, "{route}: {usual} and {hurried}");
    }
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
