//! Who takes part in the next evaluation. Pure: no clock, no channels, no tensors.
//!
//! Requests wait in order of arrival and are admitted whole. Running samples take turns: a batch is the
//! longest stretch from the front of the line that fits the budget, and then goes to its back, where
//! newcomers queue up too. So the samples with the fewest evaluations since they joined the line go
//! first, two samples that run side by side never differ by more than one turn, and nobody starves:
//! each batch takes at least the first, and nobody ever gets in front.

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

/// The waiting requests and the running samples.
#[derive(Clone, Debug)]
pub struct Batcher {
    max_rows: usize,
    max_running: usize,
    waiting: VecDeque<(RequestId, Vec<Entry>)>,
    running: VecDeque<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: SampleId,
    rows: usize,
}

impl Batcher {
    /// A batcher that puts at most `max_rows` token rows into a batch and lets at most `max_running`
    /// samples run at once. What exceeds a limit by itself goes alone.
    #[must_use]
    pub fn new(max_rows: usize, max_running: usize) -> Self {
        Self { max_rows, max_running, waiting: VecDeque::new(), running: VecDeque::new() }
    }

    /// Lets a request wait: its samples, each with the token rows that it puts into a batch.
    pub fn add(&mut self, request: RequestId, samples: impl IntoIterator<Item = (u32, usize)>) {
        let entries =
            samples.into_iter().map(|(sample, rows)| Entry { id: SampleId { request, sample }, rows });
        self.waiting.push_back((request, entries.collect()));
    }

    /// Forgets a request, waiting or running.
    pub fn cancel(&mut self, request: RequestId) {
        self.waiting.retain(|(waiting, _)| *waiting != request);
        self.running.retain(|entry| entry.id.request != request);
    }

    /// Forgets a sample that is complete.
    pub fn retire(&mut self, sample: SampleId) {
        self.running.retain(|entry| entry.id != sample);
    }

    /// Admits who fits and returns the samples of the next evaluation; empty when nothing is left.
    pub fn next_batch(&mut self) -> Vec<SampleId> {
        self.admit();
        let rows = self.running.iter().scan(0_usize, |rows, entry| {
            *rows = rows.saturating_add(entry.rows);
            Some(*rows)
        });
        let fitting = rows.take_while(|rows| *rows <= self.max_rows).count();
        let taken = fitting.max(1).min(self.running.len());
        self.running.rotate_left(taken);
        self.running.range(self.running.len() - taken..).map(|entry| entry.id).collect()
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn admit(&mut self) {
        while let Some((_, samples)) = self.waiting.front()
            && (self.running.is_empty() || self.running.len() + samples.len() <= self.max_running)
            && let Some((_, samples)) = self.waiting.pop_front()
        {
            self.running.extend(samples);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(request: u64, sample: u32) -> SampleId {
        SampleId { request: RequestId(request), sample }
    }

    #[test]
    fn a_batch_is_what_fits_and_the_rest_goes_first_next_time() {
        let mut batcher = Batcher::new(10, 8);
        for request in 0..3 {
            batcher.add(RequestId(request), [(0, 4)]);
        }
        assert_eq!(batcher.next_batch(), [id(0, 0), id(1, 0)]);
        assert_eq!(batcher.next_batch(), [id(2, 0), id(0, 0)]);
        assert_eq!(batcher.next_batch(), [id(1, 0), id(2, 0)]);
    }

    #[test]
    fn a_canvas_above_the_budget_goes_alone() {
        let mut batcher = Batcher::new(10, 8);
        for (request, rows) in [(0, 4), (1, 99), (2, 4)] {
            batcher.add(RequestId(request), [(0, rows)]);
        }
        assert_eq!(batcher.next_batch(), [id(0, 0)]);
        assert_eq!(batcher.next_batch(), [id(1, 0)]);
        assert_eq!(batcher.next_batch(), [id(2, 0), id(0, 0)]);
    }

    #[test]
    fn a_request_is_admitted_whole_and_in_order_of_arrival() {
        let mut batcher = Batcher::new(100, 3);
        batcher.add(RequestId(0), [(0, 1), (1, 1)]);
        batcher.add(RequestId(1), [(0, 1), (1, 1)]);
        batcher.add(RequestId(2), [(0, 1)]);
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
        batcher.add(RequestId(0), [(0, 1)]);
        batcher.add(RequestId(1), (0..5).map(|sample| (sample, 1)));
        assert_eq!(batcher.next_batch().len(), 1);
        batcher.retire(id(0, 0));
        assert_eq!(batcher.next_batch().len(), 5);
    }

    #[test]
    fn steady_short_arrivals_do_not_starve_a_long_request() {
        let mut batcher = Batcher::new(1, 4);
        batcher.add(RequestId(0), [(0, 1)]);
        let mut turns = 0;
        for request in 1..=400 {
            batcher.add(RequestId(request), [(0, 1)]);
            for sample in batcher.next_batch() {
                if sample == id(0, 0) { turns += 1 } else { batcher.retire(sample) }
            }
        }
        assert!(turns >= 100, "a fair share is one turn in four: {turns} of 400");
    }

    #[derive(Clone, Debug)]
    enum Action {
        Add(Vec<usize>),
        Cancel(usize),
        Evaluate { retire: usize },
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            2 => prop::collection::vec(1_usize..40, 1..6).prop_map(Action::Add),
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
            let mut requests: BTreeMap<RequestId, Vec<usize>> = BTreeMap::new();
            // How many batches each running sample has sat out in a row.
            let mut sat_out: BTreeMap<SampleId, usize> = BTreeMap::new();
            let mut peak = 0;
            for (next, action) in (0..).map(RequestId).zip(actions) {
                match action {
                    Action::Add(rows) => {
                        batcher.add(next, (0..).zip(rows.iter().copied()));
                        requests.insert(next, rows);
                    }
                    Action::Cancel(index) => {
                        let Some(&request) = requests.keys().nth(index) else { continue };
                        batcher.cancel(request);
                        requests.remove(&request);
                        sat_out.retain(|sample, _| sample.request != request);
                    }
                    Action::Evaluate { retire } => {
                        let idle = batcher.running.is_empty() && batcher.waiting.is_empty();
                        let batch = batcher.next_batch();
                        prop_assert_eq!(batch.is_empty(), idle);
                        let rows: usize =
                            batch.iter().map(|id| requests[&id.request][id.sample as usize]).sum();
                        prop_assert!(rows <= max_rows || batch.len() == 1);
                        let running: Vec<SampleId> = batcher.running.iter().map(|entry| entry.id).collect();
                        let whole = running.iter().all(|id| id.request == running[0].request);
                        prop_assert!(running.len() <= max_running || whole);
                        peak = peak.max(running.len());
                        for sample in &running {
                            let missed = sat_out.entry(*sample).or_default();
                            *missed = if batch.contains(sample) { 0 } else { *missed + 1 };
                            prop_assert!(*missed < peak, "{:?} sat out {} batches", sample, missed);
                        }
                        for sample in batch.into_iter().take(retire) {
                            batcher.retire(sample);
                            sat_out.remove(&sample);
                        }
                    }
                }
            }
        }
    }
}
