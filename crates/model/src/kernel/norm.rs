//! Norms of rows, written as the left-hand side of a product.

use rayon::prelude::*;

use super::cpu_features::{CpuFeatures, Kernel};
use super::lanes::{LANES, Lanes};
use super::line::Activations;

/// A norm over the width of a row, with its learned gain.
///
/// [`Self::apply`] writes normed rows as the left-hand side of a product, [`Self::apply_row`] one row as plain numbers.
///
/// ```
/// use unmask_model::kernel::{CpuFeatures, Norm};
///
/// let norm = Norm::Rms { gain: vec![1.0, 2.0], epsilon: 0.0 };
/// let mut out = [0.0; 2];
/// norm.apply_row(CpuFeatures::portable(), &[3.0, -3.0], &mut out);
/// assert_eq!(out, [1.0, -2.0]);
/// ```
#[derive(Debug)]
pub enum Norm {
    /// (x − mean)/√(variance + ε)·gain + bias.
    Layer {
        /// By column.
        gain: Vec<f32>,
        /// By column.
        bias: Vec<f32>,
        /// ε.
        epsilon: f32,
    },
    /// x/√(mean square + ε)·gain.
    Rms {
        /// By column.
        gain: Vec<f32>,
        /// ε.
        epsilon: f32,
    },
}

/// Rows of a task.
const TASK: usize = 8;

impl Norm {
    /// Number of columns.
    #[must_use]
    pub fn width(&self) -> usize {
        let (Self::Layer { gain, .. } | Self::Rms { gain, .. }) = self;
        gain.len()
    }

    /// Norms the rows of `rows`, `stride` apart, into `out`. Runs on the current rayon pool.
    pub fn apply(&self, cpu: CpuFeatures, rows: &[f32], stride: usize, out: &mut Activations) {
        let count = rows.len() / stride;
        out.shape(count, self.width());
        let lines = out.shared();
        rows.par_chunks(stride * TASK).enumerate().for_each_init(Vec::new, |normed, (task, rows)| {
            normed.resize(self.width(), 0.0);
            for (row, values) in rows.chunks_exact(stride).enumerate() {
                cpu.run(NormRow { norm: self, row: &values[..self.width()], out: normed });
                // SAFETY: every task has rows of its own, and `out` outlives the loop.
                #[expect(unsafe_code, reason = "tasks write disjoint rows of one output")]
                unsafe {
                    lines.write_row(cpu, task * TASK + row, normed);
                }
            }
        });
    }

    /// Norms one row.
    pub fn apply_row(&self, cpu: CpuFeatures, row: &[f32], out: &mut [f32]) {
        cpu.run(NormRow { norm: self, row, out });
    }
}

struct NormRow<'a> {
    norm: &'a Norm,
    row: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for NormRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { norm, row, out } = self;
        let count = row.len() as f32;
        match norm {
            Norm::Layer { gain, bias, epsilon } => {
                let mean = sum::<L, false>(lanes, row, 0.0) / count;
                let factor = 1.0 / (sum::<L, true>(lanes, row, mean) / count + epsilon).sqrt();
                let wide_mean = lanes.splat(mean);
                let wide_factor = lanes.splat(factor);
                let (chunks, last) = row.as_chunks();
                let (outs, last_out) = out.as_chunks_mut();
                let (gains, last_gain) = gain.as_chunks();
                let (biases, last_bias) = bias.as_chunks();
                for (((out, x), gain), bias) in outs.iter_mut().zip(chunks).zip(gains).zip(biases) {
                    let normed = lanes.mul(lanes.sub(lanes.load(x), wide_mean), wide_factor);
                    lanes.store(lanes.mul_add(normed, lanes.load(gain), lanes.load(bias)), out);
                }
                for (((out, x), gain), bias) in last_out.iter_mut().zip(last).zip(last_gain).zip(last_bias) {
                    *out = lanes.fused((x - mean) * factor, *gain, *bias);
                }
            }
            Norm::Rms { gain, epsilon } => {
                let factor = 1.0 / (sum::<L, true>(lanes, row, 0.0) / count + epsilon).sqrt();
                let wide_factor = lanes.splat(factor);
                let (chunks, last) = row.as_chunks();
                let (gains, last_gain) = gain.as_chunks();
                let (outs, last_out) = out.as_chunks_mut();
                for ((out, x), gain) in outs.iter_mut().zip(chunks).zip(gains) {
                    lanes.store(lanes.mul(lanes.mul(lanes.load(x), wide_factor), lanes.load(gain)), out);
                }
                for ((out, x), gain) in last_out.iter_mut().zip(last).zip(last_gain) {
                    *out = x * factor * gain;
                }
            }
        }
    }
}

/// Sums that are added to in turns: each waits for the last addition to it.
const TURNS: usize = 4;

/// Σ (x − mean), or of its squares.
#[inline(always)]
fn sum<L: Lanes, const SQUARES: bool>(lanes: L, row: &[f32], mean: f32) -> f32 {
    let (chunks, last) = row.as_chunks();
    let (turns, rest) = chunks.as_chunks::<TURNS>();
    let wide_mean = lanes.splat(mean);
    let mut sums = [lanes.splat(0.0); TURNS];
    for turn in turns {
        for (sum, x) in sums.iter_mut().zip(turn) {
            *sum = plus::<L, SQUARES>(lanes, *sum, x, wide_mean);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum = plus::<L, SQUARES>(lanes, *sum, x, wide_mean);
    }
    let total = lanes.add(lanes.add(sums[0], sums[1]), lanes.add(sums[2], sums[3]));
    let term = |x: &f32| if SQUARES { (x - mean) * (x - mean) } else { x - mean };
    last.iter().map(term).fold(lanes.sum(total), |total, term| total + term)
}

#[inline(always)]
fn plus<L: Lanes, const SQUARES: bool>(lanes: L, sum: L::F, x: &[f32; LANES], mean: L::F) -> L::F {
    let distance = lanes.sub(lanes.load(x), mean);
    if SQUARES { lanes.mul_add(distance, distance, sum) } else { lanes.add(sum, distance) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_match_f64() {
        for width in [1, 15, 16, 48, 1000] {
            let row: Vec<f32> = (0..width).map(|i| ((i * 37 % 101) as f32) / 20.0 - 1.5).collect();
            let gain: Vec<f32> = (0..width).map(|i| 0.5 + (i % 7) as f32).collect();
            let bias: Vec<f32> = (0..width).map(|i| (i % 5) as f32 - 2.0).collect();
            let wide = |value: f32| f64::from(value);
            let mean = row.iter().copied().map(wide).sum::<f64>() / width as f64;
            let variance = row.iter().map(|&x| (wide(x) - mean).powi(2)).sum::<f64>() / width as f64;
            let square = row.iter().map(|&x| wide(x).powi(2)).sum::<f64>() / width as f64;
            let layer = Norm::Layer { gain: gain.clone(), bias: bias.clone(), epsilon: 1e-5 };
            let rms = Norm::Rms { gain: gain.clone(), epsilon: 1e-6 };
            let mut out = vec![0.0; width];
            for cpu in CpuFeatures::available() {
                layer.apply_row(cpu, &row, &mut out);
                for (i, found) in out.iter().enumerate() {
                    let expected = (wide(row[i]) - mean) / (variance + 1e-5).sqrt() * wide(gain[i]);
                    assert!((wide(*found) - expected - wide(bias[i])).abs() < 2e-5, "{width}: {found}");
                }
                rms.apply_row(cpu, &row, &mut out);
                for (i, found) in out.iter().enumerate() {
                    let expected = wide(row[i]) / (square + 1e-6).sqrt() * wide(gain[i]);
                    assert!((wide(*found) - expected).abs() < 2e-5, "{width}: {found}");
                }
            }
        }
    }
}
