//! Places of connections: how many there are, and which one makes room when all are taken.
//!
//! The quietest connection makes room: one between two requests, one whose head does not come, one that takes
//! nothing of its answers. Among these it is the oldest of the address that has most connections, so that a client
//! that opens hundreds closes its own. While every connection is being answered, newcomers get one of a few places
//! that are kept for probes, and are refused anything else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::activity::Activity;

/// Places that are kept for probes.
pub(crate) const KEPT: usize = 32;

/// Bytes of whole answers that wait for their clients, over all connections of a listener.
const WAITING: u64 = 64 << 20;

/// The places of a listener.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Mutex<Taken>,
    /// Bytes of whole answers that are held.
    waiting: AtomicU64,
}

/// An answer that is held; forgotten when it is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    places: Arc<Places>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    of: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    address: IpAddr,
    activity: Arc<Activity>,
    /// One of those kept for probes.
    kept: bool,
}

/// A place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
}

impl Places {
    /// `most` places and those kept for probes.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default(), waiting: AtomicU64::new(0) })
    }

    /// An answer of so many bytes is held from now on. When there are too many, the quietest connection that holds
    /// some is closed.
    pub(super) fn hold(self: &Arc<Self>, bytes: u64) -> Waiting {
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > WAITING {
            let mut taken = self.lock();
            if let Some(quietest) = taken.quietest(|entry| entry.activity.holds_answers()) {
                taken.close(quietest);
            }
        }
        Waiting { places: Arc::clone(self), bytes }
    }

    /// A place for a connection from `address`, if need be another's.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, activity: &Arc<Activity>) -> Place {
        let mut taken = self.lock();
        let full = taken.count(false) >= self.most;
        if full && let Some(quietest) = taken.quietest(|entry| !entry.kept) {
            taken.close(quietest);
        }
        let kept = taken.count(false) >= self.most;
        if kept
            && taken.count(true) >= KEPT
            && let Some(oldest) = taken.oldest_kept()
        {
            taken.close(oldest);
        }
        let number = taken.next;
        taken.next += 1;
        taken.of.insert(number, Entry { address, activity: Arc::clone(activity), kept });
        Place { places: Arc::clone(self), number }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Returns true while it is one of those kept for probes. It becomes an ordinary one as soon as one is free.
    pub(super) fn for_probes(&self) -> bool {
        let mut taken = self.places.lock();
        let free = taken.count(false) < self.places.most;
        taken.of.get_mut(&self.number).is_some_and(|entry| {
            entry.kept &= !free;
            entry.kept
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().of.remove(&self.number);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.places.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Taken {
    fn count(&self, kept: bool) -> usize {
        self.of.values().filter(|entry| entry.kept == kept).count()
    }

    fn quietest(&self, may: impl Fn(&Entry) -> bool) -> Option<u64> {
        let mut by_address: HashMap<IpAddr, usize> = HashMap::new();
        self.of.values().for_each(|entry| *by_address.entry(entry.address).or_default() += 1);
        let quiet = self.of.iter().filter(|(_, entry)| may(entry)).filter_map(|(number, entry)| {
            let since: Instant = entry.activity.quiet_since()?;
            Some((std::cmp::Reverse(by_address[&entry.address]), since, *number))
        });
        quiet.min().map(|(.., number)| number)
    }

    fn oldest_kept(&self) -> Option<u64> {
        self.of.iter().filter(|(_, entry)| entry.kept).map(|(number, _)| *number).min()
    }

    /// Ends a connection; its place is free at once.
    fn close(&mut self, number: u64) {
        if let Some(entry) = self.of.remove(&number) {
            entry.activity.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::Version;

    use super::*;

    fn activity() -> Arc<Activity> {
        Arc::new(Activity::new(Duration::from_secs(10), Duration::from_secs(75)))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn open(place: &Place) -> bool {
        place.places.lock().of.contains_key(&place.number)
    }

    #[tokio::test]
    async fn the_oldest_quiet_connection_of_the_address_with_most_makes_room() {
        let places = Places::new(4);
        let taken: Vec<Place> =
            [1, 2, 2, 2].map(|last| places.take(address(last), &activity())).into_iter().collect();
        let newcomer = places.take(address(3), &activity());
        assert!(!newcomer.for_probes());
        assert_eq!(taken.iter().map(open).collect::<Vec<_>>(), [true, false, true, true]);
    }

    #[tokio::test]
    async fn too_many_bytes_that_wait_close_a_connection_that_holds_some() {
        let places = Places::new(4);
        let idle = activity();
        let holding = activity();
        let idle_place = places.take(address(1), &idle);
        let place = places.take(address(1), &holding);
        let _answering = holding.begin(Version::HTTP_2);
        let held = places.hold(WAITING);
        assert!(open(&place), "its client is not waited for");
        holding.untaken(true);
        drop(places.hold(1));
        assert!(!open(&place) && open(&idle_place));
        drop(held);
        assert_eq!(places.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn newcomers_get_places_for_probes_while_all_are_answered() {
        let places = Places::new(1);
        let busy = activity();
        let first = places.take(address(1), &busy);
        let answering = busy.begin(Version::HTTP_11);
        let kept: Vec<Place> = (0..=KEPT).map(|_| places.take(address(2), &activity())).collect();
        assert!(kept[1..].iter().all(Place::for_probes) && open(&first));
        assert!(!open(&kept[0]), "the oldest of them makes room for the last");
        drop(answering);
        drop(first);
        assert!(!kept[1].for_probes() && kept[2].for_probes());
    }
}
