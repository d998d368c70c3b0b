//! Typed access to the fields of a configuration, with errors that name file, field and value.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{LoadError, one_line};

/// Larger numbers in a configuration are mistakes, and would reserve memory before any tensor
/// contradicts them.
const LARGEST: u64 = 1 << 20;

/// Parts of the names of fields that change a network: of Gemma, Granite, Cohere, Phi, GPT-NeoX, OLMo and their relatives.
const PARTS: [&str; 15] = [
    "softcap",
    "multiplier",
    "rotary",
    "no_rope",
    "alibi",
    "qk_norm",
    "qk_layernorm",
    "qkv_bias",
    "parallel_attn",
    "parallel_block",
    "parallel_residual",
    "clip_qkv",
    "pre_attn_scalar",
    "post_norm",
    "sandwich",
];

/// Returns true for a value that leaves the network as it is: false, 0, something empty, or a factor of 1.
fn asks_for_nothing(name: &str, value: &Value) -> bool {
    let factor = ["multiplier", "logit", "scale_emb", "_pct"].iter().any(|part| name.contains(part));
    let bound = name.contains("softcap") || name.starts_with("attention");
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => {
            let neutral = if factor && !bound { 1.0 } else { 0.0 };
            number.as_f64() == Some(neutral)
        }
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// The fields of a file, or of an object in it. Its methods fail with the name of the file, the field, its value and
/// what is allowed.
#[derive(Debug)]
pub struct Fields<'a> {
    path: PathBuf,
    /// The prefix of field names in messages: empty, or the object's name and a dot.
    within: String,
    fields: Cow<'a, Map<String, Value>>,
}

impl<'a> Fields<'a> {
    /// The fields of a file.
    #[must_use]
    pub fn new(path: &Path, fields: Cow<'a, Map<String, Value>>) -> Self {
        Self { path: path.to_owned(), within: String::new(), fields }
    }

    /// The fields of an object in them; `None` when it is absent or null.
    ///
    /// # Errors
    /// It is no object.
    pub fn object(&self, name: &str) -> Result<Option<Fields<'_>>, LoadError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => {
                let within = format!("{}{name}.", self.within);
                Ok(Some(Fields { path: self.path.clone(), within, fields: Cow::Borrowed(fields) }))
            }
            Some(other) => Err(self.error(name, &format!("is {other}; it must be an object"))),
        }
    }

    /// Every field that is there and not null.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.as_str(), value))
    }

    /// The error for a field.
    #[must_use]
    pub fn error(&self, field: &str, reason: &str) -> LoadError {
        let field = format!("{}{field}", self.within);
        LoadError::Field { path: self.path.clone(), field: one_line(&field), reason: one_line(&reason) }
    }

    /// The file that they stand in.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A field that is there and not null.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// A string, if it is there.
    ///
    /// # Errors
    /// It is something else.
    pub fn text(&self, name: &str) -> Result<Option<&str>, LoadError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.error(name, &format!("is {other}; it must be a string"))),
        }
    }

    /// A number of things, if it is there.
    ///
    /// # Errors
    /// It is no integer, or outside the range that makes sense.
    pub fn optional_count(&self, name: &str) -> Result<Option<usize>, LoadError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_u64().filter(|count| (1..=LARGEST).contains(count)) {
            Some(count) => Ok(usize::try_from(count).ok()),
            None => Err(self.error(name, &format!("is {value}; it must be an integer from 1 to {LARGEST}"))),
        }
    }

    /// The first of several names for the same count.
    ///
    /// # Errors
    /// None is there, or the first one found is no count.
    pub fn count(&self, names: &[&str]) -> Result<usize, LoadError> {
        for name in names {
            if let Some(count) = self.optional_count(name)? {
                return Ok(count);
            }
        }
        Err(self.error(names[0], &format!("is missing; it must be an integer from 1 to {LARGEST}")))
    }

    /// A number above 0, if it is there.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_number(&self, name: &str) -> Result<Option<f64>, LoadError> {
        match self.get(name).map(|value| (value, value.as_f64())) {
            None => Ok(None),
            Some((_, Some(number))) if number > 0.0 && number.is_finite() => Ok(Some(number)),
            Some((value, _)) => Err(self.error(name, &format!("is {value}; it must be a number above 0"))),
        }
    }

    /// A number above 0, or a default.
    ///
    /// # Errors
    /// It is something else.
    pub fn number(&self, name: &str, default: f64) -> Result<f64, LoadError> {
        Ok(self.optional_number(name)?.unwrap_or(default))
    }

    /// A truth value, if it is there.
    ///
    /// # Errors
    /// It is something else.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, LoadError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.error(name, &format!("is {other}; it must be true or false"))),
        }
    }

    /// Refuses a string that is none of those allowed.
    ///
    /// # Errors
    /// The value is not one of them.
    pub fn expect(&self, name: &str, allowed: &[&str], default: &str) -> Result<(), LoadError> {
        let found = self.text(name)?.unwrap_or(default);
        if allowed.contains(&found) {
            return Ok(());
        }
        Err(self.error(name, &format!("is `{found}`; supported: {}", allowed.join(", "))))
    }

    /// Refuses another truth value.
    ///
    /// # Errors
    /// It has the other value.
    pub fn expect_flag(&self, name: &str, expected: bool) -> Result<(), LoadError> {
        match self.get(name) {
            None => Ok(()),
            Some(Value::Bool(found)) if *found == expected => Ok(()),
            Some(other) => Err(self.error(name, &format!("is {other}; only {expected} is supported"))),
        }
    }

    /// Refuses a number that is none of those that ask for nothing.
    ///
    /// # Errors
    /// The value is not one of them.
    pub fn expect_number(&self, name: &str, neutral: &[f64]) -> Result<(), LoadError> {
        match self.get(name) {
            None => Ok(()),
            Some(value) if value.as_f64().is_some_and(|number| neutral.contains(&number)) => Ok(()),
            Some(value) => {
                let neutral: Vec<String> = neutral.iter().map(f64::to_string).collect();
                Err(self.error(name, &format!("is {value}; supported: {}", neutral.join(", "))))
            }
        }
    }

    /// Refuses every field that begins like one of `beginnings` or has a part of `PARTS` in its name, asks for
    /// something, and is none of `known`: it would make another network of the weights.
    ///
    /// # Errors
    /// The first such field.
    pub fn refuse_others(&self, beginnings: &[&str], known: &[&str]) -> Result<(), LoadError> {
        let other = self.all().find(|(name, value)| {
            let changes = beginnings.iter().any(|beginning| name.starts_with(beginning))
                || PARTS.iter().any(|part| name.contains(part));
            let training = name.ends_with("dropout");
            changes && !training && !known.contains(name) && !asks_for_nothing(name, value)
        });
        match other {
            Some((name, value)) => {
                Err(self.error(name, &format!("is {value}; networks with this field are not supported")))
            }
            None => Ok(()),
        }
    }

    /// Returns true if `architectures` holds a name.
    #[must_use]
    pub fn names_architecture(&self, name: &str) -> bool {
        let names = self.get("architectures").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|found| found == name))
    }

    /// Refuses a width that is no multiple of a part of it.
    ///
    /// # Errors
    /// It is no multiple.
    pub fn divides(&self, part: &str, count: usize, whole: &str, width: usize) -> Result<(), LoadError> {
        if width.is_multiple_of(count) {
            return Ok(());
        }
        Err(self.error(whole, &format!("is {width}, which is not a multiple of {part} = {count}")))
    }
}
