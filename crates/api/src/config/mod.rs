//! Every setting: a flag with an environment twin. Flags win over the environment, the environment over
//! defaults. All of it is checked before anything is loaded or bound.

mod hub;
mod terminal;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use unmask_model::kernel::CpuFeatures;
use unmask_scheduler::{CostModel, EngineConfig, RowTarget};

pub use self::hub::HubArgs;
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
    /// A LoRA adapter to merge at load: a folder or a hub name.
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

/// Addresses and time limits of the server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// Address and port; localhost:PORT, or :PORT for every address of this machine.
    #[arg(long, env = "UNMASK_LISTEN", default_value = LISTEN, value_name = "ADDRESS")]
    pub listen: ListenArg,
    /// The address alone, instead of the one in --listen. (No variable: Kubernetes sets UNMASK_PORT for a service
    /// called unmask.)
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<HostArg>,
    /// The port alone, instead of the one in --listen.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Seconds between the signal to stop and the refusal of new requests; /ready says no at once, so
    /// that balancers look elsewhere meanwhile.
    #[arg(long, env = "UNMASK_DRAIN_DELAY", default_value_t = 0, value_name = "SECONDS")]
    pub drain_delay: u64,
    /// Seconds that running and waiting requests then have to finish.
    #[arg(long, env = "UNMASK_DRAIN_TIMEOUT", default_value_t = 25, value_name = "SECONDS")]
    pub drain_timeout: u64,
    /// Seconds for which a client may read nothing of an answer. Then its connection is closed (over HTTP/2, its
    /// stream is reset) and its request is cancelled.
    #[arg(long, env = "UNMASK_WRITE_TIMEOUT", default_value_t = 30, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub write_timeout: u64,
    /// Connections at a time; beyond that the one that has been idle for longest makes room for a new one.
    #[arg(long, env = "UNMASK_MAX_CONNECTIONS", default_value_t = 1024, value_name = "N",
          value_parser = at_least_one)]
    pub max_connections: usize,
    /// Seconds that the head of a request may take to arrive; then its connection is closed.
    #[arg(long, env = "UNMASK_HEADER_TIMEOUT", default_value_t = 10, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub header_timeout: u64,
    /// Seconds that a connection may be idle between requests. Set it longer than the idle timeout of a load
    /// balancer in front.
    #[arg(long, env = "UNMASK_IDLE_TIMEOUT", default_value_t = 75, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub idle_timeout: u64,
    /// Seconds that one evaluation may take before /live says 503.
    #[arg(long, env = "UNMASK_WATCHDOG", default_value_t = 120, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub watchdog: u64,
    /// The status of a request that finds the queue full or waits in it for too long.
    #[arg(long, env = "UNMASK_OVERLOAD_STATUS", default_value = "503", value_name = "STATUS")]
    pub overload_status: OverloadArg,
    /// Serve no pages at / and /docs.
    #[arg(long, env = "UNMASK_NO_PLAYGROUND", value_parser = yes_or_no())]
    pub no_playground: bool,
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

impl ServerArgs {
    /// The address to listen on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let ListenArg(listen) = self.listen;
        let host = self.host.map_or(listen.ip(), |HostArg(host)| host);
        SocketAddr::new(host, self.port.unwrap_or(listen.port()))
    }

    /// For the server.
    #[must_use]
    pub fn patience(&self) -> Patience {
        Patience {
            drain_delay: Duration::from_secs(self.drain_delay),
            drain_timeout: Duration::from_secs(self.drain_timeout),
            slow_reader: Duration::from_secs(self.write_timeout),
            header: Duration::from_secs(self.header_timeout),
            idle: Duration::from_secs(self.idle_timeout),
            connections: self.max_connections,
        }
    }
}

/// Limits on shutdown and connections. All zero by default, for servers without sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// From the signal to stop to the refusal of requests.
    pub drain_delay: Duration,
    /// For requests to finish after that.
    pub drain_timeout: Duration,
    /// For a client to take something of its answer.
    pub slow_reader: Duration,
    /// For the head of a request.
    pub header: Duration,
    /// For the next request on a connection.
    pub idle: Duration,
    /// Not a time: how many connections there may be at once.
    pub connections: usize,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::commands::Cli;

    /// Clap itself would refuse `UNMASK_…=1`.
    #[test]
    fn every_switch_takes_1_from_its_variable() {
        let cli = Cli::command();
        let switches: Vec<_> = std::iter::once(&cli)
            .chain(cli.get_subcommands())
            .flat_map(|command| command.get_arguments())
            .filter(|arg| arg.get_env().is_some() && matches!(arg.get_action(), clap::ArgAction::SetTrue))
            .collect();
        assert!(switches.len() > 3, "{switches:?}");
        for switch in switches {
            let values = switch.get_possible_values();
            assert!(values.iter().any(|value| value.matches("1", true)), "{switch:?}");
        }
    }

    #[test]
    fn the_rows_of_an_evaluation_follow_from_what_a_row_costs() {
        let rows = |per_row: f64, flag: Option<usize>| {
            let engine = EngineArgs {
                max_batch_tokens: flag,
                max_running: 1,
                max_queued_requests: 1,
                kv_cache: None,
                max_queue_time: 1,
            };
            engine.config(CostModel { per_row, ..CostModel::default() }).max_rows
        };
        assert_eq!(rows(1e-4, None), 2500);
        assert_eq!((rows(1e-2, None), rows(1e-9, None)), (256, 8192));
        assert_eq!(rows(1e-4, Some(7)), 7);
    }
}
