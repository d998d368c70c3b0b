//! `unmask try` and `unmask fill`: a request whose denoising is seen in the terminal.
//!
//! `api` asks the HTTP routes, those of this process or a server's, and both are read as events. `run` folds
//! these, `picture` makes rows of what is known, `screen` draws them. `visible` stands between every text
//! that somebody else wrote and the terminal.

pub(crate) mod api;
mod picture;
mod run;
mod screen;
mod show;
pub(crate) mod visible;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use self::api::{Api, AskError, Source};
use self::run::Run;
use self::show::Show;
use self::visible::visible_line;
use crate::config::{FillArgs, LengthArg, LogArgs, LogFormat, TerminalArgs, TryArgs};
use crate::input::read_bounded;
use crate::log::Log;
use crate::observation::now;
use crate::panics;
use crate::shutdown::{Signals, Starting};
use crate::state::Limits;

/// How often a picture is looked at again when nothing happens: its seconds go on, its terminal changes.
const TICK: Duration = Duration::from_millis(100);

/// The exit code of a process that was interrupted.
const INTERRUPTED: i32 = 130;

/// What is asked, and what stands around its holes.
struct Question {
    path: &'static str,
    body: Value,
    given: Vec<String>,
    /// Lengths are searched. Such a run has no states.
    searches: bool,
    output: Option<PathBuf>,
}

/// `unmask try`.
///
/// # Errors
/// The model cannot be loaded, the server not be reached, or the request is refused.
pub fn try_prompt(args: &TryArgs) -> anyhow::Result<()> {
    let mut body = body(&args.shared);
    body["prompt"] = json!(args.prompt);
    body["diffusion"]["stream_states"] = json!("delta");
    set(&mut body, "max_tokens", args.max_tokens);
    let given = vec![args.prompt.clone(), String::new()];
    let question = Question { path: "/v1/completions", body, given, searches: false, output: None };
    answer(&question, &args.shared)
}

/// `unmask fill`.
///
/// # Errors
/// As [`try_prompt`]; the file cannot be read, or has no hole.
pub fn fill_file(args: &FillArgs) -> anyhow::Result<()> {
    let name = match args.file.display().to_string().as_str() {
        "-" => "standard input".to_owned(),
        name => visible_line(name),
    };
    let text = read(&args.file).with_context(|| format!("cannot read {name}"))?;
    let given: Vec<String> = match args.marker.as_str() {
        "" => bail!("--marker is empty"),
        marker => text.split(marker).map(str::to_owned).collect(),
    };
    if given.len() == 1 {
        bail!("{name} has no hole: write {} where there should be one", visible_line(&args.marker));
    }
    let mut body = body(&args.shared);
    if let [prefix, suffix] = &given[..] {
        // The form of which the model may be shown a part: files are long.
        body["prefix"] = json!(prefix);
        body["suffix"] = json!(suffix);
    } else {
        body["template"] = json!(text);
        body["marker"] = json!(args.marker);
    }
    set(&mut body, "length", args.length.map(LengthArg::json));
    let searches = !matches!(args.length, Some(LengthArg::Exactly(_)));
    let question = Question { path: "/fill", body, given, searches, output: args.output.clone() };
    answer(&question, &args.shared)
}

/// A file or standard input, which may have no end, up to what a request may hold.
fn read(file: &Path) -> anyhow::Result<String> {
    let most = Limits::default().body_bytes;
    let bytes = match file == Path::new("-") {
        true => read_bounded(std::io::stdin().lock(), most)?,
        false => read_bounded(std::fs::File::open(file)?, most)?,
    };
    let bytes = bytes
        .with_context(|| format!("it is longer than {most} bytes, which is more than a request holds"))?;
    Ok(String::from_utf8(bytes)?)
}

/// The settings that both routes have.
fn body(args: &TerminalArgs) -> Value {
    let mut body = json!({ "stream": true, "diffusion": {} });
    set(&mut body, "temperature", args.temperature);
    set(&mut body, "top_p", args.top_p);
    set(&mut body, "seed", args.seed);
    set(&mut body["diffusion"], "steps", args.steps);
    set(&mut body["diffusion"], "preset", args.preset.as_deref());
    body
}

fn set(object: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object[name] = value.into();
    }
}

fn source(args: &TerminalArgs) -> Source<'_> {
    let (url, key) = (args.url.as_ref(), args.api_key.as_ref());
    Source { url, key, model: args.model.as_deref(), load: &args.load }
}

fn answer(question: &Question, args: &TerminalArgs) -> anyhow::Result<()> {
    let log = LogArgs { log: args.log.clone(), log_format: LogFormat::Text };
    let _log = Log::to_stderr(&log).map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let (starting, api) = {
        // The engine and its routes belong to a runtime, and so do signals.
        let _entered = runtime.enter();
        let signals = Signals::listen().context("cannot listen for signals")?;
        (Starting::watch(signals, None), Api::open(source(args))?)
    };
    let answer = async {
        let mut signals = starting.over().await.context("cannot listen for signals")?;
        let before = if question.searches { "trying lengths" } else { "waiting" };
        let mut show = Show::open(args, &question.given, before)?;
        let (start, path) = (now(), question.path);
        let mut run = follow(api.ask(path, &question.body), start, &mut show, &mut signals).await?;
        if question.searches && matches!(show, Show::Live(_)) {
            let body = exactly(&question.body, &run);
            run = follow(api.ask(path, &body), start, &mut show, &mut signals).await?;
        }
        show.end(&run, now() - start, question.output.as_deref())?;
        if run.end.is_some_and(|end| end.timed_out) {
            bail!("the server's time for the request was over before the text was whole");
        }
        Ok(())
    };
    let answered = panics::as_error(&api.model(), || runtime.block_on(answer));
    runtime.shutdown_background();
    answered
}

/// Shows the events of a request to their end: what they have told. Times count from `start`.
async fn follow(
    events: impl Stream<Item = Result<String, AskError>>,
    start: Instant,
    show: &mut Show,
    signals: &mut Signals,
) -> anyhow::Result<Run> {
    let mut run = Run::default();
    let mut events = pin!(events);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(data) = event.transpose()? else { break };
                show.event(&data)?;
                run.take(&data, now() - start)?;
            }
            _ = ticks.tick() => {}
            _ = signals.next() => {
                std::mem::replace(show, Show::Json).abandon();
                std::process::exit(INTERRUPTED);
            }
        }
        show.frame(&run, now() - start)?;
    }
    if run.end.is_none() {
        bail!("the answer broke off before its end");
    }
    Ok(run)
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
