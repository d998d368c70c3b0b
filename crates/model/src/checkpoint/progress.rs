//! Progress of large transfers.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two lines in the log when a tenth of it has come meanwhile, and otherwise.
const LOG_FAST: Duration = Duration::from_secs(1);
const LOG_SLOW: Duration = Duration::from_secs(5);

/// Shows how bytes come in: a bar on a terminal, a line in the log now and then elsewhere.
pub(super) struct ByteProgress {
    /// The log's words during the transfer and at its end.
    words: [&'static str; 2],
    file: String,
    bar: ProgressBar,
    total: u64,
    done: u64,
    /// Bytes that were there when the clock began.
    start: u64,
    /// Time and bytes of the last line in the log.
    logged: (Duration, u64),
}

impl ByteProgress {
    pub(super) fn new(words: [&'static str; 2], file: &str, total: u64) -> Self {
        let template = "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} ({eta})";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        // Draws to stderr, and nowhere when that is no terminal.
        let bar = ProgressBar::new(total).with_style(style).with_message(file.to_owned());
        Self { words, file: file.to_owned(), bar, total, done: 0, start: 0, logged: (Duration::ZERO, 0) }
    }

    /// There are `done` bytes of `total` already; the clock begins anew.
    #[cfg(feature = "hub")]
    pub(super) fn resume(&mut self, done: u64, total: u64) {
        (self.done, self.start, self.total) = (done, done, total);
        self.logged = (Duration::ZERO, done);
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.reset_elapsed();
        self.bar.reset_eta();
    }

    /// So many bytes more.
    pub(super) fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        self.bar.set_position(self.done);
        let waited = self.bar.elapsed().saturating_sub(self.logged.0);
        let tenth = self.done - self.logged.1 >= self.total / 10;
        let due = waited >= if tenth { LOG_FAST } else { LOG_SLOW };
        if self.bar.is_hidden() && self.done < self.total && due {
            self.log(self.words[0]);
        }
    }

    /// All is there.
    #[cfg(feature = "hub")]
    pub(super) fn finish(&mut self) {
        if self.bar.is_hidden() {
            self.log(self.words[1]);
        }
        self.bar.finish();
    }

    /// Ends the transfer, `complete` or not, and removes the bar.
    pub(super) fn vanish(mut self, complete: bool) {
        if self.bar.is_hidden() && complete {
            self.log(self.words[1]);
        }
        self.bar.finish_and_clear();
    }

    fn log(&mut self, message: &str) {
        let elapsed = self.bar.elapsed();
        self.logged = (elapsed, self.done);
        let received = self.done - self.start;
        let rate = (received as f64 / elapsed.as_secs_f64().max(1e-3)) as u64;
        let file = &self.file;
        let done = self.done;
        let total = self.total;
        tracing::info!(file, done, total, bytes_per_second = rate, "{message}");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::backbone::Backbone;
    use crate::checkpoint::Checkpoint;
    use crate::device::{DeviceChoice, Placement, Precision};
    use crate::error::LoadError;

    /// A bar that ends early or runs past its end tells nothing.
    #[test]
    fn what_is_read_of_a_checkpoint_adds_up_to_its_size() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
        for name in ["diffugpt-s", "diffullama", "diffullama-gqa"] {
            let checkpoint = Checkpoint::open(&golden.join(name), None).unwrap();
            let family = checkpoint.profile.family;
            let placement = Placement::new(
                DeviceChoice::Cpu,
                Precision::Auto,
                family,
                crate::kernel::CpuFeatures::portable(),
            )
            .unwrap();
            let weights = &checkpoint.weights;
            let read = weights.watched(0, || {
                Backbone::load(&checkpoint.config.spec, weights, &placement)?;
                Ok::<_, LoadError>(weights.loading().as_ref().map(|progress| progress.done))
            });
            assert_eq!(read.unwrap(), Some(weights.size().1 as u64), "{name}");
            assert!(weights.loading().is_none(), "the bar is gone");
        }
    }
}
