//! Settings of `unmask eval`.

use std::path::PathBuf;

use axum::http::Uri;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::task::Task;
use crate::config::{LoadArgs, Secret};

/// Settings of `unmask eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The tasks; --list prints them [default with --smoke: all].
    #[arg(value_name = "TASK", required_unless_present_any = ["smoke", "list"])]
    pub tasks: Vec<Task>,
    /// Print the tasks and their files, and stop.
    #[arg(long)]
    pub list: bool,
    /// Ask the ten items of each task that this program carries.
    #[arg(long, conflicts_with = "data")]
    pub smoke: bool,
    /// The folder with the tasks' files, or the one file of a single task.
    #[arg(long, value_name = "PATH", required_unless_present_any = ["smoke", "list"])]
    pub data: Option<PathBuf>,
    /// The first N items of each task [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Prompts and metrics: those of the paper's scripts, or those of lm-evaluation-harness.
    #[arg(long, default_value = "paper", value_name = "NAME")]
    pub protocol: Protocol,
    /// The score of a text, as diffusion.score of /v1/completions [default: reference with the
    /// paper's protocol, chain with the harness's].
    #[arg(long, value_name = "MODE")]
    pub score: Option<ScoreMode>,
    /// Evaluations of a sampled score, and T of generated texts [default: 32 for scores and holes,
    /// 64 for gsm8k, else one for each token].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub steps: Option<u32>,
    /// Random numbers are a function of this number and the item.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(i64).range(0..1 << 40))]
    pub seed: i64,
    /// Items that are asked at the same time, from 1 to 64.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub at_once: u32,
    /// Keep finished items and results in this folder; the same command goes on where it stopped.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Run generated code, by python3 in a process without network and with limits (Linux).
    #[arg(long)]
    pub run_code: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Files of the task infill.
    #[command(flatten)]
    pub files: FileArgs,
    /// Ask this server, http://host:port, instead of loading a model.
    #[arg(long, env = "UNMASK_URL", value_name = "URL")]
    pub url: Option<Uri>,
    /// The key to show to that server.
    #[arg(long, env = "UNMASK_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<Secret>,
    /// The model to load: a folder, a GGUF file or a hub name [default: the one in this program].
    #[arg(long, env = "UNMASK_MODEL", value_name = "FOLDER|NAME")]
    pub model: Option<String>,
    /// The way in which it is loaded.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Log lines: a level, or levels by module.
    #[arg(long, env = "UNMASK_LOG", default_value = "warn", value_name = "FILTER", help_heading = "Log")]
    pub log: String,
}

/// The files of the task `infill`, and how they are cut.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Task infill")]
pub struct FileArgs {
    /// Only files whose names end in .EXT; may be given several times [default: all text files].
    #[arg(long, value_name = "EXT")]
    pub extension: Vec<String>,
    /// Folders and files below --data to leave out; may be given several times.
    #[arg(long, value_name = "PATH")]
    pub leave_out: Vec<String>,
    /// Only the files that `python -m adapt` holds out: those whose path below --data has a SHA-256
    /// with a first byte that 20 divides.
    #[arg(long)]
    pub held_out: bool,
    /// Tokens of a block, from 16 to 4096; less where the model's context is shorter.
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(16..=4096))]
    pub block: u32,
    /// Blocks that are drawn from the files.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub blocks: u32,
}

/// The protocol: its prompts and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The scripts of the paper (arXiv 2410.17891).
    Paper,
    /// lm-evaluation-harness, without examples in the prompt.
    Harness,
}

/// An estimator of how probable a text is, as `diffusion.score.mode` of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ScoreMode {
    /// The paper's scripts' score: a mean over random masks, unweighted.
    Reference,
    /// The true log-probability from left to right, one evaluation for each token.
    Chain,
    /// The chain's score, eight tokens at a time.
    Block,
    /// Each token given all others.
    Pll,
    /// The evidence lower bound.
    Elbo,
}

impl Protocol {
    /// The score that belongs to it.
    pub(super) fn score(self) -> ScoreMode {
        match self {
            Self::Paper => ScoreMode::Reference,
            Self::Harness => ScoreMode::Chain,
        }
    }
}

impl ScoreMode {
    /// True if it is estimated from random masks.
    pub(super) fn is_sampled(self) -> bool {
        matches!(self, Self::Reference | Self::Elbo)
    }
}
