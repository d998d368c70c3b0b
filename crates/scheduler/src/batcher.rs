//! Chooses the samples of the next evaluation. Pure: no clock, no channels, no tensors.
//!
//! The choice is deficit round robin (Shreedhar and Varghese 1995) with evaluations in place of packets. Every round
//! adds a quantum, the price of the cheapest sample, to each sample's credit. A sample whose credit covers the price
//! of its own canvas takes part and pays it, and goes to the back of the line. So a fill of 30 positions is in every
//! evaluation, and a document of 2,000 beside it is in few: both get the same device time, not the same number of
//! evaluations.
//!
//! A sample takes part already when it lacks an eighth of its price, so that samples of nearly the same price meet from
//! their first evaluation on: eight lengths of one hole would take an evaluation more otherwise.
//!
//! No sample starves, because the line passes all of them: between two evaluations of a sample that costs p, another
//! of the same client takes part for at most p plus three times its own price, and an eighth of both. Clients get
//! equal shares: each sample of a client with many running samples gets a smaller quantum.
//!
//! Running samples have places, and [`places`] shares these between clients.

mod places;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use self::places::Lines;

/// Names a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names one sample of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleId {
    /// The request.
    pub request: RequestId,
    /// Its number in the request, from 0.
    pub sample: u32,
}

/// Names a client: requests of one client share one client's part of the device, of the places and of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// A sample as the batcher sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number in its request, from 0.
    pub sample: u32,
    /// Token rows that it puts into a batch.
    pub rows: usize,
    /// Device time of an evaluation of it alone, in any unit, at least 1.
    pub price: u64,
    /// Bytes of keys and values that are kept for it while it runs.
    pub memo: u64,
    /// The first sample of the request with the same canvas at the start: their first evaluations are
    /// computed once when they fall into one batch.
    pub twin_of: u32,
}

/// The waiting and the running samples, and the choice of those in the next evaluation.
///
/// A request enters with [`Self::add`], one [`Member`] for each sample. [`Self::next_batch`] gives out places and
/// names the samples to evaluate; the caller evaluates them, then [retires](Self::retire) those that are complete.
/// Device time is shared between clients, whatever the lengths of their canvases:
///
/// ```
/// use unmask_scheduler::{Batcher, ClientId, Member, RequestId};
///
/// // At most 100 rows in a batch, at most 8 samples at once.
/// let mut batcher = Batcher::new(100, 8);
/// let canvas = |rows| Member { sample: 0, rows, price: rows as u64, memo: 0, twin_of: 0 };
/// batcher.add(RequestId(0), ClientId(1), [canvas(10)]);
/// batcher.add(RequestId(1), ClientId(2), [canvas(80)]);
///
/// // The long canvas costs eight times as much, so it is in an eighth of the batches.
/// let batches: Vec<_> = (0..16).map(|_| batcher.next_batch()).collect();
/// let with = |id| batches.iter().flatten().filter(|sample| sample.request == RequestId(id)).count();
/// assert_eq!([with(0), with(1)], [16, 2]);
/// ```
#[derive(Clone, Debug)]
pub struct Batcher {
    max_rows: usize,
    max_running: usize,
    /// Bytes of keys and values that running samples may keep together.
    memory: u64,
    /// Samples without a place.
    lines: Lines,
    running: VecDeque<Sample>,
    /// Counts places given and taken back.
    clock: u64,
}

/// A sample that is not complete.
#[derive(Clone, Copy, Debug)]
struct Sample {
    request: RequestId,
    client: ClientId,
    member: Member,
    /// Device time earned and not spent; between two batches less than the price, at least −1/8 of it.
    credit: i64,
    /// Not evaluated yet.
    fresh: bool,
    /// When it was last given a place, by the batcher's clock.
    placed: u64,
    /// Set if it has taken part since.
    served: bool,
    /// Its next evaluation is its last one; it keeps its place.
    hastened: bool,
}

impl Sample {
    fn new(request: RequestId, client: ClientId, member: Member) -> Self {
        let credit = 0;
        let placed = 0;
        Self { request, client, member, credit, fresh: true, placed, served: false, hastened: false }
    }

    fn id(&self) -> SampleId {
        SampleId { request: self.request, sample: self.member.sample }
    }

    fn price(&self) -> i64 {
        i64::try_from(self.member.price.max(1)).unwrap_or(i64::MAX)
    }

    /// The least credit to take part with; below the price, so that canvases of 30 and 31 positions meet.
    fn threshold(&self) -> i64 {
        self.price() - self.price() / 8
    }
}

impl Batcher {
    /// A batcher that puts at most `max_rows` token rows into a batch, except for a canvas that is longer by
    /// itself, and lets at most `max_running` samples run at once.
    #[must_use]
    pub fn new(max_rows: usize, max_running: usize) -> Self {
        let max_running = max_running.max(1);
        let lines = Lines::default();
        Self { max_rows, max_running, memory: u64::MAX, lines, running: VecDeque::new(), clock: 0 }
    }

    /// Lets running samples keep at most `bytes` of keys and values together. A sample that would keep more alone runs
    /// without.
    #[must_use]
    pub fn with_memory(self, bytes: u64) -> Self {
        Self { memory: bytes, ..self }
    }

    /// The running samples.
    pub fn running(&self) -> impl Iterator<Item = SampleId> + '_ {
        self.running.iter().map(Sample::id)
    }

    /// Changes rows and price of the next evaluation of a running sample.
    pub fn reprice(&mut self, sample: SampleId, rows: usize, price: u64) {
        if let Some(running) = self.running.iter_mut().find(|running| running.id() == sample) {
            running.member.rows = rows;
            running.member.price = price;
            // What was earned for a dearer evaluation buys no more than the next one.
            running.credit = running.credit.min(running.price());
        }
    }

    /// Changes how many rows a batch may have, from the next one on.
    pub fn limit_rows(&mut self, max_rows: usize) {
        self.max_rows = max_rows;
    }

    /// Lets the samples of a request wait for places.
    pub fn add(&mut self, request: RequestId, client: ClientId, members: impl IntoIterator<Item = Member>) {
        let samples = members.into_iter().map(|member| Sample::new(request, client, member));
        self.clock += 1;
        self.lines.add(request, client, samples.collect(), self.clock);
    }

    /// Removes a request, waiting or running.
    pub fn cancel(&mut self, request: RequestId) {
        self.lines.cancel(request);
        self.running.retain(|running| running.request != request);
    }

    /// Removes a sample that is complete.
    pub fn retire(&mut self, sample: SampleId) {
        self.lines.remove(sample);
        self.running.retain(|running| running.id() != sample);
    }

    /// Puts a running sample, whose time is over, into the next batch as its last evaluation. A sample without a
    /// place waits for one like others: a short time budget must not buy a larger share.
    pub fn hasten(&mut self, sample: SampleId) {
        let found = self.running.iter().position(|running| running.id() == sample);
        if let Some(sample) = found.and_then(|index| self.running.remove(index)) {
            let credit = sample.price();
            self.running.push_front(Sample { credit, hastened: true, ..sample });
        }
    }

    /// Gives out places and returns the samples of the next evaluation; empty when nothing is left.
    pub fn next_batch(&mut self) -> Vec<SampleId> {
        self.admit();
        loop {
            let batch = self.turn();
            if !batch.is_empty() || self.running.is_empty() {
                return batch;
            }
        }
    }

    /// The number of requests that wait: none of their samples has had a place.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lines.waiting()
    }

    /// Returns true if none of a request's samples has had a place.
    #[must_use]
    pub fn is_waiting(&self, request: RequestId) -> bool {
        self.lines.is_waiting(request)
    }

    /// One round: adds a quantum to each sample's credit, from the front of the line on, until the batch is full.
    /// The cheapest sample of the client with the fewest samples gets its whole price, so that one of the next
    /// rounds has a sample that can pay.
    fn turn(&mut self) -> Vec<SampleId> {
        let wage = self.running.iter().map(Sample::price).min().unwrap_or(0);
        let mut counts: BTreeMap<ClientId, i64> = BTreeMap::new();
        self.running.iter().for_each(|running| *counts.entry(running.client).or_default() += 1);
        let fewest = counts.values().copied().min().unwrap_or(1);
        let mut batch = Vec::new();
        let mut rows = 0_usize;
        let mut seen = 0;
        let mut last = None;
        for running in &mut self.running {
            let share = wage.saturating_mul(fewest) / counts[&running.client];
            let credit = running.credit.saturating_add(share.max(1));
            if credit >= running.threshold() {
                let canvas = running.fresh.then_some((running.request, running.member.twin_of));
                let more = if canvas.is_some() && canvas == last { 0 } else { running.member.rows };
                if !batch.is_empty() && rows.saturating_add(more) > self.max_rows {
                    break;
                }
                (rows, last) = (rows.saturating_add(more), canvas);
                batch.push(running.id());
                (running.fresh, running.served) = (false, true);
                running.credit = credit - running.price();
            } else {
                running.credit = credit;
            }
            seen += 1;
        }
        self.running.rotate_left(seen);
        batch
    }
}
