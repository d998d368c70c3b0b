//! Progress of a transfer, reported by the hub's library.

use hf_hub::api::Progress;

use super::super::progress::ByteProgress;

/// A transfer, which may take several requests.
pub(super) struct Report {
    progress: ByteProgress,
    total: u64,
    /// True once this request has brought bytes.
    begun: bool,
}

impl Report {
    pub(super) fn new(file: &str) -> Self {
        Self { progress: ByteProgress::new(["fetching", "fetched"], file, 0), total: 0, begun: false }
    }
}

impl Progress for &mut Report {
    /// Comes again with every request.
    fn init(&mut self, size: usize, _file: &str) {
        (self.total, self.begun) = (size as u64, false);
    }

    /// The first one of a request says what an earlier request brought.
    fn update(&mut self, size: usize) {
        if std::mem::replace(&mut self.begun, true) {
            self.progress.advance(size as u64);
        } else {
            self.progress.resume(size as u64, self.total);
        }
    }

    fn finish(&mut self) {
        self.progress.finish();
    }
}
