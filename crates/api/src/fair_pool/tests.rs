//! Turns, shares, and clients that leave.

use std::sync::mpsc;

use super::*;

const MANY: ClientId = ClientId(1);
const FEW: ClientId = ClientId(2);

/// Starts a piece that waits for a word, and returns when it has begun.
async fn occupy(pool: &FairPool) -> mpsc::Sender<()> {
    let (go, gate) = mpsc::channel();
    let (begun, begins) = oneshot::channel();
    let pool = pool.clone();
    tokio::spawn(async move {
        let work = move |_: &Abandoned| {
            let _ = begun.send(());
            let _ = gate.recv();
        };
        pool.run(MANY, work).await
    });
    begins.await.unwrap();
    go
}

#[tokio::test]
async fn clients_take_turns_whatever_each_has_waiting() {
    let pool = FairPool::new(1, 1);
    let go = occupy(&pool).await;
    let (sender, order) = mpsc::channel();
    let mut pieces = Vec::new();
    for client in [MANY, MANY, MANY, FEW] {
        let sender = sender.clone();
        let mut piece = Box::pin({
            let pool = pool.clone();
            async move { pool.run(client, move |_| sender.send(client).unwrap()).await }
        });
        // The first poll takes its place in the line.
        assert!(futures_util::poll!(&mut piece).is_pending());
        pieces.push(piece);
    }
    go.send(()).unwrap();
    futures_util::future::join_all(pieces).await;
    let order: Vec<ClientId> = order.try_iter().collect();
    assert_eq!(order, [MANY, FEW, MANY, MANY]);
}

#[tokio::test]
async fn no_client_has_more_than_its_share() {
    let pool = FairPool::new(30, 20);
    let one = pool.turn(MANY, 10).await;
    let _two = pool.turn(MANY, 10).await;
    let mut third = Box::pin(pool.turn(MANY, 1));
    assert!(futures_util::poll!(&mut third).is_pending(), "there is room, but not for this client");
    let mut few = Box::pin(pool.turn(FEW, 10));
    let _few = futures_util::poll!(&mut few);
    assert!(_few.is_ready(), "there is room for this one");
    let mut other = Box::pin(pool.turn(FEW, 10));
    assert!(futures_util::poll!(&mut other).is_pending());
    drop(one);
    let third = futures_util::poll!(&mut third);
    assert!(third.is_ready());
    assert!(futures_util::poll!(&mut other).is_pending(), "nine are left");
}

#[tokio::test]
async fn a_piece_larger_than_a_share_takes_all_of_it() {
    let pool = FairPool::new(30, 20);
    let large = pool.turn(MANY, 1000).await;
    assert!(futures_util::poll!(Box::pin(pool.turn(MANY, 1))).is_pending());
    assert!(futures_util::poll!(Box::pin(pool.turn(FEW, 10))).is_ready());
    drop(large);
    assert!(futures_util::poll!(Box::pin(pool.turn(MANY, 20))).is_ready());
}

#[tokio::test]
async fn work_of_a_client_that_has_left_is_not_begun() {
    let pool = FairPool::new(1, 1);
    let go = occupy(&pool).await;
    let mut left = Box::pin(pool.run(MANY, |_| unreachable!("it is given up")));
    assert!(futures_util::poll!(&mut left).is_pending());
    drop(left);
    go.send(()).unwrap();
    assert_eq!(pool.run(FEW, |_| 7).await, Ok(7));
}

#[tokio::test]
async fn work_that_has_begun_learns_that_it_is_abandoned() {
    let pool = FairPool::new(1, 1);
    let (begun, begins) = oneshot::channel();
    let (ended, ends) = oneshot::channel();
    let work = move |abandoned: &Abandoned| {
        let _ = begun.send(());
        while !abandoned.is_set() {
            std::thread::yield_now();
        }
        let _ = ended.send(());
    };
    let mut running = Box::pin(pool.run(MANY, work));
    assert!(futures_util::poll!(&mut running).is_pending());
    begins.await.unwrap();
    drop(running);
    ends.await.unwrap();
}

#[tokio::test]
async fn a_panic_costs_its_own_request_only() {
    let pool = FairPool::new(1, 1);
    let panics = |_: &Abandoned| -> u8 { std::panic::resume_unwind(Box::new("")) };
    assert_eq!(pool.run(MANY, panics).await, Err(Panicked));
    assert_eq!(pool.run(MANY, |_| 7).await, Ok(7));
}
