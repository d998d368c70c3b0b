//! `--config FILE`: a TOML file whose keys are the names of flags.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use toml::{Table, Value};

use super::former;
use crate::nearest::nearest;

/// Flags that a file cannot set.
const NOT_IN_A_FILE: [&str; 4] = ["config", "print-config", "help", "version"];

/// The settings of a file that the command line and the environment leave to it.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The names of the flags.
    pub(super) flags: Vec<String>,
    arguments: Vec<OsString>,
    path: PathBuf,
}

impl Settings {
    /// The error for a value of the file that its flag does not take.
    pub(super) fn wrong_value(&self, error: &clap::Error) -> anyhow::Error {
        let text = error.render().to_string();
        let lines = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
        let reason = lines.collect::<Vec<_>>().join(" ");
        anyhow::anyhow!("{}: {}", self.path.display(), reason.trim_start_matches("error: "))
    }

    /// True if the file sets nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.arguments.is_empty()
    }

    /// The arguments of the process with those of the file, which stand after the name of the command.
    pub(super) fn inserted(&self, args: &[OsString], matches: &ArgMatches) -> Vec<OsString> {
        let named = matches.subcommand_name().is_some_and(|name| args.get(1).is_some_and(|arg| arg == name));
        let (before, after) = args.split_at(args.len().min(if named { 2 } else { 1 }));
        [before, &self.arguments, after].concat()
    }
}

/// The settings of the file that `--config` names, if it names one.
///
/// # Errors
/// The file cannot be read, is not TOML, has a key that is no flag, or a value of another type than its flag.
pub(super) fn settings(command: &Command, matches: &ArgMatches) -> anyhow::Result<Settings> {
    let mut settings = Settings::default();
    let (command, used) = match matches.subcommand() {
        Some((name, used)) => (command.find_subcommand(name).unwrap_or(command), used),
        None => (command, matches),
    };
    let Ok(Some(path)) = used.try_get_one::<PathBuf>("config") else { return Ok(settings) };
    settings.path.clone_from(path);
    for (key, value) in read(path)? {
        let arg = flag(command, &key).with_context(|| path.display().to_string())?;
        let source = used.value_source(arg.get_id().as_str());
        if matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) || is_named(arg, used)
        {
            continue;
        }
        let given = argument(arg, &value).with_context(|| format!("{}: `{key}`", path.display()))?;
        settings.flags.push(arg.get_long().unwrap_or_default().to_owned());
        settings.arguments.extend(given.map(OsString::from));
    }
    Ok(settings)
}

/// True if the model is given by its place instead of its flag.
fn is_named(arg: &Arg, used: &ArgMatches) -> bool {
    arg.get_long() == Some("model") && matches!(used.try_get_one::<String>("path"), Ok(Some(_)))
}

fn read(path: &Path) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the settings file {}", path.display()))?;
    text.parse().map_err(|error: toml::de::Error| {
        let before = |end: usize| text.bytes().take(end).filter(|byte| *byte == b'\n').count();
        let line = error.span().map_or(1, |span| 1 + before(span.start));
        anyhow::anyhow!(
            "the settings file {} is not valid TOML: line {line}: {}",
            path.display(),
            error.message().replace('\n', ", ")
        )
    })
}

/// The flag that a key names, written with hyphens or underscores.
fn flag<'a>(command: &'a Command, key: &str) -> anyhow::Result<&'a Arg> {
    let name = key.replace('_', "-");
    let name = former::present_name(&name).map_or(name, str::to_owned);
    let flags = || {
        let visible = command.get_arguments().filter(|arg| !arg.is_hide_set());
        visible.filter(|arg| arg.get_long().is_some_and(|long| !NOT_IN_A_FILE.contains(&long)))
    };
    if let Some(arg) = flags().find(|arg| arg.get_long() == Some(&name)) {
        return Ok(arg);
    }
    match nearest(&name, flags().filter_map(Arg::get_long)) {
        Some(near) => bail!("`{key}` is not a setting; did you mean `{near}`?"),
        None => bail!("`{key}` is not a setting; the keys are the names of flags in `unmask serve --help`"),
    }
}

/// The argument that sets a flag to a value; none for a switch that is off.
fn argument(arg: &Arg, value: &Value) -> anyhow::Result<Option<String>> {
    let name = arg.get_long().unwrap_or_default();
    if !arg.get_action().takes_values() {
        return match value {
            Value::Boolean(on) => Ok(on.then(|| format!("--{name}"))),
            _ => bail!("it is a switch: write true or false, not {value}"),
        };
    }
    Ok(Some(format!("--{name}={}", text(value)?)))
}

fn text(value: &Value) -> anyhow::Result<String> {
    Ok(match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Array(values) => values.iter().map(text).collect::<anyhow::Result<Vec<_>>>()?.join(","),
        _ => bail!("it must be a string, a number or a list of these, not {value}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::definition;

    fn resolved(file: &str, args: &[&str]) -> anyhow::Result<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unmask.toml");
        std::fs::write(&path, file).unwrap();
        let config = format!("--config={}", path.display());
        let args: Vec<OsString> = args.iter().map(OsString::from).chain([OsString::from(config)]).collect();
        let command = definition();
        let matches = command.clone().get_matches_from(&args);
        let args = settings(&command, &matches)?.inserted(&args, &matches);
        Ok(args.into_iter().map(|arg| arg.into_string().unwrap()).collect())
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let file = "port = 9000\nmax_steps = 7\nno-playground = true\nmetrics-auth = false\n\
                    cors-origin = [\"https://a.example\", \"https://b.example\"]\n";
        let args = resolved(file, &["unmask", "serve", "--port", "1"]).unwrap();
        assert_eq!(args[..2], ["unmask", "serve"]);
        let mut given = args[2..args.len() - 3].to_vec();
        given.sort();
        assert_eq!(
            given,
            ["--cors-origin=https://a.example,https://b.example", "--max-steps=7", "--no-playground"]
        );
        assert_eq!(args[args.len() - 3..args.len() - 1], ["--port", "1"]);
        assert_eq!(resolved("queue = 3", &["unmask"]).unwrap()[1], "--max-queued-requests=3");
    }

    #[test]
    fn a_wrong_key_or_value_is_told_with_the_file() {
        for (file, told) in [
            ("prot = 1", "did you mean `port`?"),
            ("api-key = \"x\"", "is not a setting"),
            ("print-config = true", "is not a setting"),
            ("no-playground = 1", "true or false"),
            ("port = {}", "a string, a number or a list"),
            ("port", "not valid TOML"),
            ("# \u{e9}\nport = ", "not valid TOML: line 2: "),
        ] {
            let error = format!("{:#}", resolved(file, &["unmask"]).unwrap_err());
            assert!(error.contains(told) && error.contains("unmask.toml"), "{file}: {error}");
        }
    }
}
