//! The body of an answer on its connection: in small pieces over HTTP/2, and watched.
//!
//! Over HTTP/1.1 a client that does not read blocks a write, which `connection` notices. Over HTTP/2 a client can
//! close the window of one stream, or of all, while bytes go on flowing: then the piece that the HTTP server holds is
//! the last one it has asked for. An answer that stays like this for too long has its stream reset.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::activity::Answering;
use super::places::{Places, Waiting};

/// Bytes of an answer that the HTTP server holds for a stream. What its window has no room for stays in the
/// connection's memory after the answer has ended.
const PIECE: usize = 4096;

tokio::task_local! {
    /// The watch over the stream that the task serves.
    static STREAM: Arc<Watch>;
}

/// When the client of a stream is waited for, if it is.
#[derive(Debug, Default)]
pub(super) struct Watch(watch::Sender<Option<Instant>>);

impl Watch {
    /// Runs the task of a stream until its client has taken nothing of the answer for `patience`. Returns whether
    /// that happened.
    pub(super) async fn over(task: impl Future<Output = ()>, patience: Duration) -> bool {
        let watch = Arc::new(Self::default());
        let stalled = Arc::clone(&watch);
        tokio::select! {
            () = STREAM.scope(watch, task) => false,
            () = stalled.stalled(patience) => true,
        }
    }

    async fn stalled(&self, patience: Duration) {
        let mut changes = self.0.subscribe();
        loop {
            let since = *changes.borrow_and_update();
            let late = async {
                match since {
                    Some(since) => sleep_until(since + patience).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = late => return,
                changed = changes.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
            }
        }
    }
}

/// An answer's body; its request is worked on until it is gone.
#[derive(Debug)]
pub(super) struct Held {
    body: Body,
    /// The rest of the piece that the body gave last.
    rest: Bytes,
    /// Set while the client is waited for.
    untaken: bool,
    /// Over HTTP/2.
    stream: Option<Arc<Watch>>,
    answering: Answering,
    _waiting: Waiting,
}

impl Held {
    /// Called in the task of the stream, if there is one.
    pub(super) fn new(body: Body, answering: Answering, places: &Arc<Places>) -> Self {
        let stream = STREAM.try_with(Arc::clone).ok();
        let waiting = places.hold(body.size_hint().exact().unwrap_or(0));
        Self { body, rest: Bytes::new(), untaken: false, stream, answering, _waiting: waiting }
    }

    /// Notes whether a piece was handed out, which is asked for again when there is room for the next one.
    fn note(&mut self, untaken: bool) {
        if self.untaken != untaken {
            self.untaken = untaken;
            self.answering.activity().untaken(untaken);
        }
        if let Some(stream) = &self.stream {
            stream.0.send_replace(untaken.then(Instant::now));
        }
    }

    fn piece(&mut self, data: Bytes) -> Frame<Bytes> {
        let size = if self.stream.is_some() { PIECE.min(data.len()) } else { data.len() };
        self.rest = data;
        Frame::data(self.rest.split_to(size))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.note(false);
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                other => {
                    self.note(false);
                    return other;
                }
            }
        } else {
            Frame::data(std::mem::take(&mut self.rest))
        };
        self.note(true);
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => self.piece(data),
            Err(other) => other,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let of_body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
