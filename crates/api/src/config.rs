//! Every setting: a flag with an environment twin. Flags win over the environment, the environment over
//! defaults. All of it is checked before anything is loaded or bound.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use unmask_model::device::{DeviceChoice, Precision};
use unmask_scheduler::EngineConfig;

use crate::state::Limits;

/// Inference server for masked diffusion language models.
#[derive(Debug, Parser)]
#[command(name = "unmask", version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; nothing means `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a model over HTTP (the default).
    Serve(Box<ServeArgs>),
    /// Load a model, check its files against each other, run one evaluation and print what was found.
    Verify(Box<VerifyArgs>),
    /// Print the OpenAPI document.
    PrintOpenapi,
}

/// Settings of `unmask serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The model: a folder with config.json, tokenizer.json and safetensors files, or a hub name such as
    /// diffusionfamily/diffugpt-s [default: a small model of Python code inside this program].
    #[arg(long, env = "UNMASK_MODEL", value_name = "FOLDER|NAME")]
    pub model: Option<String>,
    /// The model's name in requests and answers [default: its folder or hub name, or unmask-code].
    #[arg(long, env = "UNMASK_MODEL_NAME", value_name = "NAME")]
    pub model_name: Option<String>,
    /// How it is loaded.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Where and how the server listens.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How requests share the device.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// What a request may ask for.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Log lines.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Settings of `unmask verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The model: a folder or a hub name [default: the one inside this program].
    #[arg(env = "UNMASK_MODEL", value_name = "MODEL")]
    pub model: Option<String>,
    /// How it is loaded.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Log lines.
    #[command(flatten)]
    pub log: LogArgs,
}

/// How a model is loaded.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct LoadArgs {
    /// A LoRA adapter to merge at load: a folder or a hub name.
    #[arg(long, env = "UNMASK_ADAPTER", value_name = "FOLDER|NAME")]
    pub adapter: Option<String>,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, env = "UNMASK_DEVICE", default_value = "auto")]
    pub device: DeviceArg,
    /// Precision; auto is f32 on the CPU, and on CUDA what the reference runs the family in.
    #[arg(long, env = "UNMASK_DTYPE", default_value = "auto")]
    pub dtype: DtypeArg,
    /// CPU threads that compute; 0 means one per core.
    #[arg(long, env = "UNMASK_THREADS", default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// Branch, tag or commit of a model on the hub.
    #[arg(long, env = "UNMASK_REVISION", default_value = "main")]
    pub revision: String,
    /// The hub's address [default: HF_ENDPOINT, or huggingface.co].
    #[arg(long, env = "UNMASK_HUB_ENDPOINT", value_name = "URL")]
    pub hub_endpoint: Option<String>,
    /// Access token for the hub [default: HF_TOKEN].
    #[arg(long, env = "UNMASK_HUB_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub hub_token: Option<Secret>,
    /// Folder of the hub's cache [default: HF_HOME, or ~/.cache/huggingface].
    #[arg(long, env = "UNMASK_HUB_HOME", value_name = "FOLDER")]
    pub hub_home: Option<PathBuf>,
    /// The names that other programs use for the same three.
    #[command(flatten)]
    pub standard: HubEnvironment,
}

/// The hub's own environment variables.
#[derive(Debug, Args)]
pub struct HubEnvironment {
    /// The hub's address.
    #[arg(long, hide = true, env = "HF_ENDPOINT")]
    pub hf_endpoint: Option<String>,
    /// Access token.
    #[arg(long, hide = true, env = "HF_TOKEN", hide_env_values = true)]
    pub hf_token: Option<Secret>,
    /// The cache's home.
    #[arg(long, hide = true, env = "HF_HOME")]
    pub hf_home: Option<PathBuf>,
}

/// Where and how the server listens.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// Address and port.
    #[arg(long, env = "UNMASK_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Seconds between the signal to stop and the refusal of new requests; /ready says no at once, so
    /// that balancers look elsewhere meanwhile.
    #[arg(long, env = "UNMASK_DRAIN_DELAY", default_value_t = 0, value_name = "SECONDS")]
    pub drain_delay: u64,
    /// Seconds that running and waiting requests then have to finish.
    #[arg(long, env = "UNMASK_DRAIN_TIMEOUT", default_value_t = 25, value_name = "SECONDS")]
    pub drain_timeout: u64,
}

/// How requests share the device.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// Positions per evaluation, over all canvases that share it.
    #[arg(long, env = "UNMASK_MAX_ROWS", default_value_t = 2048, value_name = "N",
          value_parser = at_least_one)]
    pub max_rows: usize,
    /// Samples that are denoised at the same time.
    #[arg(long, env = "UNMASK_MAX_RUNNING", default_value_t = 64, value_name = "N",
          value_parser = at_least_one)]
    pub max_running: usize,
    /// Requests that may wait.
    #[arg(long, env = "UNMASK_QUEUE", default_value_t = 128, value_name = "N",
          value_parser = at_least_one)]
    pub queue: usize,
}

/// What a request may ask for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits of a request")]
pub struct LimitArgs {
    /// Bytes of the body.
    #[arg(long, env = "UNMASK_MAX_BODY", default_value_t = Limits::default().body_bytes, value_name = "BYTES",
          value_parser = at_least_one)]
    pub max_body: usize,
    /// Largest diffusion.steps.
    #[arg(long, env = "UNMASK_MAX_STEPS", default_value_t = Limits::default().steps, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_steps: u32,
    /// Largest n.
    #[arg(long, env = "UNMASK_MAX_SAMPLES", default_value_t = Limits::default().samples, value_name = "N",
          value_parser = at_least_one)]
    pub max_samples: usize,
    /// Prompts in one request.
    #[arg(long, env = "UNMASK_MAX_PROMPTS", default_value_t = Limits::default().prompts, value_name = "N",
          value_parser = at_least_one)]
    pub max_prompts: usize,
    /// Positions to generate per sample.
    #[arg(long, env = "UNMASK_MAX_CANVAS", default_value_t = Limits::default().canvas, value_name = "N",
          value_parser = at_least_one)]
    pub max_canvas: usize,
    /// (given + generated positions) × evaluations × samples.
    #[arg(long, env = "UNMASK_MAX_COST", default_value_t = Limits::default().cost, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub max_cost: u64,
}

/// Log lines.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// A level, or levels by module.
    #[arg(long, env = "UNMASK_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// text for people, json for programs.
    #[arg(long, env = "UNMASK_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// A value that never shows up in a log line.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// `--device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceArg(pub DeviceChoice);

impl FromStr for DeviceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let cuda = |number: &str| number.parse().ok().map(DeviceChoice::Cuda);
        let choice = match text {
            "auto" => Some(DeviceChoice::Auto),
            "cpu" => Some(DeviceChoice::Cpu),
            "cuda" => Some(DeviceChoice::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(cuda),
        };
        choice.map(Self).ok_or_else(|| "it must be auto, cpu, cuda or cuda:N".to_owned())
    }
}

/// `--dtype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DtypeArg {
    /// What suits model and device.
    Auto,
    /// 32 bits.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half precision (CUDA).
    F16,
}

impl From<DtypeArg> for Precision {
    fn from(arg: DtypeArg) -> Self {
        match arg {
            DtypeArg::Auto => Self::Auto,
            DtypeArg::F32 => Self::F32,
            DtypeArg::Bf16 => Self::Bf16,
            DtypeArg::F16 => Self::F16,
        }
    }
}

impl EngineArgs {
    /// For the scheduler.
    #[must_use]
    pub fn config(&self) -> EngineConfig {
        EngineConfig { max_rows: self.max_rows, max_running: self.max_running, queue: self.queue }
    }
}

impl LimitArgs {
    /// For the routes.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            body_bytes: self.max_body,
            steps: self.max_steps,
            samples: self.max_samples,
            prompts: self.max_prompts,
            canvas: self.max_canvas,
            cost: self.max_cost,
            ..Limits::default()
        }
    }
}

impl ServerArgs {
    /// Time between the signal and the refusal of requests.
    #[must_use]
    pub fn drain_delay(&self) -> Duration {
        Duration::from_secs(self.drain_delay)
    }

    /// Time to finish after that.
    #[must_use]
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout)
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| "it must be an integer of at least 1".to_owned())
}
