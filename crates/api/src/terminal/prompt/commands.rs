//! The prompt's own commands, such as `/seed 7`.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::Questions;
use crate::config::LengthArg;
use crate::nearest::nearest;
use crate::policy::Preset;
use crate::seed::Seed;
use crate::terminal::visible::visible_line;

/// The commands.
const COMMANDS: [&str; 6] = ["/seed", "/preset", "/length", "/clear", "/help", "/quit"];

/// The answer to `/help`.
const HELP: &str = "\
/seed N           repeat answers by this seed; without a number, a random seed for each
/preset NAME      the decision rule; without a name, the model's
/length N         tokens of an answer at most (chat), or of every hole (fill; MIN..MAX searches)
/clear            forget the conversation (chat)
/help             print this list
/quit             end, as Ctrl-D does

A line that ends in a backslash goes on in the next one. Ctrl-C stops an answer.
";

/// The command that a line is, if it is one: a slash and letters, then nothing or a blank.
pub(super) fn command(text: &str) -> Option<&str> {
    let name = text.split_whitespace().next()?;
    let letters = name.strip_prefix('/')?;
    let plain = !letters.is_empty() && letters.chars().all(|c| c.is_ascii_lowercase());
    (plain && text.starts_with('/')).then_some(name)
}

/// Does what a command says: the line that answers it.
pub(super) fn obey(text: &str, questions: &mut dyn Questions) -> String {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap_or_default();
    let value = words.next();
    match (name, value) {
        ("/help", _) => HELP.trim_end().to_owned(),
        ("/clear", _) => {
            questions.clear();
            "forgotten".to_owned()
        }
        ("/seed", None) => {
            set(&mut questions.settings()["seed"], Value::Null, "a random seed for each answer")
        }
        ("/seed", Some(text)) => match text.parse::<Seed>() {
            Ok(seed) => set(&mut questions.settings()["seed"], json!(seed), &format!("seed {}", json!(seed))),
            Err(range) => format!("the seed is {}; {range}", visible_line(text)),
        },
        ("/preset", None) => {
            set(&mut questions.settings()["diffusion"]["preset"], Value::Null, "the model's own preset")
        }
        ("/preset", Some(preset)) if Preset::from_str(preset, false).is_err() => {
            let names = Preset::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            let names: Vec<String> = names.map(|name| name.get_name().to_owned()).collect();
            format!("there is no preset {}; there are {}", visible_line(preset), names.join(", "))
        }
        ("/preset", Some(preset)) => {
            let told = format!("preset {}", visible_line(preset));
            set(&mut questions.settings()["diffusion"]["preset"], json!(preset), &told)
        }
        ("/length", value) => {
            let told = value.map_or("the server's own length".to_owned(), |value| format!("length {value}"));
            let length = value.map(str::parse).transpose();
            let length = length.and_then(|length| match length {
                Some(LengthArg::Exactly(0)) => Err("it must be at least 1".to_owned()),
                length => Ok(length),
            });
            match length.and_then(|length| questions.set_length(length)) {
                Ok(()) => visible_line(&told),
                Err(error) => {
                    format!("the length {} is refused: {error}", visible_line(value.unwrap_or_default()))
                }
            }
        }
        _ => match nearest(name, COMMANDS) {
            Some(near) => format!("there is no command {name}; did you mean {near}?"),
            None => format!("there is no command {name}; /help lists the commands"),
        },
    }
}

fn set(field: &mut Value, value: Value, told: &str) -> String {
    *field = value;
    told.to_owned()
}
