//! Time limits of a request: its own wishes, and the server's bound on them.

use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use unmask_model::diffusion::{DenoisingState, ScoringState};
use unmask_model::predictor::{Ask, Context};
use unmask_scheduler::{CostModel, Work};

use crate::error::ApiError;
use crate::request::ranges::out_of_range;
use crate::state::AppState;

/// The header twin of `timeout_ms`.
const HEADER: &str = "x-request-timeout-ms";

/// Unless a flag says otherwise: at least this, and this many times what the request would take alone. Its
/// neighbours slow it down, and no request should fail on an idle machine.
const LEAST: Duration = Duration::from_secs(120);
const TIMES: u32 = 4;

/// `x-request-timeout-ms`: a whole number of milliseconds, if it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutHeader(pub Option<i64>);

impl<S: Sync> FromRequestParts<S> for TimeoutHeader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(HEADER) else { return Ok(Self(None)) };
        let milliseconds = value.to_str().ok().and_then(|text| text.trim().parse().ok());
        let error = || ApiError::Body {
            code: "invalid_type",
            param: Some(HEADER.to_owned()),
            message: format!("`{HEADER}` is not a whole number of milliseconds"),
        };
        milliseconds.map(|milliseconds| Self(Some(milliseconds))).ok_or_else(error)
    }
}

/// A request's wishes about its time, in milliseconds from its arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenTimes {
    /// The header.
    pub header: Option<i64>,
    /// `timeout_ms`.
    pub timeout: Option<i64>,
    /// `diffusion.time_budget_ms`.
    pub budget: Option<i64>,
    /// Another field that said so, in which 0 means no budget.
    pub budget_field: Option<&'static str>,
}

/// When a request ends at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// It is given up.
    pub deadline: Option<Instant>,
    /// The time at which one evaluation commits all open positions.
    pub finish_by: Option<Instant>,
}

impl GivenTimes {
    /// The time that is left of the budget at `now`; `None` without one.
    #[must_use]
    pub fn budget_left(self, arrived: Instant, now: Instant) -> Option<Duration> {
        let budget = Duration::from_millis(u64::try_from(self.budget?).unwrap_or(0));
        Some(budget.saturating_sub(now.saturating_duration_since(arrived)))
    }

    /// Moments for a request that arrived at `arrived`. Of header and field the earlier counts.
    ///
    /// # Errors
    /// A time that is not from 1 to `longest`.
    pub fn resolve(self, arrived: Instant, longest: Duration) -> Result<Deadlines, ApiError> {
        let checked = |name: &str, given: Option<i64>, least: i64| match given {
            None => Ok(None),
            Some(given) => {
                let time = u64::try_from(given).ok().filter(|given| *given > 0).map(Duration::from_millis);
                let time = time.filter(|time| *time <= longest);
                let allowed = || format!("from {least} to {}", longest.as_millis());
                time.map(Some).ok_or_else(|| out_of_range(name, given, allowed()))
            }
        };
        let header = checked(HEADER, self.header, 1)?;
        let timeout = checked("timeout_ms", self.timeout, 1)?;
        let (field, least) = self.budget_field.map_or(("diffusion.time_budget_ms", 1), |field| (field, 0));
        let budget = checked(field, self.budget, least)?;
        let timeout = header.into_iter().chain(timeout).min().unwrap_or(longest);
        Ok(Deadlines {
            deadline: arrived.checked_add(timeout),
            finish_by: budget.and_then(|budget| arrived.checked_add(budget)),
        })
    }
}

/// The longest time that a request for `samples` and `texts` may take.
#[must_use]
pub fn longest(samples: &[DenoisingState], texts: &[ScoringState], state: &AppState) -> Duration {
    let denoised = samples.iter().map(|sample| (sample.ask(), sample.evaluations_left()));
    let scored = texts.iter().map(|text| (text.ask(), text.evaluations_left()));
    let scaled = || alone(denoised.chain(scored), &state.cost).saturating_mul(TIMES).max(LEAST);
    state.limits.timeout.unwrap_or_else(scaled)
}

/// The time that a number of evaluations of each ask would take on an idle device.
fn alone<'a>(asks: impl Iterator<Item = (Option<Ask<'a>>, u32)>, cost: &CostModel) -> Duration {
    let time = |(ask, evaluations): (Option<Ask<'_>>, u32)| {
        let ask = ask?;
        // The longest time: as if nothing were kept between evaluations.
        let work = Work::of(&Ask { context: Context::Fresh, ..ask }, 0);
        Some(cost.time(work).saturating_mul(evaluations))
    };
    asks.filter_map(time).fold(Duration::ZERO, Duration::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_time_counts_and_none_is_longer_than_the_servers() {
        let arrived = crate::clock::now();
        let longest = Duration::from_millis(1000);
        let resolve = |header, timeout, budget| {
            GivenTimes { header, timeout, budget, budget_field: None }
                .resolve(arrived, longest)
                .map_err(|error| error.to_string())
        };
        let at = |milliseconds| Some(arrived + Duration::from_millis(milliseconds));
        assert_eq!(resolve(None, None, None), Ok(Deadlines { deadline: at(1000), finish_by: None }));
        assert_eq!(
            resolve(Some(30), Some(20), Some(10)),
            Ok(Deadlines { deadline: at(20), finish_by: at(10) })
        );
        assert_eq!(resolve(Some(10), Some(20), None).unwrap().deadline, at(10));
        for wrong in [0, -1, 1001, i64::MIN, i64::MAX] {
            assert!(resolve(Some(wrong), None, None).unwrap_err().contains("`x-request-timeout-ms`"));
            assert!(resolve(None, Some(wrong), None).unwrap_err().contains("`timeout_ms`"));
            assert!(resolve(None, None, Some(wrong)).unwrap_err().contains("`diffusion.time_budget_ms`"));
            let editors =
                GivenTimes { budget: Some(wrong), budget_field: Some("t_max"), ..GivenTimes::default() };
            let error = editors.resolve(arrived, longest).unwrap_err().to_string();
            assert!(error.contains("`t_max`") && error.contains("from 0 to 1000"), "{error}");
        }
    }
}
