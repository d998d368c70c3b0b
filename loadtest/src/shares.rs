//! A choice among a few things by weight: `completion=0.5,fill=0.5`.

use std::fmt;
use std::str::FromStr;

/// Things to draw from and how often each is drawn, relative to the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares<T>(Vec<(T, f64)>);

/// Why a list of shares was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SharesError {
    /// A part is not `name=weight`.
    #[error("{0:?} is not of the form name=weight")]
    Form(String),
    /// Nothing goes by this name.
    #[error("{name:?}: {message}")]
    Name {
        /// The name as given.
        name: String,
        /// The valid names.
        message: String,
    },
    /// A weight is not a number of at least 0, or all of them are 0.
    #[error("weights must be numbers of at least 0, and one of them more")]
    Weight,
}

impl<T: Copy> Shares<T> {
    /// One of the things; `uniform` is from [0, 1).
    ///
    /// There is always one: no value of this type is without a weight above 0.
    pub fn pick(&self, uniform: f64) -> T {
        let total: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut left = uniform * total;
        let mut drawable = self.0.iter().filter(|(_, weight)| *weight > 0.0).peekable();
        loop {
            match drawable.next() {
                // Rounding may leave a rest behind the last one.
                Some((thing, weight)) if left < *weight || drawable.peek().is_none() => return *thing,
                Some((_, weight)) => left -= weight,
                None => unreachable!("one weight is above 0"),
            }
        }
    }

    /// Only what `keep` holds for; none if that has no weight.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(T) -> bool) -> Option<Self> {
        let kept: Vec<_> = self.0.iter().copied().filter(|(thing, _)| keep(*thing)).collect();
        kept.iter().any(|(_, weight)| *weight > 0.0).then_some(Self(kept))
    }
}

impl<T: FromStr<Err: fmt::Display>> FromStr for Shares<T> {
    type Err = SharesError;

    fn from_str(text: &str) -> Result<Self, SharesError> {
        let mut shares = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').ok_or_else(|| SharesError::Form(part.to_owned()))?;
            let thing = name
                .trim()
                .parse::<T>()
                .map_err(|error| SharesError::Name { name: name.to_owned(), message: error.to_string() })?;
            let weight: f64 = weight.trim().parse().map_err(|_| SharesError::Weight)?;
            if !weight.is_finite() || weight < 0.0 {
                return Err(SharesError::Weight);
            }
            shares.push((thing, weight));
        }
        if shares.iter().all(|(_, weight)| *weight == 0.0) {
            return Err(SharesError::Weight);
        }
        Ok(Self(shares))
    }
}

impl<T: fmt::Display> fmt::Display for Shares<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (thing, weight)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(formatter, "{comma}{thing}={weight}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_drawn_by_weight() {
        let shares: Shares<u32> = "8=1,32=3,128=0".parse().unwrap();
        let drawn: Vec<u32> = (0..8).map(|eighth| shares.pick(f64::from(eighth) / 8.0)).collect();
        assert_eq!(drawn, [8, 8, 32, 32, 32, 32, 32, 32], "a weight of 0 is never drawn");
        assert_eq!(shares.to_string(), "8=1,32=3,128=0", "what is printed can be given again");
    }

    #[test]
    fn what_cannot_be_drawn_from_is_refused() {
        for (text, error) in [
            ("8", SharesError::Form("8".to_owned())),
            ("8=0", SharesError::Weight),
            ("8=-1,32=2", SharesError::Weight),
            ("8=NaN", SharesError::Weight),
        ] {
            assert_eq!(text.parse::<Shares<u32>>(), Err(error), "{text}");
        }
        assert!(matches!("x=1".parse::<Shares<u32>>(), Err(SharesError::Name { .. })));
    }
}
