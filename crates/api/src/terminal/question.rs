//! One request, from its body to the end of its answer on the terminal.

use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::bail;
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::api::{Api, AskError};
use super::run::Run;
use super::show::Show;
use crate::clock::now;
use crate::config::TerminalArgs;
use crate::shutdown::Signals;

/// The interval at which a picture is drawn again without events: its seconds go on, its terminal changes.
const TICK: Duration = Duration::from_millis(100);

/// The time for which an evaluation stays in view with `--slow`.
const SLOW: Duration = Duration::from_millis(300);

/// A request, and the texts around its holes.
pub(super) struct Question {
    pub(super) path: &'static str,
    pub(super) body: Value,
    pub(super) given: Vec<String>,
    /// True if lengths are searched. Such a run has no states.
    pub(super) searches: bool,
    pub(super) output: Option<PathBuf>,
}

impl Question {
    /// Asks, and shows the answer. `None` after a signal.
    ///
    /// # Errors
    /// The request is refused, the answer breaks off, or standard output cannot be written to.
    pub(super) async fn ask(
        &self,
        api: &Api,
        args: &TerminalArgs,
        signals: &mut Signals,
    ) -> anyhow::Result<Option<Run>> {
        let before = if self.searches { "trying lengths" } else { "waiting" };
        let mut show = Show::open(args, &self.given, before)?;
        let start = now();
        let mut followed = follow(api.ask(self.path, &self.body), start, &mut show, signals).await?;
        if let Some(run) = &followed
            && self.searches
            && matches!(show, Show::Live(_))
        {
            let body = exactly(&self.body, run);
            followed = follow(api.ask(self.path, &body), start, &mut show, signals).await?;
        }
        let Some(run) = followed else {
            show.abandon();
            return Ok(None);
        };
        show.end(&run, now() - start, self.output.as_deref())?;
        if run.end.as_ref().is_some_and(|end| end.timed_out) {
            bail!("the server's time for the request was over before the text was whole");
        }
        Ok(Some(run))
    }
}

/// Shows the events of a request to their end, and returns what they have told; `None` after a signal. Times count from
/// `start`.
async fn follow(
    events: impl Stream<Item = Result<String, AskError>>,
    start: Instant,
    show: &mut Show,
    signals: &mut Signals,
) -> anyhow::Result<Option<Run>> {
    let mut run = Run::default();
    let mut events = pin!(events);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = Duration::ZERO;
    loop {
        tokio::select! {
            event = events.next(), if now() - start >= next => {
                let Some(data) = event.transpose()? else { break };
                show.event(&data)?;
                let before = run.evaluation;
                run.take(&data, now() - start)?;
                if show.is_slow() && run.evaluation != before {
                    next = now() - start + SLOW;
                }
            }
            _ = ticks.tick() => {}
            _ = signals.next() => return Ok(None),
        }
        show.frame(&run, now() - start)?;
    }
    if run.end.is_none() {
        bail!("the answer broke off before its end");
    }
    Ok(Some(run))
}

/// The request that has the same text as one whose lengths were searched, and this time has states: with the
/// lengths that were found, and the seed.
fn exactly(body: &Value, run: &Run) -> Value {
    let mut body = body.clone();
    if let Some(end) = &run.end {
        match &end.filled[..] {
            [hole] => body["length"] = json!(hole.length),
            holes => body["holes"] = holes.iter().map(|hole| json!({ "length": hole.length })).collect(),
        }
        body["seed"] = json!(end.seed);
    }
    body
}
