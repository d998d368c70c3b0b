//! `unmask`: arguments, log, keys, address, model, engine, server, in this order. Whatever is wrong is said in
//! one line before anybody can connect, and what takes no time before what does.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use unmask_api::access::{Access, reload_on_hangup};
use unmask_api::command_line;
use unmask_api::commands::{Command, HealthcheckArgs, VerifyArgs};
use unmask_api::config::{ListenArg, ServeArgs};
use unmask_api::load::load;
use unmask_api::log::{Log, log_panics, rounded};
use unmask_api::server::Bound;
use unmask_api::shelf::PullArgs;
use unmask_api::shutdown::{Signals, Starting};
use unmask_api::state::AppState;
use unmask_api::{
    allocator, bench, descriptors, eval, healthcheck, output, panics, routes, serve, shelf, shutdown,
    terminal, verify,
};
use unmask_scheduler::{CostModel, Engine};

/// Time for measuring evaluations: long enough for a few, short enough for a start.
const MEASURING: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "the start of the program is measured")]
fn now() -> Instant {
    Instant::now()
}

fn main() -> ExitCode {
    allocator::share_arenas();
    log_panics();
    let parsed = command_line::parse();
    if parsed.prints_config() {
        return finished(command_line::print_config(&parsed, &mut output::stdout()));
    }
    finished(match parsed.cli.command {
        Some(Command::Serve(command)) => run(&command.settings()),
        Some(Command::Try(args)) => terminal::try_prompt(&args),
        Some(Command::Fill(args)) => terminal::fill_file(&args),
        Some(Command::Chat(args)) => terminal::chat(&args),
        Some(Command::Models(args)) => shelf::models(&args, &mut output::stdout()),
        Some(Command::Pull(args)) => interruptible(|| pull(&args)),
        Some(Command::Rm(args)) => shelf::remove(&args, &mut output::stdout()),
        Some(Command::Show(args)) => shelf::show(&args, &mut output::stdout()),
        Some(Command::Verify(args)) => interruptible(|| check(&args)),
        Some(Command::Eval(args)) => interruptible(|| eval::eval(&args, &mut output::stdout())),
        Some(Command::Bench(args)) => interruptible(|| {
            let described = args.model.clone().unwrap_or_else(|| args.arch.spec(args.layers).to_string());
            panics::as_error(&described, || bench::bench(&args, &mut output::stdout()))
        }),
        Some(Command::Healthcheck(args)) => ask(&args),
        Some(Command::Completions { shell }) => command_line::print_completions(shell, &mut output::stdout()),
        Some(Command::Man { command }) => {
            command_line::print_manual(command.as_deref(), &mut output::stdout())
        }
        Some(Command::PrintOpenapi) => print_openapi(),
        None => run(&parsed.cli.serve),
    })
}

/// The exit status, and the error in one line.
fn finished(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // As many lines as were wanted have been read.
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nothing reads it, the exit status still says that it failed.
            let _ = writeln!(std::io::stderr(), "unmask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let starting = {
        let _entered = runtime.enter();
        Starting::watch(Signals::listen().context("cannot listen for signals")?, Some(0))
    };
    let log = Log::to_stderr(&args.log).map_err(anyhow::Error::msg)?;
    tracing::debug!(?args, "settings");
    let address = args.server.address();
    let access = Arc::new(Access::open(&args.access, address)?);
    {
        let _entered = runtime.enter();
        reload_on_hangup(Arc::clone(&access)).context("cannot listen for SIGHUP")?;
    }
    let bound = Bound::bind(address, args.access.metrics_listen.map(|ListenArg(admin)| admin))?;
    let patience = descriptors::enough_for(args.server.patience());
    let start = now();
    let loaded = load(args.model.as_deref(), &args.load)?;
    let described = loaded.description();
    let (mut predictor, served, (mut metrics, engine_metrics)) =
        loaded.served_as(args.model_name.clone(), now() - start);
    metrics.count_lost_lines(log.lost());
    let cost = panics::as_error(&described, || {
        CostModel::measure(&mut predictor, MEASURING, now).context("the model cannot be evaluated")
    })?;
    let config = args.engine.config(cost);
    tracing::info!(
        overhead_ms = rounded(cost.overhead * 1e3),
        row_us = rounded(cost.per_row * 1e6),
        pair_ns = rounded(cost.per_pair * 1e9),
        max_batch_tokens = config.max_rows,
        "measured an evaluation"
    );
    runtime.block_on(async {
        let signals = starting.over().await.context("cannot listen for signals")?;
        let listeners = bound.listen()?;
        let engine = Engine::spawn(predictor, config, engine_metrics).context("cannot start the engine")?;
        let address = listeners.public.local_addr().context("cannot read the address")?;
        tracing::info!(model = %served.id, context = served.limits.context, "listening on http://{address}");
        if let Some(address) = listeners.admin.as_ref().and_then(|admin| admin.local_addr().ok()) {
            tracing::info!("probes and metrics at http://{address}");
        }
        if args.model.is_none() {
            tracing::info!("this is the embedded model; `unmask models` lists others for --model");
        }
        let state = AppState::new(served, (engine, cost), access, metrics, args);
        let state = AppState { patience, ..state };
        serve(listeners, state, shutdown::first(signals)).await.context("cannot serve")
    })?;
    // Handlers that a client keeps waiting must not keep the process.
    runtime.shutdown_background();
    tracing::info!("stopped");
    Ok(())
}

/// Does something that a signal ends at once.
fn interruptible<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let _entered = runtime.enter();
    let _starting = Starting::watch(Signals::listen().context("cannot listen for signals")?, None);
    work()
}

fn pull(args: &PullArgs) -> anyhow::Result<()> {
    let _log = Log::to_stderr(&args.log).map_err(anyhow::Error::msg)?;
    shelf::pull(args, &mut output::stdout())
}

fn check(args: &VerifyArgs) -> anyhow::Result<()> {
    let _log = Log::to_stderr(&args.log).map_err(anyhow::Error::msg)?;
    verify::verify(args, &mut output::stdout())
}

fn ask(args: &HealthcheckArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(healthcheck::healthcheck(args, &mut output::stdout()))
}

fn print_openapi() -> anyhow::Result<()> {
    let text = routes::document().to_pretty_json().context("cannot write the document")?;
    writeln!(output::stdout(), "{text}").context("cannot write the document")
}
