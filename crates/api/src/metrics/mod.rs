//! The server's metrics, as typed instruments. The engine adds its own.

pub mod exposition;
pub mod labels;
mod process;
mod record;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};
use unmask_scheduler::EngineMetrics;

use self::exposition::{Format, classic};
use self::labels::{Ending, Operation, Outcome};
pub(crate) use self::record::Record;

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    /// A pattern of the route table, or `unmatched`.
    route: String,
    code_class: &'static str,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    operation: Operation,
    /// An error's code, `cancelled`, or empty.
    error_type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: Operation,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FinishLabels {
    reason: Ending,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

/// The model that is served.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ModelLabels {
    /// Its name in requests.
    pub id: String,
    /// Precision.
    pub dtype: String,
    /// The device.
    pub device: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// The server's instruments and the registry that shows them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    texts: TextMetrics,
    requests: Family<RequestLabels, Counter>,
    rejected: Family<CodeLabels, Counter>,
    /// Connections that were closed because their client did not read.
    pub stalled: Counter,
    disconnects: Counter,
    ready: Gauge,
    draining: Gauge,
}

/// Metrics of requests for texts; every series names the model.
#[derive(Debug)]
struct TextMetrics {
    duration: Histograms<DurationLabels>,
    first_token: Histograms<OperationLabels>,
    per_token: Histograms<OperationLabels>,
    first_state: Histograms<OperationLabels>,
    steps: Histograms<OperationLabels>,
    canvas: Histograms<OperationLabels>,
    tokenize: Histogram,
    finishes: Family<FinishLabels, Counter>,
    prompt_tokens: Counter,
    generated_tokens: Counter,
    returned_tokens: Counter,
}

impl TextMetrics {
    fn register(registry: &mut Registry) -> Self {
        // 10 ms to 82 s, as the GenAI conventions have it; 0.1 ms to 3 s; 1 to 8192.
        let seconds = || Family::new_with_constructor((|| powers(0.01, 14)) as fn() -> Histogram);
        let short = Family::new_with_constructor((|| powers(0.0001, 16)) as fn() -> Histogram);
        let counts = || Family::new_with_constructor((|| powers(1.0, 14)) as fn() -> Histogram);
        let duration = Family::new_with_constructor((|| powers(0.01, 14)) as fn() -> Histogram);
        let mut add = Registration(registry);
        Self {
            duration: add.one(
                "gen_ai_server_request_duration_seconds",
                "From the request to the end of its answer",
                duration,
            ),
            first_token: add.one(
                "gen_ai_server_time_to_first_token_seconds",
                "Until text is settled",
                seconds(),
            ),
            per_token: add.one(
                "gen_ai_server_time_per_output_token_seconds",
                "After the first, by kept token",
                short,
            ),
            first_state: add.one(
                "unmask_time_to_first_state_seconds",
                "Until positions are committed",
                seconds(),
            ),
            steps: add.one("unmask_steps", "Evaluations of a request, over its samples", counts()),
            canvas: add.one("unmask_canvas_length", "Positions to generate, of each prompt", counts()),
            tokenize: add.one(
                "unmask_tokenize_seconds",
                "Checking a request and laying out its canvases",
                powers(0.0001, 16),
            ),
            finishes: add.one(
                "unmask_finish",
                "Texts, and of texts with holes each hole, by the reason of their end",
                Family::default(),
            ),
            prompt_tokens: add.one(
                "unmask_prompt_tokens",
                "Tokens given with accepted requests",
                Counter::default(),
            ),
            generated_tokens: add.one(
                "unmask_generated_tokens",
                "Positions to generate of accepted requests",
                Counter::default(),
            ),
            returned_tokens: add.one(
                "unmask_returned_tokens",
                "Tokens of the texts in answers",
                Counter::default(),
            ),
        }
    }

    fn ended(&self, operation: Operation, record: &Record, took: Duration) {
        let of = OperationLabels { operation };
        let cancelled = record.outcome.is_none().then_some("cancelled");
        let error_type = record.code.or(cancelled).unwrap_or_default();
        self.duration.get_or_create(&DurationLabels { operation, error_type }).observe(took.as_secs_f64());
        if let Some(first) = record.first_state {
            self.first_state.get_or_create(&of).observe(first.as_secs_f64());
        }
        if let Some(first) = record.first_text {
            self.first_token.get_or_create(&of).observe(first.as_secs_f64());
            if record.returned_tokens > 1 {
                let rest = took.saturating_sub(first).as_secs_f64() / (record.returned_tokens - 1) as f64;
                self.per_token.get_or_create(&of).observe(rest);
            }
        }
        if record.accepted {
            self.steps.get_or_create(&of).observe(f64::from(record.steps));
        }
        for length in &record.canvases {
            self.canvas.get_or_create(&of).observe(*length as f64);
        }
        for &reason in &record.endings {
            self.finishes.get_or_create(&FinishLabels { reason }).inc();
        }
        self.prompt_tokens.inc_by(record.prompt_tokens as u64);
        self.generated_tokens.inc_by(record.generated_tokens as u64);
        self.returned_tokens.inc_by(record.returned_tokens as u64);
    }
}

impl Metrics {
    /// Instruments for a model that took `loading` to load, and those for its engine.
    #[must_use]
    pub fn new(model: ModelLabels, loading: Duration) -> (Self, EngineMetrics) {
        let mut registry = Registry::default();
        let of_model = registry.sub_registry_with_label(("model".into(), model.id.clone().into()));
        let (engine, texts) = (EngineMetrics::register(of_model), TextMetrics::register(of_model));
        registry.register_collector(Box::new(process::Process));
        let build = BuildLabels { version: env!("CARGO_PKG_VERSION") };
        registry.register("unmask_build", "The program", Info::new(build));
        registry.register("unmask_model", "The model served", Info::new(model));
        let mut add = Registration(&mut registry);
        let load =
            add.one("unmask_model_load_seconds", "Time that loading the model took", Seconds::default());
        load.set(loading.as_secs_f64());
        let metrics = Self {
            requests: add.one("unmask_requests", "Requests by route and end", Family::default()),
            rejected: add.one(
                "unmask_rejected",
                "Requests for text refused before they were queued",
                Family::default(),
            ),
            stalled: add.one(
                "unmask_stream_stalled",
                "Connections closed since the client did not read",
                Counter::default(),
            ),
            disconnects: add.one("unmask_disconnects", "Requests whose client went away", Counter::default()),
            ready: add.one("unmask_ready", "Whether the server wants requests", Gauge::default()),
            draining: add.one("unmask_draining", "Whether the server is stopping", Gauge::default()),
            texts,
            registry,
        };
        (metrics, engine)
    }

    /// Shows `lost`, which counts lines of the log that were not written.
    pub fn count_lost_lines(&mut self, lost: Counter) {
        self.registry.register("unmask_log_lines_lost", "Lines of the log that were not written", lost);
    }

    /// A body was checked and its canvases were laid out.
    pub fn tokenized(&self, took: Duration) {
        self.texts.tokenize.observe(took.as_secs_f64());
    }

    /// A request has ended after `took`.
    pub(crate) fn ended(&self, route: &str, operation: Option<Operation>, record: &Record, took: Duration) {
        let outcome = record.outcome.unwrap_or(Outcome::Cancelled);
        let code_class = match record.status {
            Some(200..300) => "2xx",
            Some(400..500) => "4xx",
            Some(500..600) => "5xx",
            Some(_) => "other",
            None => "none",
        };
        self.requests.get_or_create(&RequestLabels { route: route.to_owned(), code_class, outcome }).inc();
        if outcome == Outcome::Cancelled {
            self.disconnects.inc();
        }
        let Some(operation) = operation else { return };
        if let Some(code) = record.code.filter(|_| !record.accepted) {
            self.rejected.get_or_create(&CodeLabels { code }).inc();
        }
        self.texts.ended(operation, record, took);
    }

    /// Everything, as text.
    #[must_use]
    pub fn text(&self, format: Format, ready: bool, draining: bool) -> String {
        self.ready.set(i64::from(ready));
        self.draining.set(i64::from(draining));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        match format {
            Format::OpenMetrics => text,
            Format::Classic => classic(&text),
        }
    }
}

type Seconds = Gauge<f64, AtomicU64>;

/// `count` buckets, each twice as wide as the one before, from `first` on.
fn powers(first: f64, count: u16) -> Histogram {
    Histogram::new(exponential_buckets(first, 2.0, count))
}

/// Registers instruments and hands them out.
struct Registration<'a>(&'a mut Registry);

impl Registration<'_> {
    fn one<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}
