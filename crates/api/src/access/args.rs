//! Settings of who may ask, from where, and how much.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;

use crate::access::{HostName, Origin, Proxy};
use crate::values::{ListenArg, Secret, trimmed, yes_or_no};

/// Access: clients, origins and quotas.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessArgs {
    /// Keys that clients must send, as `Authorization: Bearer KEY` or `x-api-key: KEY`: a file with one
    /// `name:key` per line, and maybe ` requests=N tokens=N` for quotas of its own. Read again at SIGHUP. For
    /// a single key there is the environment variable UNMASK_API_KEY.
    #[arg(long, env = "UNMASK_API_KEY_FILE", value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// The variable.
    #[arg(long, hide = true, env = "UNMASK_API_KEY", hide_env_values = true)]
    pub api_key: Option<Secret>,
    /// Do not start without a key.
    #[arg(long, env = "UNMASK_REQUIRE_API_KEY", value_parser = yes_or_no())]
    pub require_api_key: bool,
    /// Ask for a key at /metrics too. (The probes never do.)
    #[arg(long, env = "UNMASK_METRICS_AUTH", value_parser = yes_or_no(), conflicts_with = "metrics_listen")]
    pub metrics_auth: bool,
    /// Serve /metrics at this address instead, and the probes there too, without keys.
    #[arg(long, env = "UNMASK_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<ListenArg>,
    /// POST requests that a client may send in a minute; a client is a key, or an address where there are no
    /// keys [default: any number].
    #[arg(long, env = "UNMASK_REQUESTS_PER_MINUTE", value_name = "N")]
    pub requests_per_minute: Option<NonZeroU32>,
    /// Positions of canvases, given ones and those to be generated, that a client may have computed in a minute
    /// [default: any number].
    #[arg(long, env = "UNMASK_TOKENS_PER_MINUTE", value_name = "N")]
    pub tokens_per_minute: Option<NonZeroU32>,
    /// Proxies whose X-Forwarded-For says which address a request comes from; several with commas.
    #[arg(long, env = "UNMASK_TRUSTED_PROXY", value_name = "ADDRESS|NETWORK", value_delimiter = ',',
          value_parser = trimmed::<Proxy>)]
    pub trusted_proxy: Vec<Proxy>,
    /// Further names that Host may have; several with commas. Names are checked when this is given, and on a
    /// loopback address without keys, where only names of this machine pass otherwise.
    #[arg(long, env = "UNMASK_ALLOWED_HOST", value_name = "NAME", value_delimiter = ',',
          value_parser = trimmed::<HostName>)]
    pub allowed_host: Vec<HostName>,
    /// Origins of pages that may call the server from a browser, such as `https://app.example`; several with
    /// commas [default: none].
    #[arg(long, env = "UNMASK_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',',
          value_parser = trimmed::<Origin>)]
    pub cors_origin: Vec<Origin>,
}
