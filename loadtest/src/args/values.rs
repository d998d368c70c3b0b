//! Values of arguments that are numbers in a range.

use std::str::FromStr;

/// The rate at which requests are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// So many a second.
    PerSecond(f64),
    /// So many times what the server can do.
    TimesCapacity(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix('x') {
            Some(times) => positive(times).map(Self::TimesCapacity),
            None => positive(text).map(Self::PerSecond),
        }
    }
}

/// A number above 0, at most a million.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    // Beyond a day or a million a second a number is a slip of the pen.
    if number > 0.0 && number <= 1e6 {
        Ok(number)
    } else {
        Err("must be above 0 and at most 1000000".to_owned())
    }
}

/// A number from 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&number) { Ok(number) } else { Err("must be from 0 to 1".to_owned()) }
}
