//! `config.json`, or a GGUF file's keys: the family of a model, and the shapes and constants of its network.

mod fields;
mod gguf;
pub(crate) mod rope;

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

pub use self::fields::Fields;
use super::ModelFiles;
use super::families::{FAMILIES, Family};
use super::spec::TransformerSpec;
use crate::error::{LoadError, one_line};

/// The configuration of a model, read from its files.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Its family.
    pub family: &'static Family,
    /// Its network.
    pub spec: TransformerSpec,
    /// The length that the files say texts should have, if they name one.
    pub generation_length: Option<usize>,
    /// The number of the mask token, if the files name one.
    pub mask_token_id: Option<u32>,
    /// The key that says whether the embedding is the head, and what it says.
    pub tied: (&'static str, Option<bool>),
}

/// Family and shape in words.
impl fmt::Display for ModelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.family.title, self.spec)
    }
}

/// The kind of network that a file names, and the family for it.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// `model_type` or `general.architecture`.
    pub(super) kind: String,
    /// `None` for a kind that no family answers to.
    pub(super) family: Option<&'static Family>,
    /// True if the file names a network that generates from left to right.
    pub(super) autoregressive: bool,
}

impl Identity {
    /// The family that answers to the files.
    ///
    /// # Errors
    /// The file is missing or damaged, or does not say what it is.
    pub(super) fn read(files: &ModelFiles) -> Result<Self, LoadError> {
        let fields = fields_of(files)?;
        if matches!(files, ModelFiles::Gguf(_)) {
            let key = "general.architecture";
            let kind = fields.text(key)?;
            let kind = kind.ok_or_else(|| fields.error(key, "is missing; it names the architecture"))?;
            let family = FAMILIES.into_iter().find(|family| family.gguf.contains(&kind));
            let autoregressive = fields.get("tokenizer.ggml.mask_token_id").is_none();
            return Ok(Self { kind: kind.to_owned(), family, autoregressive });
        }
        let kind = fields.text("model_type")?;
        let kind = kind.ok_or_else(|| fields.error("model_type", "is missing; it names the architecture"))?;
        let calls_itself = |name: &&str| name.eq_ignore_ascii_case(kind);
        let answers =
            |family: &&Family| family.model_types.iter().any(calls_itself) && (family.claims)(&fields);
        let of_class = |family: &&Family| family.classes.iter().any(|class| fields.names_architecture(class));
        let family = FAMILIES.into_iter().find(answers).or_else(|| FAMILIES.into_iter().find(of_class));
        let names = fields.get("architectures").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let causal = |name: &Value| {
            name.as_str().is_some_and(|name| name.ends_with("ForCausalLM") || name.ends_with("LMHeadModel"))
        };
        Ok(Self { kind: kind.to_owned(), family, autoregressive: names.iter().any(causal) })
    }

    /// The error for a kind that no family answers to. `masked` says that a mask token is named: whatever it is, it is no
    /// autoregressive model.
    pub(super) fn unsupported(&self, files: &ModelFiles, masked: bool) -> LoadError {
        let gguf = matches!(files, ModelFiles::Gguf(_));
        if self.autoregressive && !masked {
            let place = if gguf {
                "the file names no `tokenizer.ggml.mask_token_id`"
            } else {
                "`architectures` names a causal model"
            };
            let path = files.path("config.json");
            let kind = one_line(&self.kind);
            return LoadError::Autoregressive { path, kind, place };
        }
        let names = |family: &'static Family| {
            let names = if gguf { family.gguf } else { family.model_types };
            (!names.is_empty())
                .then(|| format!("{} ({}, --family {})", names.join(" or "), family.title, family.name))
        };
        let supported: Vec<String> = FAMILIES.into_iter().filter_map(names).collect();
        LoadError::UnsupportedArchitecture {
            path: files.path("config.json"),
            found: one_line(&self.kind),
            supported: supported.join(", "),
        }
    }
}

fn fields_of(files: &ModelFiles) -> Result<Fields<'_>, LoadError> {
    if let ModelFiles::Gguf(file) = files {
        return Ok(Fields::new(file.path(), Cow::Borrowed(file.metadata())));
    }
    let fields = Cow::Owned(files.json("config.json")?);
    Ok(Fields::new(&files.path("config.json"), fields))
}

impl ModelConfig {
    /// Reads `config.json`, or the keys of a GGUF file.
    ///
    /// # Errors
    /// The file is missing or damaged, names another architecture, lacks a field, or asks for a variant
    /// of the architecture that this server does not compute.
    pub fn read(files: &ModelFiles) -> Result<Self, LoadError> {
        let identity = Identity::read(files)?;
        match identity.family {
            Some(family) => Self::read_as(files, family),
            None => Err(identity.unsupported(files, false)),
        }
    }

    /// [`Self::read`] as a given family, whatever the files name.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_as(files: &ModelFiles, family: &'static Family) -> Result<Self, LoadError> {
        let fields = fields_of(files)?;
        if matches!(files, ModelFiles::Gguf(_)) {
            if family.gguf.is_empty() {
                let reason = format!(
                    "or the mask says that it is {}, which is not read from GGUF files; give the folder with its safetensors files",
                    family.title
                );
                return Err(fields.error("general.architecture", &reason));
            }
            let spec = gguf::read(&fields)?;
            let tied = ("general.architecture", None);
            return Ok(Self { family, spec, generation_length: None, mask_token_id: None, tied });
        }
        if fields.get("quantization_config").is_some() {
            let reason = "is set; quantised weights are read from GGUF files only: give the model in bfloat16, or \
                          a GGUF file of it";
            return Err(fields.error("quantization_config", reason));
        }
        let length = fields.get("task_specific_params");
        let length = length.and_then(|value| value.pointer("/text-generation/max_length"));
        let mask_token_id = match fields.get("mask_token_id") {
            None => None,
            Some(value) => {
                let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
                let reason = format!("is {value}; it must be the number of a token");
                Some(id.ok_or_else(|| fields.error("mask_token_id", &reason))?)
            }
        };
        // LLaDA's files have OLMo's keys.
        let tied = if fields.get("d_model").is_some() { "weight_tying" } else { "tie_word_embeddings" };
        Ok(Self {
            family,
            spec: (family.read)(&fields)?,
            tied: (tied, fields.flag(tied)?),
            generation_length: length.and_then(Value::as_u64).and_then(|length| length.try_into().ok()),
            mask_token_id,
        })
    }
}
