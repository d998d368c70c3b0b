//! `unmask-loadtest`: load on a running server, and a report about it.

use std::future::pending;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::signal::ctrl_c;
use tokio::sync::oneshot;
use unmask_loadtest::args::{Cli, Command, CompareArgs, FairArgs, Rate, RunArgs};
use unmask_loadtest::client::Server;
use unmask_loadtest::compare::compare;
use unmask_loadtest::ending::Record;
use unmask_loadtest::fair::fair;
use unmask_loadtest::observe::About;
use unmask_loadtest::plot;
use unmask_loadtest::report::Report;
use unmask_loadtest::run::{Capacity, IDLE_WITHIN, closed_loop, open_loop};
use unmask_loadtest::trace::{Load, Trace};
use unmask_loadtest::verify::verify;

/// The content of the file that `--json` names.
#[derive(Serialize)]
struct Everything<'a> {
    report: &'a Report,
    requests: &'a [Record],
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Command::Compare(args)) => run_comparison(args).await.map(|()| true),
        Some(Command::Fair(args)) => run_fair(args).await,
        None => run_load(&cli.run).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("unmask-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the load; returns true if nothing went wrong.
async fn run_load(args: &RunArgs) -> anyhow::Result<bool> {
    let server = Arc::new(args.server());
    let load = args.load().map_err(anyhow::Error::msg)?;
    let about = server.about().await.context("cannot ask the server for its model")?;
    let capacity = match args.rate {
        Rate::PerSecond(_) if !args.calibrate => None,
        _ => Some(calibrate(&server, &load, &about, args).await?),
    };
    if let (true, Some(capacity)) = (args.calibrate, capacity) {
        print(&format!("{capacity}\n"))?;
        return Ok(true);
    }
    let rate = match args.rate {
        Rate::PerSecond(rate) => rate,
        Rate::TimesCapacity(times) => times * capacity.map_or(0.0, |capacity| capacity.per_second),
    };
    let trace = Trace::new(&load, about.room, rate)?.within(Duration::from_secs_f64(args.seconds));
    let bar = progress("requests ended", trace.len() as u64);
    let run = open_loop(&server, &trace, args.pid, interrupted(), &bar).await;
    bar.finish_and_clear();
    let mut report = Report::new(about, args.settings(rate), &run);
    report.capacity = capacity;
    if let Some(sample) = args.verify {
        let bar = progress("compared", 0);
        report.verified = Some(verify(&server, &trace, &run.records, sample, &bar).await);
        bar.finish_and_clear();
    }
    report.judge(&args.expectations());
    if let Some(path) = &args.json {
        write_json(path, &Everything { report: &report, requests: &run.records })?;
    }
    if let Some(path) = &args.plot {
        let svg = plot::draw(&report, &run.records);
        std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&report.to_string())?;
    Ok(report.faults.is_empty())
}

/// Ready at the first Ctrl-C while the future is held. Any other Ctrl-C ends the program.
fn interrupted() -> impl Future<Output = ()> {
    let (enough, told) = oneshot::channel();
    tokio::spawn(async move {
        if ctrl_c().await.is_ok() && (enough.send(()).is_err() || ctrl_c().await.is_ok()) {
            std::process::exit(130);
        }
    });
    async {
        if told.await.is_err() {
            pending().await
        }
    }
}

async fn calibrate(
    server: &Arc<Server>,
    load: &Load,
    about: &About,
    args: &RunArgs,
) -> anyhow::Result<Capacity> {
    // The rate means nothing here: every client asks when it has its answer.
    let trace = Trace::new(&load.patient(), about.room, 1.0)?;
    let window = Duration::from_secs_f64(args.calibrate_seconds);
    let capacity = closed_loop(server, trace, args.calibrate_clients.into(), window).await?;
    server.until_idle(IDLE_WITHIN).await.context("the server is not idle; another client may be using it")?;
    Ok(capacity)
}

async fn run_comparison(args: &CompareArgs) -> anyhow::Result<()> {
    let bar = progress("repeats", 0);
    let comparison = compare(&Arc::new(args.server()), &args.plan(), &bar).await?;
    bar.finish_and_clear();
    print(&comparison.to_string())?;
    args.json.as_deref().map_or(Ok(()), |path| write_json(path, &comparison))
}

/// Compares keys; returns true if nothing went wrong.
async fn run_fair(args: &FairArgs) -> anyhow::Result<bool> {
    let bar = progress("requests ended", 0);
    let fairness = fair(&args.server(), &args.plan(), &bar).await?;
    bar.finish_and_clear();
    print(&fairness.to_string())?;
    args.json.as_deref().map_or(Ok(()), |path| write_json(path, &fairness))?;
    Ok(fairness.faults.is_empty())
}

/// Shown on standard error, and only to a terminal.
fn progress(what: &'static str, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(what);
    let style = ProgressStyle::with_template("{elapsed:>4} {bar:40} {pos}/{len} {msg}");
    style.map_or_else(|_| ProgressBar::hidden(), |style| bar.with_style(style))
}

fn print(text: &str) -> anyhow::Result<()> {
    write!(std::io::stdout().lock(), "{text}").context("cannot print")
}

fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot write numbers as JSON")? + "\n";
    if path == Path::new("-") {
        return print(&text);
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
