//! HellaSwag: `activity_label`, `ctx_a`, `ctx_b`, `endings` and `label`.

use super::super::args::Protocol;
use super::super::question::{Choice, Continuation, Question};
use super::super::record::{DataError, Record};

/// The context and the four endings. The paper's script tokenizes an ending without a blank before it.
pub(super) fn question(record: &Record, protocol: Protocol) -> Result<Question, DataError> {
    let activity = record.text(&["activity_label"])?;
    let first = record.text(&["ctx_a"])?;
    let second = record.text(&["ctx_b"])?;
    let endings = record.texts(&["endings"])?;
    if endings.len() != 4 {
        return Err(record.wrong("endings", format!("it is a list of {}, not of 4", endings.len())));
    }
    let right = record.number(&["label"], 0..=endings.len() as i64 - 1)? as usize;
    let context = cleaned(&format!("{activity}: {first} {}", capitalized(second)));
    let option = |ending: &String| {
        let ending = cleaned(ending);
        let characters = ending.chars().count();
        let blank = if protocol == Protocol::Harness { " " } else { "" };
        Continuation { context: context.clone(), scored: vec![format!("{blank}{ending}")], characters }
    };
    let options = endings.iter().map(option).collect();
    Ok(Question::Choice(Choice { options, right, joined: protocol == Protocol::Harness }))
}

/// Without the remains of WikiHow's markup.
fn cleaned(text: &str) -> String {
    let text = text.trim().replace(" [title]", ". ");
    without_brackets(&text).replace("  ", " ")
}

/// Without what stands in square brackets on one line, the brackets included.
fn without_brackets(mut text: &str) -> String {
    let mut kept = String::new();
    while let Some(start) = text.find('[') {
        let inside = text[start..].find([']', '\n']).map(|length| start + length);
        let end = match inside.filter(|end| text[*end..].starts_with(']')) {
            Some(end) => end,
            None => start,
        };
        kept.push_str(&text[..start]);
        if end == start {
            kept.push('[');
        }
        text = &text[end + 1..];
    }
    kept + text
}

/// Python's `str.capitalize`.
fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    first + &characters.as_str().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_removed_and_the_second_part_begins_with_a_capital() {
        assert_eq!(cleaned(" A [header] b [title] c  d [step] e "), "A b. c d e");
        assert_eq!(without_brackets("[a [b] c] [d\n] e]["), " c] [d\n] e][");
        assert_eq!(capitalized("the Dog"), "The dog");
        assert_eq!(capitalized(""), "");
    }
}
