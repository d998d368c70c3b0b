//! A request to the server: one canvas, with text around it.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Value, json};

/// The two ways to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// A text to be continued.
    Completion,
    /// A text with a hole in it.
    Fill,
}

impl Route {
    /// The path of requests.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Completion => "/v1/completions",
            Self::Fill => "/fill",
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Completion => "completion",
            Self::Fill => "fill",
        })
    }
}

impl FromStr for Route {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "completion" => Ok(Self::Completion),
            "fill" => Ok(Self::Fill),
            _ => Err("the names are completion and fill"),
        }
    }
}

/// One request, without how its answer is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The route of the request.
    pub route: Route,
    /// Positions to generate.
    pub canvas: u32,
    /// Text before them.
    pub before: String,
    /// Text after them; completions have none.
    pub after: String,
    /// Repeats the answer.
    pub seed: u32,
}

impl Call {
    /// The request's body. Streams carry the denoising states.
    #[must_use]
    pub fn body(&self, streamed: bool) -> Value {
        let Self { canvas, before, after, seed, .. } = self;
        let mut body = match self.route {
            Route::Completion => json!({ "prompt": before, "max_tokens": canvas, "seed": seed }),
            Route::Fill => json!({ "prefix": before, "suffix": after, "length": canvas, "seed": seed }),
        };
        if streamed {
            body["stream"] = json!(true);
            body["diffusion"] = json!({ "stream_states": "delta" });
        }
        body
    }
}
