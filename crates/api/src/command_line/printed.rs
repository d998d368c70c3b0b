//! `serve --print-config`: the settings in use, as a settings file.

use std::fmt::Write as _;
use std::io::Write;

use anyhow::Context;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};

use super::Parsed;

/// Flags that ask for something else than a setting.
const NOT_PRINTED: [&str; 4] = ["config", "print-config", "help", "version"];

/// Writes every setting of the chosen command with the source of its value. Secrets are left out.
///
/// # Errors
/// Writing fails.
pub fn print_config(parsed: &Parsed, out: &mut impl Write) -> anyhow::Result<()> {
    out.write_all(settings(parsed).as_bytes()).context("cannot write the settings")
}

fn settings(parsed: &Parsed) -> String {
    let Parsed { command, matches, from_file, .. } = parsed;
    let (command, used) = match matches.subcommand() {
        Some((name, used)) => (command.find_subcommand(name).unwrap_or(command), used),
        None => (command, matches),
    };
    let mut text = String::new();
    let mut heading = None;
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let Some(name) = arg.get_long().filter(|name| !NOT_PRINTED.contains(name)) else { continue };
        if heading != Some(arg.get_help_heading()) {
            heading = Some(arg.get_help_heading());
            let blank = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{blank}# {}", arg.get_help_heading().unwrap_or("Model"));
        }
        let _ = writeln!(text, "{}", line(arg, name, used, from_file));
    }
    text
}

fn line(arg: &Arg, name: &str, used: &ArgMatches, from_file: &[String]) -> String {
    let values = |id: &str| -> Vec<String> {
        let raw = used.try_get_raw(id).ok().flatten().into_iter().flatten();
        raw.map(|value| value.to_string_lossy().into_owned()).collect()
    };
    let own = arg.get_id().as_str();
    let id = if name == "model" && values(own).is_empty() { "path" } else { own };
    let given = values(id);
    if given.is_empty() {
        return format!("# {name} =");
    }
    if arg.is_hide_env_values_set() {
        return format!("# {name} is set and not shown");
    }
    let value = match &given[..] {
        // A variable may say yes or 0.
        _ if !arg.get_action().takes_values() => used.get_flag(id).to_string(),
        [value] if !is_list(arg) => toml(value),
        values => format!("[{}]", values.iter().map(|value| toml(value)).collect::<Vec<_>>().join(", ")),
    };
    let origin = match used.value_source(id) {
        _ if from_file.iter().any(|flag| flag == name) => "file",
        Some(ValueSource::EnvVariable) => {
            arg.get_env().and_then(|name| name.to_str()).unwrap_or("environment")
        }
        Some(ValueSource::CommandLine) => "command line",
        _ => "default",
    };
    format!("{name} = {value} # {origin}")
}

fn is_list(arg: &Arg) -> bool {
    arg.get_value_delimiter().is_some()
}

/// A value as TOML writes it: numbers and truth values bare, the rest quoted.
fn toml(value: &str) -> String {
    if value.parse::<i64>().is_ok_and(|number| number.to_string() == value)
        || ["true", "false"].contains(&value)
    {
        return value.to_owned();
    }
    toml::Value::String(value.to_owned()).to_string()
}
