//! PIQA: `goal`, `sol1`, `sol2` and `label`.

use super::super::args::Protocol;
use super::super::question::{Choice, Continuation, Question};
use super::super::record::{DataError, Record};

/// The goal and its two solutions.
pub(super) fn question(record: &Record, protocol: Protocol) -> Result<Question, DataError> {
    let goal = record.filled(&["goal"])?;
    let solutions = [record.text(&["sol1"])?, record.text(&["sol2"])?];
    let right = record.number(&["label"], 0..=1)? as usize;
    // The paper's script leaves a blank on both sides of the border.
    let blank = if protocol == Protocol::Paper { " " } else { "" };
    let option = |solution: &str| Continuation {
        context: format!("Question: {goal}\nAnswer:{blank}"),
        scored: vec![format!(" {solution}")],
        characters: solution.chars().count(),
    };
    let options = solutions.into_iter().map(option).collect();
    Ok(Question::Choice(Choice { options, right, joined: protocol == Protocol::Harness }))
}
