//! LAMBADA: `{"text": "…"}`, or one passage a line.

use super::super::args::Protocol;
use super::super::question::Question;
use super::super::record::{DataError, Record};

/// The passage and its last word. The paper's script splits at any blank, the harness at spaces alone.
pub(super) fn question(record: &Record, protocol: Protocol) -> Result<Question, DataError> {
    let text = record.filled(&["text"])?;
    let words: Vec<&str> = match protocol {
        Protocol::Paper => text.split_whitespace().collect(),
        Protocol::Harness => text.split(' ').collect(),
    };
    match words.split_last() {
        Some((word, before)) if !before.is_empty() && !word.is_empty() => {
            Ok(Question::LastWord { context: before.join(" "), word: (*word).to_owned() })
        }
        _ => Err(record.wrong("text", "it must have two words or more, and end with one")),
    }
}
