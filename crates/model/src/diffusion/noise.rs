//! Random numbers as a function of (seed, sample, purpose, round, position) and of nothing else.
//!
//! Every draw spends one uniform number of 53 bits. Because a number is addressed and not taken from a
//! running stream, a sample's text depends neither on its neighbours in a batch nor on the order in
//! which anything was computed.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::predictor::Position;

/// The source of a sample's uniform numbers.
///
/// A number is a function of its address, so the same seed gives the same text in any batch and in any order of
/// computation. Samples of one request differ in `sample` only.
///
/// ```
/// use unmask_model::diffusion::Noise;
///
/// let noise = Noise::Keyed { seed: 7, sample: 0 };
/// let number = noise.token(1, 5);
/// assert!((0.0..1.0).contains(&number));
/// assert_eq!(number, Noise::Keyed { seed: 7, sample: 0 }.token(1, 5));
/// assert_ne!(number, Noise::Keyed { seed: 7, sample: 1 }.token(1, 5));
/// ```
#[derive(Clone, Debug)]
pub enum Noise {
    /// ChaCha8 under the request's seed, one stream per sample, purpose and round.
    Keyed {
        /// The request's seed.
        seed: u64,
        /// The sample's number in the request.
        sample: u32,
    },
    /// Numbers recorded elsewhere, to replay a run of the reference.
    Recorded(Arc<RecordedDraws>),
}

impl Default for Noise {
    fn default() -> Self {
        Self::Keyed { seed: 0, sample: 0 }
    }
}

/// The uniform numbers that one run of the reference consumed.
#[derive(Clone, Debug, Default)]
pub struct RecordedDraws {
    /// `rounds[f][p]`: after evaluation f (from 0), position p is committed when the number lies below
    /// 1/(T − f). One row fewer than evaluations; empty for score orders.
    pub rounds: Vec<Vec<f32>>,
    /// `tokens[f][p]`: the number that draws the token for position p at evaluation f. Empty when the
    /// run was greedy.
    pub tokens: Vec<Vec<f64>>,
    /// Shares in place of 1/(T − f), by evaluation.
    pub shares: Vec<f32>,
    /// `order[f][p]`: what decides the place of position p among those that evaluation f may commit.
    pub order: Vec<Vec<f64>>,
}

/// The decision that a number takes. Purposes have streams of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A token; rounds from 1.
    Token,
    /// A position's place in the order; round 0.
    Plan,
    /// Committing, remasking or preferring a position in a round.
    Decision,
    /// Masking a position of a text to score it; rounds from 1.
    Mask,
}

impl Noise {
    /// The uniform number in [0, 1) that draws the token at `position` in `round` (from 1): the label of
    /// a planned round, the number of the evaluation for score orders.
    #[must_use]
    pub fn token(&self, round: u32, position: Position) -> f64 {
        self.number(Purpose::Token, round, position)
    }

    /// The uniform number in [0, 1) for a purpose.
    pub(super) fn number(&self, purpose: Purpose, round: u32, position: Position) -> f64 {
        match self {
            Self::Keyed { seed, sample } => keyed(*seed, *sample, purpose, round, position),
            Self::Recorded(draws) => {
                let rows = if purpose == Purpose::Decision { &draws.order } else { &draws.tokens };
                let row = round.checked_sub(1).and_then(|round| rows.get(round as usize));
                row.and_then(|row| row.get(position as usize)).copied().unwrap_or(0.0)
            }
        }
    }
}

fn keyed(seed: u64, sample: u32, purpose: Purpose, round: u32, position: Position) -> f64 {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    // Rounds stay far below 2^30; the two bits above tell the purposes apart.
    let round = u64::from(round) | (purpose as u64) << 30;
    generator.set_stream(u64::from(sample) << 32 | round);
    // Two 32-bit words per number.
    generator.set_word_pos(u128::from(position) * 2);
    // The upper 53 bits fill the significand of an f64 exactly.
    (generator.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_every_part_of_the_address_and_on_nothing_else() {
        let base = keyed(7, 0, Purpose::Token, 1, 5);
        assert_eq!(base, keyed(7, 0, Purpose::Token, 1, 5));
        let others = [
            keyed(8, 0, Purpose::Token, 1, 5),
            keyed(7, 1, Purpose::Token, 1, 5),
            keyed(7, 0, Purpose::Token, 2, 5),
            keyed(7, 0, Purpose::Token, 1, 6),
            keyed(7, 0, Purpose::Plan, 1, 5),
            keyed(7, 0, Purpose::Decision, 1, 5),
        ];
        assert!(others.iter().all(|other| *other != base));
    }

    #[test]
    fn numbers_are_uniform_on_the_unit_interval() {
        let mut bins = [0_u32; 10];
        for position in 0..10_000 {
            let number = keyed(3, 0, Purpose::Token, 1, position);
            bins[(number * 10.0) as usize] += 1;
        }
        // Ten bins of 1000 ± 30 (one standard deviation); 150 is five of them.
        assert!(bins.iter().all(|&count| count.abs_diff(1000) < 150), "{bins:?}");
    }
}
