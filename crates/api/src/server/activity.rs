//! What a connection is doing, and how long it may go on doing that.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::Version;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// A request's head should have arrived by then.
    Head(Instant),
    /// The next request should have begun by then.
    Idle(Instant),
    /// So many requests are worked on. Their bodies and answers are watched elsewhere.
    Answering(usize),
}

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    doing: watch::Sender<Doing>,
    /// Whether it carries requests side by side (HTTP/2): then bytes need not be the head of one.
    multiplexed: AtomicBool,
    /// For a head.
    header: Duration,
    /// Between requests.
    idle: Duration,
}

impl Activity {
    /// Of a fresh connection, which has `header` for the head of its first request, and of each later one
    /// after at most `idle` without any.
    pub(super) fn new(header: Duration, idle: Duration) -> Self {
        let doing = watch::Sender::new(Doing::Head(Instant::now() + header));
        Self { doing, multiplexed: AtomicBool::new(false), header, idle }
    }

    /// Something has arrived.
    pub(super) fn received(&self) {
        self.received_at(Instant::now());
    }

    fn received_at(&self, now: Instant) {
        self.doing.send_if_modified(|doing| {
            let begun = matches!(doing, Doing::Idle(_)) && !self.multiplexed.load(Ordering::Relaxed);
            if begun {
                *doing = Doing::Head(now + self.header);
            }
            begun
        });
    }

    /// Something was taken: the last of an answer, if the connection is idle.
    pub(super) fn sent(&self) {
        let until = Instant::now() + self.idle;
        self.doing.send_if_modified(|doing| {
            let last = matches!(doing, Doing::Idle(_));
            if last {
                *doing = Doing::Idle(until);
            }
            last
        });
    }

    /// A request's head is complete.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Answering {
        if version == Version::HTTP_2 {
            self.multiplexed.store(true, Ordering::Relaxed);
        }
        self.doing.send_modify(|doing| {
            *doing = match *doing {
                Doing::Answering(count) => Doing::Answering(count + 1),
                Doing::Head(_) | Doing::Idle(_) => Doing::Answering(1),
            }
        });
        Answering(Arc::clone(self))
    }

    fn end_at(&self, now: Instant) {
        self.doing.send_modify(|doing| {
            *doing = match *doing {
                Doing::Answering(count) if count > 1 => Doing::Answering(count - 1),
                _ => Doing::Idle(now + self.idle),
            }
        });
    }

    /// Returns when the client has taken too long.
    pub(super) async fn overdue(&self) {
        let mut changes = self.doing.subscribe();
        loop {
            let doing = *changes.borrow_and_update();
            let changed = match doing {
                Doing::Head(end) | Doing::Idle(end) => timeout_at(end, changes.changed()).await,
                Doing::Answering(_) => Ok(changes.changed().await),
            };
            if changed.is_err() {
                return;
            }
        }
    }
}

/// A request that is being worked on.
#[derive(Debug)]
pub(super) struct Answering(Arc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.end_at(Instant::now());
    }
}

/// An answer's body; its request is worked on until it is gone.
#[derive(Debug)]
pub(super) struct Held {
    body: Body,
    _answering: Answering,
}

impl Held {
    pub(super) fn new(body: Body, answering: Answering) -> Self {
        Self { body, _answering: answering }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(75);

    fn doing(activity: &Activity) -> Doing {
        *activity.doing.borrow()
    }

    #[test]
    fn only_heads_and_pauses_are_bounded() {
        let activity = Arc::new(Activity::new(HEADER, IDLE));
        let later = Instant::now() + Duration::from_secs(4);
        let first = doing(&activity);
        assert!(matches!(first, Doing::Head(end) if end <= later + HEADER));
        activity.received_at(later);
        assert_eq!(doing(&activity), first, "dribbling wins no time");
        let (one, two) = (activity.begin(Version::HTTP_11), activity.begin(Version::HTTP_11));
        drop(one);
        assert_eq!(doing(&activity), Doing::Answering(1));
        drop(two);
        assert!(matches!(doing(&activity), Doing::Idle(_)));
        activity.received_at(later);
        assert_eq!(doing(&activity), Doing::Head(later + HEADER));
    }

    #[test]
    fn housekeeping_of_http2_is_no_head() {
        let activity = Arc::new(Activity::new(HEADER, IDLE));
        drop(activity.begin(Version::HTTP_2));
        activity.received_at(Instant::now());
        assert!(matches!(doing(&activity), Doing::Idle(_)));
    }
}
