//! Settings of `unmask try`, `unmask fill` and `unmask chat`.

use std::path::PathBuf;
use std::str::FromStr;

use axum::http::Uri;
use clap::Args;
use serde_json::{Value, json};

use crate::config::{LoadArgs, Secret};
use crate::seed::Seed;
use crate::values::finite;

/// Settings of `unmask try`.
#[derive(Debug, Args)]
pub struct TryArgs {
    /// The text to continue; - is standard input.
    pub prompt: String,
    /// Tokens to generate at most [default: 64, less when that does not fit].
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u32>,
    /// Generation and display.
    #[command(flatten)]
    pub shared: TerminalArgs,
}

/// Settings of `unmask chat`.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// The system message that every conversation begins with.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Tokens of an answer at most [default: 256, less when that does not fit].
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u32>,
    /// Generation and display.
    #[command(flatten)]
    pub shared: TerminalArgs,
}

/// Settings of `unmask fill`.
#[derive(Debug, Args)]
pub struct FillArgs {
    /// The file, with the marker wherever there is a hole; - is standard input [default: a prompt that reads one text
    /// after another].
    pub file: Option<PathBuf>,
    /// The text that marks a hole in the file.
    #[arg(long, default_value = "<fill>", value_name = "TEXT")]
    pub marker: String,
    /// Tokens of every hole: a number, or a range such as 1..12 of which the best is searched [default:
    /// 1..32, less when that does not fit].
    #[arg(long, value_name = "N|MIN..MAX")]
    pub length: Option<LengthArg>,
    /// Write the filled file here instead of printing it; it may be FILE itself.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Generation and display.
    #[command(flatten)]
    pub shared: TerminalArgs,
}

/// Settings of all three commands. Numbers are checked where the HTTP routes check them.
#[derive(Debug, Args)]
pub struct TerminalArgs {
    /// T, the rounds of the decision rule [default: the model's].
    #[arg(long, value_name = "N")]
    pub steps: Option<u32>,
    /// The decision rule, by name [default: reference].
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Divides the logits; 0 takes the most probable tokens [default: the model's].
    #[arg(long, value_name = "T", value_parser = finite)]
    pub temperature: Option<f64>,
    /// Nucleus mass [default: the model's].
    #[arg(long, value_name = "P", value_parser = finite)]
    pub top_p: Option<f64>,
    /// The text is a function of the settings and this number [default: random].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<Seed>,
    /// Keep every evaluation in view for a while, to watch it.
    #[arg(long)]
    pub slow: bool,
    /// Print the server's events as they come, one line of JSON each.
    #[arg(long)]
    pub json: bool,
    /// Ask this server, http://host:port, instead of loading a model.
    #[arg(long, env = "UNMASK_URL", value_name = "URL")]
    pub url: Option<Uri>,
    /// The key to show to that server.
    #[arg(long, env = "UNMASK_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<Secret>,
    /// The model to load: a short name, a hub name, a GGUF file or a folder [default: the one inside this program].
    #[arg(long, env = "UNMASK_MODEL", value_name = "NAME|FILE|FOLDER")]
    pub model: Option<String>,
    /// Loading of the model.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Log lines: a level, or levels by module.
    #[arg(long, env = "UNMASK_LOG", default_value = "warn", value_name = "FILTER", help_heading = "Log")]
    pub log: String,
    /// The environment of the terminal.
    #[command(flatten)]
    pub environment: TerminalEnvironment,
}

/// The variables by which terminals and their users say what they can bear.
#[derive(Debug, Args)]
pub struct TerminalEnvironment {
    /// The kind of terminal.
    #[arg(long, hide = true, env = "TERM")]
    pub term: Option<String>,
    /// Anything: no colours, please.
    #[arg(long, hide = true, env = "NO_COLOR")]
    pub no_color: Option<String>,
}

/// `--length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthArg {
    /// A number.
    Exactly(u32),
    /// The best number in a range.
    Between(u32, u32),
}

impl LengthArg {
    /// The length in the form of `/fill`.
    #[must_use]
    pub fn json(self) -> Value {
        match self {
            Self::Exactly(length) => json!(length),
            Self::Between(min, max) => json!({ "min": min, "max": max }),
        }
    }
}

impl FromStr for LengthArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse().map_err(|_| "it must be a number or MIN..MAX".to_owned());
        Ok(match text.split_once("..") {
            None => Self::Exactly(number(text)?),
            Some((min, max)) => Self::Between(number(min)?, number(max)?),
        })
    }
}
