//! The line of the log that says how a request ended.

use std::time::Duration;

use super::Watched;
use crate::access::Client;
use crate::clock::milliseconds;
use crate::metrics::Record;
use crate::metrics::labels::Outcome;
use crate::renamed;

impl Watched {
    /// Writes the line of a request that took so long.
    pub(super) fn write(&self, record: &Record, took: Duration) {
        let outcome = record.outcome.unwrap_or(Outcome::Cancelled);
        let generating = self.operation.is_some();
        let renamed = renamed::header(&record.renamed);
        macro_rules! line {
            ($level:ident) => {
                tracing::event!(
                    parent: None,
                    tracing::Level::$level,
                    request_id = %self.id,
                    trace_id = self.trace.trace_id,
                    span_id = self.trace.span_id,
                    key = self.client.get().and_then(Client::key_name),
                    route = self.route,
                    status = record.status,
                    code = record.code,
                    model = generating.then_some(self.state.model.id.as_str()),
                    prompt_tokens = record.accepted.then_some(record.prompt_tokens),
                    generated_tokens = record.accepted.then_some(record.generated_tokens),
                    returned_tokens = record.accepted.then_some(record.returned_tokens),
                    deprecated_params = renamed.as_ref().and_then(|names| names.to_str().ok()),
                    steps = record.accepted.then_some(record.steps),
                    queue_ms = record.timings.map(|timings| milliseconds(timings.queued)),
                    denoise_ms = record.timings.map(|timings| milliseconds(timings.denoising)),
                    ms = milliseconds(took),
                    outcome = outcome.name(),
                    "request ended"
                )
            };
        }
        let probe = ["/live", "/ready", "/health", "/metrics"].contains(&self.route.as_str());
        match outcome {
            _ if probe => line!(DEBUG),
            Outcome::Ok | Outcome::ClientError | Outcome::Cancelled => line!(INFO),
            Outcome::Overloaded | Outcome::Drained | Outcome::Timeout => line!(WARN),
            Outcome::Error => line!(ERROR),
        }
    }
}
