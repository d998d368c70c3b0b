//! Connections whose clients do not read are closed, and those that have sent all they will are still answered.
//!
//! The engine never waits for a reader: what a request reports is kept until it is read. What is not read
//! holds memory and a connection, though, so a write that is blocked for too long fails. The HTTP server
//! then drops the connection, and with it the answer and the request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Version;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::activity::Activity;

/// Time between two looks after a client that sends nothing more.
const LOOK: Duration = Duration::from_millis(100);

/// Tells a client that has closed its side from one that has left: the machine of the latter answers it with a reset.
/// Clients pass over it, as over any answer that announces another.
const ARE_YOU_THERE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A connection whose blocked writes fail after a while, and whose client may close its side after a request.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// The longest time that a write may be blocked.
    patience: Duration,
    /// Runs while a write is blocked.
    blocked: Option<Pin<Box<Sleep>>>,
    /// Connections that were closed for it.
    stalled: Counter,
    activity: Arc<Activity>,
    /// Runs while a request is answered whose client sends nothing more.
    half_closed: Option<Pin<Box<Sleep>>>,
    /// The request that bytes were written for last.
    written_for: u64,
    /// Set while bytes of the HTTP server wait for the next write.
    partial: bool,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        patience: Duration,
        stalled: Counter,
        activity: Arc<Activity>,
    ) -> Self {
        let blocked = None;
        let half_closed = None;
        let written_for = 0;
        let partial = false;
        Self { stream, patience, blocked, stalled, activity, half_closed, written_for, partial }
    }

    /// The client sends nothing more. While its request is answered over HTTP/1 that is not the end: it may still
    /// read. One that has left is noticed by what its machine says about the next bytes.
    fn half_closed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.is_multiplexed() || !self.activity.is_answering() {
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Some(error) = self.stream.take_error()? {
                return Poll::Ready(Err(error));
            }
            let look = self.half_closed.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            ready!(look.as_mut().poll(context));
            self.half_closed = None;
            let request = self.activity.request();
            if request.version > Version::HTTP_10 && self.written_for < request.number && !self.partial {
                self.written_for = request.number;
                // Where there is no room for it, bytes are on their way that will do as well.
                let _ = self.stream.try_write(ARE_YOU_THERE);
            }
        }
    }

    /// Judges a write: it may be blocked only for the allowed time.
    fn judge(
        &mut self,
        context: &mut Context<'_>,
        offered: usize,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = &written {
            self.blocked = None;
            self.partial = result.as_ref().is_ok_and(|written| *written < offered);
            self.written_for = self.activity.request().number;
            self.activity.sent();
            return written;
        }
        let patience = self.patience;
        let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(patience)));
        if blocked.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.stalled.inc();
        // Otherwise the kernel would keep what was written for a client that does not want it.
        let _ = self.stream.set_zero_linger();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.received();
        } else if matches!(read, Poll::Ready(Ok(()))) && buffer.remaining() > 0 {
            return self.half_closed(context);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, bytes.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, slices.iter().map(|slice| slice.len()).sum(), written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
