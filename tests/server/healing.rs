//! Blanks and words that a hole cuts.

use serde_json::{Value, json};

use crate::completions::with;
use crate::fill::lasting;
use crate::harness::Server;
use crate::holes::assert_left;
use crate::sse;

const MODELS: [&str; 4] = ["diffugpt-s", "diffugpt-m", "diffullama", "diffullama-gqa"];

/// Tokens of a text in the middle of a canvas.
async fn pieces(server: &Server, text: &str) -> usize {
    let tokens = server.ok("/tokenize", &json!({ "prompt": text, "add_special_tokens": false })).await;
    tokens["tokens"].as_array().unwrap().len()
}

/// Whatever a hole cuts, the text around it comes back as it was, and the hole has the positions that were asked
/// for. With SentencePiece's tokenizers as with byte-level ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_around_a_hole_comes_back_and_costs_no_position() {
    let texts = [
        ("The old ", ""),
        ("The old ca", "tty sat"),
        ("    ", "x"),
        ("\n    ", " x"),
        ("a  ", "b c"),
        ("über grö", "ßer"),
        (" ", "nd so on"),
        ("x", ""),
    ];
    for model in MODELS {
        let server = Server::start(model, &[]);
        for (seed, (prefix, suffix)) in texts.into_iter().enumerate() {
            for length in [1, 4] {
                let body = json!({ "prefix": prefix, "suffix": suffix, "length": length, "seed": seed });
                let plain = server.ok("/fill", &body).await;
                assert_left(&plain, &[prefix, suffix]);
                let hole = &plain["choices"][0]["holes"][0];
                assert_eq!(
                    (&hole["length"], &plain["diffusion"]["generated_tokens"]),
                    (&json!(length), &json!(length))
                );
                let stream = server.post("/fill", &with(&body, json!({ "stream": true }))).await;
                assert_eq!(lasting(&sse::native(&stream.body).last().unwrap().1), lasting(&plain));
                let choices = with(
                    &body,
                    json!({ "segments": [prefix, { "choices": ["one", " two", "(3)"] }, suffix] }),
                );
                let mut choices = choices.as_object().unwrap().clone();
                ["prefix", "suffix", "length"].iter().for_each(|field| drop(choices.remove(*field)));
                assert_left(&server.ok("/fill", &Value::Object(choices)).await, &[prefix, suffix]);
            }
        }
    }
}

/// The spelling of the first generated token of a completion, including the part that the prompt holds
/// already.
async fn first_spelled(server: &Server, body: &Value) -> String {
    let states = json!({ "stream": true, "diffusion": { "stream_states": "delta" } });
    let stream = sse::completion(&server.post("/v1/completions", &with(body, states)).await.body, 1);
    let token = stream.states.first_token().unwrap();
    // Behind another token: SentencePiece drops the blank of the first one.
    let before = server.ok("/tokenize", &json!({ "prompt": "a", "add_special_tokens": false })).await;
    let tokens = json!([before["tokens"][0], token]);
    let text = server.ok("/detokenize", &json!({ "tokens": tokens })).await;
    text["prompt"].as_str().unwrap().strip_prefix('a').unwrap().to_owned()
}

/// A blank at the end of a text is a part of the next word's token. The first generated token begins with it, on
/// every route. The text that is returned does not, and neither do the tokens that log-probabilities name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blank_before_a_hole_is_brought_by_its_first_token() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        for seed in 0..6 {
            let settings = json!({ "max_tokens": 3, "min_tokens": 3, "seed": seed, "logprobs": 0, "prompt": "The old cat sat " });
            for route in ["/v1/completions", "/v1/fim/completions"] {
                for suffix in [None, Some(" on the mat")] {
                    let body = with(&settings, json!({ "suffix": suffix }));
                    let choice = server.ok(route, &body).await["choices"][0].clone();
                    let tokens = choice["logprobs"]["tokens"].as_array().unwrap();
                    assert_eq!(tokens.len(), 3, "{model} {route}");
                    let spelled: String = tokens.iter().map(|token| token.as_str().unwrap()).collect();
                    let text = choice["text"].as_str().unwrap();
                    // Tokens of single bytes are named otherwise than they are spelled.
                    if !spelled.contains("bytes:") {
                        assert_eq!(spelled, text, "{model} {route}");
                    }
                    if route == "/v1/completions" {
                        assert!(first_spelled(&server, &body).await.starts_with(' '), "{model}");
                    }
                    let off = server.ok(route, &with(&body, json!({ "token_healing": false }))).await;
                    let same = with(&body, json!({ "diffusion": { "reproduce": true } }));
                    assert!(server.ok(route, &same).await["choices"][0]["text"].is_string());
                    assert_eq!(
                        off["usage"]["prompt_tokens"],
                        server.ok(route, &body).await["usage"]["prompt_tokens"]
                    );
                }
            }
        }
        let before = pieces(&server, "The old cat sat ").await;
        let infill =
            json!({ "input_prefix": "The old cat sat ", "input_suffix": "\n", "n_predict": 3, "seed": 1 });
        let answer = server.ok("/infill", &infill).await;
        assert!(answer["content"].is_string() && before > 3);
        // What users say in a chat ends where it ends.
        let chat = json!({ "messages": [{ "role": "user", "content": "The old cat sat " }], "max_tokens": 3, "seed": 1 });
        let chat = server.post("/v1/chat/completions", &chat).await;
        assert!([200, 400].contains(&chat.status));
    }
}
