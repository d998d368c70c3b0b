//! The token that the network is shown at masked positions, and the file that names it.

use serde_json::{Map, Value};

use super::ModelFiles;
use super::config::Identity;
use super::families::{FAMILIES, Family};
use super::profile::settings;
use crate::error::{LoadError, one_line};

/// The mask token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Its text.
    pub text: String,
    /// Its number, where a configuration names it.
    pub id: Option<u32>,
    /// The file or flag that named it.
    pub origin: String,
}

impl Mask {
    /// Returns true if the files name a mask token, whatever the family.
    ///
    /// # Errors
    /// A file is damaged.
    pub(super) fn is_named(files: &ModelFiles) -> Result<bool, LoadError> {
        let named = settings(files)?.iter().any(|fields| token_text(fields, "mask_token").is_some());
        Ok(named || config_id(files)?.is_some())
    }

    /// Looks for the mask token: as `given` on the command line, in an adapter's tokenizer configuration (an adapter
    /// that makes a diffusion model of an autoregressive one stands on a base that names none), in the model's own, by
    /// the number in `config.json`, and by the spellings of the family among the added tokens.
    ///
    /// # Errors
    /// There is none: the model is autoregressive, if its family is one of adapted models. Or a file is damaged.
    pub fn find(
        files: &ModelFiles,
        adapter: Option<&ModelFiles>,
        family: &Family,
        given: Option<&str>,
    ) -> Result<Self, LoadError> {
        let mask = |text: String, id, origin: &str| Ok(Self { text, id, origin: origin.to_owned() });
        let name = "tokenizer_config.json";
        let id = config_id(files)?;
        if let Some(text) = given {
            return mask(text.to_owned(), None, "--mask-token");
        }
        if let Some(own) = adapter.filter(|own| own.exists(name))
            && let Some(text) = token_text(&own.json(name)?, "mask_token")
        {
            return mask(text, None, "the adapter's tokenizer_config.json");
        }
        // The keys of a GGUF file are read only if there is something: its tokenizer may be a file beside it.
        let gguf = match files {
            ModelFiles::Gguf(file) => file.metadata().contains_key("tokenizer.ggml.mask_token_id"),
            _ => true,
        };
        let beside = matches!(files, ModelFiles::Gguf(_)) && files.exists(name);
        if gguf || beside {
            let named = settings(files)?.iter().find_map(|fields| token_text(fields, "mask_token"));
            if let Some(text) = named {
                return mask(text, id, "the tokenizer's configuration");
            }
        }
        let spellings = spellings(family);
        if id.is_none() && spellings.is_empty() {
            return Err(missing(files, family));
        }
        let added = added_tokens(files, family)?;
        if let Some(id) = id {
            let text = added.into_iter().find(|(number, _)| *number == u64::from(id)).map(|(_, text)| text);
            let text = text.ok_or_else(|| LoadError::MaskToken {
                path: files.path("config.json"),
                reason: format!(
                    "`mask_token_id` is {id}, which is the number of no added token; name the mask with --mask-token"
                ),
            })?;
            return mask(text, Some(id), "mask_token_id of config.json");
        }
        let spelled = spellings.iter().find(|text| added.iter().any(|(_, added)| added == *text));
        match spelled {
            Some(text) => mask((*text).to_owned(), None, "the added token of the family's spelling"),
            None => Err(missing(files, family)),
        }
    }
}

/// `mask_token_id` of `config.json`; other values are refused where the configuration is read.
fn config_id(files: &ModelFiles) -> Result<Option<u32>, LoadError> {
    if matches!(files, ModelFiles::Gguf(_)) {
        return Ok(None);
    }
    let fields = files.json("config.json")?;
    Ok(fields.get("mask_token_id").and_then(Value::as_u64).and_then(|id| id.try_into().ok()))
}

/// The spellings of the mask in a family, and in those that were made of models of its kind.
fn spellings(family: &Family) -> Vec<&'static str> {
    let made = |other: &&Family| family.model_types.iter().any(|kind| other.is_made_of(kind));
    let others = FAMILIES.into_iter().filter(made).flat_map(|other| other.masks);
    family.masks.iter().chain(others).copied().collect()
}

/// Nothing names a mask.
fn missing(files: &ModelFiles, family: &Family) -> LoadError {
    let gguf = matches!(files, ModelFiles::Gguf(_));
    let place = if gguf {
        "the file names no `tokenizer.ggml.mask_token_id`"
    } else {
        "neither tokenizer_config.json nor special_tokens_map.json names a `mask_token`"
    };
    if family.adapted {
        let kind = Identity::read(files).map_or_else(|_| family.name.to_owned(), |identity| identity.kind);
        return LoadError::Autoregressive { path: files.path("config.json"), kind: one_line(&kind), place };
    }
    let reason = format!(
        "{place}, and no added token is {}; name the mask with --mask-token",
        family.masks.join(" or ")
    );
    LoadError::MaskToken { path: files.path("tokenizer_config.json"), reason }
}

/// Numbers and texts of the tokens that files list beside the vocabulary. A tokenizer that cannot be read lists none, where
/// its model may be an autoregressive one: that is the first thing to say.
fn added_tokens(files: &ModelFiles, family: &Family) -> Result<Vec<(u64, String)>, LoadError> {
    let mut added = Vec::new();
    for fields in settings(files)? {
        let Some(tokens) = fields.get("added_tokens_decoder").and_then(Value::as_object) else { continue };
        let entry = |(id, token): (&String, &Value)| Some((id.parse().ok()?, content(token)?));
        added.extend(tokens.iter().filter_map(entry));
    }
    if files.exists("added_tokens.json") {
        let tokens = files.json("added_tokens.json")?;
        added.extend(tokens.iter().filter_map(|(text, id)| Some((id.as_u64()?, text.clone()))));
    }
    if added.is_empty() {
        let file = match files.read("tokenizer.json", "") {
            Err(_) if family.adapted => return Ok(added),
            read => read?,
        };
        let spec: Value = serde_json::from_slice(&file).unwrap_or_default();
        let tokens = spec["added_tokens"].as_array().into_iter().flatten();
        added.extend(tokens.filter_map(|token| Some((token["id"].as_u64()?, content(token)?))));
    }
    Ok(added)
}

fn content(token: &Value) -> Option<String> {
    token.get("content")?.as_str().map(str::to_owned)
}

/// A special token is written as a string or as an object with its text in `content`.
pub(super) fn token_text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    let value = fields.get(name)?;
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}
