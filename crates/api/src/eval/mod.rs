//! `unmask eval`: the paper's benchmarks, and held-out infilling, through the public routes.
//!
//! `task` names the tasks; `find`, `read` and `parquet` bring their files, `record` and `formats` make questions of
//! them, `held_out` cuts files of the user's own. `ask` puts questions to the API and judges the answers (`rouge`,
//! `run_code`), `run` does so for several items at a time, `journal` keeps what is finished, and `report` sums it up
//! (`statistics`), beside the numbers of the `paper`.

mod args;
mod ask;
mod draws;
mod find;
mod formats;
mod held_out;
mod items;
mod journal;
mod paper;
mod parquet;
mod question;
mod read;
mod record;
mod report;
mod rouge;
mod run;
mod run_code;
mod smoke;
mod statistics;
mod task;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, bail};

pub use self::args::{EvalArgs, FileArgs, Protocol, ScoreMode};
use self::ask::Settings;
use self::ask::server::Server;
use self::items::Asked;
use self::report::Report;
use self::run::Runner;
use self::run_code::Sandbox;
pub use self::task::Task;
use crate::config::{LogArgs, LogFormat};
use crate::log::Log;
use crate::panics;
use crate::terminal::api::{Api, Source};

/// Evaluates a model, and writes what was found.
///
/// # Errors
/// A data file is missing or wrong, the model cannot be loaded or the server not be reached, a request is refused, or
/// generated code cannot be run.
pub fn eval(args: &EvalArgs, out: &mut impl Write) -> anyhow::Result<()> {
    if args.list {
        return list(out).context("cannot write the list");
    }
    let log = LogArgs { log: args.log.clone(), log_format: LogFormat::Text };
    let _log = Log::to_stderr(&log).map_err(anyhow::Error::msg)?;
    if let (Some(url), Some(model)) = (&args.url, &args.model) {
        tracing::warn!(%url, model, "--url names a server: its model is measured, and --model is not loaded");
    }
    let tasks = tasks(args)?;
    // Before the model, which may take minutes to load.
    let asked = tasks.iter().map(|task| items::read(*task, args)).collect::<Result<Vec<_>, _>>()?;
    let sandbox = args.run_code.then(Sandbox::open).transpose()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let api = {
        // The engine and its routes belong to a runtime.
        let _entered = runtime.enter();
        let url = args.url.as_ref();
        let key = args.api_key.as_ref();
        Api::open(Source { url, key, model: args.model.as_deref(), load: &args.load })?
    };
    let model = api.model();
    let report = panics::as_error(&model, || runtime.block_on(answer(args, api, sandbox, asked)));
    runtime.shutdown_background();
    let report = report?;
    if let Some(folder) = &args.out {
        let path = folder.join("results.json");
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        report.print(out)?;
    }
    match report.tasks.iter().find(|task| task.items == 0) {
        Some(empty) => bail!("no item of {} could be asked; the table says why", empty.task.name()),
        None => Ok(()),
    }
}

async fn answer(
    args: &EvalArgs,
    api: Api,
    sandbox: Option<Sandbox>,
    asked: Vec<Asked>,
) -> anyhow::Result<Report> {
    let settings = Settings {
        protocol: args.protocol,
        score: args.score.unwrap_or(args.protocol.score()),
        steps: args.steps,
        seed: args.seed,
        block: args.files.block as usize,
        sandbox,
    };
    let server = Server::open(api).await?;
    let runner = Runner {
        server: Arc::new(server),
        settings: Arc::new(settings),
        at_once: args.at_once as usize,
        out: args.out.as_deref(),
    };
    let mut tasks = Vec::new();
    for asked in asked {
        tasks.push(runner.run(asked).await?);
    }
    Ok(Report { model: runner.server.model.id.clone(), settings: runner.settings(), tasks })
}

/// The tasks to run, each once.
fn tasks(args: &EvalArgs) -> anyhow::Result<Vec<Task>> {
    let given = if args.tasks.is_empty() { Task::all() } else { &args.tasks };
    let mut tasks = Vec::new();
    for task in given {
        if !tasks.contains(task) {
            tasks.push(*task);
        }
    }
    let is_file = args.data.as_ref().is_some_and(|data| data.is_file());
    if is_file && tasks.len() > 1 {
        bail!("--data is one file, and {} tasks are named: name one, or give a folder", tasks.len());
    }
    if args.run_code && !tasks.iter().any(|task| task.is_code()) {
        bail!(
            "--run-code needs a task whose answers are code: humaneval-single-line, -multi-line or -random-span"
        );
    }
    Ok(tasks)
}

/// The tasks with their files.
fn list(out: &mut impl Write) -> std::io::Result<()> {
    for task in Task::all() {
        let source = task.source();
        writeln!(out, "{}", task.name())?;
        if !source.files.is_empty() {
            writeln!(out, "  files: {}", source.files.join(", "))?;
        }
        writeln!(out, "  from:  {}", source.origin)?;
    }
    Ok(())
}
