//! The records of a run as numbers, and what is wrong with them.

mod numbers;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::numbers::{finished, steady};
use crate::ending::milliseconds;
use crate::observe::{About, MemorySample};
use crate::quantiles::Quantiles;
use crate::run::{Capacity, IDLE_WITHIN, Run};
use crate::verify::Verified;

/// The settings of the load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Requests a second.
    pub rate: f64,
    /// Seconds during which requests were due.
    pub seconds: f64,
    /// Seed of the trace.
    pub seed: u64,
    /// Routes and their shares.
    pub mix: String,
    /// Canvas sizes and their shares.
    pub sizes: String,
    /// Share of streams that was asked for, before slow and vanishing clients.
    pub streamed: f64,
    /// Share of clients that go away.
    pub vanishing: f64,
    /// Share of slow readers.
    pub slow: f64,
    /// The deadline that requests asked for, in milliseconds.
    pub deadline_ms: Option<f64>,
}

/// Limits that a run must keep, besides right answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expectations {
    /// The 99th percentile of the time in the queue, in milliseconds.
    pub queue_p99_ms: Option<f64>,
    /// Growth of the server's memory from the first to the last quarter of the run, in percent.
    pub memory_growth_percent: Option<f64>,
}

/// Everything that is reported about a run but its single requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The server.
    pub server: About,
    /// The load.
    pub settings: Settings,
    /// The server's capacity, if it was measured first.
    pub capacity: Option<Capacity>,
    /// The number of requests by ending.
    pub counts: Counts,
    /// Refusals by status and code.
    pub refusals: Vec<RefusalCount>,
    /// Failures by kind.
    pub failures: BTreeMap<String, FailureCount>,
    /// The server's output per second.
    pub rates: Rates,
    /// Milliseconds.
    pub times: Times,
    /// End to end by size of the canvas, in milliseconds; steady readers only.
    pub by_canvas: BTreeMap<u32, Quantiles>,
    /// The most canvases that shared an evaluation.
    pub batch_peak: Option<u32>,
    /// The server's memory.
    pub memory: Option<MemoryGrowth>,
    /// Time from the last end until the server was idle, in milliseconds.
    pub idle_after_ms: Option<f64>,
    /// The comparison with answers alone.
    pub verified: Option<Verified>,
    /// Why the run failed; empty if it did not.
    pub faults: Vec<String>,
}

/// The number of requests by ending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All of them.
    pub sent: usize,
    /// With an answer.
    pub finished: usize,
    /// With 503 or 429.
    pub refused: usize,
    /// With a deadline that the run asked for.
    pub expired: usize,
    /// By the client, as planned.
    pub vanished: usize,
    /// Requests that ended with an error.
    pub failed: usize,
}

/// Refusals of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusalCount {
    /// 503 or 429.
    pub status: u16,
    /// The error's code.
    pub code: String,
    /// Number of refusals.
    pub count: usize,
    /// The number of them with `Retry-After`.
    pub with_retry_after: usize,
    /// The least and the most seconds it said.
    pub retry_after: Option<(u64, u64)>,
}

/// Failures of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailureCount {
    /// Number of failures.
    pub count: usize,
    /// The first one.
    pub first: String,
}

/// Output per second, from the start of the run to its last end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Seconds that the run took.
    pub elapsed_s: f64,
    /// Finished requests.
    pub finished: f64,
    /// Tokens that finished answers kept.
    pub returned_tokens: f64,
    /// Positions, given and generated, times evaluations, of finished answers.
    pub positions_times_passes: f64,
}

/// Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// In the server's queue, as finished answers report it.
    pub queue: Option<Quantiles>,
    /// From when the request was due to the first denoising state, of streams.
    pub first_state: Option<Quantiles>,
    /// Denoising time by evaluations, of finished answers.
    pub evaluation: Option<Quantiles>,
    /// From when the request was due to the end of its answer; steady readers only.
    pub end_to_end: Option<Quantiles>,
    /// Delays of sending.
    pub late: Option<Quantiles>,
}

/// The server's memory at both ends of the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryGrowth {
    /// Mean resident bytes in the first quarter of the samples.
    pub first_quarter: f64,
    /// In the last quarter.
    pub last_quarter: f64,
    /// From one to the other.
    pub growth_percent: f64,
    /// All of them.
    pub samples: Vec<MemorySample>,
}

impl Report {
    /// The numbers of `run`, without faults yet.
    #[must_use]
    pub fn new(server: About, settings: Settings, run: &Run) -> Self {
        Self {
            server,
            settings,
            capacity: None,
            counts: numbers::counts(&run.records),
            failures: numbers::failures(&run.records),
            refusals: numbers::refusals(&run.records),
            rates: numbers::rates(&run.records, run.elapsed),
            times: numbers::times(&run.records),
            by_canvas: numbers::by_canvas(&run.records),
            batch_peak: finished(&run.records).map(|(_, answer)| answer.work.batch_peak).max(),
            memory: numbers::memory(&run.memory),
            idle_after_ms: run.idle_after.map(milliseconds),
            verified: None,
            faults: Vec::new(),
        }
    }

    /// Decides whether the run was as it should be.
    pub fn judge(&mut self, expected: &Expectations) {
        let mut faults = Vec::new();
        for (kind, failure) in &self.failures {
            faults.push(format!("{} × {kind}; the first: {}", failure.count, failure.first));
        }
        for RefusalCount { status, code, count, with_retry_after, .. } in &self.refusals {
            let overload = *status == 429 || code == "server_overloaded";
            if !overload {
                faults.push(format!("{count} × {status} {code}, which is not about load"));
            } else if with_retry_after < count {
                faults.push(format!("{} × {status} {code} without Retry-After", count - with_retry_after));
            }
        }
        if self.idle_after_ms.is_none() {
            faults.push(format!("the server did not say that it was idle within {IDLE_WITHIN:?} of the end"));
        }
        if let Some(verified) = &self.verified {
            if !verified.different.is_empty() {
                faults.push(format!("{} texts were others than alone", verified.different.len()));
            }
            if let Some(first) = verified.unanswered.first() {
                faults.push(format!(
                    "{} requests had no answer alone; the first: {first}",
                    verified.unanswered.len()
                ));
            }
        }
        faults.extend(self.broken_bounds(expected));
        self.faults = faults;
    }

    fn broken_bounds(&self, expected: &Expectations) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |what: &str, unit: &str, value: Option<f64>, bound: Option<f64>| match (value, bound)
        {
            (Some(value), Some(bound)) if value > bound => {
                faults.push(format!("{what} is {value:.1} {unit}, more than {bound} {unit}"));
            }
            (None, Some(_)) => faults.push(format!("{what} was not measured")),
            _ => {}
        };
        let queue = self.times.queue.map(|queue| queue.p99);
        check("the 99th percentile of the queue", "ms", queue, expected.queue_p99_ms);
        let growth = self.memory.as_ref().map(|memory| memory.growth_percent);
        check("the growth of memory", "%", growth, expected.memory_growth_percent);
        faults
    }
}
