//! The commands of the program.

use axum::http::Uri;
use clap::{Args, Parser, Subcommand};

use crate::bench::BenchArgs;
use crate::config::{LISTEN, ListenArg, LoadArgs, LogArgs, ServeArgs};
use crate::config_terminal::{FillArgs, TryArgs};

/// Inference server for masked diffusion language models.
#[derive(Debug, Parser)]
#[command(name = "unmask", version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; nothing means `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings of `serve`, which need not be named.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a model over HTTP (the default).
    Serve(Box<ServeCommand>),
    /// Continue a text, and watch it appear.
    Try(Box<TryArgs>),
    /// Fill the holes in a file, and watch it happen.
    Fill(Box<FillArgs>),
    /// Load a model, check its files against each other, run one evaluation and print what was found.
    Verify(Box<VerifyArgs>),
    /// Measure evaluations of a network with random weights on this machine.
    Bench(Box<BenchArgs>),
    /// Ask a running server whether it is ready: exits with 0 if it is, with 1 and the reason if not.
    Healthcheck(HealthcheckArgs),
    /// Print the OpenAPI document.
    PrintOpenapi,
}

/// `unmask serve`.
#[derive(Debug, Args)]
pub struct ServeCommand {
    /// The model, as with --model.
    #[arg(value_name = "MODEL")]
    path: Option<String>,
    #[command(flatten)]
    args: ServeArgs,
}

impl ServeCommand {
    /// The settings, in which the model stands however it was named.
    #[must_use]
    pub fn settings(self) -> ServeArgs {
        ServeArgs { model: self.path.or(self.args.model), ..self.args }
    }
}

/// Settings of `unmask verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The model: a folder, a GGUF file or a hub name [default: the one inside this program].
    #[arg(env = "UNMASK_MODEL", value_name = "MODEL")]
    pub model: Option<String>,
    /// How it is loaded.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Log lines.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Settings of `unmask healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// The address that the server listens on; one that listens everywhere (0.0.0.0) is asked on loopback.
    #[arg(long, env = "UNMASK_LISTEN", default_value = LISTEN, value_name = "ADDRESS")]
    pub listen: ListenArg,
    /// Ask this URL instead; without a path, its /ready.
    #[arg(long, value_name = "URL")]
    pub url: Option<Uri>,
    /// Seconds that the answer may take.
    #[arg(long, default_value_t = 3, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}
