//! The data sets' formats, one file each: a record to a question.

mod gsm8k;
mod hellaswag;
mod human_eval;
mod lambada;
mod piqa;
mod roc_stories;
mod siqa;
mod trivia_qa;
mod winogrande;

pub(super) use gsm8k::final_number;
pub(super) use trivia_qa::{contains_alias, token_f1};

use super::args::Protocol;
use super::question::{Item, Question};
use super::record::{DataError, Record};
use super::task::Task;

/// The item that a record of a task's file is.
///
/// # Errors
/// A field is missing or wrong.
pub(super) fn item(task: Task, record: &Record, protocol: Protocol) -> Result<Item, DataError> {
    let question = match task {
        Task::Lambada => lambada::question(record, protocol),
        Task::Hellaswag => hellaswag::question(record, protocol),
        Task::Winogrande => winogrande::question(record, protocol),
        Task::Piqa => piqa::question(record, protocol),
        Task::Siqa => siqa::question(record, protocol),
        Task::Triviaqa => trivia_qa::question(record),
        Task::Gsm8k => gsm8k::question(record),
        Task::Rocstories => roc_stories::question(record),
        Task::HumanevalSingleLine | Task::HumanevalMultiLine | Task::HumanevalRandomSpan => {
            human_eval::question(record)
        }
        Task::Infill => block(record),
    };
    Ok(Item::new(&record.place, question?))
}

/// A text of the carried items of `infill`; files are cut in `held_out`.
fn block(record: &Record) -> Result<Question, DataError> {
    let text = record.filled(&["text"])?.to_owned();
    Ok(Question::Block { text, seed: record.place.line as u64 })
}
