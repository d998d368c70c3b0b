//! One item of a data file, and errors that name its file, line and field.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::terminal::visible::visible_line;

/// A place in a data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The file's path as given.
    pub(super) file: Arc<str>,
    /// The line or row, from 1.
    pub(super) line: usize,
}

/// A data file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DataError {
    /// Nothing at any of the paths where the file could be.
    #[error(
        "{task} needs one of {files} in {folder}, or any file in {folder}/{task}; it comes from {origin}"
    )]
    NoFile { task: &'static str, files: String, folder: String, origin: &'static str },
    /// The folder of a task holds several files.
    #[error("{folder} holds several files ({files}); leave one in it, or name one by --data")]
    SeveralFiles { folder: String, files: String },
    /// The file cannot be read.
    #[error("cannot read {file}: {reason}")]
    Unreadable { file: String, reason: String },
    /// The file's format is none of those that are read.
    #[error(
        "{file}: the name must end in .jsonl, .json, .csv, .txt or .parquet, the first four also with .gz"
    )]
    Format { file: String },
    /// A line is not an item.
    #[error("{place}: {problem}")]
    Line { place: Place, problem: String },
    /// A field is absent or not what it must be.
    #[error("{place}, field `{field}`: {problem}")]
    Field { place: Place, field: String, problem: String },
    /// A folder without a text for the task `infill`.
    #[error("{folder} holds no text file{wanted}")]
    NoText { folder: String, wanted: String },
    /// A file without a single item.
    #[error("{file} holds no item")]
    Empty { file: String },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", visible_line(&self.file), self.line)
    }
}

impl Place {
    /// A line of a file.
    pub(super) fn new(file: &Path, line: usize) -> Self {
        Self { file: file.display().to_string().into(), line }
    }
}

/// An item's fields.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    /// Its place.
    pub(super) place: Place,
    /// Its fields.
    pub(super) fields: Map<String, Value>,
}

impl Record {
    /// The first of these fields that exists, with its name.
    fn find<'a>(&self, names: &[&'a str]) -> Result<(&'a str, &Value), DataError> {
        let found = names.iter().find_map(|name| Some((*name, self.fields.get(*name)?)));
        found.ok_or_else(|| {
            let others = names[1..].iter().map(|name| format!(" (or `{name}`)")).collect::<String>();
            self.wrong(names[0], format!("it is missing{others}"))
        })
    }

    /// An error in a field.
    pub(super) fn wrong(&self, field: &str, problem: impl Into<String>) -> DataError {
        DataError::Field { place: self.place.clone(), field: field.to_owned(), problem: problem.into() }
    }

    /// A string, by the first of these names that exists.
    ///
    /// # Errors
    /// It is missing or not a string.
    pub(super) fn text(&self, names: &[&str]) -> Result<&str, DataError> {
        let (name, value) = self.find(names)?;
        value.as_str().ok_or_else(|| self.wrong(name, format!("it is {}, not a string", kind(value))))
    }

    /// A string with something in it besides blanks.
    ///
    /// # Errors
    /// Those of [`Self::text`], and an empty string.
    pub(super) fn filled(&self, names: &[&str]) -> Result<&str, DataError> {
        let text = self.text(names)?;
        if text.trim().is_empty() { Err(self.wrong(self.find(names)?.0, "it is empty")) } else { Ok(text) }
    }

    /// A list of strings with at least one entry.
    ///
    /// # Errors
    /// It is missing, empty, or holds something else.
    pub(super) fn texts(&self, names: &[&str]) -> Result<Vec<String>, DataError> {
        let (name, value) = self.find(names)?;
        let list = value.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| self.wrong(name, "it is not a list with at least one entry"))?;
        let strings = list.iter().map(|entry| entry.as_str().map(str::to_owned));
        strings.collect::<Option<_>>().ok_or_else(|| self.wrong(name, "an entry of the list is not a string"))
    }

    /// A whole number, also one that is written as a string.
    ///
    /// # Errors
    /// It is missing, not a number, or outside of `range`.
    pub(super) fn number(
        &self,
        names: &[&str],
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<i64, DataError> {
        let (name, value) = self.find(names)?;
        let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let given = visible_line(&value.to_string().chars().take(40).collect::<String>());
            self.wrong(name, format!("it is {given}, not a number from {} to {}", range.start(), range.end()))
        })
    }

    /// An object's fields, as a record of their own.
    ///
    /// # Errors
    /// It is missing or not an object.
    pub(super) fn object(&self, names: &[&str]) -> Result<Self, DataError> {
        let (name, value) = self.find(names)?;
        let fields = value.as_object().ok_or_else(|| self.wrong(name, "it is not an object"))?.clone();
        Ok(Self { place: self.place.clone(), fields })
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
