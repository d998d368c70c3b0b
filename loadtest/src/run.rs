//! Sending a trace: open loop, which is how users behave, and closed loop, to find out what a server can do.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::client::Server;
use crate::ending::{Ending, Record};
use crate::observe::{MemorySample, watch_memory};
use crate::trace::{Planned, Trace};

/// The longest time in which a server must drop requests whose clients are gone.
pub const IDLE_WITHIN: Duration = Duration::from_secs(10);

/// A trace that was sent.
#[derive(Debug)]
pub struct Run {
    /// One for every request, in the order of sending.
    pub records: Vec<Record>,
    /// From the start to the end of the last request.
    pub elapsed: Duration,
    /// The server's memory, if it was watched.
    pub memory: Vec<MemorySample>,
    /// Time from the end until the server was idle, if that was within [`IDLE_WITHIN`].
    pub idle_after: Option<Duration>,
}

/// Sends every request when it is due, whatever has become of those before it, and waits for all ends. Once `enough`
/// is ready, nothing more is sent.
pub async fn open_loop(
    server: &Arc<Server>,
    trace: &[Planned],
    pid: Option<u32>,
    enough: impl Future<Output = ()>,
    progress: &ProgressBar,
) -> Run {
    let start = Instant::now();
    let mut memory = Vec::new();
    let records = tokio::select! {
        records = send(server, trace, start, enough, progress) => records,
        never = watch_memory(pid, &mut memory) => match never {},
    };
    let elapsed = start.elapsed();
    let idle_after = server.until_idle(IDLE_WITHIN).await;
    Run { records, elapsed, memory, idle_after }
}

async fn send(
    server: &Arc<Server>,
    trace: &[Planned],
    start: Instant,
    enough: impl Future<Output = ()>,
    progress: &ProgressBar,
) -> Vec<Record> {
    let mut requests = JoinSet::new();
    let mut enough = pin!(enough);
    for planned in trace {
        let due = start + planned.at;
        tokio::select! {
            () = sleep_until(due) => {}
            () = &mut enough => break,
        }
        let server = server.clone();
        let planned = planned.clone();
        let progress = progress.clone();
        requests.spawn(async move {
            let record = server.perform(&planned, due).await;
            progress.inc(1);
            record
        });
    }
    let mut records = requests.join_all().await;
    records.sort_by_key(|record| record.number);
    records
}

/// The capacity of a server.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Capacity {
    /// Finished requests a second.
    pub per_second: f64,
    /// Clients that asked, each for the next request as soon as it had its answer.
    pub clients: usize,
    /// Seconds that were counted.
    pub seconds: f64,
}

/// No capacity could be measured.
#[derive(Debug, thiserror::Error)]
#[error("no request finished while the capacity was measured; the last one ended so: {0}")]
pub struct NoCapacity(String);

/// Measures how many requests of `trace` a second a server finishes when `clients` always wait for one.
/// The first fifth of `window` is not counted: meanwhile the batch fills up.
///
/// # Errors
/// If nothing finishes.
pub async fn closed_loop(
    server: &Arc<Server>,
    trace: Trace,
    clients: usize,
    window: Duration,
) -> Result<Capacity, NoCapacity> {
    let trace = Arc::new(Mutex::new(trace));
    let start = Instant::now();
    let counted = start + window / 5;
    let end = start + window;
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let server = server.clone();
        let trace = trace.clone();
        tasks.spawn(async move {
            let mut ends = Vec::new();
            while Instant::now() < end {
                // A trace is whole between any two requests.
                let next = trace.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(planned) = next else { break };
                let record = server.perform(&planned, Instant::now()).await;
                ends.push((Instant::now(), record.ending));
            }
            ends
        });
    }
    let ends: Vec<(Instant, Ending)> = tasks.join_all().await.into_iter().flatten().collect();
    let finished = ends
        .iter()
        .filter(|(time, ending)| matches!(ending, Ending::Finished(_)) && (counted..end).contains(time));
    let finished = finished.count();
    let seconds = (end - counted).as_secs_f64();
    if finished == 0 {
        return Err(NoCapacity(ends.last().map_or("none was sent".to_owned(), |(_, end)| end.to_string())));
    }
    Ok(Capacity { per_second: finished as f64 / seconds, clients, seconds })
}
