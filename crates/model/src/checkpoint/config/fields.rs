//! Typed access to the fields of a configuration, with errors that name file, field and value.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{LoadError, one_line};

/// Larger numbers in a configuration are mistakes, and would reserve memory before any tensor
/// contradicts them.
const LARGEST: u64 = 1 << 20;

/// The fields of a file, or of an object in it.
pub(super) struct Fields<'a> {
    path: PathBuf,
    /// What stands before the name of a field in a message: empty, or the object's name and a dot.
    within: String,
    fields: Cow<'a, Map<String, Value>>,
}

impl<'a> Fields<'a> {
    /// The fields of a file.
    pub(super) fn new(path: &Path, fields: Cow<'a, Map<String, Value>>) -> Self {
        Self { path: path.to_owned(), within: String::new(), fields }
    }

    /// The fields of an object in them; `None` when it is absent or null.
    pub(super) fn object(&self, name: &str) -> Result<Option<Fields<'_>>, LoadError> {
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
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.as_str(), value))
    }

    pub(super) fn unsupported(&self, architecture: &str, supported: &'static str) -> LoadError {
        let found = one_line(&architecture);
        LoadError::UnsupportedArchitecture { path: self.path.clone(), found, supported }
    }

    pub(super) fn error(&self, field: &str, reason: &str) -> LoadError {
        let field = format!("{}{field}", self.within);
        LoadError::Field { path: self.path.clone(), field: one_line(&field), reason: one_line(&reason) }
    }

    /// A field that is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, LoadError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.error(name, &format!("is {other}; it must be a string"))),
        }
    }

    pub(super) fn optional_count(&self, name: &str) -> Result<Option<usize>, LoadError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_u64().filter(|count| (1..=LARGEST).contains(count)) {
            Some(count) => Ok(usize::try_from(count).ok()),
            None => Err(self.error(name, &format!("is {value}; it must be an integer from 1 to {LARGEST}"))),
        }
    }

    /// The first of several names for the same count.
    pub(super) fn count(&self, names: &[&str]) -> Result<usize, LoadError> {
        for name in names {
            if let Some(count) = self.optional_count(name)? {
                return Ok(count);
            }
        }
        Err(self.error(names[0], &format!("is missing; it must be an integer from 1 to {LARGEST}")))
    }

    pub(super) fn optional_number(&self, name: &str) -> Result<Option<f64>, LoadError> {
        match self.get(name).map(|value| (value, value.as_f64())) {
            None => Ok(None),
            Some((_, Some(number))) if number > 0.0 && number.is_finite() => Ok(Some(number)),
            Some((value, _)) => Err(self.error(name, &format!("is {value}; it must be a number above 0"))),
        }
    }

    pub(super) fn number(&self, name: &str, default: f64) -> Result<f64, LoadError> {
        Ok(self.optional_number(name)?.unwrap_or(default))
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, LoadError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.error(name, &format!("is {other}; it must be true or false"))),
        }
    }

    pub(super) fn expect(&self, name: &str, allowed: &[&str], default: &str) -> Result<(), LoadError> {
        let found = self.text(name)?.unwrap_or(default);
        if allowed.contains(&found) {
            return Ok(());
        }
        Err(self.error(name, &format!("is `{found}`; supported: {}", allowed.join(", "))))
    }

    pub(super) fn expect_flag(&self, name: &str, expected: bool) -> Result<(), LoadError> {
        match self.get(name) {
            None => Ok(()),
            Some(Value::Bool(found)) if *found == expected => Ok(()),
            Some(other) => Err(self.error(name, &format!("is {other}; only {expected} is supported"))),
        }
    }

    /// Refuses a number that is none of those that ask for nothing.
    pub(super) fn expect_number(&self, name: &str, neutral: &[f64]) -> Result<(), LoadError> {
        match self.get(name) {
            None => Ok(()),
            Some(value) if value.as_f64().is_some_and(|number| neutral.contains(&number)) => Ok(()),
            Some(value) => {
                let neutral: Vec<String> = neutral.iter().map(f64::to_string).collect();
                Err(self.error(name, &format!("is {value}; supported: {}", neutral.join(", "))))
            }
        }
    }

    pub(super) fn divides(
        &self,
        part: &str,
        count: usize,
        whole: &str,
        width: usize,
    ) -> Result<(), LoadError> {
        if width.is_multiple_of(count) {
            return Ok(());
        }
        Err(self.error(whole, &format!("is {width}, which is not a multiple of {part} = {count}")))
    }
}
