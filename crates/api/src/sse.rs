//! A running request as server-sent events.
//!
//! The response body is a stream that owns the request: when the client disconnects, or does not read for too
//! long (`connection`), the body is dropped, the request with it, and the engine leaves it out of the next
//! evaluation. Until then no event is lost and the engine does not wait: its events are kept.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use unmask_scheduler::Timings;

use crate::error::ApiError;
use crate::generation::{Next, Running, Step};

/// Silence after which something is sent, so that proxies keep the connection and a client that has
/// gone is noticed.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The events that a route writes into its stream.
pub trait Grammar: Send + 'static {
    /// Before the first evaluation.
    fn start(&mut self, running: &Running) -> Vec<Event>;
    /// After an evaluation committed something.
    fn step(&mut self, running: &Running, step: Step) -> Vec<Event>;
    /// After the last evaluation.
    fn finish(&mut self, running: &Running, timings: &Timings) -> Vec<Event>;
    /// Instead of the end, when the engine did not get there.
    fn fail(&mut self, error: &ApiError) -> Vec<Event>;
    /// The event that is sent in times of silence.
    fn keep_alive(&self) -> KeepAlive;
}

/// The response that streams a request under a route's grammar. It begins when the first evaluation is done,
/// so that a request which fails in the queue gets the status of its error; but not later than a proxy's
/// patience allows.
///
/// # Errors
/// The request ended before its first evaluation.
pub async fn respond<G: Grammar>(mut running: Running, mut grammar: G) -> Result<Response, ApiError> {
    let keep_alive = grammar.keep_alive();
    let mut begun = grammar.start(&running);
    let mut phase = Phase::Run;
    // Dropping the wait loses nothing: events are kept until they are read.
    if let Ok(first) = tokio::time::timeout(KEEP_ALIVE, running.next()).await {
        let (next, events) = advance(&running, &mut grammar, Ok(first?));
        begun.extend(events);
        phase = next;
    }
    let rest = events(phase, running, grammar);
    let events = stream::iter(begun).chain(rest).map(Ok::<_, std::convert::Infallible>);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // nginx would otherwise collect the whole stream before passing it on.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

enum Phase {
    Run,
    Over,
}

fn events<G: Grammar>(phase: Phase, running: Running, grammar: G) -> impl Stream<Item = Event> {
    let state = (phase, running, grammar);
    let batches = stream::unfold(state, async |(phase, mut running, mut grammar)| match phase {
        Phase::Run => {
            let found = running.next().await;
            let (phase, events) = advance(&running, &mut grammar, found);
            Some((stream::iter(events), (phase, running, grammar)))
        }
        Phase::Over => None,
    });
    batches.flatten()
}

/// The events for the next report of the engine.
fn advance<G: Grammar>(
    running: &Running,
    grammar: &mut G,
    found: Result<Next, ApiError>,
) -> (Phase, Vec<Event>) {
    match found {
        Ok(Next::Step(step)) => (Phase::Run, grammar.step(running, step)),
        Ok(Next::Finished(timings)) => (Phase::Over, grammar.finish(running, &timings)),
        Err(error) => (Phase::Over, grammar.fail(&error)),
    }
}

/// One event whose data is `value` on a single line.
pub fn json_event(value: &impl Serialize) -> Event {
    with_data(Event::default(), value)
}

/// The same with a name, which comes before the data.
pub fn named_event(name: &str, value: &impl Serialize) -> Event {
    with_data(Event::default().event(name), value)
}

fn with_data(event: Event, value: &impl Serialize) -> Event {
    // Our own types always serialise; an empty event would be the least harm if one ever did not.
    event.data(serde_json::to_string(value).unwrap_or_default())
}
