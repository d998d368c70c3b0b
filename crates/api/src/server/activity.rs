//! The activity of a connection, and how long each may go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Version;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// A request's head should have arrived by then.
    Head(Instant),
    /// The next request should have begun by then.
    Idle(Instant),
    /// So many requests are worked on, since then. Their bodies and answers are watched elsewhere.
    Answering(usize, Instant),
    /// Its place is needed.
    Closed,
}

/// A request over HTTP/1.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastRequest {
    /// Its number on the connection, from 1.
    pub(super) number: u64,
    pub(super) version: Version,
}

/// The activity of a connection.
#[derive(Debug)]
pub(super) struct Activity {
    doing: watch::Sender<Doing>,
    /// Set over HTTP/2, which carries requests side by side: then bytes need not be the head of one.
    multiplexed: AtomicBool,
    /// Set if the last request was one of HTTP/1.0.
    old: AtomicBool,
    /// Requests so far.
    requests: AtomicU64,
    /// Answers of which the client takes nothing at the moment.
    untaken: AtomicUsize,
    /// For a head.
    header: Duration,
    /// Between requests.
    idle: Duration,
}

impl Activity {
    /// That of a fresh connection, which has `header` for the head of its first request, and of each later one
    /// after at most `idle` without any.
    pub(super) fn new(header: Duration, idle: Duration) -> Self {
        let doing = watch::Sender::new(Doing::Head(Instant::now() + header));
        let multiplexed = AtomicBool::new(false);
        let old = AtomicBool::new(false);
        let requests = AtomicU64::new(0);
        let untaken = AtomicUsize::new(0);
        Self { doing, multiplexed, old, requests, untaken, header, idle }
    }

    /// Something has arrived.
    pub(super) fn received(&self) {
        self.received_at(Instant::now());
    }

    fn received_at(&self, now: Instant) {
        self.doing.send_if_modified(|doing| {
            let begun = matches!(doing, Doing::Idle(_)) && !self.is_multiplexed();
            if begun {
                *doing = Doing::Head(now + self.header);
            }
            begun
        });
    }

    /// Something was taken: the last of an answer, if the connection is idle. Over HTTP/2 it may as well be an
    /// acknowledgement that the client has asked for.
    pub(super) fn sent(&self) {
        let until = Instant::now() + self.idle;
        self.doing.send_if_modified(|doing| {
            let last = matches!(doing, Doing::Idle(_)) && !self.is_multiplexed();
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
        self.old.store(version < Version::HTTP_11, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        self.doing.send_modify(|doing| {
            *doing = match *doing {
                Doing::Answering(count, since) => Doing::Answering(count + 1, since),
                Doing::Head(_) | Doing::Idle(_) => Doing::Answering(1, now),
                Doing::Closed => Doing::Closed,
            }
        });
        Answering(Arc::clone(self))
    }

    fn end_at(&self, now: Instant) {
        self.doing.send_modify(|doing| {
            *doing = match *doing {
                Doing::Answering(count, since) if count > 1 => Doing::Answering(count - 1, since),
                Doing::Closed => Doing::Closed,
                _ => Doing::Idle(now + self.idle),
            }
        });
    }

    /// Returns true if it carries requests side by side.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed)
    }

    /// The last request.
    pub(super) fn request(&self) -> LastRequest {
        let old = self.old.load(Ordering::Relaxed);
        let version = if old { Version::HTTP_10 } else { Version::HTTP_11 };
        LastRequest { number: self.requests.load(Ordering::Relaxed), version }
    }

    /// Returns true while a request is worked on.
    pub(super) fn is_answering(&self) -> bool {
        matches!(*self.doing.borrow(), Doing::Answering(..))
    }

    /// A client takes nothing of an answer, or takes it again.
    pub(super) fn untaken(&self, is: bool) {
        if is {
            self.untaken.fetch_add(1, Ordering::Relaxed);
        } else {
            self.untaken.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Returns true while its client takes nothing of an answer.
    pub(super) fn holds_answers(&self) -> bool {
        self.untaken.load(Ordering::Relaxed) > 0
    }

    /// The moment since which the server has nothing to do for it: it waits for a request, or for its client to take answers.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        match *self.doing.borrow() {
            Doing::Head(end) => end.checked_sub(self.header),
            Doing::Idle(end) => end.checked_sub(self.idle),
            Doing::Answering(count, since) => {
                (self.untaken.load(Ordering::Relaxed) >= count).then_some(since)
            }
            Doing::Closed => None,
        }
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        self.doing.send_replace(Doing::Closed);
    }

    /// Returns when the client has taken too long, or the connection's place is needed.
    pub(super) async fn overdue(&self) {
        let mut changes = self.doing.subscribe();
        loop {
            let doing = *changes.borrow_and_update();
            let changed = match doing {
                Doing::Head(end) | Doing::Idle(end) => timeout_at(end, changes.changed()).await,
                Doing::Answering(..) => Ok(changes.changed().await),
                Doing::Closed => return,
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

impl Answering {
    /// The connection's.
    pub(super) fn activity(&self) -> &Activity {
        &self.0
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.end_at(Instant::now());
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
        let one = activity.begin(Version::HTTP_11);
        let two = activity.begin(Version::HTTP_11);
        drop(one);
        assert!(matches!(doing(&activity), Doing::Answering(1, _)));
        drop(two);
        assert!(matches!(doing(&activity), Doing::Idle(_)));
        activity.received_at(later);
        assert_eq!(doing(&activity), Doing::Head(later + HEADER));
    }

    /// A client that asks for acknowledgements would hold its connection for ever.
    #[test]
    fn housekeeping_of_http2_is_no_head_and_no_answer() {
        let activity = Arc::new(Activity::new(HEADER, IDLE));
        drop(activity.begin(Version::HTTP_2));
        let idle = doing(&activity);
        activity.received_at(Instant::now());
        activity.sent();
        assert!(matches!(idle, Doing::Idle(_)));
        assert_eq!(doing(&activity), idle);
    }

    #[test]
    fn a_connection_is_quiet_while_nothing_is_done_for_it() {
        let activity = Arc::new(Activity::new(HEADER, IDLE));
        assert!(activity.quiet_since().is_some());
        let one = activity.begin(Version::HTTP_2);
        let two = activity.begin(Version::HTTP_2);
        assert_eq!(activity.quiet_since(), None);
        activity.untaken(true);
        assert_eq!(activity.quiet_since(), None);
        activity.untaken(true);
        assert!(activity.quiet_since().is_some(), "neither answer is taken");
        activity.untaken(false);
        drop((one, two));
        assert!(activity.quiet_since().is_some());
    }
}
