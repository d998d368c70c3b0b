//! What a distribution looks like, and a draw from it.

use super::prefix::Ranking;
use crate::kernel;

/// Tokens whose mass is summed at once, so that a draw adds one by one in a single block only.
const BLOCK: usize = 256;
/// Sums that run side by side.
const LANES: usize = 16;
/// Beyond this distance (nats) from the most probable token a weight is not computed more exactly.
const FARTHEST: f32 = 88.0;

/// Tokens, ascending, and their probabilities up to a common factor.
#[derive(Clone, Copy)]
pub(super) struct Distribution<'a> {
    pub(super) logits: &'a [f32],
    /// exp((logit − largest)·factor); 0 for a token that may not be drawn.
    pub(super) weights: &'a [f32],
    /// The place of the most probable token; its weight is 1.
    pub(super) best: usize,
    /// One over the temperature.
    pub(super) factor: f32,
}

/// Measures of a distribution.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Sum of the weights.
    pub(super) mass: f64,
    /// In nats.
    pub(super) entropy: f32,
    /// Difference between the two largest probabilities.
    pub(super) margin: f32,
}

impl<'a> Distribution<'a> {
    pub(super) fn ranking(&self) -> Ranking<'a> {
        Ranking { logits: self.logits, largest: self.logits[self.best], factor: self.factor }
    }

    pub(super) fn shape(&self) -> Shape {
        let mass = self.weights.chunks(BLOCK).map(kernel::wide_sum).sum::<f64>();
        // −Σ p·ln p with p = weight/mass and ln weight = −distance.
        let entropy = (mass.ln() + self.distance() / mass).max(0.0) as f32;
        let (before, after) = (&self.weights[..self.best], &self.weights[self.best + 1..]);
        let second = kernel::largest(before).max(kernel::largest(after)).max(0.0);
        Shape { mass, entropy, margin: (f64::from(1.0 - second) / mass) as f32 }
    }

    /// Σ weight·distance in nats, the distance that from the most probable token.
    fn distance(&self) -> f64 {
        let largest = self.logits[self.best];
        let term = |logit: f32, weight: f32| {
            f64::from(((largest - logit) * self.factor).clamp(0.0, FARTHEST) * weight)
        };
        let (logits, last_logits) = self.logits.as_chunks::<LANES>();
        let (weights, last_weights) = self.weights.as_chunks::<LANES>();
        let mut lanes = [0.0; LANES];
        for (logits, weights) in logits.iter().zip(weights) {
            for lane in 0..LANES {
                lanes[lane] += term(logits[lane], weights[lane]);
            }
        }
        let last: f64 =
            last_logits.iter().zip(last_weights).map(|(&logit, &weight)| term(logit, weight)).sum();
        lanes.iter().sum::<f64>() + last
    }

    /// Log-probability (nats) of the token at a place.
    pub(super) fn score(&self, place: usize, mass: f64) -> f32 {
        let distance = f64::from(self.logits[self.best]) - f64::from(self.logits[place]);
        (-distance * f64::from(self.factor) - mass.ln()) as f32
    }

    /// The lowest place whose cumulative weight exceeds `target`; the last drawable one when rounding
    /// leaves the target at the very end. `None` when nothing may be drawn.
    pub(super) fn draw(&self, target: f64) -> Option<usize> {
        let last_drawable = |weights: &[f32]| weights.iter().rposition(|&weight| weight > 0.0);
        let mut before = 0.0;
        for (number, block) in self.weights.chunks(BLOCK).enumerate() {
            let after = before + kernel::wide_sum(block);
            if after > target {
                let mut cumulative = before;
                let crossing = block.iter().position(|&weight| {
                    cumulative += f64::from(weight);
                    cumulative > target
                });
                return crossing.or_else(|| last_drawable(block)).map(|place| number * BLOCK + place);
            }
            before = after;
        }
        last_drawable(self.weights)
    }
}
