//! Prompts that stay: `unmask chat`, and `unmask fill` without a file.

use serde_json::json;

use crate::harness::{Server, golden};
use crate::pane::Pane;
use crate::released::Released;

/// The number of answers whose end is in view.
fn ends(shown: &str) -> usize {
    shown.matches(" evaluations").count()
}

#[test]
fn the_fill_prompt_answers_texts_and_commands_until_it_is_left() {
    let options = ["--length", "1", "--temperature", "0"];
    let pane = Pane::run((90, 40), &[], &[&["fill"][..], &options].concat());
    pane.until("the prompt", |shown| shown.contains("with <fill> wherever") && shown.contains("\n>"));
    pane.type_line("    return len(<fill>._items)");
    let shown = pane.until("an answer", |shown| ends(shown) == 1);
    assert!(shown.lines().any(|row| row.contains("return len(") && row.contains("._items)")), "{shown}");
    pane.type_line("/seed 12345");
    pane.until("the seed", |shown| shown.contains("\nseed 12345"));
    pane.type_line("/sede 1");
    pane.until("a near miss", |shown| shown.contains("did you mean /seed?"));
    pane.type_line("no marker");
    pane.until("an error", |shown| shown.contains("there is no hole: write <fill>"));
    // The history: the text three lines before the last one.
    for _ in 0..4 {
        pane.press("Up");
    }
    pane.until("the text again", |shown| {
        shown.trim_end().ends_with("> return len(<fill>._items)")
            || shown.trim_end().ends_with(">     return len(<fill>._items)")
    });
    pane.press("Enter");
    pane.until("another answer", |shown| ends(shown) == 2 && shown.contains("· seed 12345"));
    pane.type_line("/quit");
    pane.ended(0);
}

#[test]
fn a_text_may_have_several_lines() {
    let pane = Pane::run((90, 40), &[], &["fill", "--length", "1", "--seed", "1"]);
    pane.until("the prompt", |shown| shown.contains("\n>"));
    pane.type_line("def f(x):\\");
    pane.until("the next line", |shown| shown.contains("\n."));
    pane.type_line("    return <fill>");
    let shown = pane.until("an answer", |shown| ends(shown) == 1);
    assert!(shown.contains("\ndef f(x):\n    return "), "{shown}");
    pane.press("C-d");
    pane.ended(0);
}

/// The second question goes with the first one and its answer; without them it has another answer.
#[test]
fn a_chat_remembers_what_was_said_until_it_is_cleared() {
    let server = Server::start("sdar", &[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut messages = Vec::new();
    let mut answer = |question: &str, forget: bool| {
        if forget {
            messages.clear();
        }
        messages.push(json!({ "role": "user", "content": question }));
        let request = json!({ "messages": messages, "max_tokens": 6, "seed": 4 });
        let answer = runtime.block_on(server.ok("/v1/chat/completions", &request));
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        messages.push(json!({ "role": "assistant", "content": text }));
        text
    };
    let model = golden("sdar").display().to_string();
    let pane = Pane::run((90, 40), &[], &["chat", "--model", &model, "--max-tokens", "6", "--seed", "4"]);
    pane.until("the prompt", |shown| shown.contains("\n>"));
    let mut texts = Vec::new();
    for (question, forget) in [("Hi", false), ("and?", false), ("and?", true)] {
        if forget {
            pane.type_line("/clear");
        }
        pane.type_line(question);
        let text = answer(question, forget);
        texts.push(text.trim().to_owned());
        let shown = pane.until("an answer", |shown| ends(shown) == texts.len());
        assert!(shown.lines().any(|row| row.trim_end() == text.trim_end()), "{text:?} in\n{shown}");
    }
    assert_ne!(texts[1], texts[2]);
    pane.type_line("/quit");
    pane.ended(0);
}

/// Every evaluation of a slow run is seen, although they all come at once.
#[test]
fn a_slow_run_shows_every_evaluation() {
    let state = |state| json!({ "choices": [{ "text": "" }], "diffusion": state });
    let step = |evaluation: u32| {
        state(
            json!({ "type": "step", "evaluation": evaluation, "max_evaluations": 3, "remaining": 3 - evaluation,
                      "positions": [evaluation - 1], "token_ids": [0], "texts": ["x"], "probabilities": [0.5] }),
        )
    };
    let holes = json!([{ "id": "0", "position": 0, "length": 3 }]);
    let released = Released::saying(&[
        state(json!({ "type": "start", "length": 3, "holes": holes })),
        step(1),
        step(2),
        step(3),
        json!({ "choices": [{ "text": "xxx" }], "diffusion": { "seed": 1 } }),
    ]);
    let pane = Pane::run((80, 24), &[], &["try", "a", "--slow", "--url", &released.url]);
    (0..5).for_each(|_| released.permit());
    for evaluation in 1..=3 {
        let shown =
            pane.until("an evaluation", |shown| shown.contains(&format!("evaluation {evaluation} of 3")));
        assert!(!shown.contains("tokens/s"), "times mean nothing: {shown}");
    }
    pane.ended(0);
}
