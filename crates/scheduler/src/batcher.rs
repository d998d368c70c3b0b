//! Who takes part in the next evaluation. Pure: no clock, no channels, no tensors.
//!
//! Running samples stand in a line and earn device time: at every turn each gets as much as the cheapest
//! of them costs, whoever has saved the price of its own canvas takes part and pays it, and who was looked
//! at goes to the back. So a fill of 30 positions is in every evaluation, and a document of 2,000 beside it
//! sits most of them out until it has earned its next one: both get the same device time, not the same
//! number of turns. (This is deficit round robin, Shreedhar and Varghese 1995, with evaluations for packets.)
//!
//! Nearly the same price is the same turn: an eighth of it may be owed.
//!
//! A line passes everybody, so nobody starves: between two evaluations of a sample that costs p, another
//! of the same client takes part for at most p plus three times its own price, and an eighth of both.
//! Clients share alike: the samples of one that has many running earn the less each.
//!
//! Requests wait in order of arrival and are admitted whole, those of the client with the fewest running
//! samples first.

use std::collections::VecDeque;

/// Names a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names one sample of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleId {
    /// The request.
    pub request: RequestId,
    /// Which of its samples, from 0.
    pub sample: u32,
}

/// Names who asks: requests of one client share one client's part of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// What the batcher knows of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which of its request, from 0.
    pub sample: u32,
    /// Token rows that it puts into a batch.
    pub rows: usize,
    /// Device time of an evaluation of it alone, in any unit, at least 1.
    pub price: u64,
    /// The first sample of the request with the same canvas at the start: their first evaluations are
    /// computed once when they fall into one batch.
    pub twin_of: u32,
}

/// The waiting requests and the running samples.
#[derive(Clone, Debug)]
pub struct Batcher {
    max_rows: usize,
    max_running: usize,
    waiting: VecDeque<Waiting>,
    running: VecDeque<Running>,
}

#[derive(Clone, Debug)]
struct Waiting {
    request: RequestId,
    client: ClientId,
    members: Vec<Member>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    request: RequestId,
    client: ClientId,
    member: Member,
    /// Device time earned and not spent; between two batches less than the price, at least −1/8 of it.
    credit: i64,
    /// Not evaluated yet.
    fresh: bool,
}

impl Running {
    fn id(&self) -> SampleId {
        SampleId { request: self.request, sample: self.member.sample }
    }

    fn price(&self) -> i64 {
        i64::try_from(self.member.price.max(1)).unwrap_or(i64::MAX)
    }

    /// What it must have saved: canvases of 30 and 31 positions should not miss each other.
    fn threshold(&self) -> i64 {
        self.price() - self.price() / 8
    }
}

impl Batcher {
    /// A batcher that puts at most `max_rows` token rows into a batch and lets at most `max_running`
    /// samples run at once. What exceeds a limit by itself goes alone.
    #[must_use]
    pub fn new(max_rows: usize, max_running: usize) -> Self {
        Self { max_rows, max_running, waiting: VecDeque::new(), running: VecDeque::new() }
    }

    /// Changes how many rows a batch may have, from the next one on.
    pub fn limit_rows(&mut self, max_rows: usize) {
        self.max_rows = max_rows;
    }

    /// Lets a request wait.
    pub fn add(&mut self, request: RequestId, client: ClientId, members: impl IntoIterator<Item = Member>) {
        self.waiting.push_back(Waiting { request, client, members: members.into_iter().collect() });
    }

    /// Forgets a request, waiting or running.
    pub fn cancel(&mut self, request: RequestId) {
        self.waiting.retain(|waiting| waiting.request != request);
        self.running.retain(|running| running.request != request);
    }

    /// Forgets a sample that is complete.
    pub fn retire(&mut self, sample: SampleId) {
        self.running.retain(|running| running.id() != sample);
    }

    /// Puts a running sample into the next batch: its time is over and this is its last evaluation.
    pub fn hasten(&mut self, sample: SampleId) {
        let found = self.running.iter().position(|running| running.id() == sample);
        if let Some(mut running) = found.and_then(|index| self.running.remove(index)) {
            running.credit = running.price();
            self.running.push_front(running);
        }
    }

    /// Admits who fits and returns the samples of the next evaluation; empty when nothing is left.
    pub fn next_batch(&mut self) -> Vec<SampleId> {
        self.admit();
        loop {
            let batch = self.turn();
            if !batch.is_empty() || self.running.is_empty() {
                return batch;
            }
        }
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a request still waits.
    #[must_use]
    pub fn is_waiting(&self, request: RequestId) -> bool {
        self.waiting.iter().any(|waiting| waiting.request == request)
    }

    /// Pays everybody from the front of the line on until the batch is full. The cheapest sample of the
    /// client with the fewest earns its whole price, so some turn soon has somebody who can pay.
    fn turn(&mut self) -> Vec<SampleId> {
        let wage = self.running.iter().map(Running::price).min().unwrap_or(0);
        let counts: Vec<i64> = self.running.iter().map(|running| self.count(running.client) as i64).collect();
        let fewest = counts.iter().copied().min().unwrap_or(1);
        let (mut batch, mut rows, mut seen, mut last) = (Vec::new(), 0_usize, 0, None);
        for (running, count) in self.running.iter_mut().zip(counts) {
            let credit = running.credit.saturating_add((wage.saturating_mul(fewest) / count).max(1));
            if credit >= running.threshold() {
                let canvas = running.fresh.then_some((running.request, running.member.twin_of));
                let more = if canvas.is_some() && canvas == last { 0 } else { running.member.rows };
                if !batch.is_empty() && rows.saturating_add(more) > self.max_rows {
                    break;
                }
                (rows, last) = (rows.saturating_add(more), canvas);
                batch.push(running.id());
                running.fresh = false;
                running.credit = credit - running.price();
            } else {
                running.credit = credit;
            }
            seen += 1;
        }
        self.running.rotate_left(seen);
        batch
    }

    fn admit(&mut self) {
        while let Some(index) = self.next_in_line() {
            let samples = self.waiting[index].members.len();
            if !self.running.is_empty() && self.running.len() + samples > self.max_running {
                return;
            }
            let Some(Waiting { request, client, members }) = self.waiting.remove(index) else { return };
            let fresh = |member| Running { request, client, member, credit: 0, fresh: true };
            self.running.extend(members.into_iter().map(fresh));
        }
    }

    /// The first request of the client with the fewest running samples.
    fn next_in_line(&self) -> Option<usize> {
        let waiting = self.waiting.iter().enumerate();
        waiting.min_by_key(|(index, waiting)| (self.count(waiting.client), *index)).map(|(index, _)| index)
    }

    fn count(&self, client: ClientId) -> usize {
        self.running.iter().filter(|running| running.client == client).count()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const ALICE: ClientId = ClientId(1);
    const BOB: ClientId = ClientId(2);

    fn id(request: u64, sample: u32) -> SampleId {
        SampleId { request: RequestId(request), sample }
    }

    /// A sample of `rows` rows that costs as many units, with a canvas of its own.
    fn member(sample: u32, rows: usize) -> Member {
        Member { sample, rows, price: rows as u64, twin_of: sample }
    }

    fn members<const N: usize>(rows: [usize; N]) -> impl Iterator<Item = Member> {
        (0..).zip(rows).map(|(sample, rows)| member(sample, rows))
    }

    #[test]
    fn a_batch_is_what_fits_and_the_rest_goes_first_next_time() {
        let mut batcher = Batcher::new(10, 8);
        for request in 0..3 {
            batcher.add(RequestId(request), ALICE, members([4]));
        }
        assert_eq!(batcher.next_batch(), [id(0, 0), id(1, 0)]);
        assert_eq!(batcher.next_batch(), [id(2, 0), id(0, 0)]);
        assert_eq!(batcher.next_batch(), [id(1, 0), id(2, 0)]);
    }

    #[test]
    fn a_canvas_above_the_budget_goes_alone() {
        let mut batcher = Batcher::new(10, 8);
        for (request, rows) in [(0, 4), (1, 99), (2, 4)] {
            batcher.add(RequestId(request), ALICE, members([rows]));
        }
        let batches: Vec<_> = (0..60).map(|_| batcher.next_batch()).collect();
        let large: Vec<_> = batches.iter().filter(|batch| batch.contains(&id(1, 0))).collect();
        // 99 rows are paid for by 25 turns of 4.
        assert_eq!(large, [&[id(1, 0)], &[id(1, 0)]]);
    }

    #[test]
    fn a_request_is_admitted_whole_and_in_order_of_arrival() {
        let mut batcher = Batcher::new(100, 3);
        batcher.add(RequestId(0), ALICE, members([1, 1]));
        batcher.add(RequestId(1), ALICE, members([1, 1]));
        batcher.add(RequestId(2), ALICE, members([1]));
        assert_eq!(batcher.next_batch(), [id(0, 0), id(0, 1)]);
        // Request 2 would fit, but 1 came first.
        assert_eq!((batcher.waiting(), batcher.next_batch().len()), (2, 2));
        batcher.retire(id(0, 1));
        assert_eq!(batcher.next_batch(), [id(0, 0), id(1, 0), id(1, 1)]);
        batcher.cancel(RequestId(1));
        assert_eq!(batcher.next_batch(), [id(0, 0), id(2, 0)]);
    }

    #[test]
    fn a_request_above_the_limit_of_samples_runs_when_nothing_else_does() {
        let mut batcher = Batcher::new(100, 2);
        batcher.add(RequestId(0), ALICE, members([1]));
        batcher.add(RequestId(1), ALICE, members([1; 5]));
        assert_eq!(batcher.next_batch().len(), 1);
        batcher.retire(id(0, 0));
        assert_eq!(batcher.next_batch().len(), 5);
    }

    #[test]
    fn steady_short_arrivals_do_not_starve_a_long_request() {
        let mut batcher = Batcher::new(1, 4);
        batcher.add(RequestId(0), ALICE, members([1]));
        let mut turns = 0;
        for request in 1..=400 {
            batcher.add(RequestId(request), ALICE, members([1]));
            for sample in batcher.next_batch() {
                if sample == id(0, 0) { turns += 1 } else { batcher.retire(sample) }
            }
        }
        assert!(turns >= 100, "a fair share is one turn in four: {turns} of 400");
    }

    /// A fill that shared every evaluation with a long document would take as long as the document does.
    #[test]
    fn a_short_canvas_beside_a_long_one_gets_the_same_time_not_the_same_turns() {
        let mut batcher = Batcher::new(1000, 8);
        batcher.add(RequestId(0), ALICE, members([320]));
        assert_eq!(batcher.next_batch(), [id(0, 0)]);
        batcher.add(RequestId(1), ALICE, members([10]));
        let (mut short, mut long) = (0, 0);
        for _ in 0..330 {
            let batch = batcher.next_batch();
            short += usize::from(batch.contains(&id(1, 0)));
            long += usize::from(batch.contains(&id(0, 0)));
        }
        // 320 rows are paid for by 32 turns of 10.
        assert_eq!((short, long), (330, 10));
    }

    /// Somebody who sends ten requests would get ten times the device of somebody who sends one.
    #[test]
    fn clients_share_alike_whoever_has_more_samples() {
        let mut batcher = Batcher::new(1000, 64);
        let dear = |member| Member { price: 1000, ..member };
        batcher.add(RequestId(0), ALICE, members([7; 10]).map(dear));
        batcher.add(RequestId(1), BOB, members([7]).map(dear));
        let mut turns = BTreeMap::new();
        for _ in 0..1000 {
            batcher.next_batch().into_iter().for_each(|sample| *turns.entry(sample).or_insert(0) += 1);
        }
        let alice: i32 = (0..10).map(|sample| turns[&id(0, sample)]).sum();
        assert!((turns[&id(1, 0)] - alice).abs() <= 20, "{turns:?}");
    }

    #[test]
    fn a_client_with_less_running_is_admitted_first() {
        let mut batcher = Batcher::new(100, 3);
        batcher.add(RequestId(0), ALICE, members([1, 1]));
        batcher.next_batch();
        batcher.add(RequestId(1), ALICE, members([1]));
        batcher.add(RequestId(2), BOB, members([1]));
        assert!(batcher.next_batch().contains(&id(2, 0)));
        assert!(batcher.is_waiting(RequestId(1)) && !batcher.is_waiting(RequestId(2)));
    }

    /// Eight answers to one prompt would pay for the same first evaluation eight times.
    #[test]
    fn twins_count_once_until_they_part() {
        let mut batcher = Batcher::new(10, 8);
        let twins = (0..4).map(|sample| Member { twin_of: 0, ..member(sample, 8) });
        batcher.add(RequestId(0), ALICE, twins);
        assert_eq!(batcher.next_batch().len(), 4);
        assert_eq!(batcher.next_batch(), [id(0, 0)]);
    }

    #[test]
    fn who_is_hastened_takes_part_next() {
        let mut batcher = Batcher::new(10, 8);
        batcher.add(RequestId(0), ALICE, members([2, 8]));
        // Sample 1 would have to save for another three turns.
        assert_eq!(batcher.next_batch(), [id(0, 0)]);
        batcher.hasten(id(0, 1));
        assert_eq!(batcher.next_batch(), [id(0, 1), id(0, 0)]);
    }

    #[derive(Clone, Debug)]
    enum Action {
        Add(Vec<usize>, u64),
        Cancel(usize),
        Evaluate { retire: usize },
    }

    fn action() -> impl Strategy<Value = Action> {
        let add = (prop::collection::vec(1_usize..40, 1..6), 0_u64..3);
        prop_oneof![
            2 => add.prop_map(|(rows, client)| Action::Add(rows, client)),
            1 => (0_usize..64).prop_map(Action::Cancel),
            6 => (0_usize..4).prop_map(|retire| Action::Evaluate { retire }),
        ]
    }

    proptest! {
        #[test]
        fn budgets_hold_and_nobody_starves(
            max_rows in 1_usize..60,
            max_running in 1_usize..8,
            actions in prop::collection::vec(action(), 1..200),
        ) {
            let mut batcher = Batcher::new(max_rows, max_running);
            let mut rows_of: BTreeMap<SampleId, usize> = BTreeMap::new();
            let mut client_of: BTreeMap<RequestId, ClientId> = BTreeMap::new();
            // What each running sample has paid since another was last evaluated.
            let mut paid: BTreeMap<(SampleId, SampleId), usize> = BTreeMap::new();
            for (next, action) in (0..).map(RequestId).zip(actions) {
                match action {
                    Action::Add(rows, client) => {
                        for (sample, rows) in (0..).zip(&rows) {
                            rows_of.insert(SampleId { request: next, sample }, *rows);
                        }
                        client_of.insert(next, ClientId(client));
                        let members = (0..).zip(rows).map(|(sample, rows)| member(sample, rows));
                        batcher.add(next, ClientId(client), members);
                    }
                    Action::Cancel(index) => {
                        let Some(&request) = client_of.keys().nth(index) else { continue };
                        batcher.cancel(request);
                        client_of.remove(&request);
                    }
                    Action::Evaluate { retire } => {
                        let idle = batcher.running.is_empty() && batcher.waiting.is_empty();
                        let batch = batcher.next_batch();
                        prop_assert_eq!(batch.is_empty(), idle);
                        let rows: usize = batch.iter().map(|id| rows_of[id]).sum();
                        prop_assert!(rows <= max_rows || batch.len() == 1);
                        let running: Vec<SampleId> = batcher.running.iter().map(Running::id).collect();
                        let whole = running.iter().all(|id| id.request == running[0].request);
                        prop_assert!(running.len() <= max_running || whole);
                        for waits in &running {
                            for other in &running {
                                let same = client_of[&waits.request] == client_of[&other.request];
                                let sum = paid.entry((*waits, *other)).or_default();
                                *sum = if batch.contains(waits) { 0 } else { *sum };
                                *sum += if batch.contains(other) { rows_of[other] } else { 0 };
                                let bound = (9 * rows_of[waits] + 25 * rows_of[other]) / 8 + 1;
                                prop_assert!(
                                    !same || waits == other || *sum <= bound,
                                    "{:?} waited while {:?} paid {}", waits, other, sum
                                );
                            }
                        }
                        for running in &batcher.running {
                            let owed = -running.credit * 8;
                            prop_assert!(owed <= running.price() && running.credit < running.price());
                        }
                        batch.into_iter().take(retire).for_each(|sample| batcher.retire(sample));
                    }
                }
            }
        }
    }
}
