//! The shape of a distribution, and a draw from it.

use crate::kernel::{self, CpuFeatures};

/// Tokens whose mass is summed at once, so that a draw adds one by one in a single block only.
const BLOCK: usize = 256;
/// Beyond this distance (nats) from the most probable token a weight is not computed more exactly.
const FARTHEST: f32 = 88.0;

/// Tokens, ascending, and their probabilities up to a common factor.
#[derive(Clone, Copy)]
pub(super) struct Distribution<'a> {
    cpu: CpuFeatures,
    logits: &'a [f32],
    /// exp((logit − largest)·factor); 0 for a token that may not be drawn.
    weights: &'a [f32],
    /// The place of the most probable token; its weight is 1.
    best: usize,
    /// One over the temperature.
    factor: f32,
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
    /// `None` when no logit with a weight is `largest`.
    pub(super) fn new(
        cpu: CpuFeatures,
        logits: &'a [f32],
        weights: &'a [f32],
        largest: f32,
        factor: f32,
    ) -> Option<Self> {
        let first = kernel::position(cpu, logits, largest)?;
        let drawable = |place: &usize| weights[*place] > 0.0 && logits[*place] == largest;
        let best = (first..logits.len()).find(drawable)?;
        Some(Self { cpu, logits, weights, best, factor })
    }

    /// The place of the most probable token, the lower one on a tie.
    pub(super) fn best(&self) -> usize {
        self.best
    }

    pub(super) fn shape(&self) -> Shape {
        let mass = self.weights.chunks(BLOCK).map(|block| kernel::wide_sum(self.cpu, block)).sum::<f64>();
        let largest = self.logits[self.best];
        let distance =
            kernel::weighted_distance(self.cpu, self.logits, self.weights, largest, self.factor, FARTHEST);
        // −Σ p·ln p with p = weight/mass and ln weight = −distance.
        let entropy = (mass.ln() + distance / mass).max(0.0) as f32;
        let before = &self.weights[..self.best];
        let after = &self.weights[self.best + 1..];
        let second = kernel::largest(self.cpu, before).max(kernel::largest(self.cpu, after)).max(0.0);
        Shape { mass, entropy, margin: (f64::from(1.0 - second) / mass) as f32 }
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
            let after = before + kernel::wide_sum(self.cpu, block);
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
