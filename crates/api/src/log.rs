//! Log lines on standard error, written by a thread of their own: a sink that is full, closed or does not read
//! holds up no request, no probe and no signal. Lines that there is no room for, or that cannot be written, are
//! counted.

use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::EnvFilter;
use unmask_model::tokenizer::PARSER_THREAD;

use crate::config::{LogArgs, LogFormat};
use crate::nearest::nearest;

/// Lines that wait to be written.
const ROOM: usize = 4096;

/// Time that the last lines may take at the end of the process.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log. Dropping it writes the lines that wait, for a second at most.
#[derive(Debug)]
#[must_use]
pub struct Log {
    lines: Lines,
}

/// A way to the thread that writes lines.
#[derive(Clone, Debug)]
struct Lines {
    sender: SyncSender<Item>,
    lost: Counter,
}

enum Item {
    Line(Vec<u8>),
    /// Everything before it has been written.
    Flushed(SyncSender<()>),
}

/// Levels of the log.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Refuses a bare word that is no level: the filter takes it for the name of a module, and shows nothing else.
fn check_levels(filter: &str) -> Result<(), String> {
    let bare = |part: &&str| part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !part.is_empty();
    let known = |part: &str| {
        LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part))
            || part.parse::<u8>().is_ok_and(|level| level <= 5)
    };
    let Some(word) = filter.split(',').map(str::trim).filter(bare).find(|part| !known(part)) else {
        return Ok(());
    };
    let near = nearest(&word.to_ascii_lowercase(), LEVELS);
    let meant = near.map_or(".".to_owned(), |near| format!("; did you mean {near}?"));
    Err(format!(
        "--log {filter}: {word} is not a level ({}){meant} A module has its level behind it: unmask_scheduler=debug",
        LEVELS.join(", ")
    ))
}

impl Log {
    /// Sends the process's log lines to standard error from now on.
    ///
    /// # Errors
    /// The filter does not parse, or the operating system refuses a thread.
    pub fn to_stderr(args: &LogArgs) -> Result<Self, String> {
        check_levels(&args.log)?;
        let filter = EnvFilter::try_new(&args.log)
            .map_err(|error| format!("--log {}: {error}; try info or unmask_scheduler=debug", args.log))?;
        let log =
            Self::to(io::stderr()).map_err(|error| format!("cannot start the log's thread: {error}"))?;
        let lines = log.lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || lines.clone())
            .with_ansi(io::stderr().is_terminal());
        match args.log_format {
            LogFormat::Text => subscriber.with_target(false).init(),
            LogFormat::Json => subscriber.json().flatten_event(true).init(),
        }
        Ok(log)
    }

    fn to(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, items) = sync_channel(ROOM);
        let lost = Counter::default();
        let counted = lost.clone();
        thread::Builder::new().name("unmask-log".into()).spawn(move || write(&items, sink, &counted))?;
        Ok(Self { lines: Lines { sender, lost } })
    }

    /// Counts the lines that were not written.
    #[must_use]
    pub fn lost(&self) -> Counter {
        self.lines.lost.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let (flushed, done) = sync_channel(1);
        if self.lines.sender.try_send(Item::Flushed(flushed)).is_ok() {
            let _ = done.recv_timeout(LAST_LINES);
        }
    }
}

fn write(items: &Receiver<Item>, mut sink: impl Write, lost: &Counter) {
    for item in items {
        match item {
            Item::Line(line) if sink.write_all(&line).is_err() => drop(lost.inc()),
            Item::Line(_) => {}
            Item::Flushed(done) => drop(done.try_send(())),
        }
    }
}

/// Takes whole lines: the subscriber writes each with one call.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Item::Line(line.to_vec())).is_err() {
            self.lost.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs panics instead of printing them, which could block or panic again: where each was, and what it says if that
/// is part of the program. A message that was put together may hold a user's text. Before there is a log, panics
/// are printed.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        // A damaged file, which its reader reports.
        if thread.name() == Some(PARSER_THREAD) {
            return;
        }
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if tracing::dispatcher::has_been_set() {
            tracing::error!(place, thread = thread.name(), "a panic: {}", message(panic));
        } else {
            let _ = writeln!(io::stderr(), "unmask: a panic at {place}: {}", message(panic));
        }
    }));
}

fn message<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("its message is left out")
}

/// A measured number with three significant digits.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    // Above 1000, the digits before the point stay.
    let factor = 10_f64.powi(digits.clamp(0, 15));
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A sink that blocks until it is released, and then fails or keeps its input.
    struct Stalled {
        gate: Receiver<()>,
        written: Sender<Vec<u8>>,
        broken: bool,
    }

    impl Write for Stalled {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.gate.recv();
            if self.broken {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let _ = self.written.send(line.to_vec());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stalled(broken: bool) -> (Log, Sender<()>, Receiver<Vec<u8>>) {
        let (go, gate) = channel();
        let (written, lines) = channel();
        (Log::to(Stalled { gate, written, broken }).unwrap(), go, lines)
    }

    #[test]
    fn a_sink_that_does_not_read_costs_lines_and_no_time() {
        let (log, go, lines) = stalled(false);
        for number in 0..2 * ROOM {
            log.lines.clone().write_all(number.to_string().as_bytes()).unwrap();
        }
        // One line may be in the thread's hands.
        let lost = log.lost().get() as usize;
        assert!((ROOM - 1..=ROOM).contains(&lost), "{lost}");
        drop(go);
        drop(log);
        let written: Vec<Vec<u8>> = lines.iter().take(2 * ROOM - lost).collect();
        assert_eq!((written.len(), &written[0][..]), (2 * ROOM - lost, &b"0"[..]));
    }

    #[test]
    fn a_full_disk_costs_lines() {
        let (log, go, _) = stalled(true);
        let lost = log.lost();
        log.lines.clone().write_all(b"a").unwrap();
        log.lines.clone().write_all(b"b").unwrap();
        drop(go);
        drop(log);
        assert_eq!(lost.get(), 2);
    }

    #[test]
    fn measured_numbers_have_three_digits() {
        let found = [0.518_234_56, 12.3456, 1234.56, 0.000_123_456, 0.0, -0.518_23].map(rounded);
        assert_eq!(found, [0.518, 12.3, 1235.0, 0.000_123, 0.0, -0.518]);
    }
}
