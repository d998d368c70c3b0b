//! An answer is a function of the request and its seed: not of the neighbours in a batch, the number of
//! threads, or the process.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::Server;
use crate::sse;

/// Requests of the kinds that differ most, and what of their answers must not change.
const REQUESTS: [&str; 4] = [
    r#"{"prompt": "The cat", "max_tokens": 33, "seed": 21, "n": 2}"#,
    r#"{"prompt": "def add", "max_tokens": 20, "seed": 22, "diffusion": {"order": "confidence"}}"#,
    r#"{"prompt": "Dear", "suffix": " Yours", "max_tokens": 11, "seed": 23, "temperature": 2, "top_p": 1}"#,
    r#"{"prompt": [[9, 8, 7], [300]], "max_tokens": 27, "temperature": 0}"#,
];

async fn answers(server: &Server) -> Vec<Value> {
    let mut answers = Vec::new();
    for request in REQUESTS {
        let answer = server.ok("/v1/completions", &serde_json::from_str(request).unwrap()).await;
        let choices = answer["choices"].clone();
        answers.push(json!({ "choices": choices, "passes": answer["diffusion"]["forward_passes"] }));
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_the_same_among_fifteen_others() {
    for model in ["diffugpt-s", "diffullama"] {
        for rows in ["2048", "200"] {
            let server = Server::start(model, &["--max-batch-tokens", rows]);
            let alone = answers(&server).await;
            let others = (0..15_u64).map(|number| {
                let body = json!({ "prompt": "x ".repeat(number as usize), "max_tokens": 5 + number,
                                   "seed": number, "n": 1 + number % 3 });
                let server = &server;
                async move {
                    let mut peak = 0;
                    for _ in 0..6 {
                        let answer = server.ok("/v1/completions", &body).await;
                        peak = peak.max(answer["diffusion"]["batch_peak"].as_u64().unwrap());
                    }
                    peak
                }
            });
            let (crowded, peaks) = tokio::join!(answers(&server), join_all(others));
            assert_eq!(crowded, alone, "{model}, {rows} rows");
            assert!(peaks.into_iter().any(|peak| peak > 3), "the requests shared evaluations");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_the_same_on_two_threads_and_after_a_restart() {
    for model in ["diffugpt-s", "diffugpt-m", "diffullama", "diffullama-gqa"] {
        let mut all = Vec::new();
        for threads in ["1", "2", "2"] {
            let server = Server::start(model, &["--threads", threads]);
            all.push(answers(&server).await);
            assert!(server.stop().await.0.success());
        }
        assert_eq!(all[0], all[1], "{model}: one thread and two");
        assert_eq!(all[1], all[2], "{model}: a restart");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_changes_the_answer() {
    let plain = Server::start("diffullama", &[]);
    let folder = crate::harness::golden("diffullama-gsm-lora").display().to_string();
    let adapted = Server::start("diffullama", &["--adapter", &folder]);
    assert_ne!(answers(&plain).await, answers(&adapted).await);
}

/// Two requests take turns in the same evaluations with a crowd that can write nothing but one token, which they
/// cannot write: a cell that leaked from one canvas into another would show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_state_holds_a_token_of_a_neighbour() {
    const CANARY: u64 = 77;
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        let own = |stream: bool| {
            json!({ "prompt": "The cat", "max_tokens": 40, "seed": 5, "n": 2, "temperature": 2, "top_p": 1,
                    "logit_bias": { "77": -100 }, "stream": stream, "stream_options": stream.then(|| json!({})),
                    "diffusion": { "preset": "exact", "stream_states": if stream { "draft" } else { "none" } } })
        };
        let ask = async || {
            let streamed = server.post("/v1/completions", &own(true)).await;
            let plain = server.ok("/v1/completions", &own(false)).await;
            (
                sse::states(&streamed.body),
                plain["choices"].clone(),
                plain["diffusion"]["batch_peak"].as_u64().unwrap(),
            )
        };
        let (states, choices, _) = ask().await;
        let crowd = json!({ "prompt": vec![vec![CANARY; 9]; 4], "max_tokens": 40, "ignore_eos": true,
                            "logit_bias": { "77": 100 }, "diffusion": { "preset": "exact" } });
        let done = AtomicBool::new(false);
        let crowds = join_all((0..3).map(async |_| {
            while !done.load(Ordering::Relaxed) {
                let answer = server.ok("/v1/completions", &crowd).await;
                assert_eq!(answer["usage"]["completion_tokens"], 160);
            }
        }));
        let watched = async {
            let mut found = Vec::new();
            let mut peak = 0;
            for _ in 0..4 {
                let (states, choices, together) = ask().await;
                peak = peak.max(together);
                found.push((states, choices));
            }
            done.store(true, Ordering::Relaxed);
            (found, peak)
        };
        let ((found, peak), _) = tokio::join!(watched, crowds);
        assert!(peak > 2, "the requests shared evaluations");
        for (states_among, choices_among) in found {
            assert_eq!((&states_among, &choices_among), (&states, &choices), "{model}");
            for state in states_among.iter().filter(|state| state["type"] == "step") {
                assert!(!state["token_ids"].as_array().unwrap().contains(&json!(CANARY)), "{model}: {state}");
            }
        }
    }
}
