//! Social IQa: `context`, `question`, `answerA` to `answerC` and `label`.

use super::super::args::Protocol;
use super::super::question::{Choice, Continuation, Question};
use super::super::record::{DataError, Record};

/// The situation, the question and three answers.
pub(super) fn question(record: &Record, protocol: Protocol) -> Result<Question, DataError> {
    let situation = record.filled(&["context"])?;
    let question = record.filled(&["question"])?;
    let names = ["answerA", "answerB", "answerC"];
    let answers = names.iter().map(|name| record.text(&[name])).collect::<Result<Vec<_>, _>>()?;
    let right = record.number(&["label"], 1..=3)? as usize - 1;
    let option = |answer: &str| {
        let (context, scored) = match protocol {
            Protocol::Paper => (format!("Question: {situation} {question}\nAnswer: "), answer.to_owned()),
            Protocol::Harness => (format!("Q: {situation} {question}\nA:"), format!(" {answer}")),
        };
        Continuation { context, scored: vec![scored], characters: answer.chars().count() }
    };
    let options = answers.into_iter().map(option).collect();
    Ok(Question::Choice(Choice { options, right, joined: protocol == Protocol::Harness }))
}
