//! Log-probabilities: of generated tokens, and of prompts that are scored (`echo`).

use serde_json::{Value, json};

use crate::completions::with;
use crate::harness::Server;
use crate::sse;

const CLIENT: &str = "/v1/completions";

/// The request of an evaluation harness for a batch of texts.
fn harness(prompts: Value) -> Value {
    json!({ "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": true })
}

fn logprobs(answer: &Value, choice: usize) -> &Value {
    &answer["choices"][choice]["logprobs"]
}

async fn ids(server: &Server, text: &str) -> Vec<Value> {
    let body = json!({ "prompt": text, "add_special_tokens": false });
    server.ok("/tokenize", &body).await["tokens"].as_array().unwrap().clone()
}

/// The harness sums `token_logprobs[context..-1]` and takes a token for the greedy one when its value is the
/// largest of its dictionary, bit for bit. A wrong length or a rounded number would be a wrong benchmark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scored_prompt_has_the_shape_that_harnesses_read() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        let texts = [ids(&server, "The cat sat on").await, ids(&server, "and").await];
        let answer = server.ok(CLIENT, &harness(json!(texts))).await;
        for (choice, given) in texts.iter().enumerate() {
            let found = logprobs(&answer, choice);
            for field in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
                assert_eq!(found[field].as_array().unwrap().len(), given.len() + 1, "{field}");
            }
            // Ids are the whole canvas, and nothing predicts its first token.
            assert_eq!(
                (&found["token_logprobs"][0], &found["top_logprobs"][0]),
                (&Value::Null, &Value::Null)
            );
            for at in 1..=given.len() {
                let own = found["token_logprobs"][at].as_f64().unwrap();
                let top = found["top_logprobs"][at].as_object().unwrap();
                let best = top.values().map(|value| value.as_f64().unwrap()).fold(f64::MIN, f64::max);
                let token = found["tokens"][at].as_str().unwrap();
                assert!(own < 0.0 && own <= best && top[token] == own, "{found}");
            }
        }
        assert_eq!(answer["diffusion"]["score"]["mode"], "chain");
        assert_eq!(answer["diffusion"]["score"]["forward_passes"], texts[0].len() - 1);
        // The order of a batch makes no difference.
        let turned = server.ok(CLIENT, &harness(json!([texts[1], texts[0]]))).await;
        assert_eq!(logprobs(&turned, 1), logprobs(&answer, 0));
    }
}

/// The entry that a harness drops as the generated token would be one of the text, where that token ended the text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_an_echo_the_token_that_ends_a_text_is_an_entry() {
    let server = Server::start("diffullama", &[]);
    let text = ids(&server, "The cat sat on").await;
    let end = server.get("/tokenizer_info").await.json()["eos_token"].clone();
    let end = server.ok("/tokenize", &json!({ "content": end })).await["tokens"][0].to_string();
    let body = harness(json!([text]));
    let usual = server.ok(CLIENT, &body).await;
    let ended = server.ok(CLIENT, &with(&body, json!({ "logit_bias": { end: 100 } }))).await;
    assert_eq!(ended["usage"]["completion_tokens"], 0);
    let all = |answer: &Value| logprobs(answer, 0)["token_logprobs"].as_array().unwrap().clone();
    assert_eq!(all(&ended).len(), text.len() + 1);
    assert_eq!(all(&ended)[..text.len()], all(&usual)[..text.len()]);
}

/// The chain's last term is what a completion of one token reports for that token: two roads, one number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_score_is_what_generation_says_of_the_same_token() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        let mut prompt = ids(&server, "Once upon a time").await;
        for seed in 0..3 {
            let body = json!({ "prompt": prompt, "max_tokens": 1, "seed": seed, "logprobs": 3 });
            let streamed = json!({ "stream": true, "diffusion": { "stream_states": "delta" } });
            let stream = server.post(CLIENT, &with(&body, streamed)).await;
            let drawn = sse::states(&stream.body)
                .iter()
                .find_map(|state| state["token_ids"].get(0).cloned())
                .unwrap();
            let answer = server.ok(CLIENT, &body).await;
            let generated = logprobs(&answer, 0);
            prompt.push(drawn);
            let scored = json!({ "prompt": prompt, "max_tokens": 0, "echo": true, "logprobs": 3 });
            let scored = server.ok(CLIENT, &scored).await;
            let scored = logprobs(&scored, 0);
            let last = prompt.len() - 1;
            assert_eq!(scored["token_logprobs"][last], generated["token_logprobs"][0]);
            assert_eq!(scored["top_logprobs"][last], generated["top_logprobs"][0]);
            assert_eq!(scored["tokens"][last], generated["tokens"][0]);
        }
    }
}

/// `pll` sees both sides, as a hole of one position does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pseudo_likelihood_is_what_a_hole_reports() {
    let server = Server::start("diffugpt-s", &[]);
    let mut fill = json!({ "prefix": "The cat", "suffix": " on the mat", "length": 1, "temperature": 0, "stream": true });
    fill["token_healing"] = json!(false);
    let events = sse::native(&server.post("/fill", &fill).await.body);
    let hole = &events.iter().find(|event| event.0 == "fill.hole").unwrap().1;
    let drawn = events.iter().find_map(|event| event.1["state"]["token_ids"].get(0).cloned()).unwrap();
    // Ids are the whole canvas, the document start included.
    let before = json!({ "prompt": "The cat", "add_special_tokens": true });
    let mut canvas = server.ok("/tokenize", &before).await["tokens"].as_array().unwrap().clone();
    let at = canvas.len();
    canvas.push(drawn);
    canvas.extend(ids(&server, " on the mat").await);
    let diffusion = json!({ "score": { "mode": "pll", "from": at } });
    let body =
        json!({ "prompt": canvas, "max_tokens": 0, "echo": true, "logprobs": 0, "diffusion": diffusion });
    let answer = server.ok(CLIENT, &body).await;
    let found = &logprobs(&answer, 0)["token_logprobs"];
    let found_here = found[at].as_f64().unwrap();
    let expected = hole["mean_logprob"].as_f64().unwrap();
    assert!((found_here - expected).abs() < 1e-6, "{found_here}, not {expected}");
    assert!(found.as_array().unwrap()[..at].iter().all(Value::is_null), "context is not scored");
    assert_eq!(answer["diffusion"]["forward_passes"], canvas.len() - at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mode_says_what_it_did() {
    let server = Server::start("diffullama", &[]);
    let body = json!({ "prompt": ["one two three four", "five"], "max_tokens": 0, "echo": true, "logprobs": 0, "seed": 3 });
    for (score, most) in [
        (json!({}), None),
        (json!({ "mode": "block", "block": 1 }), None),
        (json!({ "mode": "elbo", "samples": 16 }), Some(32)),
        (json!({ "mode": "reference", "samples": 4 }), Some(8)),
    ] {
        let answer = server.ok(CLIENT, &with(&body, json!({ "diffusion": { "score": score } }))).await;
        let report = &answer["diffusion"]["score"];
        let found = report["forward_passes"].as_u64().unwrap();
        // A sampled round that masks nothing needs no evaluation.
        let tokens = answer["usage"]["prompt_tokens"].as_u64().unwrap();
        assert!(most.map_or(found == tokens, |most| found > 0 && found <= most), "{score}: {report}");
        assert_eq!(answer["diffusion"]["forward_passes"], found);
        let shares = logprobs(&answer, 0)["token_logprobs"].as_array().unwrap();
        let sum: f64 = shares.iter().filter_map(Value::as_f64).sum();
        assert!((sum - report["prompts"][0]["total"].as_f64().unwrap()).abs() < 1e-9, "{report}");
        assert_eq!(report["prompts"].as_array().unwrap().len(), 2);
        assert_eq!(answer["choices"][0]["text"], "one two three four");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_and_offsets_spell_the_text() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        for echo in [false, true] {
            let body = json!({ "prompt": "Ünder der Brücke 🐈", "max_tokens": 20, "n": 2, "seed": 4, "logprobs": 2,
                               "echo": echo, "temperature": 0.3 });
            let answer = server.ok(CLIENT, &body).await;
            for choice in 0..2 {
                let text: Vec<char> = answer["choices"][choice]["text"].as_str().unwrap().chars().collect();
                let found = logprobs(&answer, choice);
                let offsets: Vec<usize> = found["text_offset"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|at| at.as_u64().unwrap() as usize)
                    .collect();
                let ends = offsets[1..].iter().copied().chain([text.len()]);
                for ((token, at), end) in found["tokens"].as_array().unwrap().iter().zip(&offsets).zip(ends) {
                    let token = token.as_str().unwrap();
                    assert!(!token.contains('\u{fffd}'), "{token}");
                    // A part of a character is named by its bytes.
                    let part = token.starts_with("bytes:\\x");
                    let shown: String = text[*at..end].iter().collect();
                    let start = *at == 0 && shown.len() + 1 == token.len();
                    assert!(part || shown.ends_with(token) || start, "{token:?} {shown:?}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streamed_tokens_are_those_of_the_plain_answer() {
    for (model, stop) in [("diffugpt-s", json!(null)), ("diffullama", json!(["e"]))] {
        let server = Server::start(model, &[]);
        let body =
            json!({ "prompt": "The cat", "max_tokens": 24, "n": 2, "seed": 11, "logprobs": 2, "stop": stop });
        let plain = server.ok(CLIENT, &body).await;
        let answer = server.post(CLIENT, &with(&body, json!({ "stream": true }))).await;
        for choice in 0..2 {
            let mut found =
                json!({ "tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": [] });
            for chunk in sse::chunks(&answer.body) {
                let part = &chunk["choices"][0];
                if part["index"] == choice && !part["logprobs"].is_null() {
                    for (field, values) in found.as_object_mut().unwrap() {
                        values
                            .as_array_mut()
                            .unwrap()
                            .extend(part["logprobs"][field].as_array().unwrap().clone());
                    }
                }
            }
            assert_eq!(&found, logprobs(&plain, choice));
        }
        let chat = json!({ "prompt": "The cat", "suffix": ".", "max_tokens": 4, "seed": 1 });
        let echoed = server.post(CLIENT, &with(&chat, json!({ "stream": true, "echo": true }))).await;
        let whole = server.ok(CLIENT, &with(&chat, json!({ "echo": true }))).await;
        assert_eq!(sse::completion(&echoed.body, 1).texts[0], whole["choices"][0]["text"]);
        assert!(whole["choices"][0]["text"].as_str().unwrap().starts_with("The cat"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_scored_is_refused_with_the_field() {
    let server = Server::start("diffugpt-s", &[]);
    let ok = json!({ "prompt": "The cat", "max_tokens": 1 });
    for (fields, code, param) in [
        (json!({ "max_tokens": 0 }), "out_of_range", "max_tokens"),
        (json!({ "logprobs": 21 }), "out_of_range", "logprobs"),
        (json!({ "logprobs": -1 }), "out_of_range", "logprobs"),
        (json!({ "logprobs": true }), "invalid_type", "logprobs"),
        (json!({ "best_of": 2 }), "unsupported_parameter", "best_of"),
        (json!({ "echo": true, "logprobs": 1, "stream": true }), "conflicting_fields", "stream"),
        (json!({ "diffusion": { "score": {} } }), "conflicting_fields", "diffusion.score"),
        (json!({ "echo": true, "diffusion": { "score": {} } }), "conflicting_fields", "diffusion.score"),
        (scored(json!({ "mode": "magic" })), "invalid_type", "diffusion.score.mode"),
        (scored(json!({ "block": 2 })), "conflicting_fields", "diffusion.score.block"),
        (scored(json!({ "samples": 2 })), "conflicting_fields", "diffusion.score.samples"),
        (scored(json!({ "mode": "elbo", "samples": 0 })), "out_of_range", "diffusion.score.samples"),
        (scored(json!({ "from": -1 })), "out_of_range", "diffusion.score.from"),
    ] {
        let error = server.post(CLIENT, &with(&ok, fields.clone())).await.refusal(400, code);
        assert_eq!(error["param"], param, "{fields}");
    }
    for fields in [
        json!({ "logprobs": false }),
        json!({ "logprobs": null, "best_of": 1 }),
        json!({ "n": 2, "best_of": 2 }),
    ] {
        server.ok(CLIENT, &with(&ok, fields)).await;
    }
}

fn scored(score: Value) -> Value {
    json!({ "echo": true, "logprobs": 0, "diffusion": { "score": score } })
}
