//! The prompt of `unmask chat` and of `unmask fill` without a file: one question after another, with a line editor.

mod commands;
#[cfg(test)]
mod tests;

use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::{Context, bail};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::{Value, json};

use self::commands::{command, obey};
use super::question::Question;
use super::session::Session;
use super::visible::visible_line;
use super::{body, filling};
use crate::config::{ChatArgs, FillArgs, LengthArg};
use crate::output;

/// The line that asks for input.
const PROMPT: &str = "> ";

/// The same for further lines of a text.
const CONTINUED: &str = ". ";

/// `unmask chat`.
///
/// # Errors
/// Standard input cannot be read, or standard output cannot be written to.
pub(super) fn chat(args: &ChatArgs, session: Session<'_>) -> anyhow::Result<()> {
    let mut settings = body(&args.shared);
    if let Some(most) = args.max_tokens {
        settings["max_tokens"] = json!(most);
    }
    let system = args.system.as_ref().map(|text| json!({ "role": "system", "content": text }));
    let mut talk = Talk { settings, first: system.into_iter().collect(), messages: Vec::new() };
    talk.messages.clone_from(&talk.first);
    Prompt::new(session)?.run(&mut talk)
}

/// `unmask fill` without a file.
///
/// # Errors
/// As [`chat`].
pub(super) fn fill(args: &FillArgs, session: Session<'_>) -> anyhow::Result<()> {
    let mut filling = Filling { args, settings: body(&args.shared) };
    Prompt::new(session)?.run(&mut filling)
}

/// The questions of a prompt.
trait Questions {
    /// The line that says what to type.
    fn hint(&self) -> String;
    /// The question of a text.
    fn question(&mut self, text: &str) -> anyhow::Result<Question>;
    /// Takes over the answer to the last question; `None` if it was stopped or refused.
    fn answered(&mut self, text: Option<&str>);
    /// The settings of all questions.
    fn settings(&mut self) -> &mut Value;
    /// Sets the length of answers; `None` leaves it to the server.
    fn set_length(&mut self, length: Option<LengthArg>) -> Result<(), String>;
    /// Forgets earlier questions.
    fn clear(&mut self);
}

/// A conversation.
struct Talk {
    settings: Value,
    /// The messages that every conversation begins with.
    first: Vec<Value>,
    messages: Vec<Value>,
}

impl Questions for Talk {
    fn hint(&self) -> String {
        "Write a message; /help lists the commands.".to_owned()
    }

    fn question(&mut self, text: &str) -> anyhow::Result<Question> {
        self.messages.push(json!({ "role": "user", "content": text }));
        let mut body = self.settings.clone();
        body["messages"] = json!(self.messages);
        body["diffusion"]["stream_states"] = json!("delta");
        let given = vec![String::new(), String::new()];
        Ok(Question { path: "/v1/chat/completions", body, given, searches: false, output: None })
    }

    fn answered(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.messages.push(json!({ "role": "assistant", "content": text })),
            None => drop(self.messages.pop()),
        }
    }

    fn settings(&mut self) -> &mut Value {
        &mut self.settings
    }

    fn set_length(&mut self, length: Option<LengthArg>) -> Result<(), String> {
        self.settings["max_tokens"] = match length {
            None => Value::Null,
            Some(LengthArg::Exactly(most)) => json!(most),
            Some(LengthArg::Between(..)) => return Err("an answer has a maximum, not a range".to_owned()),
        };
        Ok(())
    }

    fn clear(&mut self) {
        self.messages.clone_from(&self.first);
    }
}

/// Texts with holes, each by itself.
struct Filling<'a> {
    args: &'a FillArgs,
    settings: Value,
}

impl Questions for Filling<'_> {
    fn hint(&self) -> String {
        let marker = visible_line(&self.args.marker);
        format!("Write a text with {marker} wherever something is missing; /help lists the commands.")
    }

    fn question(&mut self, text: &str) -> anyhow::Result<Question> {
        filling(text, self.args, self.settings.clone())
    }

    fn answered(&mut self, _: Option<&str>) {}

    fn settings(&mut self) -> &mut Value {
        &mut self.settings
    }

    fn set_length(&mut self, length: Option<LengthArg>) -> Result<(), String> {
        let fields = self.settings.as_object_mut().ok_or_else(String::new)?;
        match length {
            Some(length) => fields.insert("length".to_owned(), length.json()),
            None => fields.remove("length"),
        };
        Ok(())
    }

    fn clear(&mut self) {}
}

/// The loop of reading and answering.
struct Prompt<'a> {
    session: Session<'a>,
    editor: DefaultEditor,
    /// True if standard input is a terminal.
    interactive: bool,
    /// True if standard output holds answers alone: a script reads it, or it is JSON.
    only_answers: bool,
    /// True if a question was not answered.
    failed: bool,
}

impl<'a> Prompt<'a> {
    fn new(session: Session<'a>) -> anyhow::Result<Self> {
        let editor = DefaultEditor::new().context("cannot read from the terminal")?;
        let interactive = std::io::stdin().is_terminal();
        let only_answers = !interactive || !std::io::stdout().is_terminal() || session.prints_json();
        Ok(Self { session, editor, interactive, only_answers, failed: false })
    }

    fn run(mut self, questions: &mut dyn Questions) -> anyhow::Result<()> {
        if self.interactive {
            self.say(&questions.hint())?;
        }
        while let Some(text) = self.read()? {
            if text.trim().is_empty() {
                continue;
            }
            match command(&text) {
                Some("/quit") => break,
                Some(_) => self.say(&obey(&text, questions))?,
                None => self.answer(&text, questions)?,
            }
        }
        // A script reads the status, a person has read the lines.
        if self.failed && !self.interactive {
            bail!("not every question was answered");
        }
        Ok(())
    }

    /// The next text, of one line or several; `None` at the end.
    fn read(&mut self) -> anyhow::Result<Option<String>> {
        let mut text = String::new();
        loop {
            match self.editor.readline(if text.is_empty() { PROMPT } else { CONTINUED }) {
                Ok(line) => {
                    // A history that is full forgets its oldest line.
                    let _ = self.editor.add_history_entry(&line);
                    match line.strip_suffix('\\') {
                        Some(line) => text = text + line + "\n",
                        None => return Ok(Some(text + &line)),
                    }
                }
                Err(ReadlineError::Interrupted) => text.clear(),
                // A text that a script has begun and not ended is a text.
                Err(ReadlineError::Eof) if !self.interactive && !text.is_empty() => {
                    return Ok(Some(text.trim_end_matches('\n').to_owned()));
                }
                Err(ReadlineError::Eof) => return Ok(None),
                Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                    self.failed = true;
                    self.say("a line is not UTF-8, and is passed over")?;
                    text.clear();
                }
                Err(error) => bail!("cannot read standard input: {error}"),
            }
        }
    }

    /// Answers a text. An error of one question does not end the prompt.
    fn answer(&mut self, text: &str, questions: &mut dyn Questions) -> anyhow::Result<()> {
        let asked = questions.question(text).and_then(|question| self.session.answer(&question));
        match asked {
            Ok(Some(run)) => questions.answered(Some(&run.text)),
            Ok(None) => {
                questions.answered(None);
                self.say("stopped")?;
            }
            Err(error) if output::is_closed(&error) => return Err(error),
            Err(error) => {
                questions.answered(None);
                self.failed = true;
                self.say(&format!("{error:#}"))?;
            }
        }
        Ok(())
    }

    /// Prints a line that is no answer.
    fn say(&self, text: &str) -> anyhow::Result<()> {
        if self.only_answers {
            return writeln!(std::io::stderr(), "{text}").context("cannot write to standard error");
        }
        let mut out = output::stdout();
        writeln!(out, "{text}").and_then(|()| out.flush()).context("cannot write to standard output")
    }
}
