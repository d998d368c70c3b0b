//! The commands of the program.

mod examples;

use axum::http::Uri;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::bench::BenchArgs;
use crate::config::{ChatArgs, FillArgs, LISTEN, ListenArg, LoadArgs, LogArgs, ServeArgs, TryArgs};
use crate::eval::EvalArgs;
use crate::shelf::{HubModelArgs, ModelsArgs, PullArgs};

/// Inference server for masked diffusion language models.
#[derive(Debug, Parser)]
#[command(name = "unmask", version, about, args_conflicts_with_subcommands = true, after_help = examples::PROGRAM)]
pub struct Cli {
    /// The command; without one, `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings of `serve`.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a model over HTTP (the default).
    #[command(after_help = examples::SERVE)]
    Serve(Box<ServeCommand>),
    /// Continue a text, and watch it appear.
    #[command(after_help = examples::TRY)]
    Try(Box<TryArgs>),
    /// Fill the holes in a file, and watch it happen. Without a file, ask for texts.
    #[command(after_help = examples::FILL)]
    Fill(Box<FillArgs>),
    /// Talk to a model that has a chat template.
    #[command(after_help = examples::CHAT)]
    Chat(Box<ChatArgs>),
    /// List the models that the program knows by name, what they need, and whether they fit this machine.
    #[command(after_help = examples::MODELS)]
    Models(ModelsArgs),
    /// Download a model into the cache, or bring it up to date.
    #[command(after_help = examples::PULL)]
    Pull(PullArgs),
    /// Delete a model from the cache, which Python's libraries use as well.
    #[command(after_help = examples::RM)]
    Rm(HubModelArgs),
    /// Print the facts about a model, and its place in the cache.
    #[command(after_help = examples::SHOW)]
    Show(HubModelArgs),
    /// Load a model, check its files against each other, run one evaluation and print what was found.
    #[command(after_help = examples::VERIFY)]
    Verify(Box<VerifyArgs>),
    /// Measure evaluations on this machine, of a model or of random weights.
    #[command(after_help = examples::BENCH)]
    Bench(Box<BenchArgs>),
    /// Run the paper's benchmarks, or held-out infilling of files, and print a table.
    #[command(after_help = examples::EVAL)]
    Eval(Box<EvalArgs>),
    /// Ask a running server whether it is ready: exits with 0 if it is, with 1 and the reason if not.
    #[command(after_help = examples::HEALTHCHECK)]
    Healthcheck(HealthcheckArgs),
    /// Print a script that completes commands and flags in a shell.
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page, for `man -l -`.
    #[command(after_help = examples::MAN)]
    Man {
        /// The page of this command [default: of the program].
        command: Option<String>,
    },
    /// Print the OpenAPI document.
    #[command(after_help = examples::PRINT_OPENAPI)]
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
    /// The model: a short name, a hub name, a GGUF file or a folder [default: the one inside this program].
    #[arg(env = "UNMASK_MODEL", value_name = "MODEL")]
    pub model: Option<String>,
    /// Loading of the model.
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
