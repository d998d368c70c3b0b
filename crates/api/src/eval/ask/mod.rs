//! Questions to the API, and what its answers are worth.

mod block;
mod choice;
mod generate;
mod hole;
pub(super) mod server;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::server::Server;
use super::args::{Protocol, ScoreMode};
use super::question::{Item, Question};
use super::run_code::Sandbox;
use crate::terminal::api::AskError;

/// Bytes of a text that every server tokenizes in one piece.
const MOST_TEXT: usize = 128 * 1024;

/// Settings that all questions of a run share.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) protocol: Protocol,
    pub(super) score: ScoreMode,
    pub(super) steps: Option<u32>,
    pub(super) seed: i64,
    /// Tokens of a block of `infill`.
    pub(super) block: usize,
    /// The means to run generated code, if it may run.
    pub(super) sandbox: Option<Sandbox>,
}

/// An answer that has been judged, as it is kept in a line of a journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// The metrics that the item has, mostly 0 or 1.
    pub(super) metrics: BTreeMap<String, f64>,
    /// The model's answer, for a reader.
    pub(super) answer: Value,
    /// Evaluations of the network.
    pub(super) evaluations: u64,
    /// True if text was left out because the model's context is too short.
    #[serde(default)]
    pub(super) truncated: bool,
    /// Why the item was not asked, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) skipped: Option<String>,
}

/// A failure that ends a run.
#[derive(Debug, thiserror::Error)]
pub(super) enum ItemError {
    /// The API refused a request, or did not answer.
    #[error(transparent)]
    Ask(Box<AskError>),
    /// An answer without something that it must have.
    #[error("the answer of {path} has no {what}; is it a server of this version?")]
    Foreign { path: &'static str, what: &'static str },
    /// Generated code cannot be run.
    #[error(transparent)]
    Sandbox(#[from] super::run_code::SandboxError),
}

impl From<AskError> for ItemError {
    fn from(error: AskError) -> Self {
        Self::Ask(Box::new(error))
    }
}

impl Outcome {
    /// An item that is not asked.
    fn skipped(reason: String) -> Self {
        Self { skipped: Some(reason), ..Self::default() }
    }

    fn with(mut self, name: &str, value: f64) -> Self {
        self.metrics.insert(name.to_owned(), value);
        self
    }
}

impl Settings {
    /// The seed of an item.
    fn seed_of(&self, index: usize) -> i64 {
        self.seed.wrapping_mul(1_000_003).wrapping_add(index as i64) & i64::from(u32::MAX)
    }
}

/// Asks item number `index` of a task.
///
/// # Errors
/// The API refuses a request, or does not answer.
pub(super) async fn ask(
    server: &Server,
    settings: &Settings,
    index: usize,
    item: &Item,
) -> Result<Outcome, ItemError> {
    let seed = settings.seed_of(index);
    if item.question.longest() > MOST_TEXT {
        return Ok(Outcome::skipped(format!("a text of more than {} KiB", MOST_TEXT / 1024)));
    }
    match &item.question {
        Question::Choice(choice) => choice::ask(server, settings, seed, choice).await,
        Question::LastWord { context, word } => match settings.score {
            ScoreMode::Reference => generate::last_word(server, seed, context, word).await,
            _ => choice::last_word(server, settings, seed, (context, word)).await,
        },
        Question::ShortAnswer { question, aliases } => {
            generate::short_answer(server, settings, seed, (question, aliases)).await
        }
        Question::Number { question, answer } => {
            generate::number(server, settings, seed, (question, answer)).await
        }
        Question::Hole(hole) => hole::ask(server, settings, seed, hole).await,
        Question::Block { text, seed } => block::ask(server, settings, *seed, text).await,
    }
}

/// Evaluations that an answer reports.
fn evaluations(answer: &Value) -> u64 {
    answer["diffusion"]["forward_passes"].as_u64().unwrap_or_default()
}

/// 1 for true.
fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// The paper's benchmark sampler: by confidence over `steps`, drawn at a temperature, without a nucleus.
fn confidence(mut body: Value, steps: usize, temperature: f64) -> Value {
    body["temperature"] = json!(temperature);
    body["top_p"] = json!(1.0);
    body["diffusion"] = json!({ "preset": "confidence", "steps": steps.max(1) });
    body
}
