//! The settings that serve a model best, route by route: what its own files say of them.
//!
//! A family's defaults are those of the reference's scripts, which draw a text at random. What a model answers best
//! with depends on the model and on what it is asked: a hole of three tokens wants the most probable ones. A model can
//! therefore bring settings of its own, in `generation_config.json`:
//!
//! ```json
//! { "unmask": { "fill": { "preset": "greedy" }, "complete": { "preset": "confidence", "temperature": 0.3 } } }
//! ```
//!
//! An adapter can bring them, too, and its own win over its base's. They count where a request chooses nothing of the decision
//! rule. `"preset": "reference"` gives the family's back.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use unmask_model::checkpoint::{ModelFiles, SamplingDefaults};
use utoipa::ToSchema;

use crate::policy::Preset;

/// The file of a model folder that holds them, under the key `unmask`.
const FILE: &str = "generation_config.json";

/// A kind of request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// A text with holes: `/fill`, `/infill`, and completions with a `suffix`.
    Fill,
    /// A text that goes on: completions without a `suffix`.
    #[default]
    Complete,
    /// Messages that are answered.
    Chat,
}

/// The settings of each kind of request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteDefaults {
    fill: GivenDefault,
    complete: GivenDefault,
    chat: GivenDefault,
}

/// The settings of a kind of request, as far as a model names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GivenDefault {
    preset: Option<Preset>,
    steps: Option<u32>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    min_tokens: Option<u32>,
}

/// Settings when a request gives none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct RouteDefault {
    /// The decision rule.
    pub preset: Preset,
    /// T, where the rule has one.
    pub steps: u32,
    /// Divides the logits.
    pub temperature: f64,
    /// Nucleus mass.
    pub top_p: f64,
    /// Leading positions in which no document end is drawn, unless the request names a `preset`.
    pub min_tokens: u32,
}

impl RouteDefaults {
    /// Reads those of a model. A model without the file, or without such keys in it, has the family's.
    ///
    /// # Errors
    /// The file is no JSON, or a setting is unknown or out of its range.
    pub fn read(files: &ModelFiles) -> anyhow::Result<Self> {
        if !files.exists(FILE) {
            return Ok(Self::default());
        }
        let Some(own) = files.json(FILE)?.remove("unmask") else { return Ok(Self::default()) };
        let path = files.path(FILE);
        let path = path.display();
        // Serde takes a list for a struct, too.
        let parts = ["fill", "complete", "chat"].map(|name| own.get(name));
        for part in [Some(&own)].into_iter().chain(parts).flatten() {
            anyhow::ensure!(
                part.is_object(),
                "`unmask` in {path} holds {part}, where an object has to stand"
            );
        }
        let read: Self =
            serde_json::from_value(own).map_err(|error| anyhow::anyhow!("`unmask` in {path}: {error}"))?;
        for (name, given) in [("fill", read.fill), ("complete", read.complete), ("chat", read.chat)] {
            let ranges = [
                ("steps", given.steps.map(f64::from), 1.0, 65536.0),
                ("temperature", given.temperature, 0.0, 2.0),
                ("top_p", given.top_p, 0.0, 1.0),
                ("min_tokens", given.min_tokens.map(f64::from), 0.0, 65536.0),
            ];
            for (field, value, least, most) in ranges {
                if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                    anyhow::bail!(
                        "`unmask.{name}.{field}` in {path} is {value}, and must be from {least} to {most}"
                    );
                }
            }
        }
        Ok(read)
    }

    /// The settings of one kind of request, whose gaps the `family`'s fill.
    #[must_use]
    pub fn of(&self, route: Route, family: SamplingDefaults) -> RouteDefault {
        let own = match route {
            Route::Fill => self.fill,
            Route::Complete => self.complete,
            Route::Chat => self.chat,
        };
        let preset = own.preset.unwrap_or_else(|| Preset::of(family));
        RouteDefault {
            preset,
            steps: own.steps.unwrap_or(family.steps),
            temperature: own.temperature.unwrap_or_else(|| preset.temperature(family)),
            top_p: own.top_p.unwrap_or(family.top_p),
            min_tokens: own.min_tokens.unwrap_or(0),
        }
    }
}

impl fmt::Display for RouteDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { preset, steps, temperature, top_p, min_tokens } = self;
        let named = preset.to_possible_value();
        let name = named.as_ref().map_or("", |name| name.get_name());
        write!(f, "{name}, steps {steps}, temperature {temperature}, top-p {top_p}")?;
        if *min_tokens > 0 { write!(f, ", min-tokens {min_tokens}") } else { Ok(()) }
    }
}

impl Preset {
    /// The temperature that goes with a rule.
    pub(crate) fn temperature(self, family: SamplingDefaults) -> f64 {
        if self == Self::Greedy { 0.0 } else { family.temperature }
    }
}
