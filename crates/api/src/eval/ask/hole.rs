//! Holes with text on both sides, filled by `/fill`.

use serde_json::json;

use super::super::question::{Hole, Judge};
use super::super::rouge::rouge;
use super::super::run_code::Verdict;
use super::server::Server;
use super::{ItemError, Outcome, Settings, confidence, evaluations, truth};

/// T of the paper's scripts.
const STEPS: u32 = 32;
/// The longest text that the paper's script asks about, in tokens.
const LONGEST: usize = 1000;

/// Fills the hole with as many tokens as its true text has.
pub(super) async fn ask(
    server: &Server,
    settings: &Settings,
    seed: i64,
    hole: &Hole,
) -> Result<Outcome, ItemError> {
    let length = server.tokens(&hole.truth, false).await?.len();
    let around = [&hole.prefix, &hole.suffix];
    let mut total = length;
    for text in around {
        total += server.tokens(text, false).await?.len();
    }
    if matches!(hole.judge, Judge::Tests { .. }) && total > LONGEST {
        return Ok(Outcome::skipped(format!("{total} tokens, more than {LONGEST}")));
    }
    // The server leaves an eighth of the context to the text around.
    let most = server.model.context - server.model.context / 8;
    if length > most {
        return Ok(Outcome::skipped(format!("the hole has {length} tokens; {most} fit")));
    }
    let body = json!({
        "prefix": hole.prefix, "suffix": hole.suffix, "length": length, "seed": seed, "token_healing": false,
    });
    let steps = settings.steps.unwrap_or(STEPS) as usize;
    let answer = server.post("/fill", &confidence(body, steps, 0.95)).await?;
    let text = answer["choices"][0]["holes"][0]["text"].as_str();
    let text = text.ok_or(ItemError::Foreign { path: "/fill", what: "text" })?.to_owned();
    let outcome = Outcome {
        answer: json!(text),
        evaluations: evaluations(&answer),
        truncated: answer["truncated"] == true,
        ..Outcome::default()
    };
    judged(outcome, settings, hole, text).await
}

async fn judged(
    outcome: Outcome,
    settings: &Settings,
    hole: &Hole,
    text: String,
) -> Result<Outcome, ItemError> {
    let (test, entry_point) = match &hole.judge {
        Judge::Rouge => {
            let [one, two, longest] = rouge(&hole.truth, &text);
            return Ok(outcome.with("rouge_1", one).with("rouge_2", two).with("rouge_l", longest));
        }
        Judge::Tests { test, entry_point } => (test, entry_point),
    };
    let outcome = outcome.with("exact_match", truth(text == hole.truth));
    let Some(sandbox) = settings.sandbox.clone() else { return Ok(outcome) };
    let (prefix, suffix) = (&hole.prefix, &hole.suffix);
    let program = format!("{prefix}{text}{suffix}\n{test}\ncheck({entry_point})\n");
    let verdict = sandbox.run(program).await?;
    Ok(outcome.with("pass@1", truth(verdict == Verdict::Passed)))
}
