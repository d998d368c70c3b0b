//! How a family of models is used: shift, special tokens, sampling defaults.
//!
//! Everything that differs between families and is no tensor shape is decided here, from the
//! checkpoint's own files, so that a further family is a further arm of a few matches and no caller
//! changes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::ModelFiles;
use super::config::{Architecture, ModelConfig};
use crate::error::LoadError;

/// A family of masked diffusion models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// GPT-2 adapted to diffusion.
    DiffuGpt,
    /// LLaMA adapted to diffusion.
    DiffuLlama,
}

/// The settings of the reference's example scripts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingDefaults {
    /// T.
    pub steps: u32,
    /// Divides the logits.
    pub temperature: f64,
    /// Nucleus mass.
    pub top_p: f64,
}

/// How the model is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The family.
    pub family: Family,
    /// Whether the head's row i predicts position i + 1.
    pub shift: bool,
    /// Sampling settings when the caller gives none.
    pub defaults: SamplingDefaults,
    /// Longest canvas that training saw, where it is known. Longer ones work less well.
    pub trained_length: Option<usize>,
    /// What is shown at masked positions, as text.
    pub mask_token: String,
    /// Document start, as text.
    pub bos_token: Option<String>,
    /// Document end, as text.
    pub eos_token: Option<String>,
    /// All strings that the tokenizer files declare as special.
    pub special_tokens: Vec<String>,
    /// The same by their roles, `bos_token` to `mask_token`: what chat templates call them.
    pub named_tokens: BTreeMap<&'static str, String>,
    /// What the tokenizer's own library calls its kind, when the files say.
    pub tokenizer_class: Option<String>,
    /// The chat template beside the weights (Jinja): `chat_template.jinja`, else the one in
    /// `tokenizer_config.json`, of several named ones `default`.
    pub chat_template: Option<String>,
}

impl Profile {
    /// Reads the tokenizer's configuration files. A mask token that `adapter`'s own `tokenizer_config.json` names comes
    /// first: an adapter that makes a diffusion model of an autoregressive one stands on a base that names none.
    ///
    /// # Errors
    /// A file is damaged, or none names a mask token.
    pub fn read(
        files: &ModelFiles,
        adapter: Option<&ModelFiles>,
        config: &ModelConfig,
    ) -> Result<Self, LoadError> {
        let names = ["tokenizer_config.json", "special_tokens_map.json"];
        let mut settings = Vec::new();
        if let Some(own) = adapter.filter(|own| own.exists(names[0])) {
            let mask = own.json(names[0])?.remove("mask_token");
            settings.extend(mask.map(|mask| Map::from_iter([("mask_token".to_owned(), mask)])));
        }
        for name in names.iter().filter(|name| files.exists(name)) {
            settings.push(files.json(name)?);
        }
        let (shift, missing) = match files {
            ModelFiles::Gguf(file) => {
                settings.push(file.settings()?);
                (file.logit_shift()?, "names no `tokenizer.ggml.mask_token_id`")
            }
            _ => (true, "names no `mask_token`, and neither does special_tokens_map.json"),
        };
        let special = |name: &str| settings.iter().find_map(|fields| token_text(fields, name));
        let mask_token = special("mask_token").ok_or_else(|| LoadError::MaskToken {
            path: files.path(names[0]),
            reason: format!(
                "{missing}; a diffusion model needs one \
                 (a plain GPT-2 or LLaMA checkpoint cannot be served)"
            ),
        })?;
        let roles =
            ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];
        let named_tokens: BTreeMap<&'static str, String> =
            roles.iter().filter_map(|role| Some((*role, special(role)?))).collect();
        let mut special_tokens: Vec<String> = named_tokens.values().cloned().collect();
        special_tokens.sort();
        special_tokens.dedup();
        let (family, defaults, trained_length) = match config.architecture {
            Architecture::Gpt2 => (
                Family::DiffuGpt,
                SamplingDefaults { steps: 64, temperature: 0.95, top_p: 0.9 },
                config.generation_length,
            ),
            Architecture::Llama => {
                (Family::DiffuLlama, SamplingDefaults { steps: 64, temperature: 0.9, top_p: 0.9 }, Some(2048))
            }
        };
        Ok(Self {
            family,
            shift,
            defaults,
            trained_length: trained_length.map(|length| length.min(config.context)),
            mask_token,
            bos_token: special("bos_token"),
            eos_token: special("eos_token"),
            special_tokens,
            named_tokens,
            tokenizer_class: settings
                .iter()
                .find_map(|fields| Some(fields.get("tokenizer_class")?.as_str()?.to_owned())),
            chat_template: chat_template(
                files,
                settings.iter().find(|fields| fields.contains_key("chat_template")),
            )?,
        })
    }
}

/// The chat template among a model's files. `config` is `tokenizer_config.json`. One that is no text is none, and the
/// log says so: everything but chat works without it.
fn chat_template(
    files: &ModelFiles,
    config: Option<&Map<String, Value>>,
) -> Result<Option<String>, LoadError> {
    let name = "chat_template.jinja";
    if files.exists(name) {
        let text = String::from_utf8(files.read(name, "")?.into_owned());
        let skip =
            |error| tracing::warn!(%error, "{name} is not UTF-8: chat is off; --chat-template names another");
        return Ok(text.map_err(skip).ok());
    }
    Ok(match config.and_then(|fields| fields.get("chat_template")) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(named)) => {
            let default = named.iter().find(|entry| entry["name"] == "default");
            default.and_then(|entry| Some(entry["template"].as_str()?.to_owned()))
        }
        Some(_) => {
            tracing::warn!(
                "`chat_template` of tokenizer_config.json is neither a text nor a list of named texts: chat is off; \
                 --chat-template names another"
            );
            None
        }
    })
}

/// A special token is written as a string or as an object with its text in `content`.
fn token_text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    let value = fields.get(name)?;
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}
