//! ROCStories: five sentences, in the columns of the cloze test or of the stories.

use super::super::question::{Hole, Judge, Question};
use super::super::record::{DataError, Record};

/// The third sentence as a hole. The pieces are joined as the paper's script joins them: without a blank at the hole.
pub(super) fn question(record: &Record) -> Result<Question, DataError> {
    let sentence = |number: usize| -> Result<&str, DataError> {
        record.filled(&[&format!("InputSentence{number}"), &format!("sentence{number}")])
    };
    let last = if record.fields.contains_key("sentence5") {
        record.filled(&["sentence5"])?
    } else {
        let right = record.number(&["AnswerRightEnding"], 1..=2)?;
        record.filled(&[&format!("RandomFifthSentenceQuiz{right}")])?
    };
    Ok(Question::Hole(Hole {
        prefix: format!("{} {}", sentence(1)?, sentence(2)?),
        suffix: format!("{} {last}", sentence(4)?),
        truth: sentence(3)?.to_owned(),
        judge: Judge::Rouge,
    }))
}
