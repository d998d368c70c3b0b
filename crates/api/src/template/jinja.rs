//! The template language: Jinja as chat templates use it, within bounds.

mod python;
mod tags;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;

use anyhow::{anyhow, bail};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

use super::{Conversation, TemplateError, Turn};
use crate::clock::unix_seconds;

/// Steps that a template may take; each may hold some 64 bytes. A conversation of 256 messages takes a few
/// thousand.
const FUEL: u64 = 1_000_000;

/// Bytes of a rendered prompt.
const LONGEST: usize = 1 << 20;

/// Bytes of a template.
const LONGEST_SOURCE: usize = 1 << 20;

/// Nested blocks and calls.
const RECURSION: usize = 100;

/// Variables that a request cannot set.
const RESERVED: [&str; 5] = ["messages", "tools", "documents", "add_generation_prompt", "tokenize"];

const NAME: &str = "chat";

/// A compiled template.
pub(super) struct Jinja {
    environment: Environment<'static>,
    source: String,
    variables: HashSet<String>,
}

impl fmt::Debug for Jinja {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jinja").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Returns true for a variable that the server sets.
pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || name.ends_with("_token")
}

/// The message of a template that calls `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl Jinja {
    /// Compiles a template.
    ///
    /// # Errors
    /// It is too long, or not a template.
    pub(super) fn compile(source: String) -> anyhow::Result<Self> {
        if source.len() > LONGEST_SOURCE {
            bail!("it has {} bytes; at most {LONGEST_SOURCE} are read", source.len());
        }
        let mut environment = environment()?;
        environment
            .add_template_owned(NAME, tags::with_scopes(&source))
            .map_err(|error| anyhow!(said(&error)))?;
        let template = environment.get_template(NAME).map_err(|error| anyhow!(said(&error)))?;
        let variables = template.undeclared_variables(false);
        Ok(Self { environment, source, variables })
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Returns true if the template reads a variable that a request may set.
    pub(super) fn reads(&self, name: &str) -> bool {
        let known = |found: &str| self.environment.globals().any(|(global, _)| global == found);
        self.variables.contains(name) && !is_reserved(name) && !known(name)
    }

    /// Renders one question, so that a template that calls what there is not, or does not come to its end,
    /// is noticed at the start. What depends on the messages is not judged by this one.
    ///
    /// # Errors
    /// As said.
    pub(super) fn try_out(&self, tokens: &BTreeMap<&'static str, String>) -> anyhow::Result<()> {
        use ErrorKind as K;
        let turns = vec![Turn { role: "user", content: "Hello".to_owned(), ..Turn::default() }];
        let conversation = Conversation { turns, add_generation_prompt: true, ..Conversation::default() };
        match self.run(&conversation, tokens) {
            Err(error)
                if matches!(
                    error.kind(),
                    K::UnknownFilter | K::UnknownFunction | K::UnknownMethod | K::UnknownTest | K::OutOfFuel
                ) =>
            {
                bail!(said(&error))
            }
            _ => Ok(()),
        }
    }

    /// The text for a conversation.
    ///
    /// # Errors
    /// The template refuses it, fails, or goes on for too long.
    pub(super) fn render(
        &self,
        conversation: &Conversation,
        tokens: &BTreeMap<&'static str, String>,
    ) -> Result<String, TemplateError> {
        self.run(conversation, tokens).map_err(|error| match raised(&error) {
            Some(words) => TemplateError::Refused(words),
            None => TemplateError::Failed(said(&error)),
        })
    }

    fn run(
        &self,
        conversation: &Conversation,
        tokens: &BTreeMap<&'static str, String>,
    ) -> Result<String, Error> {
        #[derive(Serialize)]
        struct Variables<'a> {
            #[serde(flatten)]
            given: &'a BTreeMap<String, serde_json::Value>,
            #[serde(flatten)]
            tokens: &'a BTreeMap<&'static str, String>,
            messages: &'a [Turn],
            add_generation_prompt: bool,
        }
        let variables = Variables {
            given: &conversation.variables,
            tokens,
            messages: &conversation.turns,
            add_generation_prompt: conversation.add_generation_prompt,
        };
        let mut written = Bounded(Vec::new());
        let template = self.environment.get_template(NAME)?;
        template.render_captured_to(Value::from(Serde(&variables)), &mut written)?;
        String::from_utf8(written.0).map_err(|_| Error::new(ErrorKind::InvalidOperation, "not UTF-8"))
    }
}

/// The language's settings, those of the library that chat templates are written for.
fn environment() -> anyhow::Result<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    python::extend(&mut environment);
    environment.set_formatter(python_names);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |words: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(words)))
    });
    environment.add_function("strftime_now", |format: String| -> Result<String, Error> {
        strftime(&format, unix_seconds())
    });
    Ok(environment)
}

/// Time in UTC by a format of C's strftime.
fn strftime(format: &str, seconds: u64) -> Result<String, Error> {
    let wrong = |_| Error::new(ErrorKind::InvalidOperation, "strftime_now: not a format of a time");
    let time = jiff::Timestamp::from_second(seconds.cast_signed()).map_err(wrong)?;
    jiff::fmt::strtime::format(format, time).map_err(wrong)
}

/// Jinja writes these three as Python does.
fn python_names(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let name = match bool::try_from(value.clone()) {
        _ if value.is_none() => "None",
        Ok(true) if value.kind() == minijinja::value::ValueKind::Bool => "True",
        Ok(false) if value.kind() == minijinja::value::ValueKind::Bool => "False",
        _ => return minijinja::escape_formatter(out, state, value),
    };
    out.write_str(name).map_err(Error::from)
}

/// JSON as Python writes it: a space after commas and colons, characters as they are.
fn tojson(value: &Value, arguments: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = arguments.get("indent")?;
    // Known to Python; keys keep their order and characters are never escaped here.
    for name in ["ensure_ascii", "sort_keys", "separators"] {
        let _: Option<Value> = arguments.get(name)?;
    }
    arguments.assert_all_used()?;
    let mut json = Vec::new();
    let done = match indent {
        Some(indent) => {
            let indent = " ".repeat(indent.min(16));
            let pretty = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, pretty))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, Spaced)),
    };
    let text = done.ok().and_then(|()| String::from_utf8(json).ok());
    text.ok_or_else(|| Error::new(ErrorKind::BadSerialization, "tojson: the value is no JSON"))
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}

/// A text that does not grow beyond [`LONGEST`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            return Err(io::Error::other(format!("the prompt is longer than {LONGEST} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The words of `raise_exception`, if that is what an error is about.
fn raised(error: &Error) -> Option<String> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(Raised(words)) = inner.downcast_ref() {
            return Some(words.chars().filter(|c| !c.is_control()).take(500).collect());
        }
        source = inner.source();
    }
    None
}

/// The fault and its place, in one line and without the template's variables.
fn said(error: &Error) -> String {
    let what = match error.kind() {
        ErrorKind::WriteFailure => format!("the prompt is longer than {LONGEST} bytes"),
        ErrorKind::OutOfFuel => format!("it takes more than {FUEL} steps"),
        kind => match error.detail() {
            Some(detail) if kind == ErrorKind::SyntaxError || detail.len() < 100 => {
                format!("{kind}: {detail}")
            }
            _ => kind.to_string(),
        },
    };
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    format!("{what}{line}").chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests;
