//! Messages of a chat, from their JSON to a prompt.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use unmask_model::predictor::TokenId;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::options::out_of_range;
use crate::state::ServedModel;
use crate::template::{ChatTemplate, Conversation, Prompt, TemplateError, Turn};

/// Messages of one request.
pub(crate) const MOST_MESSAGES: usize = 256;

/// Characters of one message.
pub(crate) const LONGEST_MESSAGE: usize = 512 * 1024;

/// Entries of `chat_template_kwargs`.
const MOST_VARIABLES: usize = 16;

/// A message.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct Message {
    role: Role,
    /// What it says. Special tokens in it are ordinary text.
    content: Content,
}

/// Who says it. Tools are not supported.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions.
    System,
    /// The same as `system`.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Message {
    /// Bytes of its text.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.content {
            Content::Text(text) => text.len(),
            Content::Parts(parts) => {
                parts.iter().filter_map(|part| part.text.as_ref()).map(String::len).sum()
            }
        }
    }
}

/// A text, or parts of a text, which are joined.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of text parts")]
pub enum Content {
    /// A text.
    Text(String),
    /// Parts.
    Parts(Vec<ContentPart>),
}

/// A part of a message.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ContentPart {
    /// `text`; other parts are refused, and nothing that they name is fetched.
    #[serde(rename = "type")]
    kind: String,
    /// The text.
    text: Option<String>,
}

/// Messages and how to make a prompt of them.
#[derive(Clone, Debug, Default)]
pub struct GivenMessages {
    /// The messages.
    pub messages: Vec<Message>,
    /// Whether the answer's beginning is part of the prompt.
    pub add_generation_prompt: Option<bool>,
    /// Whether the last message is continued.
    pub continue_final_message: Option<bool>,
    /// Variables of the template.
    pub variables: Option<BTreeMap<String, Value>>,
}

impl GivenMessages {
    /// The prompt, by the model's template.
    ///
    /// # Errors
    /// There is no template, it refuses the messages, or they are not what it can be given.
    pub fn prompt(self, model: &ServedModel) -> Result<Prompt, ApiError> {
        let template = model.chat_template.as_ref().ok_or(TemplateError::Missing)?;
        let count = self.messages.len();
        if !(1..=MOST_MESSAGES).contains(&count) {
            let allowed = format!("a list of 1 to {MOST_MESSAGES}");
            return Err(out_of_range("messages", format!("a list of {count}"), allowed));
        }
        let continue_final = self.continue_final_message.unwrap_or(false);
        let last = self.messages.last().map(|message| message.role);
        let conflict = |message: &str| {
            let param = "continue_final_message".to_owned();
            Err(ApiError::Conflict { param, message: message.to_owned() })
        };
        if continue_final && self.add_generation_prompt == Some(true) {
            return conflict("`continue_final_message` and `add_generation_prompt` do not go together");
        }
        if continue_final && !matches!(last, Some(Role::Assistant)) {
            return conflict("`continue_final_message` needs a last message of the assistant");
        }
        let mut turns = Vec::with_capacity(count);
        for (index, message) in self.messages.into_iter().enumerate() {
            turns.push(Turn { role: message.role.name(), content: message.content.text(index)? });
        }
        let conversation = Conversation {
            turns,
            add_generation_prompt: self.add_generation_prompt.unwrap_or(!continue_final),
            continue_final,
            variables: variables(self.variables.unwrap_or_default(), template)?,
        };
        Ok(template.render(&conversation)?)
    }
}

/// The tokens of a prompt without the document start that a template may begin with: every canvas has
/// one of its own.
///
/// # Errors
/// The tokenizer refused a text.
pub fn tokens(prompt: &Prompt, model: &ServedModel) -> Result<Vec<TokenId>, ApiError> {
    let mut tokens = prompt.tokens(&model.tokenizer)?;
    if tokens.first().is_some_and(|first| Some(*first) == model.tokenizer.bos_id()) {
        tokens.remove(0);
    }
    Ok(tokens)
}

fn variables(
    given: BTreeMap<String, Value>,
    template: &ChatTemplate,
) -> Result<BTreeMap<String, Value>, ApiError> {
    let param = "chat_template_kwargs";
    if given.len() > MOST_VARIABLES {
        return Err(out_of_range(
            param,
            format!("{} entries", given.len()),
            format!("at most {MOST_VARIABLES} entries"),
        ));
    }
    for (name, value) in &given {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        if !template.reads(name) {
            return Err(ApiError::Body {
                code: "unknown_parameter",
                param: Some(param.to_owned()),
                message: format!("`{shown}` is no variable of the chat template that a request may set"),
            });
        }
        if value.is_array() || value.is_object() {
            let message = format!("`{param}.{shown}` must be a string, a number, true, false or null");
            return Err(ApiError::Body { code: "invalid_type", param: Some(param.to_owned()), message });
        }
    }
    Ok(given)
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::System | Self::Developer => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl Content {
    /// The text of message `index`.
    fn text(self, index: usize) -> Result<String, ApiError> {
        let text = match self {
            Self::Text(text) => text,
            Self::Parts(parts) => {
                let mut text = String::new();
                for (number, part) in parts.into_iter().enumerate() {
                    let param = format!("messages[{index}].content[{number}]");
                    text += &part.text(param)?;
                }
                text
            }
        };
        let length = text.chars().count();
        if length > LONGEST_MESSAGE {
            return Err(out_of_range(
                &format!("messages[{index}].content"),
                format!("a text of {length} characters"),
                format!("a text of at most {LONGEST_MESSAGE}"),
            ));
        }
        Ok(text)
    }
}

impl ContentPart {
    fn text(self, param: String) -> Result<String, ApiError> {
        match (self.kind.as_str(), self.text) {
            ("text", Some(text)) => Ok(text),
            ("text", None) => {
                let message = format!("`{param}` is a text part without `text`");
                Err(ApiError::Body { code: "missing_field", param: Some(param), message })
            }
            _ => {
                let message =
                    format!("`{param}` is not a part of type `text`, the only one that is supported");
                Err(ApiError::Body { code: "unsupported_content_type", param: Some(param), message })
            }
        }
    }
}
