//! Requests broken at random, from a fixed seed: never a server error, always an answer.

use serde_json::{Value, json};

use crate::harness::{Server, error_object, golden};

const ROUNDS: usize = 600;

/// xorshift64: the same requests in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

fn odd_values() -> Vec<Value> {
    let long = "x ".repeat(300);
    vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(1.5),
        json!(-0.0),
        json!(1e308),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(""),
        json!("a"),
        json!("\u{0}</s>\u{10ffff}"),
        json!(long),
        json!([]),
        json!([[]]),
        json!([1, 2]),
        json!([[1], [2, 3]]),
        json!(["a", "b"]),
        json!([null]),
        json!({}),
        json!({ "steps": 3 }),
        json!({ "order": "confidence" }),
        json!({ "a": { "b": [] } }),
    ]
}

/// A request with one to three of its fields changed, dropped or joined by others.
fn mutated(base: &Value, values: &[Value], dice: &mut Dice) -> Value {
    let names = [
        "prompt",
        "prefix",
        "suffix",
        "max_tokens",
        "length",
        "n",
        "seed",
        "temperature",
        "top_p",
        "stop",
        "stream",
        "stream_options",
        "diffusion",
        "model",
        "include",
        "logprobs",
        "echo",
        "zz",
        "truncate",
        "messages",
        "chat_template_kwargs",
        "continue_final_message",
        "content",
        "tokens",
        "input_extra",
        "response_fields",
        "n_indent",
    ];
    let mut body = base.clone();
    for _ in 0..=dice.below(3) {
        let name = names[dice.below(names.len())];
        let value = &values[dice.below(values.len())];
        match dice.below(8) {
            0 => drop(body.as_object_mut().unwrap().remove(name)),
            1 if body["diffusion"].is_object() => {
                let inner = ["steps", "order", "stream_states", "state_every", "reproduce", "zz"];
                body["diffusion"][inner[dice.below(inner.len())]] = value.clone();
            }
            _ => body[name] = value.clone(),
        }
    }
    body
}

/// The bytes of a request with some of them changed, dropped or repeated.
fn damaged(mut bytes: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        match dice.below(4) {
            0 => bytes[at] = dice.below(256) as u8,
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, b"{}[]\",:\\0e-"[dice.below(11)]),
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_requests_are_never_the_servers_fault() {
    let template = golden("../templates/colons.jinja").display().to_string();
    let server = Server::start("diffugpt-s", &["--max-cost", "4000", "--chat-template", &template]);
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    let bases = [
        ("/v1/completions", json!({ "prompt": "The", "max_tokens": 6, "seed": 1, "diffusion": {} })),
        ("/fill", json!({ "prefix": "The", "suffix": "end", "length": 6, "seed": 1, "diffusion": {} })),
        (
            "/v1/chat/completions",
            json!({ "messages": messages, "max_tokens": 6, "seed": 1, "diffusion": {} }),
        ),
        ("/infill", json!({ "input_prefix": "The", "prompt": "a", "n_predict": 6, "seed": 1 })),
        ("/tokenize", json!({ "messages": messages })),
        ("/apply-template", json!({ "messages": messages })),
        ("/detokenize", json!({ "tokens": [1, 2] })),
    ];
    let values = odd_values();
    let mut dice = Dice(0x5eed);
    let mut seen = [0; 2];
    for round in 0..ROUNDS {
        let (path, base) = &bases[round % bases.len()];
        let mut body = mutated(base, &values, &mut dice).to_string().into_bytes();
        if round % 3 == 0 {
            body = damaged(body, &mut dice);
        }
        let shown = String::from_utf8_lossy(&body).into_owned();
        let answer = server.post_text(path, body).await;
        match answer.status {
            200 => seen[0] += 1,
            400 | 404 => {
                error_object(&answer.json());
                seen[1] += 1;
            }
            other => panic!("{other} for {shown}: {}", answer.body),
        }
    }
    assert!(seen.iter().all(|count| *count > ROUNDS / 20), "some pass, some are refused: {seen:?}");
    server.ok("/v1/completions", &json!({ "prompt": "a", "max_tokens": 1 })).await;
    assert!(server.stop().await.0.success());
}
