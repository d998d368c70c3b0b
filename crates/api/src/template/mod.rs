//! Messages to a prompt: the model's chat template, compiled once at load.
//!
//! Templates come from the operator and the model's files, never from a request. What users write in
//! messages is never a special token: see `quotes.rs`.

mod conversation;
mod jinja;
mod quotes;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;
use unmask_model::checkpoint::Profile;
use unmask_model::predictor::TokenId;
use unmask_model::tokenizer::TextTokenizer;

use self::conversation::with_texts;
pub use self::conversation::{Conversation, Piece, Prompt, Turn};
use self::jinja::Jinja;
use self::quotes::Quotes;
use crate::input::read_settings;

/// Why messages have not become a prompt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is no template.
    #[error(
        "this model has no chat template that can be used here; the operator can name one with --chat-template, and \
         /v1/completions needs none"
    )]
    Missing,
    /// The template refuses these messages, in its own words.
    #[error("the chat template refuses the messages: {0}")]
    Refused(String),
    /// The template does not work with these messages.
    #[error("the chat template fails on these messages: {0}")]
    Failed(String),
}

/// A model's template for messages: the way from a chat to a prompt.
///
/// A template is Jinja, as transformers renders it (`jinja`), or the reference's own format with a separator. Its steps
/// and its output are bounded, so no template can stop the server. Users' text in a prompt never becomes a special
/// token: `quotes` keeps the two apart. [`Self::choose`] finds the template at start and renders one question with it, so
/// that a broken one is reported before the server listens.
#[derive(Debug)]
pub struct ChatTemplate {
    origin: String,
    form: Form,
    specials: Vec<String>,
    /// `bos_token` and its like, which templates use as variables.
    tokens: BTreeMap<&'static str, String>,
}

#[derive(Debug)]
enum Form {
    Jinja(Box<Jinja>),
    /// The reference's fine-tuning format: the last question, then this separator.
    Separator(TokenId, String),
}

const ALPACA: &str = include_str!("alpaca.jinja");
const SEPARATOR: &str = "{{ bos_token }}{{ messages[-1]['content'] }}{{ sep_token }}";

impl ChatTemplate {
    /// The template that was `given`, a file or a name, or the one among the model's files. One of the model's that
    /// cannot be used is none, and the log says why: everything but chat works without it.
    ///
    /// # Errors
    /// The given one cannot be read, is not a template, or calls what there is not.
    pub fn choose(
        given: Option<&str>,
        profile: &Profile,
        tokenizer: &TextTokenizer,
    ) -> anyhow::Result<Option<Self>> {
        let (origin, form) = match (given, &profile.chat_template) {
            (Some("alpaca"), _) => ("alpaca".to_owned(), jinja(ALPACA.to_owned(), profile)?),
            (Some("diffullama-sft"), _) => ("diffullama-sft".to_owned(), separator(profile, tokenizer)?),
            (Some(file), _) => {
                let read = read_settings(Path::new(file));
                let text = read.with_context(|| {
                    format!("cannot read chat template {file} (names are alpaca and diffullama-sft)")
                })?;
                let form = jinja(text, profile);
                (file.to_owned(), form.with_context(|| format!("cannot use chat template {file}"))?)
            }
            (None, Some(text)) => match jinja(text.clone(), profile) {
                Ok(form) => ("the model's".to_owned(), form),
                Err(error) => {
                    let reason = format!("{error:#}");
                    tracing::warn!(
                        reason,
                        "the model's chat template cannot be used: chat is off; --chat-template names another"
                    );
                    return Ok(None);
                }
            },
            (None, None) => return Ok(None),
        };
        let specials = tokenizer.special_texts().to_vec();
        let tokens = profile.named_tokens.clone();
        Ok(Some(Self { origin, form, specials, tokens }))
    }

    /// Its origin: a file, a name, or the model.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Its text.
    #[must_use]
    pub fn source(&self) -> &str {
        match &self.form {
            Form::Jinja(jinja) => jinja.source(),
            Form::Separator(..) => SEPARATOR,
        }
    }

    /// Returns true for a variable that the server sets.
    #[must_use]
    pub fn reserves(variable: &str) -> bool {
        jinja::is_reserved(variable)
    }

    /// Returns true if a request may set this variable: the template reads it, and the server does not set
    /// it.
    #[must_use]
    pub fn reads(&self, variable: &str) -> bool {
        match &self.form {
            Form::Jinja(jinja) => jinja.reads(variable),
            Form::Separator(..) => false,
        }
    }

    /// The prompt for a conversation.
    ///
    /// # Errors
    /// The template refuses it or fails.
    pub fn render(&self, conversation: &Conversation) -> Result<Prompt, TemplateError> {
        match &self.form {
            Form::Jinja(jinja) => self.fill(jinja, conversation).map(Prompt),
            Form::Separator(id, text) => {
                let question = question(conversation)?;
                Ok(Prompt(vec![Piece::Text(question), Piece::Token(*id, text.clone())]))
            }
        }
    }

    fn fill(&self, jinja: &Jinja, conversation: &Conversation) -> Result<Vec<Piece>, TemplateError> {
        let mut shown = conversation.clone();
        let variables = conversation.variables.values().filter_map(Value::as_str);
        let texts = conversation.turns.iter().flat_map(Turn::texts).chain(variables);
        let quotes = Quotes::beside(texts).ok_or_else(|| {
            TemplateError::Failed("they use every character of the private planes".to_owned())
        })?;
        let quote = |text: &str| quotes.quote(text, &self.specials);
        for turn in &mut shown.turns {
            turn.content = quote(&turn.content);
            turn.more.values_mut().for_each(|value| *value = with_texts(value, &quote));
        }
        for variable in shown.variables.values_mut() {
            if let Value::String(text) = variable {
                *text = quote(text);
            }
        }
        if let Some(last) = shown.turns.last_mut().filter(|_| conversation.continue_final) {
            last.content = quotes.marked_end(&last.content);
        }
        let rendered = jinja.render(&shown, &self.tokens)?;
        if !conversation.continue_final {
            return Ok(quotes.pieces(&rendered));
        }
        let message = conversation.turns.last().map_or("", |turn| turn.content.as_str());
        let cut = quotes.before_end(&rendered, message);
        let missing =
            || TemplateError::Failed("it leaves out the message that is to be continued".to_owned());
        cut.map(|rendered| quotes.pieces(&rendered)).ok_or_else(missing)
    }
}

fn jinja(source: String, profile: &Profile) -> anyhow::Result<Form> {
    let jinja = Jinja::compile(source)?;
    jinja.try_out(&profile.named_tokens)?;
    Ok(Form::Jinja(Box::new(jinja)))
}

/// The separator that the tokenizer's files name, or else the one that the family was fine-tuned with.
fn separator(profile: &Profile, tokenizer: &TextTokenizer) -> anyhow::Result<Form> {
    let own = profile.named_tokens.get("sep_token").map(String::as_str);
    let Some(text) = own.or(profile.family.separator) else {
        bail!(
            "chat template diffullama-sft needs a separator, which {} does not have; `sep_token` of \
             tokenizer_config.json names one",
            profile.family.title
        );
    };
    match tokenizer.token_id(text) {
        Some(id) => Ok(Form::Separator(id, text.to_owned())),
        None => bail!(
            "chat template diffullama-sft needs a separator, and the tokenizer has no token `{text}`; `sep_token` \
             of tokenizer_config.json names another"
        ),
    }
}

/// The last user's message, after what the system said.
fn question(conversation: &Conversation) -> Result<String, TemplateError> {
    let turns = &conversation.turns;
    let Some(Turn { content, .. }) = turns.last().filter(|turn| turn.role == "user") else {
        return Err(TemplateError::Refused("diffullama-sft answers a last message of a user".to_owned()));
    };
    let system = turns.iter().filter(|turn| turn.role == "system");
    let lines: Vec<&str> = system.map(|turn| turn.content.as_str()).chain([content.as_str()]).collect();
    Ok(lines.join("\n"))
}
