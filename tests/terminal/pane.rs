//! A terminal of a given size, played by a tmux server of its own.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::harness::{DEADLINE, without_settings};

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// A pane that runs the program and afterwards says `exit CODE`.
pub(crate) struct Pane {
    socket: String,
}

impl Drop for Pane {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

impl Pane {
    /// Runs `unmask` with arguments in a pane of `columns` by `rows`, with variables set (or, if empty, taken
    /// away) in its environment.
    pub(crate) fn run(
        (columns, rows): (usize, usize),
        variables: &[(&str, &str)],
        arguments: &[&str],
    ) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pane = Self { socket: format!("unmask-test-{}-{number}", std::process::id()) };
        let set = |(name, value): &(&str, &str)| match *value {
            "" => format!("unset {name}; "),
            value => format!("export {name}={}; ", quoted(value)),
        };
        let variables: String =
            [("NO_COLOR", ""), ("UNMASK_THREADS", "1")].iter().chain(variables).map(set).collect();
        let arguments: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
        let program = quoted(env!("CARGO_BIN_EXE_unmask"));
        let script =
            format!("{variables} echo above; {program} {}; echo \"exit $?\"; exec cat", arguments.join(" "));
        let columns = columns.to_string();
        let rows = rows.to_string();
        pane.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows, &script]);
        pane
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = without_settings(Command::new("tmux"));
        command.env_remove("TMUX").env("LC_ALL", "C.UTF-8").args(["-L", &self.socket]).args(arguments);
        let output =
            command.output().unwrap_or_else(|error| panic!("tmux: {error}; tests/terminal/run installs it"));
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {arguments:?}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The contents of the pane, row by row.
    pub(crate) fn shown(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The same with the escape sequences of its colours.
    pub(crate) fn coloured(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Looks at the pane until it shows what is waited for.
    #[expect(clippy::disallowed_methods, reason = "waiting is bounded")]
    pub(crate) fn until(&self, what: &str, met: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let shown = self.shown();
            if met(&shown) {
                return shown;
            }
            assert!(start.elapsed() < DEADLINE, "waited in vain for {what}:\n{shown}");
        }
    }

    /// Waits until the program has ended with `code`.
    pub(crate) fn ended(&self, code: i32) -> String {
        let line = format!("exit {code}");
        let shown = self.until(&line, |shown| shown.lines().any(|row| row.starts_with("exit ")));
        assert!(shown.lines().any(|row| row == line), "{shown}");
        assert_eq!(
            self.tmux(&["display-message", "-p", "#{cursor_flag} #{wrap_flag}"]),
            "1 1\n",
            "the cursor is back"
        );
        shown
    }

    /// Presses a key, by tmux's name for it.
    pub(crate) fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Types a text and presses Enter.
    pub(crate) fn type_line(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.press("Enter");
    }

    /// Gives the pane another size.
    pub(crate) fn resize(&self, columns: usize, rows: usize) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
