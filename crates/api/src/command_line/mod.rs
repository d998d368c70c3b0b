//! From the process's arguments, environment and settings file to [`Cli`]. Flags win over the environment, the
//! environment over the file, the file over defaults.

mod file;
mod former;
mod pages;
mod printed;
mod variables;

use std::ffi::OsStr;
use std::io::Write;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};

pub use self::pages::{print_completions, print_manual};
pub use self::printed::print_config;
use crate::commands::Cli;

/// Columns of a help text at most.
const HELP_COLUMNS: usize = 100;

/// The parsed command line, and what `--print-config` needs of it.
#[derive(Debug)]
pub struct Parsed {
    /// The settings.
    pub cli: Cli,
    /// The command that defines them.
    pub command: Command,
    /// The values and their sources.
    pub matches: ArgMatches,
    /// The flags that the settings file sets.
    pub from_file: Vec<String>,
}

impl Parsed {
    /// True if `serve` is to print its settings instead of serving.
    #[must_use]
    pub fn prints_config(&self) -> bool {
        let used = self.matches.subcommand().map_or(&self.matches, |(_, used)| used);
        used.try_get_one("print_config").is_ok_and(|print| print == Some(&true))
    }
}

/// Parses the arguments, environment and settings file of the process. An empty variable counts as unset, because
/// compose and unit files cannot leave one out. Warns on standard error of former names and of unknown variables.
/// Prints the error or the help text and exits where the arguments are wrong or ask for it.
#[must_use]
pub fn parse() -> Parsed {
    let mut warnings = Vec::new();
    let args = former::renamed(std::env::args_os(), &mut warnings);
    let command = former::with_former_variables(without_empty_variables(definition()), &mut warnings);
    warnings.extend(variables::unknown(&command));
    for warning in warnings {
        // Where nothing reads it, the program still runs.
        let _ = writeln!(std::io::stderr(), "unmask: warning: {warning}");
    }
    let matches = command.clone().get_matches_from(&args);
    model_once(&matches).unwrap_or_else(|error| fail(&error));
    let file = file::settings(&command, &matches).unwrap_or_else(|error| fail(&error));
    let matches = if file.is_empty() {
        matches
    } else {
        let parsed = command.clone().try_get_matches_from(file.inserted(&args, &matches));
        // The command line by itself was right.
        parsed.unwrap_or_else(|error| fail(&file.wrong_value(&error)))
    };
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    Parsed { cli, command, matches, from_file: file.flags }
}

/// All commands and their flags, with help texts of a bounded width.
#[must_use]
pub fn definition() -> Command {
    Cli::command().max_term_width(HELP_COLUMNS)
}

/// An error if the command line has two models: one as the flag, one by its place.
fn model_once(matches: &ArgMatches) -> anyhow::Result<()> {
    let Some(("serve", given)) = matches.subcommand() else { return Ok(()) };
    let named = |id| {
        let is_named = given.value_source(id) == Some(ValueSource::CommandLine);
        given.get_one::<String>(id).filter(|_| is_named)
    };
    match (named("path"), named("model")) {
        (Some(path), Some(model)) => {
            anyhow::bail!("two models are given, `{path}` and `--model {model}`; leave out one of them")
        }
        _ => Ok(()),
    }
}

fn fail(error: &anyhow::Error) -> ! {
    // Where nothing reads it, the exit status still says that it failed.
    let _ = writeln!(std::io::stderr(), "unmask: {error:#}");
    std::process::exit(2);
}

fn without_empty_variables(command: Command) -> Command {
    let empty = |arg: &Arg| arg.get_env().is_some_and(|name| !is_set(name));
    let command = command.mut_args(|arg| if empty(&arg) { arg.env(None::<&str>) } else { arg });
    command.mut_subcommands(without_empty_variables)
}

/// True if a variable has a value that is not empty.
fn is_set(name: &OsStr) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nearest::nearest;

    /// The help of every command, in the short and in the long form.
    #[test]
    fn help_is_at_most_100_columns_wide_and_has_examples() {
        let mut program = definition();
        program.build();
        let names: Vec<String> =
            program.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        let mut helps = vec![
            ("unmask".to_owned(), program.render_long_help()),
            ("unmask".to_owned(), program.render_help()),
        ];
        for name in names.iter().filter(|name| *name != "help") {
            let command = program.find_subcommand_mut(name).unwrap();
            helps.push((name.clone(), command.render_help()));
            helps.push((name.clone(), command.render_long_help()));
        }
        for (name, help) in helps {
            let help = help.to_string();
            let wide = help.lines().find(|line| line.chars().count() > HELP_COLUMNS);
            assert_eq!(wide, None, "{name}");
            assert!(help.contains("Examples:\n  "), "{name}");
        }
    }

    #[test]
    fn a_second_model_is_an_error() {
        let once = |args: &[&str]| model_once(&definition().get_matches_from([&["unmask"], args].concat()));
        let error = once(&["serve", "a", "--model", "b"]).unwrap_err().to_string();
        assert_eq!(error, "two models are given, `a` and `--model b`; leave out one of them");
        for args in [&["serve", "a"][..], &["serve", "--model", "b"], &["--model", "b"], &["verify", "a"]] {
            once(args).unwrap();
        }
    }

    #[test]
    fn a_near_name_is_found_and_a_far_one_is_not() {
        let known = ["UNMASK_MODEL", "UNMASK_LOG", "UNMASK_LISTEN"];
        assert_eq!(nearest("UNMASK_MODLE", known), Some("UNMASK_MODEL"));
        assert_eq!(nearest("UNMASK_COLOURS", known), None);
    }
}
