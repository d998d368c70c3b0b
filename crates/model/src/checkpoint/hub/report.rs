//! How a transfer goes on, for whoever waits for it.

use std::time::Duration;

use hf_hub::api::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// Time between two lines in the log when a tenth of the file has arrived meanwhile, and otherwise.
const LOG_FAST: Duration = Duration::from_secs(1);
const LOG_SLOW: Duration = Duration::from_secs(5);

/// Shows how a transfer goes on: a bar on a terminal, a line in the log now and then elsewhere.
pub(super) struct Report<'a> {
    file: &'a str,
    bar: ProgressBar,
    total: u64,
    done: u64,
    /// Where this transfer began, once it has.
    start: Option<u64>,
    /// Time and bytes of the last line in the log.
    logged: (Duration, u64),
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a str) -> Self {
        let template = "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} ({eta})";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        // Draws to stderr, and nowhere when that is no terminal.
        let bar = ProgressBar::new(0).with_style(style).with_message(file.to_owned());
        Self { file, bar, total: 0, done: 0, start: None, logged: (Duration::ZERO, 0) }
    }

    fn log(&mut self, message: &str) {
        let elapsed = self.bar.elapsed();
        self.logged = (elapsed, self.done);
        let received = self.done - self.start.unwrap_or(self.done);
        let rate = (received as f64 / elapsed.as_secs_f64().max(1e-3)) as u64;
        let (file, done, total) = (self.file, self.done, self.total);
        tracing::info!(file, done, total, bytes_per_second = rate, "{message}");
    }
}

impl Progress for &mut Report<'_> {
    /// Comes again with every request.
    fn init(&mut self, size: usize, _file: &str) {
        self.total = size as u64;
        self.start = None;
        self.bar.set_length(self.total);
    }

    /// The first one of a request says what an earlier request brought.
    fn update(&mut self, size: usize) {
        match self.start {
            Some(_) => self.done += size as u64,
            None => {
                self.done = size as u64;
                self.start = Some(self.done);
                self.logged = (Duration::ZERO, self.done);
                self.bar.reset_elapsed();
                self.bar.reset_eta();
            }
        }
        self.bar.set_position(self.done);
        let waited = self.bar.elapsed().saturating_sub(self.logged.0);
        let tenth = self.done - self.logged.1 >= self.total / 10;
        let due = waited >= if tenth { LOG_FAST } else { LOG_SLOW };
        if self.bar.is_hidden() && self.done < self.total && due {
            self.log("fetching");
        }
    }

    fn finish(&mut self) {
        if self.bar.is_hidden() {
            self.log("fetched");
        }
        self.bar.finish();
    }
}
