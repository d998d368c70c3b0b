//! Generated answers: the last word, a short answer, a number at the end of a solution.

use serde_json::{Value, json};

use super::super::args::Protocol;
use super::super::formats::{contains_alias, final_number, token_f1};
use super::server::Server;
use super::{ItemError, Outcome, Settings, confidence, evaluations, truth};

/// Positions of the paper's canvas for GSM8K.
const GSM8K_CANVAS: usize = 256;
/// What the paper adds to the longest name of an answer.
const ANSWER_ROOM: usize = 10;
/// Tokens that lm-evaluation-harness generates at most, and its seed.
const HARNESS_TOKENS: usize = 256;
const HARNESS_SEED: i64 = 1234;

/// The last word as the paper's script asks for it: as many tokens as the word has, drawn at temperature 1.
pub(super) async fn last_word(
    server: &Server,
    seed: i64,
    context: &str,
    word: &str,
) -> Result<Outcome, ItemError> {
    let start = server.has_start();
    let mut given = server.tokens(&format!("{context} {word}"), start).await?;
    let before = server.tokens(context, start).await?.len().min(given.len());
    let length = given.len() - before;
    if length == 0 {
        return Ok(Outcome::skipped("the word has no token of its own".to_owned()));
    }
    let over = given.len().saturating_sub(server.model.context);
    given.truncate(before);
    given.drain(..over.min(before));
    let body = json!({ "prompt": given, "max_tokens": length, "seed": seed, "token_healing": false });
    let answer = server.post("/v1/completions", &confidence(body, length, 1.0)).await?;
    let text = text_of(&answer)?;
    let right = text.trim() == word;
    Ok(outcome(text, &answer, over > 0).with("accuracy", truth(right)))
}

/// A short answer: right if it holds one of the names (paper), or is one (harness).
pub(super) async fn short_answer(
    server: &Server,
    settings: &Settings,
    seed: i64,
    (question, aliases): (&str, &[String]),
) -> Result<Outcome, ItemError> {
    if settings.protocol == Protocol::Harness {
        let prompt = format!("Question: {question}?\nAnswer:");
        let stop = ["\n", ".", ","];
        let (text, answer, cut) = greedy(server, &prompt, &stop).await?;
        let exact =
            aliases.iter().any(|alias| as_the_harness_compares(alias) == as_the_harness_compares(&text));
        return Ok(outcome(&text, &answer, cut).with("exact_match", truth(exact)));
    }
    let mut longest = 0;
    for alias in aliases {
        longest = longest.max(server.tokens(alias, false).await?.len());
    }
    let prompt = format!("Question: {question}?\nAnswer: ");
    let length = (longest + ANSWER_ROOM).min(server.model.context / 2);
    let (given, cut) = fitting(server, &prompt, server.has_start(), length).await?;
    let steps = settings.steps.map_or(length, |steps| steps as usize);
    let body = json!({ "prompt": given, "max_tokens": length, "seed": seed, "token_healing": false });
    let answer = server.post("/v1/completions", &confidence(body, steps, 0.95)).await?;
    let text = text_of(&answer)?;
    Ok(outcome(text, &answer, cut)
        .with("accuracy", truth(contains_alias(text, aliases)))
        .with("f1", token_f1(text, aliases)))
}

/// The number at the end of a solution.
pub(super) async fn number(
    server: &Server,
    settings: &Settings,
    seed: i64,
    (question, solution): (&str, &str),
) -> Result<Outcome, ItemError> {
    let expected = final_number(solution);
    if settings.protocol == Protocol::Harness {
        let prompt = format!("Question: {question}\nAnswer:");
        let (text, answer, cut) = greedy(server, &prompt, &["Question:", "</s>", "<|im_end|>"]).await?;
        let strict = strict_match(&text).is_some_and(|found| found == expected);
        return Ok(outcome(&text, &answer, cut).with("exact_match", truth(strict)));
    }
    let canvas = GSM8K_CANVAS.min(server.model.context);
    let steps = settings.steps.unwrap_or(64) as usize;
    let (path, body, cut) = if server.model.chats {
        let messages = json!([{ "role": "user", "content": question }]);
        let given = server.message_tokens(&messages).await?.len();
        if given >= canvas {
            return Ok(Outcome::skipped(format!("the question has {given} tokens of {canvas} positions")));
        }
        ("/v1/chat/completions", json!({ "messages": messages, "max_tokens": canvas - given }), false)
    } else {
        let prompt = format!("Question: {question}\nAnswer:");
        let (given, cut) = fitting(server, &prompt, true, canvas / 4).await?;
        let room = canvas.saturating_sub(given.len()).max(canvas / 4);
        ("/v1/completions", json!({ "prompt": given, "max_tokens": room }), cut)
    };
    let mut body = confidence(body, steps, 0.0);
    body["seed"] = json!(seed);
    let answer = server.post(path, &body).await?;
    let text = text_of(&answer)?;
    let right = final_number(text) == expected;
    Ok(outcome(text, &answer, cut).with("accuracy", truth(right)))
}

/// A text as lm-evaluation-harness generates it: the most probable one of the model's own decision rule.
async fn greedy(server: &Server, prompt: &str, stop: &[&str]) -> Result<(String, Value, bool), ItemError> {
    let length = HARNESS_TOKENS.min(server.model.context / 2);
    let (given, cut) = fitting(server, prompt, false, length + 1).await?;
    let body = json!({ "prompt": given, "max_tokens": length, "temperature": 0, "seed": HARNESS_SEED, "stop": stop });
    let answer = server.post("/v1/completions", &body).await?;
    Ok((text_of(&answer)?.to_owned(), answer, cut))
}

/// The tokens of a prompt, without its beginning where `room` positions would not fit beside it.
async fn fitting(
    server: &Server,
    prompt: &str,
    start: bool,
    room: usize,
) -> Result<(Vec<u64>, bool), ItemError> {
    let mut tokens = server.tokens(prompt, start).await?;
    let over = (tokens.len() + room).saturating_sub(server.model.context).min(tokens.len());
    tokens.drain(..over);
    Ok((tokens, over > 0))
}

fn text_of(answer: &Value) -> Result<&str, ItemError> {
    let choice = &answer["choices"][0];
    let text = choice["text"].as_str().or_else(|| choice["message"]["content"].as_str());
    text.ok_or(ItemError::Foreign { path: "/v1/completions", what: "text" })
}

fn outcome(text: &str, answer: &Value, truncated: bool) -> Outcome {
    Outcome { answer: json!(text), evaluations: evaluations(answer), truncated, ..Outcome::default() }
}

/// Without blanks around, case and punctuation.
fn as_the_harness_compares(text: &str) -> String {
    text.trim().to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect()
}

/// The first number behind `#### `, without commas, currency signs and a full stop at its end.
fn strict_match(text: &str) -> Option<String> {
    let digits = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',');
    text.match_indices("#### ").find_map(|(at, mark)| {
        let rest = &text[at + mark.len()..];
        let sign = if rest.starts_with('-') { "-" } else { "" };
        let rest = &rest[sign.len()..];
        let number = &rest[..rest.find(|c| !digits(c)).unwrap_or(rest.len())];
        let plain = number.replace(',', "");
        let plain = plain.strip_suffix('.').unwrap_or(&plain);
        (!number.is_empty()).then(|| format!("{sign}{plain}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strict_number_is_the_harness_s() {
        for (text, number) in [
            ("2 + 2\n#### 4", Some("4")),
            ("#### -1,234.\nmore #### 5", Some("-1234")),
            ("####5", None),
            ("#### none, then #### 3.50", Some("3.50")),
            ("4", None),
        ] {
            assert_eq!(strict_match(text).as_deref(), number, "{text}");
        }
        assert_eq!(as_the_harness_compares(" The U.S.A.\n"), "the usa");
    }
}
