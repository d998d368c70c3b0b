//! Numbers of requests and the ranges that they must lie in.

use std::fmt::{Display, LowerExp};
use std::ops::RangeInclusive;

use crate::error::ApiError;

/// A temperature. What f32 cannot divide by is none: the limit of small temperatures is the most probable
/// token.
///
/// # Errors
/// Below 0 or above 2.
pub fn temperature(param: &str, given: Option<f64>) -> Result<Option<f64>, ApiError> {
    let least = f64::from(f32::MIN_POSITIVE);
    Ok(number(param, given, 0.0..=2.0)?.map(|value| if value < least { 0.0 } else { value }))
}

/// A real number in a range.
///
/// # Errors
/// It lies outside.
pub fn number(name: &str, given: Option<f64>, allowed: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
    within(name, given, &allowed)
}

/// An integer in a range.
///
/// # Errors
/// It lies outside.
pub fn count(name: &str, given: Option<i64>, allowed: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
    within(name, given, &allowed)
}

/// A number as it is read best: 1e300 has 301 digits.
fn short<T: Display + LowerExp>(value: &T) -> String {
    let digits = value.to_string();
    if digits.len() > 20 { format!("{value:e}") } else { digits }
}

fn within<T: PartialOrd + Display + LowerExp>(
    name: &str,
    given: Option<T>,
    allowed: &RangeInclusive<T>,
) -> Result<Option<T>, ApiError> {
    match given {
        Some(value) if !allowed.contains(&value) => {
            let most = allowed.end().to_string();
            let unbounded = most == i64::MAX.to_string();
            let least = allowed.start();
            let range =
                if unbounded { format!("at least {least}") } else { format!("from {least} to {most}") };
            Err(out_of_range(name, short(&value), range))
        }
        other => Ok(other),
    }
}

/// The error for a value outside its range.
pub fn out_of_range(param: &str, given: impl Display, allowed: impl Display) -> ApiError {
    ApiError::OutOfRange { param: param.to_owned(), given: given.to_string(), allowed: allowed.to_string() }
}
