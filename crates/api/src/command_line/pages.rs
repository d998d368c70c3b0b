//! Scripts for shells and pages for `man`, made from the definition of the commands.

use std::io::Write;

use anyhow::{Context, bail};
use clap_complete::Shell;
use clap_mangen::Man;

use super::definition;
use crate::nearest::nearest;

/// The program's name on a command line.
const PROGRAM: &str = "unmask";

/// Writes a script that completes commands and flags in a shell.
///
/// # Errors
/// Writing fails.
pub fn print_completions(shell: Shell, out: &mut impl Write) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition(), PROGRAM, &mut script);
    out.write_all(&script).context("cannot write the script")
}

/// Writes the manual page of a command, or of the program.
///
/// # Errors
/// There is no such command, or writing fails.
pub fn print_manual(name: Option<&str>, out: &mut impl Write) -> anyhow::Result<()> {
    let all = definition();
    let page = match name {
        None => all,
        Some(name) => match all.find_subcommand(name) {
            Some(command) => command.clone().name(format!("{PROGRAM}-{name}")),
            None => {
                let names = all.get_subcommands().map(|command| command.get_name());
                let advice =
                    nearest(name, names).map_or(String::new(), |near| format!("; did you mean {near}?"));
                bail!("there is no command {name}{advice}");
            }
        },
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text).context("cannot make the page")?;
    out.write_all(&text).context("cannot write the page")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_is_completed() {
        let scripts = [Shell::Bash, Shell::Zsh, Shell::Fish].map(|shell| {
            let mut script = Vec::new();
            print_completions(shell, &mut script).unwrap();
            String::from_utf8(script).unwrap()
        });
        for command in definition().get_subcommands() {
            let name = command.get_name();
            let mut page = Vec::new();
            print_manual(Some(name), &mut page).unwrap();
            let page = String::from_utf8(page).unwrap();
            assert!(
                page.contains(&format!(".TH unmask\\-{}", name.replace('-', "\\-")))
                    || page.contains(".TH unmask-"),
                "{page}"
            );
            assert!(scripts.iter().all(|script| script.contains(name)), "{name}");
        }
        let error = print_manual(Some("sevre"), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("did you mean serve?"), "{error}");
    }
}
