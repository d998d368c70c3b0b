//! Text around a cursor, as an editor sends it: much more than the model holds, and cut within a word.

use serde_json::{Value, json};

use crate::harness::{Server, golden};
use crate::holes::assert_left;

/// The text before and after the cursor in the first recorded request of llama.vim.
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
        let before = before.repeat(20);
        let after = after.repeat(20);
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
