//! The rotation of queries and keys: its frequencies, and the scalings of them that are computed.

use std::f64::consts::PI;
use std::fmt;

/// Position p turns pair i of a head by p · θ^(−2i/width), scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotation {
    /// θ.
    pub theta: f64,
    /// The change of the frequencies.
    pub scaling: Scaling,
    /// Elements of a head that are rotated, the first ones, an even number; `None` for all of them.
    pub part: Option<usize>,
}

/// Changes of the frequencies for texts longer than those of the training (as in transformers).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All are divided by a factor.
    Linear(f64),
    /// Only slow ones are, with a smooth passage (`llama3`).
    Llama3 {
        /// By what slow ones are divided.
        factor: f64,
        /// Waves longer than the original context over this are slow.
        low: f64,
        /// Waves shorter than the original context over this are fast.
        high: f64,
        /// Positions of the original training.
        original: f64,
    },
    /// Slow ones are divided, fast ones kept, with a linear ramp over the pairs between, and queries and keys grow.
    Yarn {
        /// By what slow ones are divided.
        factor: f64,
        /// Turns over the original context from which on a pair is fast, and below which it is slow.
        beta: (f64, f64),
        /// Positions of the original training.
        original: f64,
        /// Factor of cosines and sines.
        attention: f64,
    },
}

impl Rotation {
    /// Without scaling.
    #[must_use]
    pub fn plain(theta: f64) -> Self {
        Self { theta, scaling: Scaling::None, part: None }
    }

    /// How many elements of a head are rotated.
    #[must_use]
    pub fn width(&self, head_width: usize) -> usize {
        self.part.map_or(head_width, |part| part.min(head_width))
    }

    /// Angle per position of each pair of a head that is rotated, and the factor of cosines and sines. Unscaled
    /// frequencies are f32 numbers, as in the reference.
    #[must_use]
    pub fn frequencies(&self, head_width: usize) -> (Vec<f32>, f32) {
        let head_width = self.width(head_width);
        let plain = |i: usize| 1.0 / (self.theta as f32).powf((2 * i) as f32 / head_width as f32);
        let pairs = head_width / 2;
        let each = |change: &dyn Fn(usize, f64) -> f64| -> Vec<f32> {
            (0..pairs).map(|i| change(i, f64::from(plain(i))) as f32).collect()
        };
        match self.scaling {
            Scaling::None => ((0..pairs).map(plain).collect(), 1.0),
            Scaling::Linear(factor) => (each(&|_, frequency| frequency / factor), 1.0),
            Scaling::Llama3 { factor, low, high, original } => {
                let change = |_, frequency: f64| {
                    let waves = original * frequency / (2.0 * PI);
                    let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
                    frequency * (kept + (1.0 - kept) / factor)
                };
                (each(&change), 1.0)
            }
            Scaling::Yarn { factor, beta, original, attention } => {
                let border = |turns: f64| {
                    head_width as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
                };
                let first = border(beta.0).floor().max(0.0);
                let mut last = border(beta.1).ceil().min(head_width as f64 - 1.0);
                if first == last {
                    last += 0.001;
                }
                let change = |i: usize, frequency: f64| {
                    let slow = ((i as f64 - first) / (last - first)).clamp(0.0, 1.0);
                    frequency * (1.0 - slow + slow / factor)
                };
                (each(&change), attention as f32)
            }
        }
    }
}

impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "theta {}, ", self.theta)?;
        if let Some(part) = self.part {
            write!(f, "the first {part} elements of a head, ")?;
        }
        match self.scaling {
            Scaling::None => write!(f, "not scaled"),
            Scaling::Linear(factor) => write!(f, "linear scaling by {factor}"),
            Scaling::Llama3 { factor, original, .. } => {
                write!(f, "llama3 scaling by {factor} from {original} positions")
            }
            Scaling::Yarn { factor, original, .. } => {
                write!(f, "yarn scaling by {factor} from {original} positions")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: &[f32], expected: &[f64]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) / expected - 1.0).abs() < 1e-5, "{found} {expected}");
        }
    }

    /// Numbers of transformers 4.52 (`ROPE_INIT_FUNCTIONS`) for heads of 16.
    #[test]
    fn scalings_are_those_of_transformers() {
        let rotation = |scaling| Rotation { theta: 10_000.0, scaling, part: None };
        let (plain, _) = rotation(Scaling::None).frequencies(16);
        near(&plain, &[1.0, 0.316_227_8, 0.1, 0.031_622_78, 0.01, 0.003_162_278, 0.001, 0.000_316_227_8]);
        let (linear, _) = rotation(Scaling::Linear(4.0)).frequencies(16);
        near(&linear, &plain.iter().map(|x| f64::from(*x) / 4.0).collect::<Vec<_>>());
        // 128 positions: 20.4, 6.4, 2.04, 0.64 … turns; between 1 and 4 turns frequencies pass over.
        let llama3 = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 128.0 };
        let (found, factor) = rotation(llama3).frequencies(16);
        assert_eq!(factor, 1.0);
        near(&found[..2], &[1.0, 0.316_227_8]);
        near(&found[2..3], &[0.1 * (0.345_73 + 0.654_27 / 8.0)]);
        near(&found[3..], &plain[3..].iter().map(|x| f64::from(*x) / 8.0).collect::<Vec<_>>());
        // Borders at pairs −0.78 → 0 and 5.23 → 6 of 8.
        let yarn = Scaling::Yarn { factor: 4.0, beta: (32.0, 1.0), original: 128.0, attention: 1.138_63 };
        let (found, factor) = rotation(yarn).frequencies(16);
        assert!((factor - 1.138_63).abs() < 1e-6);
        let last = (16.0 * (128.0 / (2.0 * PI)).ln() / (2.0 * 10_000_f64.ln())).ceil();
        let ramp = |i: usize| (i as f64 / last).min(1.0);
        let expected: Vec<f64> =
            (0..8).map(|i| f64::from(plain[i]) * (1.0 - ramp(i) + ramp(i) / 4.0)).collect();
        near(&found, &expected);
    }
}
