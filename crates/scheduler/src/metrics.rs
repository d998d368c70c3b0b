//! The engine's metrics, as typed instruments in a given registry.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

use unmask_model::predictor::MemoStatus;

use crate::cost::CostModel;
use crate::inbox::EngineStatus;

/// The engine's instruments; cheap to clone, and counting whether registered or not.
#[derive(Clone, Debug)]
pub struct EngineMetrics {
    running: Gauge,
    waiting: Gauge,
    backlog: Gauge<f64, AtomicU64>,
    utilization: Gauge<f64, AtomicU64>,
    passes: Counter,
    rows: Counter,
    committed: Counter,
    failures: Counter,
    displaced: Counter,
    forward: Histogram,
    batch: Histogram,
    per_pass: Histogram,
    queued: Histogram,
    overhead: Gauge<f64, AtomicU64>,
    per_row: Gauge<f64, AtomicU64>,
    per_pair: Gauge<f64, AtomicU64>,
    memo_bytes: Gauge,
    memo_budget: Gauge,
    memo_hits: Counter,
    memo_misses: Counter,
    memo_evictions: Counter,
}

impl Default for EngineMetrics {
    fn default() -> Self {
        // 0.5 ms to 65 s, and 1 to 1024 of anything.
        let seconds = || Histogram::new(exponential_buckets(0.0005, 2.0, 18));
        let counts = || Histogram::new(exponential_buckets(1.0, 2.0, 11));
        Self {
            running: Gauge::default(),
            waiting: Gauge::default(),
            backlog: Gauge::default(),
            utilization: Gauge::default(),
            passes: Counter::default(),
            rows: Counter::default(),
            committed: Counter::default(),
            failures: Counter::default(),
            displaced: Counter::default(),
            forward: seconds(),
            batch: counts(),
            per_pass: counts(),
            queued: seconds(),
            overhead: Gauge::default(),
            per_row: Gauge::default(),
            per_pair: Gauge::default(),
            memo_bytes: Gauge::default(),
            memo_budget: Gauge::default(),
            memo_hits: Counter::default(),
            memo_misses: Counter::default(),
            memo_evictions: Counter::default(),
        }
    }
}

impl EngineMetrics {
    /// Instruments that `registry` shows.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let m = &metrics;
        add(registry, "unmask_requests_running", "Requests being denoised", &m.running);
        add(registry, "unmask_requests_waiting", "Accepted requests that do not run yet", &m.waiting);
        add(registry, "unmask_backlog_seconds", "Time until all accepted work is done", &m.backlog);
        add(
            registry,
            "unmask_batch_utilization_ratio",
            "Rows of the last batch, of those it could hold",
            &m.utilization,
        );
        add(registry, "unmask_forward_passes", "Evaluations of the network", &m.passes);
        add(registry, "unmask_rows", "Token rows through the network", &m.rows);
        add(registry, "unmask_committed_tokens", "Positions committed", &m.committed);
        add(registry, "unmask_forward_failures", "Evaluations that failed", &m.failures);
        add(
            registry,
            "unmask_displaced",
            "Waiting requests that made room in a full queue for a client with fewer",
            &m.displaced,
        );
        add(registry, "unmask_forward_seconds", "Time of an evaluation", &m.forward);
        add(registry, "unmask_batch_size", "Canvases in an evaluation", &m.batch);
        add(
            registry,
            "unmask_tokens_committed_per_pass",
            "Positions that an evaluation of one canvas committed",
            &m.per_pass,
        );
        add(registry, "unmask_queue_seconds", "Time from acceptance to the first evaluation", &m.queued);
        add(registry, "unmask_cost_overhead_seconds", "Fitted time of any evaluation", &m.overhead);
        add(registry, "unmask_cost_row_seconds", "Fitted time of a row", &m.per_row);
        add(
            registry,
            "unmask_cost_pair_seconds",
            "Fitted time of a pair of positions in attention",
            &m.per_pair,
        );
        add(registry, "unmask_kv_cache_bytes", "Keys and values kept between evaluations", &m.memo_bytes);
        add(registry, "unmask_kv_cache_limit_bytes", "Most bytes of keys and values", &m.memo_budget);
        add(registry, "unmask_kv_cache_hits", "Canvases whose keys and values were there", &m.memo_hits);
        add(
            registry,
            "unmask_kv_cache_rebuilds",
            "Canvases whose keys and values were computed",
            &m.memo_misses,
        );
        add(
            registry,
            "unmask_kv_cache_evictions",
            "Canvases whose keys and values made room for others",
            &m.memo_evictions,
        );
        metrics
    }

    pub(crate) fn memos(&self, status: &MemoStatus) {
        self.memo_bytes.set(status.bytes as i64);
        self.memo_budget.set(i64::try_from(status.budget).unwrap_or(i64::MAX));
        let counts = [
            (&self.memo_hits, status.hits),
            (&self.memo_misses, status.misses),
            (&self.memo_evictions, status.evictions),
        ];
        for (counter, total) in counts {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    pub(crate) fn cost(&self, cost: &CostModel) {
        self.overhead.set(cost.overhead);
        self.per_row.set(cost.per_row);
        self.per_pair.set(cost.per_pair);
    }

    pub(crate) fn status(&self, status: &EngineStatus) {
        self.running.set(status.running as i64);
        self.waiting.set(status.waiting as i64);
        self.backlog.set(status.backlog.as_secs_f64());
        if status.running == 0 {
            self.utilization.set(0.0);
        }
    }

    pub(crate) fn started(&self, waited: Duration) {
        self.queued.observe(waited.as_secs_f64());
    }

    /// An evaluation that succeeded: its canvases, the rows of them and of the most there may be.
    pub(crate) fn evaluated(&self, canvases: usize, rows: u64, most: usize, took: Duration) {
        self.passes.inc();
        self.rows.inc_by(rows);
        self.batch.observe(canvases as f64);
        self.utilization.set((rows as f64 / most.max(1) as f64).min(1.0));
        self.forward.observe(took.as_secs_f64());
    }

    pub(crate) fn displaced(&self) {
        self.displaced.inc();
    }

    pub(crate) fn failed(&self) {
        self.failures.inc();
    }

    pub(crate) fn committed(&self, positions: usize) {
        self.committed.inc_by(positions as u64);
        self.per_pass.observe(positions as f64);
    }
}

fn add(registry: &mut Registry, name: &str, help: &str, metric: &(impl Metric + Clone)) {
    registry.register(name, help, metric.clone());
}
