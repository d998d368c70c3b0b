//! Turns and places, by example and by property.

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
    Member { sample, rows, price: rows as u64, memo: 0, twin_of: sample }
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
fn samples_enter_one_by_one_in_order_of_arrival() {
    let mut batcher = Batcher::new(100, 3);
    batcher.add(RequestId(0), ALICE, members([1, 1]));
    batcher.add(RequestId(1), ALICE, members([1, 1]));
    batcher.add(RequestId(2), ALICE, members([1]));
    assert_eq!(batcher.next_batch(), [id(0, 0), id(1, 0), id(2, 0)]);
    assert_eq!((batcher.waiting(), batcher.next_batch().len()), (0, 3));
    batcher.retire(id(1, 0));
    assert_eq!(batcher.next_batch(), [id(0, 0), id(2, 0), id(1, 1)]);
    batcher.cancel(RequestId(1));
    assert_eq!(batcher.next_batch(), [id(0, 0), id(2, 0), id(0, 1)]);
}

#[test]
fn a_request_above_the_limit_of_samples_enters_as_others_leave() {
    let mut batcher = Batcher::new(100, 2);
    batcher.add(RequestId(0), ALICE, members([1; 5]));
    for sample in 0..4 {
        assert_eq!(batcher.next_batch(), [id(0, sample), id(0, sample + 1)]);
        batcher.retire(id(0, sample));
    }
    assert_eq!(batcher.next_batch(), [id(0, 4)]);
}

/// A request of 512 samples kept every other client out until it was done.
#[test]
fn a_client_with_none_running_is_admitted_at_once() {
    let mut batcher = Batcher::new(1000, 64);
    batcher.add(RequestId(0), ALICE, members([1; 512]));
    assert_eq!(batcher.next_batch().len(), 64);
    batcher.add(RequestId(1), BOB, members([1]));
    assert!(batcher.next_batch().contains(&id(1, 0)));
    batcher.add(RequestId(2), BOB, members([1; 100]));
    let batch = batcher.next_batch();
    let of_bob = batch.iter().filter(|sample| sample.request != RequestId(0)).count();
    assert_eq!((batch.len(), of_bob), (64, 32));
    // The client that asked for most is not shut out either.
    batcher.cancel(RequestId(1));
    batcher.cancel(RequestId(2));
    assert_eq!(batcher.next_batch().len(), 64);
}

#[test]
fn requests_of_one_client_share_its_places() {
    let mut batcher = Batcher::new(1000, 8);
    batcher.add(RequestId(0), ALICE, members([1; 50]));
    batcher.next_batch();
    batcher.add(RequestId(1), ALICE, members([1; 3]));
    let batch = batcher.next_batch();
    assert_eq!(batch.iter().filter(|sample| sample.request == RequestId(1)).count(), 3);
    assert_eq!(batch.len(), 8);
}

#[test]
fn more_clients_than_places_take_turns() {
    let mut batcher = Batcher::new(1000, 2);
    for client in 0..5 {
        batcher.add(RequestId(client), ClientId(client), members([1; 4]));
    }
    let mut turns = [0; 5];
    for _ in 0..50 {
        batcher.next_batch().into_iter().for_each(|sample| turns[sample.request.0 as usize] += 1);
    }
    assert_eq!(turns, [20; 5]);
}

/// A pause must not lose what a sample has earned.
#[test]
fn a_paused_sample_goes_on_where_it_was() {
    let mut batcher = Batcher::new(1000, 2);
    batcher.add(RequestId(0), ALICE, members([1, 4]));
    assert_eq!(batcher.next_batch(), [id(0, 0)]);
    batcher.add(RequestId(1), BOB, members([1]));
    assert_eq!(batcher.next_batch(), [id(0, 0), id(1, 0)]);
    batcher.retire(id(1, 0));
    // Half of what it costs per turn, as one of two samples of its client beside none: three turns are left.
    let turns = (0..9).take_while(|_| !batcher.next_batch().contains(&id(0, 1))).count();
    assert_eq!(turns, 2);
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
    let mut short = 0;
    let mut long = 0;
    for _ in 0..330 {
        let batch = batcher.next_batch();
        short += usize::from(batch.contains(&id(1, 0)));
        long += usize::from(batch.contains(&id(0, 0)));
    }
    // 320 rows are paid for by 32 turns of 10.
    assert_eq!((short, long), (330, 10));
}

/// The lengths of one hole that are tried side by side: one that missed the first evaluation would hold up the answer.
#[test]
fn canvases_of_nearly_the_same_price_meet_from_the_first_evaluation_on() {
    let mut batcher = Batcher::new(10_000, 8);
    batcher.add(RequestId(0), ALICE, members([240, 241, 242, 243, 244, 245, 246, 247]));
    for _ in 0..4 {
        assert_eq!(batcher.next_batch().len(), 8);
    }
}

/// Evaluations of two canvases together cost less than one after the other.
#[test]
fn canvases_of_nearly_the_same_price_meet_in_most_evaluations() {
    for (short, long, share) in [(30, 31, 0.96), (100, 110, 0.9), (100, 120, 0.83)] {
        let mut batcher = Batcher::new(1000, 8);
        batcher.add(RequestId(0), ALICE, members([short]));
        batcher.add(RequestId(1), BOB, members([long]));
        let batches: Vec<_> = (0..1000).map(|_| batcher.next_batch().len()).collect();
        let met = batches.iter().filter(|samples| **samples == 2).count() as f64 / batches.len() as f64;
        assert!(met >= share, "{short} and {long} met in {met} of the evaluations");
    }
}

/// A client that sends ten requests would otherwise get ten times the device of one that sends one.
#[test]
fn clients_share_alike_whatever_their_samples() {
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
    batcher.add(RequestId(0), ALICE, members([1]));
    batcher.add(RequestId(3), ALICE, members([1]));
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
    fn budgets_hold_and_no_sample_starves(
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
                    let idle = batcher.running.is_empty() && batcher.lines.clients().is_empty();
                    let batch = batcher.next_batch();
                    prop_assert_eq!(batch.is_empty(), idle);
                    let rows: usize = batch.iter().map(|id| rows_of[id]).sum();
                    prop_assert!(rows <= max_rows || batch.len() == 1);
                    let running: Vec<SampleId> = batcher.running.iter().map(Sample::id).collect();
                    prop_assert!(running.len() <= max_running);
                    paid.retain(|(a, b), _| running.contains(a) && running.contains(b));
                    let places = |client| running.iter().filter(|id| client_of[&id.request] == client).count();
                    for waiting in batcher.lines.clients() {
                        let least = places(waiting) + 1;
                        let most = client_of.values().map(|client| places(*client)).max().unwrap_or(0);
                        prop_assert!(running.len() == max_running && most <= least);
                    }
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

/// Memory that is promised twice would be taken back in the middle of a text, again and again.
#[test]
fn running_samples_keep_no_more_than_there_is_memory_for() {
    let mut batcher = Batcher::new(1000, 8).with_memory(100);
    let kept = |sample, memo| Member { memo, ..member(sample, 10) };
    batcher.add(RequestId(1), ClientId(1), [kept(0, 60)]);
    batcher.add(RequestId(2), ClientId(2), [kept(0, 60)]);
    batcher.add(RequestId(3), ClientId(3), [kept(0, 30)]);
    batcher.add(RequestId(4), ClientId(4), [member(0, 10)]);
    batcher.add(RequestId(5), ClientId(5), [kept(0, 500)]);
    let sample = |request| SampleId { request: RequestId(request), sample: 0 };
    let mut batch = batcher.next_batch();
    batch.sort_unstable();
    // The second has no room, and the third does not overtake it; the fourth needs none, and the fifth, which would never
    // fit, runs without.
    assert_eq!(batch, [sample(1), sample(4), sample(5)]);
    batcher.retire(sample(1));
    let mut batch = batcher.next_batch();
    batch.sort_unstable();
    assert_eq!(batch, [sample(2), sample(3), sample(4), sample(5)]);
}

#[test]
fn a_sample_whose_next_evaluation_is_cheaper_takes_part_more_often() {
    let mut batcher = Batcher::new(1000, 8);
    batcher.add(RequestId(1), ClientId(1), [Member { price: 1000, ..member(0, 500) }]);
    batcher.add(RequestId(2), ClientId(2), [member(0, 10)]);
    let dear = SampleId { request: RequestId(1), sample: 0 };
    let turns = |batcher: &mut Batcher| (0..50).filter(|_| batcher.next_batch().contains(&dear)).count();
    assert!(turns(&mut batcher) <= 1);
    batcher.reprice(dear, 5, 10);
    assert!(turns(&mut batcher) >= 49);
}
