//! `diffusion.kv_cache`: the keys and values that a request keeps between its evaluations.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use unmask_model::checkpoint::Visibility;
use unmask_model::diffusion::{Extent, KvCache, Refresh};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::options::count;
use crate::policy_options::DiffusionOptions;

/// Positions on each side of an open one that are computed as well, if the request does not say.
const NEAR: u32 = 16;

/// The shortest canvas on which editors' requests keep keys and values unasked: an evaluation of a shorter one is cheap.
const LONG: usize = 256;

/// The positions whose keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum KvCacheName {
    /// None: every evaluation computes the whole canvas.
    Off,
    /// Those before the first open position.
    Prefix,
    /// All except the open positions, their neighbours and what was committed since the last refresh.
    Dual,
}

/// The evaluations that compute the whole canvas again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(untagged, expecting = "expected a number of evaluations, \"block\" or \"never\"")]
pub enum RefreshOption {
    /// Every n-th one.
    Every(i64),
    /// A name.
    Named(RefreshName),
}

/// The evaluations that compute the whole canvas again, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefreshName {
    /// The first one of each block of the window.
    Block,
    /// The first one alone.
    Never,
}

/// The keys and values that a request keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvChoice {
    /// None.
    #[default]
    Off,
    /// These, on every canvas.
    On(KvCache),
    /// These, on canvases that are long.
    OnLong(KvCache),
}

/// The keys and values that a request kept, as its answer shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct KvCacheReport {
    /// The positions whose keys and values are kept.
    pub kv_cache: KvCacheName,
    /// The evaluations that compute the whole canvas again.
    pub refresh: RefreshOption,
    /// Positions on each side of an open one that are computed as well.
    pub near: u32,
}

impl KvChoice {
    /// The choice of a request: its own, else the server's, else that of editors' requests.
    ///
    /// # Errors
    /// A number outside its range, a field that needs `kv_cache`, or a model that keeps keys and values exactly.
    pub fn of(
        given: &DiffusionOptions,
        server: Option<KvCacheName>,
        editor: bool,
        visibility: Visibility,
    ) -> Result<Self, ApiError> {
        if visibility != Visibility::Full {
            let chosen = given.kv_cache.is_some_and(|name| name != KvCacheName::Off);
            let reason = "this model computes finished blocks once and exactly, so there is nothing to approximate; leave it out";
            refuse("kv_cache", chosen, reason)?;
            refuse_numbers(given, reason)?;
            return Ok(Self::Off);
        }
        let editors = if editor { Some(KvCacheName::Dual) } else { None };
        let unasked = server.or(editors);
        let name = given.kv_cache.or(unasked).unwrap_or(KvCacheName::Off);
        let extent = match name {
            KvCacheName::Prefix => Extent::Prefix,
            KvCacheName::Dual => Extent::Dual,
            KvCacheName::Off => {
                refuse_numbers(given, "it needs `diffusion.kv_cache`: `prefix` or `dual`")?;
                return Ok(Self::Off);
            }
        };
        let refresh = match given.refresh {
            None | Some(RefreshOption::Named(RefreshName::Never)) => Refresh::Never,
            Some(RefreshOption::Named(RefreshName::Block)) => Refresh::Block,
            Some(RefreshOption::Every(n)) => {
                let n = count("diffusion.refresh", Some(n), 1..=i64::from(u16::MAX))?.unwrap_or(1);
                Refresh::Every(n as u32)
            }
        };
        let near = count("diffusion.near", given.near, 0..=i64::from(u16::MAX))?;
        let cache = KvCache { extent, refresh, near: near.map_or(NEAR, |near| near as u32) };
        let chosen = given.kv_cache.is_some() || server.is_some();
        Ok(if chosen { Self::On(cache) } else { Self::OnLong(cache) })
    }

    /// The keys and values that are kept for a canvas of `length` positions.
    #[must_use]
    pub fn on(self, length: usize) -> Option<KvCache> {
        match self {
            Self::Off => None,
            Self::On(cache) => Some(cache),
            Self::OnLong(cache) => Some(cache).filter(|_| length >= LONG),
        }
    }
}

impl KvCacheReport {
    /// Nothing was kept.
    pub const OFF: Self =
        Self { kv_cache: KvCacheName::Off, refresh: RefreshOption::Named(RefreshName::Never), near: 0 };
}

impl From<KvCache> for KvCacheReport {
    fn from(cache: KvCache) -> Self {
        Self {
            kv_cache: match cache.extent {
                Extent::Prefix => KvCacheName::Prefix,
                Extent::Dual => KvCacheName::Dual,
            },
            refresh: match cache.refresh {
                Refresh::Never => RefreshOption::Named(RefreshName::Never),
                Refresh::Block => RefreshOption::Named(RefreshName::Block),
                Refresh::Every(n) => RefreshOption::Every(i64::from(n)),
            },
            near: cache.near,
        }
    }
}

/// Refuses the fields that say how keys and values are kept.
fn refuse_numbers(given: &DiffusionOptions, reason: &str) -> Result<(), ApiError> {
    refuse("refresh", given.refresh.is_some(), reason)?;
    refuse("near", given.near.is_some(), reason)
}

fn refuse(field: &str, given: bool, reason: &str) -> Result<(), ApiError> {
    if !given {
        return Ok(());
    }
    let param = format!("diffusion.{field}");
    let message = format!("`{param}`: {reason}");
    Err(ApiError::Conflict { param, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(given: &str, server: Option<KvCacheName>, editor: bool) -> Result<Option<KvCache>, String> {
        let given: DiffusionOptions = serde_json::from_str(given).unwrap();
        let choice = KvChoice::of(&given, server, editor, Visibility::Full);
        choice.map(|choice| choice.on(LONG)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_request_chooses_before_the_server_and_the_server_before_editors() {
        let dual = KvCache { extent: Extent::Dual, refresh: Refresh::Never, near: NEAR };
        let prefix = KvCache { extent: Extent::Prefix, ..dual };
        assert_eq!(choice("{}", None, false), Ok(None));
        assert_eq!(choice("{}", None, true), Ok(Some(dual)));
        assert_eq!(choice("{}", Some(KvCacheName::Prefix), true), Ok(Some(prefix)));
        assert_eq!(choice("{}", Some(KvCacheName::Off), true), Ok(None));
        assert_eq!(choice(r#"{"kv_cache": "off"}"#, Some(KvCacheName::Prefix), true), Ok(None));
        let given = r#"{"kv_cache": "dual", "refresh": 4, "near": 0}"#;
        let every = KvCache { refresh: Refresh::Every(4), near: 0, ..dual };
        assert_eq!(choice(given, None, false), Ok(Some(every)));
        let block = KvCache { refresh: Refresh::Block, ..dual };
        assert_eq!(choice(r#"{"kv_cache": "dual", "refresh": "block"}"#, None, false), Ok(Some(block)));
    }

    #[test]
    fn short_canvases_of_editors_are_computed_whole() {
        let given = DiffusionOptions::default();
        let choice = KvChoice::of(&given, None, true, Visibility::Full).unwrap();
        assert_eq!(choice.on(LONG - 1), None);
        assert!(choice.on(LONG).is_some());
    }

    #[test]
    fn what_has_no_effect_is_refused() {
        for (given, field) in [
            (r#"{"refresh": 2}"#, "diffusion.refresh"),
            (r#"{"near": 2}"#, "diffusion.near"),
            (r#"{"kv_cache": "off", "near": 2}"#, "diffusion.near"),
            (r#"{"kv_cache": "dual", "refresh": 0}"#, "diffusion.refresh"),
            (r#"{"kv_cache": "dual", "near": -1}"#, "diffusion.near"),
        ] {
            let error = choice(given, None, false).unwrap_err();
            assert!(error.contains(field), "{given}: {error}");
        }
        let given: DiffusionOptions = serde_json::from_str(r#"{"kv_cache": "dual"}"#).unwrap();
        let blocks = Visibility::BlockCausal { block: 4 };
        assert!(KvChoice::of(&given, None, false, blocks).is_err());
        assert_eq!(KvChoice::of(&DiffusionOptions::default(), None, true, blocks).unwrap(), KvChoice::Off);
    }
}
