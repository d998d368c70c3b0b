//! Ten items of every format, written for this program.

use std::path::Path;

use serde_json::Value;

use super::record::{DataError, Place, Record};
use super::task::Task;

/// A task's file.
fn file(task: Task) -> (&'static str, &'static str) {
    match task {
        Task::Lambada => ("lambada.jsonl", include_str!("smoke/lambada.jsonl")),
        Task::Hellaswag => ("hellaswag.jsonl", include_str!("smoke/hellaswag.jsonl")),
        Task::Winogrande => ("winogrande.jsonl", include_str!("smoke/winogrande.jsonl")),
        Task::Piqa => ("piqa.jsonl", include_str!("smoke/piqa.jsonl")),
        Task::Siqa => ("siqa.jsonl", include_str!("smoke/siqa.jsonl")),
        Task::Triviaqa => ("triviaqa.jsonl", include_str!("smoke/triviaqa.jsonl")),
        Task::Gsm8k => ("gsm8k.jsonl", include_str!("smoke/gsm8k.jsonl")),
        Task::Rocstories => ("rocstories.jsonl", include_str!("smoke/rocstories.jsonl")),
        Task::HumanevalSingleLine => {
            ("humaneval-single-line.jsonl", include_str!("smoke/humaneval-single-line.jsonl"))
        }
        Task::HumanevalMultiLine => {
            ("humaneval-multi-line.jsonl", include_str!("smoke/humaneval-multi-line.jsonl"))
        }
        Task::HumanevalRandomSpan => {
            ("humaneval-random-span.jsonl", include_str!("smoke/humaneval-random-span.jsonl"))
        }
        Task::Infill => ("infill.jsonl", include_str!("smoke/infill.jsonl")),
    }
}

/// The carried records of a task.
///
/// # Errors
/// None: a test reads all of them.
pub(super) fn records(task: Task) -> Result<Vec<Record>, DataError> {
    let (name, text) = file(task);
    let record = |(line, at): (&str, usize)| {
        let place = Place::new(Path::new(name), at);
        match serde_json::from_str(line) {
            Ok(Value::Object(fields)) => Ok(Record { place, fields }),
            _ => Err(DataError::Line { place, problem: "it is not a JSON object".to_owned() }),
        }
    };
    text.lines().zip(1..).map(record).collect()
}
