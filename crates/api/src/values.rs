//! The types of settings that are more than a number or a name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use axum::http::StatusCode;
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use unmask_model::checkpoint::families::{FAMILIES, Family};
use unmask_model::device::{DeviceChoice, Precision};

/// The environment variables of Python's huggingface_hub, with its meanings and its order.
#[derive(Clone, Debug, Default, Args)]
pub struct HubEnvironment {
    /// The hub's address.
    #[arg(long, hide = true, env = "HF_ENDPOINT")]
    pub hf_endpoint: Option<String>,
    /// Access token.
    #[arg(long, hide = true, env = "HF_TOKEN", hide_env_values = true)]
    pub hf_token: Option<Secret>,
    /// The same by its older name.
    #[arg(long, hide = true, env = "HUGGING_FACE_HUB_TOKEN", hide_env_values = true)]
    pub hugging_face_hub_token: Option<Secret>,
    /// The file with the token of a login.
    #[arg(long, hide = true, env = "HF_TOKEN_PATH")]
    pub hf_token_path: Option<PathBuf>,
    /// The token of a login is not to be used.
    #[arg(long, hide = true, env = "HF_HUB_DISABLE_IMPLICIT_TOKEN")]
    pub hf_hub_disable_implicit_token: Option<Truth>,
    /// The home of cache and token.
    #[arg(long, hide = true, env = "HF_HOME")]
    pub hf_home: Option<PathBuf>,
    /// The folder that holds such homes.
    #[arg(long, hide = true, env = "XDG_CACHE_HOME")]
    pub xdg_cache_home: Option<PathBuf>,
    /// The cache.
    #[arg(long, hide = true, env = "HF_HUB_CACHE")]
    pub hf_hub_cache: Option<PathBuf>,
    /// The same by its older name.
    #[arg(long, hide = true, env = "HUGGINGFACE_HUB_CACHE")]
    pub huggingface_hub_cache: Option<PathBuf>,
    /// The cache must do.
    #[arg(long, hide = true, env = "HF_HUB_OFFLINE")]
    pub hf_hub_offline: Option<Truth>,
    /// The same of transformers.
    #[arg(long, hide = true, env = "TRANSFORMERS_OFFLINE")]
    pub transformers_offline: Option<Truth>,
    /// Seconds that the hub may take to say which files there are.
    #[arg(long, hide = true, env = "HF_HUB_ETAG_TIMEOUT")]
    pub hf_hub_etag_timeout: Option<String>,
    /// Seconds that may pass without a byte of a file.
    #[arg(long, hide = true, env = "HF_HUB_DOWNLOAD_TIMEOUT")]
    pub hf_hub_download_timeout: Option<String>,
}

/// A switch as huggingface_hub reads it: `1`, `on`, `yes` and `true` in any case, and everything else is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth(pub bool);

impl FromStr for Truth {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(["1", "on", "yes", "true"].iter().any(|yes| text.eq_ignore_ascii_case(yes))))
    }
}

/// A parser for environment variables of switches: `1`, `true`, `yes` and `on`, or their opposites.
pub(crate) fn yes_or_no() -> BoolishValueParser {
    BoolishValueParser::new()
}

/// `--family`: one of the shelf.
#[derive(Clone, Copy, Debug)]
pub struct FamilyArg(pub &'static Family);

impl FromStr for FamilyArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Family::named(text).map(Self).ok_or_else(|| {
            let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
            format!("no family; one of {}", names.join(", "))
        })
    }
}

/// `--listen`: an address and a port; `localhost:8080`; `:8080`, which is every address of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenArg(pub SocketAddr);

impl FromStr for ListenArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let named = text.rsplit_once(':').and_then(|(host, port)| {
            let port: u16 = port.parse().ok()?;
            Some(SocketAddr::new(host_address(host)?, port))
        });
        named.map(Self).ok_or_else(|| {
            "it must be an address and a port, such as 127.0.0.1:8080 or [::1]:8080, localhost:8080, or :8080 for \
             every address of this machine"
                .to_owned()
        })
    }
}

/// `--host`: an address, `localhost`, or nothing for every address of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostArg(pub IpAddr);

impl FromStr for HostArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        host_address(text)
            .map(Self)
            .ok_or_else(|| "it must be an address, such as 0.0.0.0 or ::1, or localhost".to_owned())
    }
}

fn host_address(host: &str) -> Option<IpAddr> {
    match host {
        "" | "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
        _ if host.eq_ignore_ascii_case("localhost") => Some(Ipv4Addr::LOCALHOST.into()),
        _ => host.trim_start_matches('[').trim_end_matches(']').parse().ok(),
    }
}

/// One of several values in a list, between which blanks may stand.
pub(crate) fn trimmed<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|error: T::Err| error.to_string())
}

/// The format of log lines.
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
    /// The precision that suits model and device.
    Auto,
    /// 32 bits.
    F32,
    /// bfloat16.
    Bf16,
    /// 8-bit integers in the products of the blocks (CPU).
    Int8,
    /// IEEE half precision (CUDA).
    F16,
}

impl From<DtypeArg> for Precision {
    fn from(arg: DtypeArg) -> Self {
        match arg {
            DtypeArg::Auto => Self::Auto,
            DtypeArg::F32 => Self::F32,
            DtypeArg::Bf16 => Self::Bf16,
            DtypeArg::Int8 => Self::Int8,
            DtypeArg::F16 => Self::F16,
        }
    }
}

/// `--overload-status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OverloadArg {
    /// "This replica is full, try another."
    #[value(name = "503")]
    Unavailable,
    /// "You are too fast."
    #[value(name = "429")]
    TooManyRequests,
}

impl From<OverloadArg> for StatusCode {
    fn from(arg: OverloadArg) -> Self {
        match arg {
            OverloadArg::Unavailable => Self::SERVICE_UNAVAILABLE,
            OverloadArg::TooManyRequests => Self::TOO_MANY_REQUESTS,
        }
    }
}

/// A number of bytes; `K`, `M` and `G` behind it, with or without `iB` or `B`, count in powers of 1024.
pub(crate) fn byte_size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => Some(0),
        "k" => Some(10),
        "m" => Some(20),
        "g" => Some(30),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(shift);
    bytes
        .and_then(|(number, shift)| number.checked_mul(1 << shift))
        .ok_or_else(|| "it must be a number of bytes such as 0, 500M or 2G".to_owned())
}

/// A number that JSON can write.
pub(crate) fn finite(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| "it must be a number such as 0.7".to_owned())
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| "it must be an integer of at least 1".to_owned())
}
