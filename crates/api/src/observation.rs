//! The record of one request. Every component that works on the request adds to it; when the last reference
//! is dropped, it becomes one log line and its counts. So a request whose client has gone is recorded like
//! any other, once, at its end. Prompts and texts never enter it.

mod log_line;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use tracing::Span;
use tracing::field::Empty;
use unmask_scheduler::{ClientId, Timings};

use crate::access::Client;
use crate::clock::now;
use crate::error::{ApiError, ErrorCode};
use crate::metrics::Record;
use crate::metrics::labels::{Ending, Operation, Outcome};
use crate::prompt::Layout;
use crate::renamed::Renamed;
use crate::state::AppState;
use crate::trace::{RequestId, Trace};

/// The GenAI conventions' names for what a span says; they are still in development, so they stand here
/// and nowhere else.
mod gen_ai {
    pub(super) const OPERATION: &str = "gen_ai.operation.name";
    pub(super) const MODEL: &str = "gen_ai.request.model";
    pub(super) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
    pub(super) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
    pub(super) const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
    pub(super) const ERROR_TYPE: &str = "error.type";
}

/// A share in what is known of a request.
#[derive(Clone)]
pub struct Observation(Arc<Watched>);

struct Watched {
    id: RequestId,
    trace: Trace,
    route: String,
    operation: Option<Operation>,
    arrived: Instant,
    span: Span,
    client: OnceLock<Client>,
    state: AppState,
    record: Mutex<Record>,
}

impl Observation {
    /// The observation of a request that has just arrived.
    #[must_use]
    pub fn begin(request: &Request, state: &AppState) -> Self {
        let (id, trace) = (RequestId::of(request.headers()), Trace::of(request.headers()));
        // What a client sent is not a route's name unless it matched one.
        let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
        let operation = Operation::of(route);
        let span = tracing::info_span!(
            "request",
            request_id = %id,
            trace_id = trace.trace_id,
            span_id = trace.span_id,
            parent_id = trace.parent_id,
            route,
            { gen_ai::OPERATION } = operation.map(Operation::name),
            { gen_ai::MODEL } = operation.map(|_| state.model.id.as_str()),
            { gen_ai::INPUT_TOKENS } = Empty,
            { gen_ai::OUTPUT_TOKENS } = Empty,
            { gen_ai::FINISH_REASONS } = Empty,
            { gen_ai::ERROR_TYPE } = Empty,
        );
        Self(Arc::new(Watched {
            id,
            trace,
            route: route.to_owned(),
            operation,
            arrived: now(),
            span,
            client: OnceLock::new(),
            state: state.clone(),
            record: Mutex::default(),
        }))
    }

    /// The request's id.
    #[must_use]
    pub fn id(&self) -> &RequestId {
        &self.0.id
    }

    /// When it arrived.
    #[must_use]
    pub fn arrived(&self) -> Instant {
        self.0.arrived
    }

    /// The span of its work.
    #[must_use]
    pub fn span(&self) -> Span {
        self.0.span.clone()
    }

    /// Records the client, once it is known and may call.
    pub(crate) fn asked_by(&self, client: Client) {
        // A request passes the middleware that says it once.
        let _ = self.0.client.set(client);
    }

    /// The client, for the scheduler.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.0.client.get().map(Client::id).unwrap_or_default()
    }

    /// It is about to have `tokens` computed: those given and those to be generated, of every canvas.
    ///
    /// # Errors
    /// The client may not have so many in a minute.
    pub fn charge(&self, tokens: usize) -> Result<(), ApiError> {
        let Some(client) = self.0.client.get() else { return Ok(()) };
        self.0.state.access.charge(client, tokens as u64)
    }

    /// It has cost what `tokens` cost, whether its client may have as many or not.
    pub fn spend(&self, tokens: usize) {
        if let Some(client) = self.0.client.get() {
            self.0.state.access.spend(client, tokens as u64);
        }
    }

    /// They are not computed: the engine did not take it.
    pub fn give_back(&self, tokens: usize) {
        if let Some(client) = self.0.client.get() {
            self.0.state.access.give_back(client, tokens as u64);
        }
    }

    /// Its deadline has passed, with nothing to show.
    #[must_use]
    pub fn timed_out(&self, deadline: Option<Instant>) -> ApiError {
        let since = |moment: Instant| moment.saturating_duration_since(self.0.arrived);
        ApiError::Timeout { asked: deadline.map(since).unwrap_or_default(), elapsed: since(now()) }
    }

    /// The engine took it: `samples` of each layout.
    pub fn accepted(&self, layouts: &[Layout], samples: usize) {
        let mut record = self.0.record();
        record.accepted = true;
        record.prompt_tokens = layouts.iter().map(Layout::prompt_tokens).sum();
        record.canvases = layouts.iter().map(Layout::open).collect();
        record.generated_tokens = record.canvases.iter().sum::<usize>() * samples;
        self.0.span.record(gen_ai::INPUT_TOKENS, record.prompt_tokens);
    }

    /// Its body uses former names of fields.
    pub(crate) fn renamed(&self, fields: Vec<Renamed>) {
        self.0.record().renamed = fields;
    }

    /// The former names of fields that its body uses.
    pub(crate) fn renamed_fields(&self) -> Vec<Renamed> {
        self.0.record().renamed.clone()
    }

    /// Several of its canvases hold the same text of `tokens` tokens, which counts once.
    pub fn given(&self, tokens: usize) {
        self.0.record().prompt_tokens = tokens;
        self.0.span.record(gen_ai::INPUT_TOKENS, tokens);
    }

    /// A sample was evaluated; `settled` is whether any text of it stands.
    pub fn step(&self, settled: bool) {
        let age = now().saturating_duration_since(self.0.arrived);
        let mut record = self.0.record();
        record.steps += 1;
        record.first_state.get_or_insert(age);
        if settled {
            record.first_text.get_or_insert(age);
        }
    }

    /// The engine is done with it.
    pub fn spent(&self, timings: Timings) {
        self.0.record().timings = Some(timings);
    }

    /// Its texts took `returned_tokens` and ended for `endings`.
    pub fn generated(&self, returned_tokens: usize, endings: Vec<Ending>) {
        let names: Vec<&str> = endings.iter().map(|ending| ending.name()).collect();
        self.0.span.record(gen_ai::OUTPUT_TOKENS, returned_tokens);
        self.0.span.record(gen_ai::FINISH_REASONS, tracing::field::debug(names));
        let mut record = self.0.record();
        let late = endings.contains(&Ending::Timeout);
        record.outcome.get_or_insert(if late { Outcome::Timeout } else { Outcome::Ok });
        record.returned_tokens = returned_tokens;
        record.endings = endings;
    }

    /// It ended with an error, maybe after its answer had begun.
    pub fn failed(&self, error: &ApiError) {
        self.0.fail(error.status(), error.code());
    }

    /// Its answer goes on after the head, so it is not at its end when the head is.
    pub fn streams(&self) {
        self.0.record().streams = true;
    }

    /// The head of its answer.
    pub fn answered(&self, response: &Response) {
        let (status, code) = (response.status(), response.extensions().get::<ErrorCode>());
        let streams = {
            let mut record = self.0.record();
            record.status = Some(status.as_u16());
            record.streams
        };
        match code {
            Some(ErrorCode(code)) => self.0.fail(status, code),
            None if !streams => drop(self.0.record().outcome.get_or_insert(Outcome::Ok)),
            None => {}
        }
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observation").field("id", &self.0.id).finish_non_exhaustive()
    }
}

impl<S: Sync> FromRequestParts<S> for Observation {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or(ApiError::Internal)
    }
}

impl Watched {
    /// Plain values; a panic elsewhere leaves none half written.
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, status: StatusCode, code: &'static str) {
        let mut record = self.record();
        record.code = Some(code);
        let outcome = Outcome::of(status, code, record.accepted);
        record.outcome.get_or_insert(outcome);
        self.span.record(gen_ai::ERROR_TYPE, code);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let took = now().saturating_duration_since(self.arrived);
        let record = std::mem::take(&mut *self.record());
        self.state.metrics.ended(&self.route, self.operation, &record, took);
        self.write(&record, took);
    }
}
