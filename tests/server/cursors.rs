//! Text around a cursor, as an editor sends it: much more than the model holds, and cut within a word.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Server, golden};
use crate::holes::assert_left;
use crate::sse;

/// What stands before and after the cursor in the first recorded request of llama.vim.
fn recorded() -> (String, String) {
    let requests = std::fs::read_to_string(golden("../clients/editors/llama.vim.json")).unwrap();
    let body = serde_json::from_str::<Value>(&requests).unwrap()[0]["body"].clone();
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (text("input_prefix") + &text("prompt"), text("input_suffix"))
}

/// Text that was kept from the wrong end would have nothing to do with what is being typed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_long_file_only_what_is_near_the_cursor_has_a_say() {
    for model in ["diffugpt-s", "diffugpt-m"] {
        let server = Server::start(model, &[]);
        let (before, after) = recorded();
        let (before, after) = (before.repeat(20), after.repeat(20));
        let fill = async |prefix: String, suffix: String| {
            let body = json!({ "prefix": prefix, "suffix": suffix, "length": 6, "seed": 5 });
            let answer = server.ok("/fill", &body).await;
            assert_eq!(answer["truncated"], true);
            assert_left(&answer, &[&prefix, &suffix]);
            let choice = &answer["choices"][0];
            (choice["holes"][0]["text"].clone(), choice["score"].as_f64().unwrap())
        };
        let own = fill(before.clone(), after.clone()).await;
        let far = (format!("# another file\n{before}"), format!("{after}\n# with another end"));
        assert_eq!(fill(far.0.clone(), far.1.clone()).await, own, "{model}");
        // The score is of every bit of what the model sees.
        assert_ne!(fill(format!("{before}self"), after.clone()).await.1, own.1, "{model}");
        assert_ne!(fill(before.clone(), format!("self{after}")).await.1, own.1, "{model}");

        let infill = async |prefix: &str, suffix: &str| {
            let body = json!({ "input_prefix": prefix, "input_suffix": suffix, "n_predict": 6, "seed": 5 });
            let answer = server.ok("/infill", &body).await;
            assert_eq!(answer["truncated"], true);
            answer["content"].clone()
        };
        assert_eq!(infill(&before, &after).await, infill(&far.0, &far.1).await, "{model}");
    }
}

/// Wherever in a word the cursor stands, the tokens at the edges of the hole spell what the word's halves end and begin
/// with, and the halves come back as they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_anywhere_in_a_word_is_healed() {
    let server = Server::start("diffugpt-s", &[]);
    let (before, after) = recorded();
    let text = before + &after;
    let pieces = async |text: &str| -> Vec<String> {
        let body = json!({ "prompt": text, "add_special_tokens": false, "with_pieces": true });
        let tokens = server.ok("/tokenize", &body).await["tokens"].clone();
        let piece = |token: &Value| token["piece"].as_str().unwrap().to_owned();
        tokens.as_array().unwrap().iter().map(piece).collect()
    };
    let letters: Vec<char> = text.chars().collect();
    let within_words =
        (8..letters.len() - 1).filter(|&at| letters[at - 1..=at].iter().all(char::is_ascii_alphabetic));
    let mut healed = 0;
    for at in within_words.step_by(3) {
        // The recorded text is ASCII.
        let (prefix, suffix) = text.split_at(at);
        let body = json!({ "prefix": prefix, "suffix": suffix, "length": 3, "seed": at, "heal": true, "stream": true });
        let events = sse::native(&server.post("/fill", &body).await.body);
        let mut spelled = BTreeMap::new();
        for (_, state) in events.iter().filter(|(name, state)| name == "fill.state" && state["ev"] == "step")
        {
            let list = |name: &str| state[name].as_array().unwrap().clone();
            spelled.extend(list("p").iter().map(|at| at.as_u64().unwrap()).zip(list("s")));
        }
        let edge = |place: usize| spelled.values().nth(place).unwrap().as_str().unwrap();
        let (last, first) = (pieces(prefix).await.pop().unwrap(), pieces(suffix).await.remove(0));
        assert_eq!(spelled.len(), 5, "{at}: three positions, and one for each edge");
        assert!(edge(0).starts_with(&last), "{at}: {:?} does not continue {last:?}", edge(0));
        assert!(edge(4).ends_with(&first), "{at}: {:?} does not lead to {first:?}", edge(4));
        assert_left(&events.last().unwrap().1, &[prefix, suffix]);
        healed += 1;
    }
    assert!(healed > 10, "{healed}");
}
