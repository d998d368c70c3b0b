//! Variables that look like settings and are none: typing errors.

use std::collections::BTreeSet;

use clap::Command;

use super::former;
use crate::nearest::nearest;

const PREFIX: &str = "UNMASK_";

/// A warning for each variable `UNMASK_…` that no flag reads.
pub(super) fn unknown(command: &Command) -> Vec<String> {
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    warnings(set, &known(command))
}

fn warnings(set: impl Iterator<Item = String>, known: &BTreeSet<String>) -> Vec<String> {
    let unknown: BTreeSet<String> = set
        .filter(|name| name.starts_with(PREFIX) && !known.contains(name) && !is_of_service(name))
        .collect();
    let told = |name: String| match nearest(&name, known.iter().map(String::as_str)) {
        Some(near) => format!("the variable {name} is not a setting; did you mean {near}?"),
        None => format!("the variable {name} is not a setting; `unmask serve --help` lists the settings"),
    };
    unknown.into_iter().map(told).collect()
}

/// The variables of all flags.
fn known(command: &Command) -> BTreeSet<String> {
    let of = |command: &Command| -> Vec<String> {
        command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned())).collect()
    };
    let commands = std::iter::once(command).chain(command.get_subcommands());
    // Those that were taken off because they are empty are settings all the same.
    let flags = |command: &Command| -> Vec<String> {
        command.get_arguments().filter_map(|arg| Some(former::variable(arg.get_long()?))).collect()
    };
    commands.flat_map(|command| [of(command), flags(command)].concat()).chain(former::variables()).collect()
}

/// True if Kubernetes sets such a variable for a service called `unmask`.
fn is_of_service(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .is_some_and(|rest| rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::definition;

    #[test]
    fn a_typing_error_is_told_with_the_name_that_was_meant() {
        let known = known(&definition());
        let told = |name: &str| warnings(std::iter::once(name.to_owned()), &known);
        assert!(told("UNMASK_MODLE")[0].contains("did you mean UNMASK_MODEL?"));
        assert!(told("UNMASK_COLOUR_OF_THE_LAMP")[0].contains("serve --help"));
        for known in
            ["UNMASK_MODEL", "UNMASK_MAX_ROWS", "UNMASK_PORT_8080_TCP", "UNMASK_SERVICE_HOST", "HOME"]
        {
            assert_eq!(told(known), [""; 0], "{known}");
        }
    }
}
