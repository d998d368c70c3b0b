//! Observations of a server from outside: its model, its state, its counters, its memory.

use std::convert::Infallible;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::client::Server;
use crate::ending::Failure;
use crate::trace::Room;

/// Time between two questions to a server that should become idle.
const POLL: Duration = Duration::from_millis(5);

/// The model that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// Its name.
    pub model: String,
    /// The sizes of requests that it has room for.
    pub room: Room,
}

/// The state of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Health {
    /// Requests being denoised.
    pub running: u64,
    /// Requests in the queue.
    pub waiting: u64,
}

impl Server {
    /// The model, out of `GET /v1/models`.
    ///
    /// # Errors
    /// If the server does not answer, or not as its contract says.
    pub async fn about(&self) -> Result<About, Failure> {
        let (status, body) = self.get("/v1/models").await?;
        if status != 200 {
            return Err(Failure::Status { status, code: "from /v1/models".to_owned() });
        }
        let body: Value =
            serde_json::from_str(&body).map_err(|error| Failure::Malformed(error.to_string()))?;
        let model = &body["data"][0];
        let positions = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        let about = (|| {
            let room = Room {
                context: positions(&model["max_model_len"])?,
                canvas: positions(&model["limits"]["generated_tokens"])?,
            };
            Some(About { model: model["id"].as_str()?.to_owned(), room })
        })();
        about.ok_or_else(|| Failure::Malformed("/v1/models tells no model and limits".to_owned()))
    }

    /// The state of the server; `None` if it does not say.
    pub async fn health(&self) -> Option<Health> {
        let (_, body) = self.get("/health").await.ok()?;
        serde_json::from_str(&body).ok()
    }

    /// Rows that it put through the network since it started; none if it has no such counter.
    pub async fn rows(&self) -> Option<f64> {
        let (status, text) = self.get("/metrics").await.ok()?;
        counter(&text, "unmask_rows_total").filter(|_| status == 200)
    }

    /// Waits until `holds` for the server's health; how long that took, or none if it took longer than
    /// `limit` or the server does not say.
    pub async fn until(&self, limit: Duration, holds: impl Fn(Health) -> bool) -> Option<Duration> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if holds(self.health().await?) {
                return Some(start.elapsed());
            }
            sleep(POLL).await;
        }
        None
    }

    /// [`Self::until`] nothing runs and nothing waits.
    pub async fn until_idle(&self, limit: Duration) -> Option<Duration> {
        self.until(limit, |health| health.running + health.waiting == 0).await
    }
}

/// The sum of a metric over its labels, in Prometheus' text format.
fn counter(text: &str, name: &str) -> Option<f64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        // Otherwise this is a longer name.
        let labels_or_value = rest.starts_with(['{', ' ']);
        labels_or_value.then(|| rest.rsplit('}').next()?.split_whitespace().next()?.parse::<f64>().ok())?
    });
    samples.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

/// The memory of a process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MemorySample {
    /// Seconds since the start of the run.
    pub at_s: f64,
    /// Resident bytes.
    pub bytes: u64,
}

/// Adds the resident memory of process `pid` to `samples` every second, until it is dropped. Without such
/// a process nothing is added.
pub async fn watch_memory(pid: Option<u32>, samples: &mut Vec<MemorySample>) -> Infallible {
    let Some(pid) = pid else { return std::future::pending().await };
    let start = Instant::now();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        second.tick().await;
        let status = tokio::fs::read_to_string(format!("/proc/{pid}/status")).await.unwrap_or_default();
        if let Some(bytes) = resident(&status) {
            samples.push(MemorySample { at_s: start.elapsed().as_secs_f64(), bytes });
        }
    }
}

/// `VmRSS` of a process' status, in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_their_labels() {
        let text = "# TYPE unmask_rows_total counter\n\
            unmask_rows_total{model=\"a b\"} 40\nunmask_rows_total{model=\"c\"} 2 1700000000\n\
            unmask_rows_total_created 9\n";
        assert_eq!(counter(text, "unmask_rows_total"), Some(42.0));
        assert_eq!(counter(text, "unmask_other_total"), None, "absent is not 0");
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(resident("Name:\tunmask\nVmRSS:\t    2048 kB\nThreads:\t3\n"), Some(2 << 20));
        assert_eq!(resident("Name:\tzombie\n"), None);
    }
}
