//! Former names of flags and of their variables, which are accepted for one version.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

use super::is_set;

/// Former and present names. A variable is called like its flag: `--max-wait` and `UNMASK_MAX_WAIT`.
const FORMER: [(&str, &str); 7] = [
    ("slow-reader", "write-timeout"),
    ("keep-alive", "idle-timeout"),
    ("max-canvas", "max-generated-tokens"),
    ("queue", "max-queued-requests"),
    ("max-wait", "max-queue-time"),
    ("max-rows", "max-batch-tokens"),
    ("admin-listen", "metrics-listen"),
];

/// The commands that have these flags; none is `serve`.
const COMMANDS: [&str; 1] = ["serve"];

/// Arguments in which former names of flags are replaced by the present ones.
pub(super) fn renamed(args: impl IntoIterator<Item = OsString>, warnings: &mut Vec<String>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let serves = args
        .get(1)
        .and_then(|first| first.to_str())
        .is_some_and(|first| first.starts_with('-') || COMMANDS.contains(&first));
    if !serves {
        return args;
    }
    for arg in args.iter_mut().skip(1).take_while(|arg| *arg != "--") {
        let Some((old, new, rest)) = arg.to_str().and_then(former_flag) else { continue };
        warnings.push(format!("--{old} is now --{new}; the former name works in this version only"));
        *arg = format!("--{new}{rest}").into();
    }
    args
}

/// The former and the present name of a flag, and what follows its name in the argument.
fn former_flag(arg: &str) -> Option<(&'static str, &'static str, &str)> {
    let flag = arg.strip_prefix("--")?;
    let (name, rest) = flag.split_at(flag.find('=').unwrap_or(flag.len()));
    FORMER.iter().find(|(old, _)| *old == name).map(|(old, new)| (*old, *new, rest))
}

/// The present name of a key in a settings file.
pub(super) fn present_name(key: &str) -> Option<&'static str> {
    FORMER.iter().find(|(old, _)| *old == key).map(|(_, new)| *new)
}

/// A command whose flags read the former variable where only that one is set.
pub(super) fn with_former_variables(command: Command, warnings: &mut Vec<String>) -> Command {
    let set: Vec<(&str, String, String)> = FORMER
        .iter()
        .map(|(old, new)| (*new, variable(old), variable(new)))
        .filter(|(_, old, new)| is_set(OsStr::new(old)) && !is_set(OsStr::new(new)))
        .collect();
    for (_, old, new) in &set {
        warnings.push(format!("{old} is now {new}; the former name works in this version only"));
    }
    let read = |arg: Arg| match set.iter().find(|(flag, ..)| arg.get_long() == Some(flag)) {
        Some((_, old, _)) => arg.env(clap::builder::Str::from(old.clone())),
        None => arg,
    };
    let command = command.mut_args(read);
    command.mut_subcommands(|command| command.mut_args(read))
}

/// The variable of a flag.
pub(super) fn variable(flag: &str) -> String {
    format!("UNMASK_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// The variables of former flags.
pub(super) fn variables() -> impl Iterator<Item = String> {
    FORMER.iter().map(|(old, _)| variable(old))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::definition;

    fn replaced(args: &[&str]) -> (Vec<OsString>, usize) {
        let mut warnings = Vec::new();
        let args = renamed(args.iter().map(OsString::from), &mut warnings);
        (args, warnings.len())
    }

    #[test]
    fn former_flags_are_replaced_wherever_a_flag_may_stand() {
        let (args, warnings) = replaced(&["unmask", "serve", "--queue", "3", "--max-rows=64", "--port", "1"]);
        assert_eq!(args[2..], ["--max-queued-requests", "3", "--max-batch-tokens=64", "--port", "1"]);
        assert_eq!(warnings, 2);
        assert_eq!(replaced(&["unmask", "--max-wait", "1"]).0[1], "--max-queue-time");
    }

    #[test]
    fn other_commands_and_what_is_no_flag_stay() {
        for args in [&["unmask", "try", "--queue"][..], &["unmask", "serve", "--", "--queue"], &["unmask"]] {
            assert_eq!(replaced(args), (args.iter().map(OsString::from).collect(), 0));
        }
    }

    #[test]
    fn every_former_name_stands_for_a_flag_that_exists_and_is_none_itself() {
        let command = definition();
        let has = |flag: &str| command.get_arguments().any(|arg| arg.get_long() == Some(flag));
        for (old, new) in FORMER {
            assert!(has(new) && !has(old), "{old} {new}");
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(new)).unwrap();
            assert_eq!(arg.get_env(), Some(OsStr::new(&variable(new))));
        }
    }
}
