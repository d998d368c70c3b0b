//! The benchmark of continuous batching: what requests cost together and one after another, and what a
//! short request costs beside a long one.

use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::answer::Work;
use crate::call::{Call, Route};
use crate::client::Server;
use crate::ending::{Ending, Failure, milliseconds};
use crate::observe::About;
use crate::quantiles::sorted;
use crate::trace::{Planned, Reader};

/// The longest time in which the server must become idle between two measurements, and begin a long request.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Positions beside a canvas: a document start and the few words around it.
const AROUND: u32 = 16;

/// The measurements to take.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Requests that are sent together.
    pub requests: u32,
    /// Positions that each of them generates; one comparison per size.
    pub canvases: Vec<u32>,
    /// Positions of the long canvas; less if the model has no room for it.
    pub long: u32,
    /// Number of repetitions of each measurement, taken in turns.
    pub repeats: u32,
}

/// Why the comparison ended early.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A request did not finish; nothing can be said about its time.
    #[error("a request did not finish: {0}")]
    Unfinished(Ending),
    /// The server is not idle, or did not begin, or does not say.
    #[error("the server did not become {0} within {READY_WITHIN:?}; another client may be using it")]
    NotReady(&'static str),
    /// The server did not tell about itself.
    #[error(transparent)]
    About(#[from] Failure),
}

/// Times of the same thing, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Repeats {
    /// The shortest.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// All, in order of size.
    pub all: Vec<f64>,
}

impl From<Vec<f64>> for Repeats {
    fn from(times: Vec<f64>) -> Self {
        let all = sorted(times);
        let at = |index: usize| all.get(index).copied().unwrap_or(f64::NAN);
        Self { min: at(0), median: at(all.len() / 2), all }
    }
}

/// The same requests in two orders.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Batching {
    /// Positions that each request generates.
    pub canvas: u32,
    /// Rows of one request in an evaluation: canvas and what is around it.
    pub rows: f64,
    /// All at once, until the last one ends.
    pub together_ms: Repeats,
    /// One after another.
    pub one_by_one_ms: Repeats,
    /// Medians: together by one after another.
    pub ratio: f64,
    /// The most canvases that shared an evaluation.
    pub batch_peak: u32,
}

/// A short fill, alone and beside a long completion.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mixed {
    /// Positions that the short one generates.
    pub short: u32,
    /// Positions that the long one generates.
    pub long: u32,
    /// The short one alone.
    pub alone_ms: Repeats,
    /// The short one, sent when the long one was running.
    pub beside_ms: Repeats,
    /// Medians: beside by alone.
    pub ratio: f64,
    /// Times that the long one was still running when the short one had ended.
    pub overlapped: u32,
    /// The long one alone, once: what a server without batching would have let the short one wait for.
    pub long_ms: f64,
}

/// The whole benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The server.
    pub server: About,
    /// Requests that were sent together.
    pub requests: u32,
    /// Results for each canvas.
    pub batching: Vec<Batching>,
    /// Results of a short request beside a long one.
    pub mixed: Mixed,
    /// The share of unread rows in all rows through the network; `None` if the server does not count them.
    pub padding: Option<f64>,
}

/// Takes all measurements of `plan`. The server should have no other clients meanwhile.
///
/// # Errors
/// If a request does not finish, or the server cannot be seen to be idle in between.
pub async fn compare(
    server: &Arc<Server>,
    plan: &Plan,
    progress: &ProgressBar,
) -> Result<Comparison, CompareError> {
    let about = server.about().await?;
    progress.set_length(u64::from(plan.repeats) * (plan.canvases.len() as u64 + 1));
    let before = server.rows().await;
    let mut batching = Vec::new();
    let mut asked = 0;
    for canvas in &plan.canvases {
        let (measured, rows) = together_and_apart(server, plan, *canvas, progress).await?;
        batching.push(measured);
        asked += rows;
    }
    let computed = before.zip(server.rows().await).map(|(before, after)| after - before);
    let padding = computed.filter(|rows| *rows > 0.0).map(|rows| 1.0 - asked as f64 / rows);
    let short = plan.canvases.last().copied().unwrap_or(32);
    let long = plan.long.min(about.room.canvas).min(about.room.context.saturating_sub(AROUND));
    let mixed = short_beside_long(server, plan.repeats, (short, long), progress).await?;
    Ok(Comparison { server: about, requests: plan.requests, batching, mixed, padding })
}

async fn together_and_apart(
    server: &Arc<Server>,
    plan: &Plan,
    canvas: u32,
    progress: &ProgressBar,
) -> Result<(Batching, u64), CompareError> {
    let request = |seed| request(Route::Completion, canvas, seed);
    // The first evaluation of a size pays for memory that later ones find in place.
    let mut seen = vec![perform(server, &request(0)).await?];
    let mut together = Vec::new();
    let mut apart = Vec::new();
    for _ in 0..plan.repeats {
        let start = Instant::now();
        for seed in 0..plan.requests {
            seen.push(perform(server, &request(seed)).await?);
        }
        apart.push(milliseconds(start.elapsed()));

        let start = Instant::now();
        let mut requests = JoinSet::new();
        for seed in 0..plan.requests {
            let server = server.clone();
            let request = request(seed);
            requests.spawn(async move { perform(&server, &request).await });
        }
        for work in requests.join_all().await {
            seen.push(work?);
        }
        together.push(milliseconds(start.elapsed()));
        progress.inc(1);
    }
    let (together_ms, one_by_one_ms) = (Repeats::from(together), Repeats::from(apart));
    let rows: u64 = seen.iter().map(|work| work.rows_computed).sum();
    let passes: u32 = seen.iter().map(|work| work.forward_passes).sum();
    let batching = Batching {
        canvas,
        rows: rows as f64 / f64::from(passes),
        ratio: together_ms.median / one_by_one_ms.median,
        batch_peak: seen.iter().map(|work| work.batch_peak).max().unwrap_or(0),
        together_ms,
        one_by_one_ms,
    };
    Ok((batching, rows))
}

async fn short_beside_long(
    server: &Arc<Server>,
    repeats: u32,
    (short, long): (u32, u32),
    progress: &ProgressBar,
) -> Result<Mixed, CompareError> {
    let long_request = request(Route::Completion, long, 0);
    let start = Instant::now();
    perform(server, &long_request).await?;
    let long_ms = milliseconds(start.elapsed());
    let mut alone = Vec::new();
    let mut beside = Vec::new();
    let mut overlapped = 0;
    for seed in 0..repeats {
        let short_request = request(Route::Fill, short, seed);
        let idle = server.until_idle(READY_WITHIN).await;
        idle.ok_or(CompareError::NotReady("idle"))?;
        let start = Instant::now();
        perform(server, &short_request).await?;
        alone.push(milliseconds(start.elapsed()));

        // Dropping the set closes the long one's connection, and the server forgets it.
        let mut running = JoinSet::new();
        let long_server = server.clone();
        let long_request = long_request.clone();
        running.spawn(async move { perform(&long_server, &long_request).await });
        let begun = server.until(READY_WITHIN, |health| health.running > 0).await;
        begun.ok_or(CompareError::NotReady("busy"))?;
        let start = Instant::now();
        perform(server, &short_request).await?;
        beside.push(milliseconds(start.elapsed()));
        overlapped += u32::from(running.try_join_next().is_none());
        progress.inc(1);
    }
    let alone_ms = Repeats::from(alone);
    let beside_ms = Repeats::from(beside);
    let ratio = beside_ms.median / alone_ms.median;
    Ok(Mixed { short, long, alone_ms, beside_ms, ratio, overlapped, long_ms })
}

fn request(route: Route, canvas: u32, seed: u32) -> Planned {
    let after = if route == Route::Fill { " on." } else { "" };
    let call = Call { route, canvas, before: "The ".to_owned(), after: after.to_owned(), seed };
    Planned { number: 0, at: Duration::ZERO, call, streamed: false, reader: Reader::Steady }
}

/// Performs a request that has to finish.
async fn perform(server: &Server, planned: &Planned) -> Result<Work, CompareError> {
    match server.perform(planned, Instant::now()).await.ending {
        Ending::Finished(answer) => Ok(answer.work),
        other => Err(CompareError::Unfinished(other)),
    }
}
