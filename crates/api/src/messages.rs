//! Messages of a chat, from their JSON to a prompt.

mod content;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use unmask_model::predictor::TokenId;
use utoipa::ToSchema;

pub use self::content::{Content, ContentPart};
use crate::body::unknown_parameter;
use crate::error::ApiError;
use crate::request::ranges::out_of_range;
use crate::state::{AppState, ServedModel};
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
    /// The text. Special tokens in it are ordinary text. An assistant's may be null or left out.
    content: Option<Content>,
    /// Calls of tools by an assistant, as OpenAI's: the chat template is given them.
    tool_calls: Option<Value>,
    /// The call that a tool's message answers: the chat template is given it.
    tool_call_id: Option<String>,
    /// A name, of a tool as a rule: the chat template is given it.
    name: Option<String>,
}

/// The author of a message. Results of tools are read; tools are never called.
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
    /// A tool that the model called earlier.
    Tool,
    /// The same as `tool`.
    Function,
}

impl Message {
    /// Bytes of its texts, which may all be part of a prompt.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let calls = self.tool_calls.as_ref().map_or(0, |calls| calls.to_string().len());
        let names = [&self.tool_call_id, &self.name].into_iter().flatten().map(String::len).sum::<usize>();
        let content = match &self.content {
            None => 0,
            Some(Content::Text(text)) => text.len(),
            Some(Content::Parts(parts)) => {
                parts.iter().filter_map(|part| part.text.as_ref()).map(String::len).sum()
            }
        };
        content + calls + names
    }
}

/// Messages and how to make a prompt of them.
#[derive(Clone, Debug, Default)]
pub struct GivenMessages {
    /// The messages.
    pub messages: Vec<Message>,
    /// True if the answer's beginning is part of the prompt.
    pub add_generation_prompt: Option<bool>,
    /// True if the last message is continued.
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
            turns.push(message.turn(index)?);
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
    if tokens.first().is_some_and(|first| Some(*first) == model.tokenizer.document_start()) {
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
        if ChatTemplate::reserves(name) {
            return Err(ApiError::Body {
                code: "unknown_parameter",
                param: Some(param.to_owned()),
                message: format!("`{param}.{shown}` is set by the server; a request may not set it"),
            });
        }
        if template.reads(name) && (value.is_array() || value.is_object()) {
            let message = format!("`{param}.{shown}` must be a string, a number, true, false or null");
            return Err(ApiError::Body { code: "invalid_type", param: Some(param.to_owned()), message });
        }
    }
    Ok(given.into_iter().filter(|(name, _)| template.reads(name)).collect())
}

/// Names in `chat_template_kwargs` that the template does not read, as paths for `x-ignored-params`, and not more than
/// it takes. Clients send some, such as `enable_thinking`, to every model.
///
/// # Errors
/// There is one, and fields without effect are refused on every route.
pub fn unread_variables(
    given: Option<&BTreeMap<String, Value>>,
    state: &AppState,
) -> Result<Vec<String>, ApiError> {
    let template = state.model.chat_template.as_ref();
    let reads = |name: &str| template.is_none_or(|template| template.reads(name));
    let names = given.into_iter().flatten().map(|(name, _)| name).filter(|name| !reads(name));
    let names: Vec<String> =
        names.take(MOST_VARIABLES).map(|name| format!("chat_template_kwargs.{name}")).collect();
    match names.first() {
        Some(name) if state.limits.strict_params => Err(unknown_parameter(name)),
        _ => Ok(names),
    }
}

impl Message {
    /// The message as the template's variable.
    fn turn(self, index: usize) -> Result<Turn, ApiError> {
        let content = match self.content {
            Some(content) => content.text(index)?,
            None if matches!(self.role, Role::Assistant) => String::new(),
            None => {
                let message = "missing field `content`".to_owned();
                let param = Some(format!("messages[{index}].content"));
                return Err(ApiError::Body { code: "missing_field", param, message });
            }
        };
        let text = |text: Option<String>| text.map(Value::String);
        let more = [
            ("tool_calls", self.tool_calls.map(with_arguments)),
            ("tool_call_id", text(self.tool_call_id)),
            ("name", text(self.name)),
        ];
        let more = more.into_iter().filter_map(|(name, value)| Some((name, value.filter(|v| !v.is_null())?)));
        Ok(Turn { role: self.role.name(), content, more: more.collect() })
    }
}

/// Calls whose arguments are objects: OpenAI writes them as JSON in a string, and templates read the object.
fn with_arguments(mut calls: Value) -> Value {
    for call in calls.as_array_mut().into_iter().flatten() {
        let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
        let object =
            arguments.as_str().and_then(|text| serde_json::from_str(text).ok()).filter(Value::is_object);
        if let Some(object) = object {
            *arguments = object;
        }
    }
    calls
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::System | Self::Developer => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool | Self::Function => "tool",
        }
    }
}
