//! The most probable of several continuations, and words that are the most probable ones.

use serde_json::{Value, json};

use super::super::args::Protocol;
use super::super::question::{Choice, Continuation};
use super::server::Server;
use super::{ItemError, Outcome, Settings, evaluations, truth};

/// Tokens to score, of which the first `from` are context.
struct Scored {
    tokens: Vec<u64>,
    from: usize,
    truncated: bool,
}

/// What the API found.
struct Score {
    /// Nats; in the mode `reference` a mean per token.
    total: f64,
    /// Whether every scored token is the most probable one at its place.
    greedy: bool,
}

/// Asks for the scores of all continuations.
pub(super) async fn ask(
    server: &Server,
    settings: &Settings,
    seed: i64,
    choice: &Choice,
) -> Result<Outcome, ItemError> {
    let mut scored = Vec::new();
    for option in &choice.options {
        scored.push(tokens(server, settings.protocol, option, choice.joined).await?);
    }
    if scored.iter().any(|text| text.from == text.tokens.len()) {
        return Ok(Outcome::skipped("a continuation has no token".to_owned()));
    }
    let (scores, count) = score(server, settings, seed, &scored).await?;
    let totals: Vec<f64> = scores.iter().map(|score| score.total).collect();
    let pairs = totals.iter().zip(&choice.options);
    let by_character: Vec<f64> = pairs.map(|(total, option)| total / option.characters as f64).collect();
    let best = largest(&totals);
    let mut outcome = Outcome {
        answer: json!({ "chosen": best, "scores": totals }),
        evaluations: count,
        truncated: scored.iter().any(|text| text.truncated),
        ..Outcome::default()
    }
    .with("accuracy", truth(best == choice.right));
    // A mean per token is no log-probability of the whole.
    if settings.score != super::ScoreMode::Reference {
        outcome = outcome.with("accuracy_norm", truth(largest(&by_character) == choice.right));
    }
    Ok(outcome)
}

/// Whether the last word's tokens are the most probable ones, and their log-probability.
pub(super) async fn last_word(
    server: &Server,
    settings: &Settings,
    seed: i64,
    (context, word): (&str, &str),
) -> Result<Outcome, ItemError> {
    let option = Continuation {
        context: context.to_owned(),
        scored: vec![format!(" {word}")],
        characters: word.chars().count(),
    };
    let text = tokens(server, settings.protocol, &option, true).await?;
    let truncated = text.truncated;
    let (scores, count) = score(server, settings, seed, &[text]).await?;
    let [Score { total, greedy }] = scores[..] else {
        return Err(ItemError::Foreign { path: "/v1/completions", what: "score" });
    };
    let outcome = Outcome {
        answer: json!({ "log_probability": total }),
        evaluations: count,
        truncated,
        ..Outcome::default()
    }
    .with("log_probability", total);
    // Modes with samples do not read a token's place once.
    Ok(if settings.score.is_sampled() { outcome } else { outcome.with("accuracy", truth(greedy)) })
}

/// The first of the largest numbers, as numpy's argmax.
fn largest(numbers: &[f64]) -> usize {
    let mut best = 0;
    for (at, number) in numbers.iter().enumerate() {
        if *number > numbers[best] {
            best = at;
        }
    }
    best
}

/// The tokens of a continuation behind its context. Where the model's context is too short, text is left out at the
/// beginning.
async fn tokens(
    server: &Server,
    protocol: Protocol,
    option: &Continuation,
    joined: bool,
) -> Result<Scored, ItemError> {
    let start = protocol == Protocol::Paper && server.has_start();
    let (mut tokens, context) = if joined {
        let whole = format!("{}{}", option.context, option.scored.concat());
        // Blanks at the end of a context belong to the continuation: so tokenizers were trained.
        let context = server.tokens(option.context.trim_end(), start).await?.len();
        (server.tokens(&whole, start).await?, context)
    } else {
        let mut tokens = server.tokens(&option.context, start).await?;
        let context = tokens.len();
        for piece in &option.scored {
            tokens.extend(server.tokens(piece, false).await?);
        }
        (tokens, context)
    };
    let from = context.min(tokens.len());
    // The harness leaves a position to the token that it has generated.
    let most = server.model.context - usize::from(protocol == Protocol::Harness);
    let over = tokens.len().saturating_sub(most);
    tokens.drain(..over);
    Ok(Scored { tokens, from: from.saturating_sub(over), truncated: over > 0 })
}

/// Scores texts: in one request where their contexts have the same length.
async fn score(
    server: &Server,
    settings: &Settings,
    seed: i64,
    texts: &[Scored],
) -> Result<(Vec<Score>, u64), ItemError> {
    let same = texts.windows(2).all(|pair| pair[0].from == pair[1].from);
    let (mut scores, mut count) = (Vec::new(), 0);
    for group in texts.chunks(if same { texts.len().max(1) } else { 1 }) {
        let prompts: Vec<&[u64]> = group.iter().map(|text| &text.tokens[..]).collect();
        let mut mode = json!({ "mode": settings.score, "from": group[0].from });
        if settings.score.is_sampled() {
            mode["samples"] = json!(settings.steps.unwrap_or(32));
        }
        let top = u8::from(!settings.score.is_sampled());
        let body = json!({
            "prompt": prompts, "max_tokens": 0, "echo": true, "logprobs": top, "seed": seed,
            "diffusion": { "score": mode },
        });
        let answer = server.post("/v1/completions", &body).await?;
        count += evaluations(&answer);
        for (at, text) in group.iter().enumerate() {
            let missing = ItemError::Foreign { path: "/v1/completions", what: "log-probabilities" };
            scores.push(read_score(&answer["choices"][at]["logprobs"], text.from).ok_or(missing)?);
        }
    }
    Ok((scores, count))
}

/// The sum of the scored tokens' numbers from left to right, and whether each is the largest at its place.
fn read_score(logprobs: &Value, from: usize) -> Option<Score> {
    let values = logprobs["token_logprobs"].as_array()?.get(from..)?;
    let top = logprobs["top_logprobs"].as_array()?.get(from..)?;
    let (mut total, mut greedy) = (0.0, true);
    for (value, top) in values.iter().zip(top) {
        // Nothing predicts the first token of a canvas.
        let Some(value) = value.as_f64() else { continue };
        total += value;
        let others = top.as_object().into_iter().flat_map(|top| top.values().filter_map(Value::as_f64));
        greedy &= others.fold(f64::NEG_INFINITY, f64::max) <= value;
    }
    Some(Score { total, greedy })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_is_chosen() {
        assert_eq!(largest(&[-3.0, -1.0, -1.0]), 1);
        assert_eq!(largest(&[f64::NAN, 1.0]), 0);
        assert_eq!(largest(&[]), 0);
    }

    #[test]
    fn a_score_is_the_sum_behind_the_context() {
        let logprobs = json!({
            "token_logprobs": [null, -1.0, -0.5, -0.25],
            "top_logprobs": [null, {"a": -0.1, "b": -1.0}, {"c": -0.5}, {"d": -0.25, "e": -0.3}],
        });
        let score = read_score(&logprobs, 2).unwrap();
        assert_eq!((score.total, score.greedy), (-0.75, true));
        let score = read_score(&logprobs, 0).unwrap();
        assert_eq!((score.total, score.greedy), (-1.75, false));
        assert!(read_score(&json!({}), 0).is_none());
    }
}
