//! WinoGrande: `sentence` with `_` where `option1` or `option2` belongs, and `answer`.

use super::super::args::Protocol;
use super::super::question::{Choice, Continuation, Question};
use super::super::record::{DataError, Record};

/// Both names in the sentence. The paper's script scores name and rest, the harness the rest behind either name.
pub(super) fn question(record: &Record, protocol: Protocol) -> Result<Question, DataError> {
    let sentence = record.filled(&["sentence"])?;
    let names = [record.filled(&["option1"])?, record.filled(&["option2"])?];
    let right = record.number(&["answer"], 1..=2)? as usize - 1;
    let split = sentence.split_once('_');
    let (before, rest) =
        split.ok_or_else(|| record.wrong("sentence", "it has no `_` where a name belongs"))?;
    let option = |name: &str| {
        let rest = rest.trim();
        match protocol {
            Protocol::Paper => Continuation {
                context: before.to_owned(),
                scored: vec![name.to_owned(), rest.to_owned()],
                characters: name.chars().count() + rest.chars().count(),
            },
            Protocol::Harness => Continuation {
                context: format!("{before}{name}"),
                scored: vec![format!(" {rest}")],
                characters: rest.chars().count(),
            },
        }
    };
    let options = names.into_iter().map(option).collect();
    Ok(Question::Choice(Choice { options, right, joined: protocol == Protocol::Harness }))
}
