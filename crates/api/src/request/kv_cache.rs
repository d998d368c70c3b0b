//! `diffusion.kv_cache`: the keys and values that a request keeps between its evaluations.

use serde::{Deserialize, Serialize};
use unmask_model::checkpoint::Visibility;
use unmask_model::diffusion::{Extent, KvCache, Refresh};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::policy::{KvCacheName, Preset};
use crate::request::policy_options::DiffusionOptions;
use crate::request::ranges::count;

/// The numbers of a request that names nothing else.
const DUAL: KvCache = KvCache { extent: Extent::Dual, refresh: Refresh::Never, near: 16 };

/// The shortest canvas on which editors' requests keep keys and values unasked: an evaluation of a shorter one is cheap.
const LONG: usize = 256;

/// The evaluations that compute the whole canvas again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(untagged, expecting = "expected a number of evaluations, \"block\", \"block_first\" or \"never\"")]
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
    /// The same, and it commits the first position of the block alone: Fast-dLLM's loop for Dream.
    BlockFirst,
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
    /// The choice of a request: its own, else the server's, else `unasked` on long canvases.
    ///
    /// # Errors
    /// A number outside its range, a field that needs `kv_cache`, or a model that keeps keys and values exactly.
    pub fn of(
        given: &DiffusionOptions,
        server: Option<KvCacheName>,
        unasked: Option<KvCache>,
        visibility: Visibility,
    ) -> Result<Self, ApiError> {
        if visibility != Visibility::Full {
            let chosen = given.kv_cache.is_some_and(|name| name != KvCacheName::Off);
            let reason = "this model computes finished blocks once and exactly, so there is nothing to approximate; leave it out";
            refuse("kv_cache", chosen, reason)?;
            refuse_numbers(given, reason)?;
            return Ok(Self::Off);
        }
        let chosen = given.kv_cache.or(server);
        let usual = match (chosen, unasked) {
            (Some(KvCacheName::Prefix), _) => KvCache { extent: Extent::Prefix, ..DUAL },
            (Some(KvCacheName::Dual), _) => DUAL,
            (None, Some(unasked)) => unasked,
            (Some(KvCacheName::Off), _) | (None, None) => {
                refuse_numbers(given, "it needs `diffusion.kv_cache`: `prefix` or `dual`")?;
                return Ok(Self::Off);
            }
        };
        let refresh = match given.refresh {
            None => usual.refresh,
            Some(RefreshOption::Named(RefreshName::Never)) => Refresh::Never,
            Some(RefreshOption::Named(RefreshName::Block)) => Refresh::Block,
            Some(RefreshOption::Named(RefreshName::BlockFirst)) => Refresh::BlockFirst,
            Some(RefreshOption::Every(n)) => {
                let n = count("diffusion.refresh", Some(n), 1..=i64::from(u16::MAX))?.unwrap_or(1);
                Refresh::Every(n as u32)
            }
        };
        let near = count("diffusion.near", given.near, 0..=i64::from(u16::MAX))?;
        let cache = KvCache { refresh, near: near.map_or(usual.near, |near| near as u32), ..usual };
        Ok(if chosen.is_some() { Self::On(cache) } else { Self::OnLong(cache) })
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

/// The keys and values that a request keeps unasked on a long canvas: those of editors, and of requests for the rules
/// that came with them (Fast-dLLM's, for LLaDA and Dream). `family` is the rule of the model's family.
#[must_use]
pub fn unasked(editor: bool, preset: Option<Preset>, family: Preset) -> Option<KvCache> {
    match (preset, family) {
        _ if editor => Some(DUAL),
        (Some(Preset::Threshold | Preset::Factor), Preset::Llada) => {
            Some(KvCache { refresh: Refresh::Block, near: 0, ..DUAL })
        }
        (Some(Preset::Threshold | Preset::Factor), Preset::Dream) => {
            Some(KvCache { refresh: Refresh::BlockFirst, near: 0, ..DUAL })
        }
        _ => None,
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
                Refresh::BlockFirst => RefreshOption::Named(RefreshName::BlockFirst),
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
        let unasked = unasked(editor, given.preset, Preset::Dream);
        let choice = KvChoice::of(&given, server, unasked, Visibility::Full);
        choice.map(|choice| choice.on(LONG)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_request_chooses_before_the_server_and_the_server_before_editors() {
        let dual = DUAL;
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

    /// Fast-dLLM's loops for LLaDA and Dream keep keys and values; for other models its rules come without.
    #[test]
    fn the_rules_of_fast_dllm_bring_its_cache() {
        let fast = KvCache { refresh: Refresh::BlockFirst, near: 0, ..DUAL };
        assert_eq!(choice(r#"{"preset": "threshold"}"#, None, false), Ok(Some(fast)));
        assert_eq!(
            choice(r#"{"preset": "factor", "near": 2}"#, None, false),
            Ok(Some(KvCache { near: 2, ..fast }))
        );
        assert_eq!(choice(r#"{"preset": "threshold", "kv_cache": "off"}"#, None, false), Ok(None));
        assert_eq!(choice(r#"{"preset": "dream"}"#, None, false), Ok(None));
        let llada = unasked(false, Some(Preset::Threshold), Preset::Llada);
        assert_eq!(llada, Some(KvCache { refresh: Refresh::Block, ..fast }));
        assert_eq!(unasked(false, Some(Preset::Threshold), Preset::Reference), None);
    }

    #[test]
    fn short_canvases_of_editors_are_computed_whole() {
        let given = DiffusionOptions::default();
        let choice = KvChoice::of(&given, None, Some(DUAL), Visibility::Full).unwrap();
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
        assert!(KvChoice::of(&given, None, None, blocks).is_err());
        assert_eq!(
            KvChoice::of(&DiffusionOptions::default(), None, Some(DUAL), blocks).unwrap(),
            KvChoice::Off
        );
    }
}
