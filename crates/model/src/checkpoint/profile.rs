//! The use of a model: special tokens and templates of its files, and additions of its family.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::ModelFiles;
use super::config::ModelConfig;
use super::families::{Family, SamplingDefaults};
use super::mask::{Mask, token_text};
use super::spec::Visibility;
use crate::error::LoadError;
use crate::predictor::TokenId;

/// Special tokens, chat template and sampling defaults of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The family.
    pub family: &'static Family,
    /// True if the head's row i predicts position i + 1.
    pub shift: bool,
    /// Sampling settings when the caller gives none.
    pub defaults: SamplingDefaults,
    /// Longest canvas that training saw, where it is known. Longer ones work less well.
    pub trained_length: Option<usize>,
    /// The token shown at masked positions, as text.
    pub mask_token: String,
    /// Its number, where the files say.
    pub mask_token_id: Option<u32>,
    /// The file or flag that named the mask token.
    pub mask_origin: String,
    /// Document start, as text.
    pub bos_token: Option<String>,
    /// Document end, as text.
    pub eos_token: Option<String>,
    /// Tokens that end a text beside the document end, as text; those that the tokenizer does not know are left out
    /// there.
    pub ends: Vec<String>,
    /// Numbers of tokens that end a text, as `config.json` and `generation_config.json` list them.
    pub end_ids: Vec<TokenId>,
    /// All strings that the tokenizer files declare as special.
    pub special_tokens: Vec<String>,
    /// The same by their roles, `bos_token` to `mask_token`: what chat templates call them.
    pub named_tokens: BTreeMap<&'static str, String>,
    /// The name of its kind in the tokenizer's own library, if the files give one.
    pub tokenizer_class: Option<String>,
    /// The chat template beside the weights (Jinja): `chat_template.jinja`, else the one in
    /// `tokenizer_config.json`, of several named ones `default`.
    pub chat_template: Option<String>,
}

impl Profile {
    /// Reads the tokenizer's configuration files. `mask` is what [`Mask::find`] found.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn read(files: &ModelFiles, config: &ModelConfig, mask: Mask) -> Result<Self, LoadError> {
        let mut settings = settings(files)?;
        if let Some(first) = settings.first_mut() {
            first.insert("mask_token".to_owned(), mask.text.clone().into());
        }
        let special = |name: &str| settings.iter().find_map(|fields| token_text(fields, name));
        let roles = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token"];
        let mut named_tokens: BTreeMap<&'static str, String> =
            roles.iter().filter_map(|role| Some((*role, special(role)?))).collect();
        named_tokens.insert("mask_token", mask.text.clone());
        let mut special_tokens: Vec<String> = named_tokens.values().cloned().collect();
        special_tokens.extend(settings.iter().flat_map(additional));
        special_tokens.sort();
        special_tokens.dedup();
        let family = config.family;
        let shift = match files {
            ModelFiles::Gguf(file) => file.logit_shift()?,
            _ => None,
        };
        let trained_length = family.trained_length.or(config.generation_length);
        Ok(Self {
            family,
            shift: shift.unwrap_or(family.shift),
            defaults: defaults(config),
            trained_length: trained_length.map(|length| length.min(config.spec.context)),
            mask_token: mask.text,
            mask_token_id: mask.id,
            mask_origin: mask.origin,
            bos_token: special("bos_token"),
            eos_token: special("eos_token"),
            ends: family.ends.iter().map(|end| (*end).to_owned()).collect(),
            end_ids: end_ids(files)?,
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

/// `eos_token_id` of the configurations: a number, or a list of them. Ascending.
fn end_ids(files: &ModelFiles) -> Result<Vec<TokenId>, LoadError> {
    let mut ids = Vec::new();
    for name in ["config.json", "generation_config.json"] {
        if matches!(files, ModelFiles::Gguf(_)) || !files.exists(name) {
            continue;
        }
        let fields = files.json(name)?;
        let Some(value) = fields.get("eos_token_id") else { continue };
        let listed = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        ids.extend(listed.iter().filter_map(|id| TokenId::try_from(id.as_u64()?).ok()));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// The settings of the family's scripts. In blocks, T is what a block is filled in: as many as it has positions.
fn defaults(config: &ModelConfig) -> SamplingDefaults {
    let defaults = config.family.defaults;
    match config.spec.visibility {
        Visibility::Full => defaults,
        Visibility::BlockCausal { block } => {
            SamplingDefaults { steps: u32::try_from(block).unwrap_or(defaults.steps), ..defaults }
        }
    }
}

/// The fields of the tokenizer's configuration files, those of the first file first; at least one map.
pub(super) fn settings(files: &ModelFiles) -> Result<Vec<Map<String, Value>>, LoadError> {
    let names = ["tokenizer_config.json", "special_tokens_map.json"].into_iter();
    let mut settings: Vec<Map<String, Value>> =
        names.filter(|name| files.exists(name)).map(|name| files.json(name)).collect::<Result<_, _>>()?;
    if let ModelFiles::Gguf(file) = files {
        settings.push(file.settings()?);
    }
    if settings.is_empty() {
        settings.push(Map::new());
    }
    Ok(settings)
}

/// Special tokens without a role.
fn additional(fields: &Map<String, Value>) -> Vec<String> {
    let list = fields.get("additional_special_tokens").and_then(Value::as_array);
    let texts = list.into_iter().flatten();
    texts
        .filter_map(|token| token.as_str().or_else(|| token.get("content")?.as_str()))
        .map(str::to_owned)
        .collect()
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
            let template = default.and_then(|entry| Some(entry["template"].as_str()?.to_owned()));
            if template.is_none() {
                tracing::warn!(
                    "none of the texts in `chat_template` of tokenizer_config.json is named `default`: chat is off; \
                     --chat-template names one"
                );
            }
            template
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
