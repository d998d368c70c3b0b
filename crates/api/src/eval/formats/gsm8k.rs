//! GSM8K: `question`, and `answer` with the number behind `####`.

use super::super::question::Question;
use super::super::record::{DataError, Record};

/// The problem and its solution.
pub(super) fn question(record: &Record) -> Result<Question, DataError> {
    let question = record.filled(&["question"])?.to_owned();
    let answer = record.filled(&["answer"])?.to_owned();
    if !answer.contains("####") || final_number(&answer).is_empty() {
        return Err(record.wrong("answer", "it has no number behind `####`"));
    }
    Ok(Question::Number { question, answer })
}

/// What stands behind the last `####`, without commas and blanks around; all of a text without `####`.
pub(in super::super) fn final_number(text: &str) -> String {
    let last = text.rsplit("####").next().unwrap_or_default();
    last.replace(',', "").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_stands_behind_the_last_mark() {
        for (text, number) in [
            ("5 + 5 = 10\n#### 10", "10"),
            ("#### 3\n#### 1,234 \n", "1234"),
            ("The answer is 7", "The answer is 7"),
            ("####", ""),
        ] {
            assert_eq!(final_number(text), number);
        }
    }
}
