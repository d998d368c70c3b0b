//! The contents of a terminal during a run. If these failed, the terminal would show another text than the
//! answer, or be left in disorder.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::Server;
use crate::pane::Pane;
use crate::released::Released;

const PROMPT: &str = "import os\nimport ";

/// Masks that a pane shows.
fn masks(shown: &str) -> usize {
    shown.matches('▒').count()
}

/// The number of masked positions in the line below.
fn masked(shown: &str) -> Option<u64> {
    let (before, _) = shown.split_once(" masked")?;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Hands on the events of an answer one by one, and waits each time until the pane shows its state; `check` looks
/// at the pane after each. The data of all events.
fn follow(released: &Released, pane: &Pane, check: impl Fn(&str, usize)) -> Vec<Value> {
    let events: Vec<Value> =
        released.events().iter().filter_map(|data| serde_json::from_str(data).ok()).collect();
    for event in &events {
        released.permit();
        let state = if event["state"].is_object() { &event["state"] } else { &event["diffusion"] };
        let left = state["remaining"].as_u64().or(state["length"].as_u64());
        if let Some(left) = left.filter(|_| matches!(state["type"].as_str(), Some("start" | "step"))) {
            let shown = pane.until(&format!("{left} masked"), |shown| masked(shown) == Some(left));
            check(&shown, left as usize);
        }
    }
    // What comes after the events, such as [DONE].
    released.permit();
    events
}

/// All rows of a text are in the pane, one below the other.
fn assert_rows(shown: &str, text: &str) {
    let rows: Vec<&str> = shown.lines().map(str::trim_end).collect();
    let text: Vec<&str> = text.lines().map(str::trim_end).collect();
    assert!(rows.windows(text.len()).any(|window| window == text), "{text:#?} in\n{shown}");
}

#[test]
fn masks_turn_into_the_text_of_the_answer() {
    let server = Server::start_embedded();
    for size in [(80, 24), (40, 12)] {
        let released = Released::from(&server);
        let arguments = ["try", PROMPT, "--max-tokens", "16", "--seed", "1", "--url", &released.url];
        let pane = Pane::run(size, &[], &arguments);
        let events = follow(&released, &pane, |shown, left| {
            assert_eq!(masks(shown), left, "every open position is visible:\n{shown}");
            assert!(shown.contains("above\nimport os\nimport ") && shown.contains("tokens/s"), "{shown}");
        });
        let text: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
        let shown = pane.ended(0);
        assert_rows(&shown, &format!("above\n{PROMPT}{text}"));
        assert!(masks(&shown) == 0 && shown.contains("seed 1") && !shown.contains("masked"), "{shown}");
    }
}

#[test]
fn this_process_shows_what_a_server_answers() {
    let server = Server::start_embedded();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let request = json!({ "prompt": PROMPT, "max_tokens": 24, "seed": 5 });
    let answer = runtime.block_on(server.ok("/v1/completions", &request));
    let pane = Pane::run((80, 50), &[], &["try", PROMPT, "--max-tokens", "24", "--seed", "5"]);
    let text = answer["choices"][0]["text"].as_str().unwrap().replace('\t', "        ");
    assert_rows(&pane.ended(0), &format!("above\n{PROMPT}{text}"));
}

#[test]
fn a_long_file_is_drawn_around_its_holes_and_survives_resizing() {
    let server = Server::start_embedded();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("file.py");
    let out = folder.path().join("out.py");
    // The small model sees all of it: with several holes, a file must fit.
    let lines = |name: &str| (0..16).map(|n| format!("{name}{n} = 1\n")).collect::<String>();
    let around = (lines("a"), lines("b"));
    let file =
        format!("{}def <fill>(self):\n    return <fill>  # a line longer than a row\n{}", around.0, around.1);
    fs::write(&path, &file).unwrap();
    let file_name = path.display().to_string();
    let out_name = out.display().to_string();
    let released = Released::from(&server);
    let options = ["--length", "4", "--seed", "2", "-o", &out_name, "--url", &released.url];
    let pane = Pane::run((60, 24), &[], &[&["fill", &file_name][..], &options].concat());
    let sizes = std::cell::Cell::new(0);
    let events = follow(&released, &pane, |_, left| {
        let (columns, rows) = [(60, 24), (30, 24), (90, 20), (40, 24)][sizes.replace(sizes.get() + 1) % 4];
        pane.resize(columns, rows);
        let whole = |shown: &str| {
            let once = [" masked", "def ", "a15 = 1"].iter().all(|part| shown.matches(part).count() == 1);
            once && masks(shown) == left && !shown.contains("a9 = 1")
        };
        let shown = pane.until("one frame in the new size", whole);
        assert!(shown.lines().all(|row| row.chars().count() <= columns), "{shown}");
    });
    assert!(sizes.get() > 4, "states at every size");
    let shown = pane.ended(0);
    assert!(masks(&shown) == 0 && shown.contains("written to"), "{shown}");
    let text = events.last().unwrap()["choices"][0]["text"].as_str().unwrap();
    assert_eq!(fs::read_to_string(&out).unwrap(), text);
}

#[test]
fn searched_lengths_end_in_the_same_text() {
    let server = Server::start_embedded();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let file = "class Stack:\n    def __len__(self):\n        return len(<fill>._items)\n";
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("stack.py");
    fs::write(&path, file).unwrap();
    let answer = runtime.block_on(server.ok("/fill", &json!({ "template": file, "seed": 7 })));
    let pane = Pane::run((80, 24), &[], &["fill", &path.display().to_string(), "--seed", "7"]);
    let shown = pane.ended(0);
    assert_rows(&shown, answer["choices"][0]["text"].as_str().unwrap());
    assert!(shown.contains("seed 7"), "{shown}");
}

#[test]
fn an_interruption_leaves_the_terminal_as_it_was() {
    let server = Server::start_embedded();
    let released = Released::from(&server);
    let arguments = ["try", PROMPT, "--max-tokens", "16", "--seed", "1", "--url", &released.url];
    let pane = Pane::run((80, 24), &[], &arguments);
    released.events();
    released.permit();
    pane.until("the first state", |shown| shown.contains("16 masked"));
    pane.press("C-c");
    let shown = pane.ended(130);
    assert!(shown.starts_with("above\nimport os\nimport ▒"), "{shown}");
}

/// The events of a completion of two positions.
fn two_positions(first: &str, second: &str) -> Released {
    let state = |state: Value| json!({ "choices": [{ "text": "" }], "diffusion": state });
    let step = |n: u32, p: u32, text: &str| {
        state(
            json!({ "type": "step", "evaluation": n, "max_evaluations": 2, "remaining": 2 - n, "positions": [p],
                    "token_ids": [0], "texts": [text], "probabilities": [0.09] }),
        )
    };
    Released::saying(&[
        state(json!({ "type": "start", "length": 2, "holes": [{ "id": "0", "position": 0, "length": 2 }] })),
        step(1, 0, first),
        step(2, 1, second),
        json!({ "choices": [{ "text": format!("{first}{second}") }], "diffusion": { "seed": 1 } }),
    ])
}

#[test]
fn what_a_model_writes_never_commands_the_terminal() {
    let released = two_positions("\x1b[2J\x1b]0;owned\x07\u{9b}31m", "\r\x08世界\u{202e}");
    let pane = Pane::run((80, 24), &[], &["try", "a\x1b[1;1Hb", "--url", &released.url]);
    follow(&released, &pane, |shown, _| assert!(shown.starts_with("above\na␛[1;1Hb"), "{shown}"));
    assert_rows(&pane.ended(0), "above\na␛[1;1Hb␛[2J␛]0;owned␇\u{fffd}31m␍␈世界\u{fffd}");
}

#[test]
fn wide_characters_break_no_row() {
    let released = two_positions("世界世界世界世界世界世界世界世界世界世界", "🦀 e\u{301}");
    let pane = Pane::run((20, 12), &[], &["try", "a", "--url", &released.url]);
    follow(&released, &pane, |shown, left| {
        assert!(shown.matches(" masked").count() == 1 && masks(shown) == left, "{shown}");
    });
    assert_rows(&pane.ended(0), "above\na世界世界世界世界世\n界世界世界世界世界世\n界🦀 e\u{301}");
}

#[test]
fn colours_can_be_refused_and_a_simple_terminal_gets_plain_text() {
    let colours = |pane: &Pane| {
        let shown = pane.coloured();
        ["[33m", "[36m", "[43m", "[30m"].iter().any(|colour| shown.contains(colour)) || shown.contains(";43m")
    };
    for (variables, coloured) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let released = two_positions("one", " two");
        let pane = Pane::run((80, 24), variables, &["try", "a", "--url", &released.url]);
        follow(&released, &pane, |_, left| assert_eq!(colours(&pane), coloured && left < 2));
        assert_rows(&pane.ended(0), "above\naone two");
        assert_eq!(colours(&pane), coloured);
    }
    let released = two_positions("one\x1b[2J", " two");
    let pane = Pane::run((80, 24), &[("TERM", "dumb")], &["try", "a", "--url", &released.url]);
    (0..4).for_each(|_| released.permit());
    assert_rows(&pane.ended(0), "above\none␛[2J two\nexit 0");
}
