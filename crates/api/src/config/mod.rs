//! Every setting: a flag with an environment twin. Flags win over the environment, the environment over
//! defaults. All of it is checked before anything is loaded or bound.

mod hub;
mod server;
mod terminal;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use unmask_model::kernel::CpuFeatures;
use unmask_scheduler::{CostModel, EngineConfig, RowTarget};

pub use self::hub::HubArgs;
pub use self::server::{Patience, ServerArgs};
pub use self::terminal::{ChatArgs, FillArgs, LengthArg, TerminalArgs, TryArgs};
pub use crate::access::AccessArgs;
use crate::limits::Limits;
use crate::policy::KvCacheName;
pub use crate::values::{
    DeviceArg, DtypeArg, FamilyArg, HostArg, HubEnvironment, ListenArg, LogFormat, OverloadArg, Secret,
};
use crate::values::{at_least_one, byte_size, yes_or_no};

/// The default address to listen on.
pub(crate) const LISTEN: &str = "127.0.0.1:8080";

/// Settings of `unmask serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The model: a short name such as diffugpt-s (`unmask models` lists them), a hub name, a GGUF file, or a folder
    /// with config.json, tokenizer.json and safetensors files [default: a small model of Python code inside this
    /// program].
    #[arg(long, env = "UNMASK_MODEL", value_name = "NAME|FILE|FOLDER")]
    pub model: Option<String>,
    /// The model's name in requests and answers [default: its folder or hub name, or unmask-code].
    #[arg(long, env = "UNMASK_MODEL_NAME", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub model_name: Option<String>,
    /// Loading of the model.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Addresses and time limits of the server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Access: clients, origins and quotas.
    #[command(flatten)]
    pub access: AccessArgs,
    /// Sharing of the device.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Limits of a request.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Log lines.
    #[command(flatten)]
    pub log: LogArgs,
    /// A TOML file of settings, by the names of the flags. The command line and the environment win over it.
    #[arg(long, env = "UNMASK_CONFIG", value_name = "FILE", help_heading = "Settings")]
    pub config: Option<PathBuf>,
    /// Print the settings in use as such a file, with the source of each, and exit.
    #[arg(long, help_heading = "Settings")]
    pub print_config: bool,
}

/// Loading of a model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct LoadArgs {
    /// The GGUF file or folder of the base, with --model smollm2 [default: the base on the hub].
    #[arg(long, env = "UNMASK_BASE", value_name = "FILE|FOLDER")]
    pub base: Option<PathBuf>,
    /// A LoRA adapter to merge at load: a folder, or a name on the hub, with a revision of its own as owner/name@REVISION.
    #[arg(long, env = "UNMASK_ADAPTER", value_name = "FOLDER|NAME")]
    pub adapter: Option<String>,
    /// The prompt format of messages: a file with a Jinja template, alpaca or diffullama-sft [default: the
    /// template beside the weights].
    #[arg(long, env = "UNMASK_CHAT_TEMPLATE", value_name = "FILE|NAME")]
    pub chat_template: Option<String>,
    /// The text of the mask token, for models whose files do not name one.
    #[arg(long, env = "UNMASK_MASK_TOKEN", value_name = "TEXT")]
    pub mask_token: Option<String>,
    /// The family that the model belongs to, whatever its files call themselves: diffugpt, diffullama, llada,
    /// llada-moe, llada2, dream, qwen2, sdar, fast-dllm-v2 or stable-diffcoder.
    #[arg(long, env = "UNMASK_FAMILY", value_name = "NAME")]
    pub family: Option<FamilyArg>,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, env = "UNMASK_DEVICE", default_value = "auto")]
    pub device: DeviceArg,
    /// Precision; auto is f32 on the CPU, and on CUDA what the reference runs the family in.
    #[arg(long, env = "UNMASK_DTYPE", default_value = "auto")]
    pub dtype: DtypeArg,
    /// The same bits in every batch on a GPU too, by our product in place of cuBLAS's. A CPU gives them
    /// in any case.
    #[arg(long, env = "UNMASK_DETERMINISTIC", value_parser = yes_or_no())]
    pub deterministic: bool,
    /// Instruction set of the CPU kernels: portable, avx2, avx512 or another that this processor has
    /// [default: the highest].
    #[arg(long, env = "UNMASK_CPU", value_name = "LEVEL")]
    pub cpu: Option<CpuFeatures>,
    /// CPU threads that compute; 0 means one per core.
    #[arg(long, env = "UNMASK_THREADS", default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// Bytes of keys and values that are kept between evaluations, for models in blocks and for `kv_cache` of requests; K,
    /// M and G count in powers of 1024 [default: a quarter of the free memory; on a GPU 4G].
    #[arg(long, env = "UNMASK_KV_CACHE_MEMORY", value_name = "BYTES", value_parser = byte_size)]
    pub kv_cache_memory: Option<u64>,
    /// Download a model that needs more memory than this machine has.
    #[arg(long, env = "UNMASK_FORCE", value_parser = yes_or_no())]
    pub force: bool,
    /// The hub and its cache.
    #[command(flatten)]
    pub hub: HubArgs,
}

/// Sharing of the device between requests.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// Tokens that one evaluation computes, summed over the samples in it [default: as many as the device computes in
    /// about 250 ms, from 256 to 8192]. A longer sample is evaluated alone.
    #[arg(long, env = "UNMASK_MAX_BATCH_TOKENS", value_name = "N", value_parser = at_least_one)]
    pub max_batch_tokens: Option<usize>,
    /// Samples that are denoised at the same time, shared by key or address.
    #[arg(long, env = "UNMASK_MAX_RUNNING", default_value_t = 64, value_name = "N",
          value_parser = at_least_one)]
    pub max_running: usize,
    /// Requests in the queue at most, shared by key or address. Further ones are refused.
    #[arg(long, env = "UNMASK_MAX_QUEUED_REQUESTS", default_value_t = 128, value_name = "N",
          value_parser = at_least_one)]
    pub max_queued_requests: usize,
    /// Keys and values that requests keep where they say nothing: off, prefix or dual [default: dual for editors' long
    /// texts, otherwise off]. An approximation for models in which every position sees all others.
    #[arg(long, env = "UNMASK_KV_CACHE", value_name = "NAME")]
    pub kv_cache: Option<KvCacheName>,
    /// Seconds that a request may spend in the queue.
    #[arg(long, env = "UNMASK_MAX_QUEUE_TIME", default_value_t = 30, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub max_queue_time: u64,
}

/// Limits of a request.
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
    /// Tokens to generate per sample.
    #[arg(long, env = "UNMASK_MAX_GENERATED_TOKENS", default_value_t = Limits::default().canvas, value_name = "N",
          value_parser = at_least_one)]
    pub max_generated_tokens: usize,
    /// (given + generated positions) × evaluations × samples.
    #[arg(long, env = "UNMASK_MAX_COST", default_value_t = Limits::default().cost, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub max_cost: u64,
    /// Refuse fields that a route does not know on every route, as /fill always does; otherwise they are
    /// ignored and named in x-ignored-params.
    #[arg(long, env = "UNMASK_STRICT_PARAMS", value_parser = yes_or_no())]
    pub strict_params: bool,
    /// Seconds that a request's body may take to arrive.
    #[arg(long, env = "UNMASK_BODY_TIMEOUT", default_value_t = Limits::default().body_time.as_secs(),
          value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub body_timeout: u64,
    /// Seconds that a request may take: the default of timeout_ms and the most it may be [default: four
    /// times what the request would take alone, at least 120].
    #[arg(long, env = "UNMASK_REQUEST_TIMEOUT", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub request_timeout: Option<u64>,
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

/// Time of the fullest evaluation when no flag gives its rows. Requests join and leave between evaluations,
/// so it is also the time for which a new request waits for its first one. Fewer rows would waste the device
/// on overhead, more would only delay new requests.
const FULL_EVALUATION: RowTarget = RowTarget { time: Duration::from_millis(250), least: 256, most: 8192 };

impl EngineArgs {
    /// For the scheduler, given what evaluations cost.
    #[must_use]
    pub fn config(&self, cost: CostModel) -> EngineConfig {
        EngineConfig {
            max_rows: self.max_batch_tokens.unwrap_or_else(|| FULL_EVALUATION.rows(&cost)),
            row_target: self.max_batch_tokens.is_none().then_some(FULL_EVALUATION),
            max_running: self.max_running,
            queue: self.max_queued_requests,
            max_wait: Duration::from_secs(self.max_queue_time),
            cost,
        }
    }
}

impl LimitArgs {
    /// For the routes of a model with so many positions.
    #[must_use]
    pub fn limits(&self, context: usize) -> Limits {
        Limits {
            body_bytes: self.max_body,
            steps: self.max_steps,
            samples: self.max_samples,
            prompts: self.max_prompts,
            canvas: self.max_generated_tokens.min(context),
            cost: self.max_cost,
            body_time: Duration::from_secs(self.body_timeout),
            strict_params: self.strict_params,
            timeout: self.request_timeout.map(Duration::from_secs),
            ..Limits::default()
        }
    }
}
