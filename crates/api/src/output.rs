//! Standard output whose reader may leave, as `head` does.

use std::io::{self, StdoutLock, Write};

/// Standard output. A closed reader is a [`Closed`] error, distinct from other broken pipes.
#[derive(Debug)]
pub struct Output(StdoutLock<'static>);

/// The reader of standard output has left: nothing is wrong, and nothing needs to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("standard output is closed")]
pub struct Closed;

/// Locks standard output.
#[must_use]
pub fn stdout() -> Output {
    Output(io::stdout().lock())
}

/// Returns true if a command ended because the reader of its output has left.
#[must_use]
pub fn is_closed(error: &anyhow::Error) -> bool {
    let closed = |cause: &io::Error| cause.get_ref().is_some_and(|inner| inner.is::<Closed>());
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(closed)
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(closed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(closed)
    }
}

fn closed(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, Closed),
        _ => error,
    }
}
