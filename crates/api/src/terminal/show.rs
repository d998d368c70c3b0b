//! The display of a run: live on a terminal, as plain text, or as the events themselves.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use unicode_width::UnicodeWidthStr;

use super::picture::{Look, Row, near_holes, rows};
use super::run::Run;
use super::saved::save;
use super::screen::Screen;
use super::visible::{visible_line, visible_text};
use crate::config::TerminalArgs;
use crate::output;

/// Time between two frames.
const FRAME: Duration = Duration::from_millis(40);

/// The display of a run and of its end.
pub(super) enum Show {
    /// Drawn over and over, then left as text.
    Live(Live),
    /// The text, when it is whole.
    Plain {
        /// A terminal reads it, if only a simple one.
        terminal: bool,
    },
    /// One line for each event.
    Json,
}

/// A run on a terminal.
pub(super) struct Live {
    screen: Screen,
    /// The texts around the holes.
    given: Vec<String>,
    /// The status line before the first state.
    before: &'static str,
    drawn: Option<Duration>,
    /// Evaluations stay in view for a while, so that times mean nothing.
    slow: bool,
}

impl Show {
    /// The display that the arguments and the terminal call for; `given` are the texts around the holes,
    /// `before` is the status line before the first state.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub(super) fn open(args: &TerminalArgs, given: &[String], before: &'static str) -> io::Result<Self> {
        let environment = &args.environment;
        let terminal = io::stdout().is_terminal();
        if args.json {
            return Ok(Self::Json);
        }
        if !terminal || environment.term.as_deref().is_none_or(|term| term == "dumb") {
            return Ok(Self::Plain { terminal });
        }
        let screen = Screen::open(environment.no_color.is_none())?;
        Ok(Self::Live(Live { screen, given: given.to_owned(), before, drawn: None, slow: args.slow }))
    }

    /// True if evaluations stay in view for a while.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self, Self::Live(live) if live.slow)
    }

    /// An event has come.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub(super) fn event(&mut self, data: &str) -> io::Result<()> {
        match self {
            Self::Json if data != "[DONE]" => {
                // One event is one line, whatever white space a server puts into it.
                let line = data.replace(['\n', '\r'], " ");
                let mut out = output::stdout();
                writeln!(out, "{line}").and_then(|()| out.flush())
            }
            _ => Ok(()),
        }
    }

    /// Time has passed: `now` since the first request was sent.
    ///
    /// # Errors
    /// As [`Self::event`].
    pub(super) fn frame(&mut self, run: &Run, now: Duration) -> io::Result<()> {
        let Self::Live(live) = self else { return Ok(()) };
        if live.drawn.is_some_and(|drawn| now.saturating_sub(drawn) < FRAME) {
            return Ok(());
        }
        live.drawn = Some(now);
        live.draw(run, now)
    }

    /// There will be no end: the terminal gets its cursor back.
    pub(super) fn abandon(self) {
        if let Self::Live(live) = self {
            live.screen.leave();
        }
    }

    /// The run is over after `time`: its text goes to `output`, or else to where it was seen.
    ///
    /// # Errors
    /// As [`Self::event`], or the file cannot be written; then the text goes to standard output, so that it is not lost.
    pub(super) fn end(self, run: &Run, time: Duration, output: Option<&Path>) -> anyhow::Result<()> {
        if let Some(path) = output
            && let Err(error) = save(path, &run.text)
        {
            self.end(run, time, None)?;
            return Err(error).with_context(|| format!("cannot write {}", path.display()));
        }
        match self {
            Self::Live(live) => live.end(run, time, output)?,
            Self::Plain { terminal } if output.is_none() => {
                let mut out = output::stdout();
                let text = if terminal { visible_text(&run.text) } else { run.text.clone() };
                let end = if run.is_file() { "" } else { "\n" };
                write!(out, "{text}{end}").and_then(|()| out.flush())?;
            }
            Self::Plain { .. } | Self::Json => {}
        }
        Ok(())
    }
}

impl Live {
    fn draw(&mut self, run: &Run, now: Duration) -> io::Result<()> {
        let (width, height) = self.screen.room();
        let numbers = asides(&self.numbers(run, now), width);
        let mut rows = self.near_holes(run, now, width, height.saturating_sub(numbers.len()).max(1));
        rows.extend(numbers);
        self.screen.draw(rows)
    }

    /// The numbers below a running request.
    fn numbers(&self, run: &Run, now: Duration) -> Vec<String> {
        let seconds = now.as_secs_f64();
        if run.cells.is_empty() {
            return vec![self.before.to_owned(), format!("{seconds:.1} s")];
        }
        let committed = run.cells.len() - run.masked.min(run.cells.len());
        let mut numbers = vec![
            match run.planned {
                0 => "evaluation 0".to_owned(),
                planned => format!("evaluation {} of {planned}", run.evaluation),
            },
            format!("{} masked", run.masked),
        ];
        if !self.slow {
            numbers.push(format!("{seconds:.1} s"));
            numbers.push(format!("{:.0} tokens/s", committed as f64 / seconds.max(1e-3)));
        }
        numbers
    }

    fn near_holes(&self, run: &Run, now: Duration, width: usize, height: usize) -> Vec<Row> {
        near_holes(rows(&self.given, run, now, width), height)
    }

    fn end(self, run: &Run, time: Duration, output: Option<&Path>) -> io::Result<()> {
        let (width, height) = self.screen.room();
        let mut parts = match output {
            Some(_) => {
                let settled = run.evaluation + 1;
                let rows = self.near_holes(
                    &Run { evaluation: settled, ..run.clone() },
                    Duration::MAX,
                    width,
                    height,
                );
                let line = |row: Row| row.spans.into_iter().chain([(Look::Given, "\n".to_owned())]);
                rows.into_iter().flat_map(line).collect()
            }
            None => self.whole(run),
        };
        if !parts.last().is_some_and(|(_, text)| text.ends_with('\n')) {
            parts.push((Look::Given, "\n".to_owned()));
        }
        let mut said = totals(run, time, self.slow);
        said.extend(output.map(|path| format!("written to {}", visible_line(&path.display().to_string()))));
        for row in asides(&said, width) {
            parts.extend(row.spans);
            parts.push((Look::Given, "\n".to_owned()));
        }
        self.screen.end_with(&parts)
    }

    /// The whole text, given and generated.
    fn whole(&self, run: &Run) -> Vec<(Look, String)> {
        if !run.is_file() {
            let given = self.given.first().map_or("", String::as_str);
            return vec![(Look::Given, visible_text(given)), (Look::Settled, visible_text(&run.text))];
        }
        let mut parts = Vec::new();
        let mut characters = run.text.chars();
        let mut take = |look, count: usize| {
            parts.push((look, visible_text(&characters.by_ref().take(count).collect::<String>())));
        };
        let mut at = 0;
        for hole in run.end.iter().flat_map(|end| &end.filled) {
            take(Look::Given, hole.start.saturating_sub(at));
            take(Look::Settled, hole.end.saturating_sub(hole.start));
            at = hole.end;
        }
        take(Look::Given, usize::MAX);
        parts
    }
}

/// The numbers below a finished request.
fn totals(run: &Run, time: Duration, slow: bool) -> Vec<String> {
    let end = run.end.clone().unwrap_or_default();
    let seconds = time.as_secs_f64();
    let mut said = vec![format!("{} evaluations", end.evaluations), format!("{} tokens", end.tokens)];
    if !slow {
        said.push(format!("{seconds:.1} s"));
        said.push(format!("{:.0} tokens/s", end.tokens as f64 / seconds.max(1e-3)));
    }
    said.push(format!("seed {}", end.seed));
    said.extend(end.truncated.then(|| "the model saw what is near the hole".to_owned()));
    said
}

/// Short texts side by side, on as many rows as they take.
fn asides(texts: &[String], width: usize) -> Vec<Row> {
    let mut lines: Vec<String> = Vec::new();
    for text in texts {
        match lines.last_mut() {
            Some(line) if line.width() + 3 + text.width() <= width => {
                line.push_str(" · ");
                line.push_str(text);
            }
            _ => lines.push(text.clone()),
        }
    }
    lines.iter().map(|line| Row::aside(line, width)).collect()
}
