//! Places: which samples run at once.
//!
//! Places are shared alike by client, and a client's places alike by request. Samples enter one by one, so a request
//! of hundreds of samples takes no more than its client's share. When no place is free, one is taken back: from the
//! client with most, as long as it keeps more than the client that gets it. Where there are more clients than
//! places, a client that has none gets that of a sample which has been evaluated since it got its own, so clients
//! take turns. A sample between two evaluations is a few vectors, and loses nothing by a pause.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Batcher, ClientId, RequestId, Sample, SampleId};

/// Samples without a place, by request.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    of: BTreeMap<RequestId, Line>,
    /// Since when each client waits, by the batcher's clock: since it came, or last got or lost a place.
    since: BTreeMap<ClientId, u64>,
    /// Requests of which no sample has had a place.
    unplaced: BTreeSet<RequestId>,
}

/// Samples of one request without a place.
#[derive(Clone, Debug)]
struct Line {
    client: ClientId,
    samples: VecDeque<Sample>,
}

impl Lines {
    pub(super) fn add(&mut self, request: RequestId, client: ClientId, samples: VecDeque<Sample>, now: u64) {
        self.unplaced.insert(request);
        if !samples.is_empty() {
            self.of.insert(request, Line { client, samples });
            self.since.entry(client).or_insert(now);
        }
    }

    pub(super) fn cancel(&mut self, request: RequestId) {
        self.unplaced.remove(&request);
        self.end(request);
    }

    pub(super) fn remove(&mut self, sample: SampleId) {
        if let Some(line) = self.of.get_mut(&sample.request) {
            line.samples.retain(|waiting| waiting.id() != sample);
            self.drop_empty(sample.request);
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.unplaced.len()
    }

    pub(super) fn is_waiting(&self, request: RequestId) -> bool {
        self.unplaced.contains(&request)
    }

    /// The clients that wait, once for each of their requests.
    #[cfg(test)]
    pub(super) fn clients(&self) -> Vec<ClientId> {
        self.of.values().map(|line| line.client).collect()
    }

    fn take_first(&mut self, request: RequestId, now: u64) -> Option<Sample> {
        let line = self.of.get_mut(&request)?;
        self.since.insert(line.client, now);
        let sample = line.samples.pop_front();
        self.unplaced.remove(&request);
        self.drop_empty(request);
        sample
    }

    fn put_first(&mut self, sample: Sample, now: u64) {
        self.since.insert(sample.client, now);
        let line = self.of.entry(sample.request);
        let line = line.or_insert(Line { client: sample.client, samples: VecDeque::new() });
        line.samples.push_front(sample);
    }

    fn drop_empty(&mut self, request: RequestId) {
        if self.of.get(&request).is_some_and(|line| line.samples.is_empty()) {
            self.end(request);
        }
    }

    fn end(&mut self, request: RequestId) {
        let Some(Line { client, .. }) = self.of.remove(&request) else { return };
        if self.of.values().all(|line| line.client != client) {
            self.since.remove(&client);
        }
    }
}

/// The numbers of places that clients and requests have.
#[derive(Debug, Default)]
struct Counts {
    clients: BTreeMap<ClientId, usize>,
    requests: BTreeMap<RequestId, usize>,
}

impl Counts {
    fn of<'a>(running: impl Iterator<Item = &'a Sample>) -> Self {
        let mut counts = Self::default();
        running.for_each(|sample| counts.change(sample, |count| count + 1));
        counts
    }

    fn change(&mut self, sample: &Sample, change: impl Fn(usize) -> usize) {
        let client = self.clients.entry(sample.client).or_default();
        *client = change(*client);
        let request = self.requests.entry(sample.request).or_default();
        *request = change(*request);
    }

    fn client(&self, client: ClientId) -> usize {
        self.clients.get(&client).copied().unwrap_or(0)
    }

    fn request(&self, request: RequestId) -> usize {
        self.requests.get(&request).copied().unwrap_or(0)
    }
}

impl Batcher {
    /// Gives places to waiting samples, and takes them back where that makes shares more alike.
    pub(super) fn admit(&mut self) {
        let mut counts = Counts::of(self.running.iter());
        while let Some((request, paused)) = self.next_move(&counts) {
            self.clock += 1;
            if let Some(sample) = paused.and_then(|index| self.running.remove(index)) {
                counts.change(&sample, |count| count - 1);
                self.lines.put_first(sample, self.clock);
            }
            let Some(sample) = self.lines.take_first(request, self.clock) else { return };
            counts.change(&sample, |count| count + 1);
            self.running.push_back(Sample { placed: self.clock, served: false, ..sample });
        }
    }

    /// The request whose next sample gets a place, and the running sample that loses its own for it.
    fn next_move(&self, counts: &Counts) -> Option<(RequestId, Option<usize>)> {
        let rank = |(request, line): (&RequestId, &Line)| {
            let since = self.lines.since.get(&line.client).copied().unwrap_or(0);
            (counts.client(line.client), since, line.client, counts.request(*request), *request)
        };
        let mut waiting: Vec<_> = self.lines.of.iter().map(rank).collect();
        waiting.sort_unstable();
        // Behind a sample that waits for memory, only those that need none go ahead of it.
        let mut scarce = false;
        for (_, _, client, _, request) in waiting {
            let memo = self.lines.of[&request].samples.front().map_or(0, |sample| self.kept(sample));
            if memo > 0 && scarce {
                continue;
            }
            let fits = memo == 0 || self.memory_left() >= memo;
            if fits && self.running.len() < self.max_running {
                return Some((request, None));
            }
            let paused = self.paused_for(request, client, counts);
            let freed = |index: &usize| self.memory_left() + self.kept(&self.running[*index]);
            if let Some(index) = paused.filter(|index| memo == 0 || freed(index) >= memo) {
                return Some((request, Some(index)));
            }
            scarce |= !fits;
        }
        None
    }

    /// Bytes that are kept for a sample; none for one that would need more than there is.
    fn kept(&self, sample: &Sample) -> u64 {
        if sample.member.memo > self.memory { 0 } else { sample.member.memo }
    }

    /// Bytes that running samples do not need.
    fn memory_left(&self) -> u64 {
        let kept = self.running.iter().map(|sample| self.kept(sample));
        self.memory.saturating_sub(kept.fold(0, u64::saturating_add))
    }

    /// The running sample to pause for one of `request`, which is `client`'s.
    fn paused_for(&self, request: RequestId, client: ClientId, counts: &Counts) -> Option<usize> {
        let own = counts.client(client);
        let most = counts.clients.values().copied().max().unwrap_or(0);
        if most > own + 1 {
            return self.newest(|sample| counts.client(sample.client) == most);
        }
        if own == 0 {
            let turns =
                self.running.iter().enumerate().filter(|(_, sample)| sample.served && !sample.hastened);
            return turns.min_by_key(|(_, sample)| sample.placed).map(|(index, _)| index);
        }
        let own = counts.request(request);
        let mine = self.running.iter().filter(|sample| sample.client == client);
        let most = mine.map(|sample| counts.request(sample.request)).max().unwrap_or(0);
        let richest = |sample: &Sample| sample.client == client && counts.request(sample.request) == most;
        if most > own + 1 { self.newest(richest) } else { None }
    }

    /// The sample that was given its place last, among those that may lose it.
    fn newest(&self, may: impl Fn(&Sample) -> bool) -> Option<usize> {
        let found = self.running.iter().enumerate().filter(|(_, sample)| !sample.hastened && may(sample));
        found.max_by_key(|(_, sample)| sample.placed).map(|(index, _)| index)
    }
}
