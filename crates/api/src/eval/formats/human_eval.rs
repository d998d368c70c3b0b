//! HumanEval infilling: `prompt`, `suffix`, `canonical_solution`, `test` and `entry_point`.

use super::super::question::{Hole, Judge, Question};
use super::super::record::{DataError, Record};

/// The function with a hole, and its tests.
pub(super) fn question(record: &Record) -> Result<Question, DataError> {
    let entry_point = record.filled(&["entry_point"])?.to_owned();
    let letters = |c: char| c.is_alphanumeric() || c == '_';
    if !entry_point.chars().all(letters) || entry_point.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(record.wrong("entry_point", "it is not the name of a function"));
    }
    let truth = record.text(&["canonical_solution"])?;
    if truth.is_empty() {
        return Err(record.wrong("canonical_solution", "it is empty"));
    }
    Ok(Question::Hole(Hole {
        prefix: record.text(&["prompt"])?.to_owned(),
        suffix: record.text(&["suffix"])?.to_owned(),
        truth: truth.to_owned(),
        judge: Judge::Tests { test: record.filled(&["test"])?.to_owned(), entry_point },
    }))
}
