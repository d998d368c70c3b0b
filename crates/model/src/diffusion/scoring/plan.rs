//! The sets of positions that a score masks, and the sum of their log-probabilities.

use super::ScoreMode;
use crate::error::PolicyError;

/// Most samples or steps of one score; LLaDA takes 128.
const MOST_SAMPLES: u32 = 1 << 16;

/// The sets of positions that are masked together.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    /// So many at a time, with everything after them masked, too.
    LeftToRight(usize),
    /// One at a time, and nothing else.
    OneMissing,
    /// Every set that is not empty, once.
    EverySet,
    /// One random set for each of so many strata of sizes.
    Strata(u32),
    /// One random set for each of so many rates.
    Grid(u32),
}

impl Plan {
    pub(super) fn new(mode: ScoreMode, count: u32) -> Self {
        match mode {
            ScoreMode::Chain => Self::LeftToRight(1),
            ScoreMode::Block(size) => Self::LeftToRight(size),
            ScoreMode::PseudoLikelihood => Self::OneMissing,
            ScoreMode::Elbo { samples } if (1_u64 << count.min(32)) - 1 <= u64::from(samples) => {
                Self::EverySet
            }
            ScoreMode::Elbo { samples } => Self::Strata(samples),
            ScoreMode::Reference { steps } => Self::Grid(steps),
        }
    }

    /// The number of sets over `count` positions.
    pub(super) fn rounds(self, count: u32) -> u32 {
        match self {
            Self::LeftToRight(size) => (count as usize).div_ceil(size) as u32,
            Self::OneMissing => count,
            Self::EverySet => (1 << count) - 1,
            Self::Strata(rounds) | Self::Grid(rounds) => rounds,
        }
    }

    /// The weight of a log-probability that was read with `masked` of `count` positions masked.
    pub(super) fn weight(self, count: u32, masked: u32) -> f64 {
        let count = f64::from(count);
        let size = f64::from(masked);
        match self {
            Self::LeftToRight(_) | Self::OneMissing => 1.0,
            // (1/n)·(n/k), over the number of sets of this size.
            Self::EverySet => (1..=masked).map(f64::from).fold(1.0 / size, |w, j| w * j / (count - size + j)),
            Self::Strata(samples) => count / size / f64::from(samples),
            Self::Grid(steps) => 1.0 / size / f64::from(steps),
        }
    }
}

impl ScoreMode {
    pub(super) fn check(self) -> Result<(), PolicyError> {
        let range = |field, valid: bool, allowed| {
            if valid { Ok(()) } else { Err(PolicyError::Range { field, allowed }) }
        };
        let samples = |field, number| range(field, (1..=MOST_SAMPLES).contains(&number), "from 1 to 65536");
        match self {
            Self::Chain | Self::PseudoLikelihood => Ok(()),
            Self::Block(size) => range("block", size >= 1, "at least 1"),
            Self::Elbo { samples: number } => samples("samples", number),
            Self::Reference { steps } => samples("steps", steps),
        }
    }
}

/// The standard error of a sum of independent terms, one per stratum, by collapsed strata (Cochran,
/// Sampling Techniques, 5A.12): neighbours stand in for repetitions of each other. Their difference also
/// holds the one between their means, so the variance is overestimated if anything.
pub(super) fn standard_error(terms: &[f64]) -> Option<f64> {
    if terms.len() < 2 {
        return terms.is_empty().then_some(0.0);
    }
    // Pairs, and a group of three at the end of an odd number.
    let (pairs, rest) = terms.split_at(terms.len() - 2 - terms.len() % 2);
    let variance = |group: &[f64]| {
        let size = group.len() as f64;
        let mean = group.iter().sum::<f64>() / size;
        group.iter().map(|term| (term - mean).powi(2)).sum::<f64>() * size / (size - 1.0)
    };
    Some(pairs.chunks(2).chain([rest]).map(variance).sum::<f64>().sqrt())
}
