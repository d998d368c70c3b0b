//! `/fill` with many holes: its three forms, and settings of single holes.

use serde_json::{Value, json};

use crate::completions::with;
use crate::fill::lasting;
use crate::harness::Server;
use crate::sse;

/// The caller's text, which is what is left of each choice without its holes.
pub(crate) fn assert_left(answer: &Value, texts: &[&str]) {
    for choice in answer["choices"].as_array().unwrap() {
        let text: Vec<char> = choice["text"].as_str().unwrap().chars().collect();
        let holes = choice["holes"].as_array().unwrap();
        assert_eq!(holes.len() + 1, texts.len());
        let mut done = 0;
        for (hole, before) in holes.iter().zip(texts) {
            let (start, end) =
                (hole["start"].as_u64().unwrap() as usize, hole["end"].as_u64().unwrap() as usize);
            assert_eq!(text[done..start].iter().collect::<String>(), **before, "before a hole");
            assert_eq!(text[start..end].iter().collect::<String>(), hole["text"].as_str().unwrap());
            done = end;
        }
        assert_eq!(text[done..].iter().collect::<String>(), *texts[holes.len()], "after the last hole");
    }
}

/// One field of all holes of a choice.
fn all<'a>(choice: &'a Value, field: &str) -> Vec<&'a Value> {
    choice["holes"].as_array().unwrap().iter().map(|hole| &hole[field]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_problem_in_another_form_has_the_same_answer() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        let settings = json!({ "seed": 7, "n": 2 });
        let one = [
            json!({ "prefix": " The ", "suffix": " end\n", "length": 5 }),
            json!({ "segments": [" T", "", "he ", { "length": 5 }, " end", "\n"] }),
            json!({ "segments": [" The ", {}, " end\n"], "length": 5 }),
            json!({ "template": " The <fill> end\n", "holes": [{ "length": 5 }] }),
            json!({ "template": " The [] end\n", "marker": "[]", "length": 5 }),
        ];
        let two = [
            json!({ "segments": [{ "length": 3 }, "a", { "hole": "x-Y_9", "length": 4 }, { "length": 2 }] }),
            json!({ "template": "<fill>a<fill><fill>",
                    "holes": [{ "length": 3 }, { "id": "x-Y_9", "length": 4 }, { "length": 2 }] }),
        ];
        for forms in [&one[..], &two[..]] {
            let first = server.ok("/fill", &with(&forms[0], settings.clone())).await;
            for form in &forms[1..] {
                let other = server.ok("/fill", &with(form, settings.clone())).await;
                assert_eq!(lasting(&other), lasting(&first), "{form}");
            }
        }
        let answer = server.ok("/fill", &with(&two[0], settings)).await;
        assert_left(&answer, &["", "a", "", ""]);
        let choice = &answer["choices"][0];
        assert_eq!(all(choice, "id"), ["0", "x-Y_9", "2"]);
        assert_eq!(all(choice, "length"), [3, 4, 2]);
        assert!(all(choice, "candidates").iter().all(|candidates| candidates.is_null()));
        // Only behind the last hole nothing follows, so only there a document may end.
        assert_eq!(all(choice, "finish_reason")[..2], ["filled", "filled"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_masked_words_take_one_evaluation() {
    let server = Server::start("diffullama", &[]);
    let mut segments = vec![json!("a")];
    for number in 0..40 {
        segments.extend([json!({ "hole": format!("h{number}"), "length": 1 }), json!(" b")]);
    }
    let mut body = json!({ "segments": segments, "temperature": 0, "diffusion": { "steps": 1 } });
    body["token_healing"] = json!(false);
    let answer = server.ok("/fill", &body).await;
    let texts: Vec<&str> = std::iter::once("a").chain(std::iter::repeat_n(" b", 40)).collect();
    assert_left(&answer, &texts);
    assert_eq!((&answer["diffusion"]["forward_passes"], &answer["truncated"]), (&json!(1), &json!(false)));
    assert_eq!(
        (&answer["usage"]["completion_tokens"], answer["choices"][0]["holes"][39]["id"].as_str()),
        (&json!(40), Some("h39"))
    );
    // The score of a choice is the mean over all tokens, here also over all holes.
    let choice = &answer["choices"][0];
    let mean = all(choice, "mean_logprob").iter().map(|mean| mean.as_f64().unwrap()).sum::<f64>() / 40.0;
    assert!((choice["score"].as_f64().unwrap() - mean).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_text_is_left_when_the_holes_are_taken_out() {
    // Any Unicode scalar, with those in front that tokenizers stumble over.
    let odd = [
        "\r\n",
        "\0",
        "\u{301}",
        "\u{200d}",
        "▁",
        "<fill>",
        "</s>",
        "<|endoftext|>",
        " ",
        "\u{feff}",
        "🏽",
        "\u{10ffff}",
    ];
    let mut dice = 0x9e37_79b9_u64;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        for seed in 0..24 {
            let mut texts = vec![String::new(); 2 + roll(3) as usize];
            for text in &mut texts {
                for _ in 0..roll(4) {
                    match roll(2) {
                        0 => text.push_str(odd[roll(odd.len() as u64) as usize]),
                        _ => text.extend(char::from_u32(roll(0x11_0000) as u32)),
                    }
                }
            }
            let mut segments = vec![json!(texts[0])];
            for text in &texts[1..] {
                segments.extend([json!({ "length": 1 + roll(3) }), json!(text)]);
            }
            let body = json!({ "segments": segments, "seed": seed, "allow_empty": true, "n": 2 });
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            assert_left(&server.ok("/fill", &body).await, &texts);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_hole_has_its_own_settings() {
    let server = Server::start("diffullama", &[]);
    let segments = |second: Value| json!([" The ", { "length": 6 }, " and ", with(&json!({ "length": 6 }), second), " end"]);
    let ask = async |second: Value| {
        let body = json!({ "segments": segments(second), "seed": 4, "token_healing": false, "diffusion": { "window": "left_to_right", "order": "confidence", "k": 1 } });
        server.ok("/fill", &body).await["choices"][0].clone()
    };
    let plain = ask(json!({})).await;
    // A bias that leaves no choice holds in its own hole alone; the first one is filled before.
    let biased = ask(json!({ "logit_bias": { "77": 100 } })).await;
    let texts = all(&biased, "text");
    assert_eq!(texts[0], &plain["holes"][0]["text"]);
    let piece = texts[1].as_str().unwrap();
    assert_eq!(piece, piece[..piece.len() / 6].repeat(6));
    assert_ne!(texts[1], &plain["holes"][1]["text"]);
    // So does a temperature: at 0 the seed has no say any more.
    let cold = ask(json!({ "temperature": 0 })).await;
    assert_eq!(all(&cold, "text")[0], all(&plain, "text")[0]);
    assert_ne!(all(&cold, "text")[1], all(&plain, "text")[1]);
    // And a stop string.
    let whole = plain["holes"][1]["text"].as_str().unwrap();
    let stop: String = whole.chars().skip(2).take(2).collect();
    let stopped = ask(json!({ "stop": [stop] })).await;
    assert_eq!(all(&stopped, "finish_reason"), ["filled", "stop"]);
    assert_eq!(
        all(&stopped, "text"),
        [&plain["holes"][0]["text"], &json!(whole[..whole.find(&stop).unwrap()])]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_announces_each_hole_when_it_is_final() {
    let server = Server::start("diffullama", &[]);
    // Random orders settle the last hole first in some of the seeds: it may not be announced before it is known
    // where it starts.
    let left_to_right = json!({ "window": "left_to_right", "order": "confidence", "k": 1 });
    for (rule, seed) in [(left_to_right, 5), (json!({}), 5), (json!({}), 6), (json!({}), 7)] {
        let body = json!({ "segments": ["a", { "hole": "first", "length": 3 }, "b", { "hole": "last", "length": 3 }, "c"],
                           "seed": seed, "n": 2, "diffusion": rule });
        let plain = server.ok("/fill", &body).await;
        let answer = server.post("/fill", &with(&body, json!({ "stream": true }))).await;
        let events = sse::native(&answer.body);
        let (name, done) = events.last().unwrap();
        assert_eq!((name.as_str(), lasting(done)), ("fill.done", lasting(&plain)));
        let state = &events[1].1["state"];
        assert_eq!(
            state["holes"],
            json!([{ "id": "first", "position": 0, "length": 3 }, { "id": "last", "position": 3, "length": 3 }])
        );
        let holes: Vec<&Value> =
            events.iter().filter(|event| event.0 == "fill.hole").map(|event| &event.1).collect();
        assert_eq!(holes.len(), 4);
        for hole in &holes {
            let choice = &plain["choices"][hole["choice"].as_u64().unwrap() as usize];
            let of = choice["holes"].as_array().unwrap().iter().find(|of| of["id"] == hole["id"]).unwrap();
            for field in ["text", "start", "end", "finish_reason", "mean_logprob", "tokens"] {
                assert_eq!(hole[field], of[field], "{field}");
            }
        }
        if rule["window"] == "left_to_right" {
            let place =
                |id: &str| events.iter().position(|event| event.0 == "fill.hole" && event.1["id"] == id);
            let between = &events[place("first").unwrap()..place("last").unwrap()];
            assert!(
                between.iter().any(|event| event.0 == "fill.state"),
                "the first hole does not wait for the last"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_filled_is_refused_with_the_field() {
    let server = Server::start("diffugpt-s", &[]);
    let holes = |count: usize| vec![json!({ "length": 1 }); count];
    let long = "word ".repeat(100);
    for (body, code, param) in [
        (json!({ "segments": ["a", {}], "prefix": "a" }), "conflicting_fields", "segments"),
        (json!({ "segments": ["a", {}], "template": "a<fill>" }), "conflicting_fields", "template"),
        (json!({ "segments": ["a"] }), "conflicting_fields", "segments"),
        (json!({ "segments": [] }), "conflicting_fields", "segments"),
        (json!({ "segments": ["", {}] }), "conflicting_fields", "segments"),
        (json!({ "template": "<fill>" }), "conflicting_fields", "template"),
        (json!({ "template": "a" }), "conflicting_fields", "template"),
        (json!({ "template": "a<fill>", "holes": [] }), "conflicting_fields", "holes"),
        (json!({ "template": "a", "marker": "" }), "out_of_range", "marker"),
        (json!({ "template": "a", "marker": "x".repeat(65) }), "out_of_range", "marker"),
        (json!({ "prefix": "a", "marker": "x" }), "conflicting_fields", "marker"),
        (json!({ "prefix": "a", "holes": [{}] }), "conflicting_fields", "holes"),
        (json!({ "segments": holes(65), "allow_empty": true }), "out_of_range", "segments"),
        (json!({ "segments": ["a", 1] }), "invalid_type", "segments[1]"),
        (
            json!({ "segments": ["a", { "hole": "x", "lenght": 1 }] }),
            "unknown_parameter",
            "segments[1].lenght",
        ),
        (json!({ "segments": ["a", { "hole": "" }] }), "out_of_range", "segments[1].hole"),
        (json!({ "segments": ["a", { "hole": "ä" }] }), "out_of_range", "segments[1].hole"),
        (json!({ "segments": ["a", { "hole": "x".repeat(65) }] }), "out_of_range", "segments[1].hole"),
        (json!({ "segments": ["a", { "hole": "1" }, {}] }), "conflicting_fields", "segments"),
        (json!({ "segments": ["a", { "length": 0 }] }), "out_of_range", "segments[1].length"),
        (json!({ "segments": ["a", { "length": { "min": 0 } }] }), "out_of_range", "segments[1].length.min"),
        (json!({ "segments": ["a", { "temperature": 3 }] }), "out_of_range", "segments[1].temperature"),
        (json!({ "segments": ["a", { "stop": [""] }] }), "out_of_range", "segments[1].stop"),
        (
            json!({ "segments": ["a", { "logit_bias": { "x": 1 } }] }),
            "out_of_range",
            "segments[1].logit_bias",
        ),
        (json!({ "prefix": "a", "length": { "min": 9, "max": 3 } }), "conflicting_fields", "length.min"),
        (json!({ "prefix": "a", "length": { "mix": 9 } }), "unknown_parameter", "length.mix"),
        (json!({ "prefix": "a", "length": "5" }), "invalid_type", "length"),
        (json!({ "prefix": "a", "length": [1] }), "invalid_type", "length"),
        (
            json!({ "prefix": "a", "length_search": { "candidates": 9 } }),
            "out_of_range",
            "length_search.candidates",
        ),
        (
            json!({ "segments": [long, { "length": 3 }], "truncate": false }),
            "context_length_exceeded",
            "segments",
        ),
        (
            json!({ "template": format!("{long}<fill>"), "truncate": false }),
            "context_length_exceeded",
            "template",
        ),
        // A hole does not push out all of the text.
        (json!({ "prefix": long, "length": 60 }), "context_length_exceeded", "length"),
    ] {
        let answer = server.post("/fill", &body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.refusal(400, code)["param"], param, "{body}");
    }
    let refused = server.post("/fill", &json!({ "prefix": long, "length": 60 })).await;
    let refused = refused.refusal(400, "context_length_exceeded");
    let message = refused["message"].as_str().unwrap();
    assert!(["60", "64", "8"].iter().all(|number| message.contains(number)), "{message}");
    server.ok("/fill", &json!({ "prefix": long, "length": 55 })).await;
}
