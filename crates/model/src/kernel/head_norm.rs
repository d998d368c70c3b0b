//! Norms of every head of queries or keys, and their rotation.

use rayon::prelude::*;

use super::cpu_features::{CpuFeatures, Kernel};
use super::lanes::{LANES, Lanes};
use super::line::{Activations, PANEL};
use super::product::{Rotation, rotate};

/// Rows of a task.
const TASK: usize = 8;

/// RMS norm of each head by itself, with one gain for all heads: x/√(mean square + ε)·gain.
#[derive(Debug)]
pub struct HeadNorm {
    /// By column of a head, in the order of turned heads; 0 where a head is filled up.
    pub gain: Vec<f32>,
    /// Columns of a head that are not filled up.
    pub width: usize,
    /// ε.
    pub epsilon: f32,
}

impl HeadNorm {
    /// Norms the heads of the rows of `rows`, turns each pair by its row's angle in `rotation`, and writes the result
    /// into `out`. Rows are whole heads, in each of which panels hold 16 columns of the first half and the 16 of the
    /// second that turn with them. Runs on the current rayon pool.
    pub fn apply(
        &self,
        cpu: CpuFeatures,
        rows: &mut [f32],
        stride: usize,
        rotation: &Rotation,
        out: &mut Activations,
    ) {
        out.shape(rows.len() / stride, stride);
        let lines = out.shared();
        rows.par_chunks_mut(stride * TASK).enumerate().for_each(|(task, rows)| {
            for (place, row) in rows.chunks_exact_mut(stride).enumerate() {
                let number = task * TASK + place;
                cpu.run(NormHeads { norm: self, row, rotation, number });
                // SAFETY: every task has rows of its own, and `out` outlives the loop.
                #[expect(unsafe_code, reason = "tasks write disjoint rows of one output")]
                unsafe {
                    lines.write_row(cpu, number, row);
                }
            }
        });
    }
}

struct NormHeads<'a> {
    norm: &'a HeadNorm,
    row: &'a mut [f32],
    rotation: &'a Rotation,
    number: usize,
}

impl Kernel for NormHeads<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { norm, row, rotation, number } = self;
        for head in row.chunks_exact_mut(norm.gain.len()) {
            let mut squares = lanes.splat(0.0);
            for x in head.as_chunks::<LANES>().0 {
                let x = lanes.load(x);
                squares = lanes.mul_add(x, x, squares);
            }
            let mean = lanes.sum(squares) / norm.width as f32;
            let factor = lanes.splat(1.0 / (mean + norm.epsilon).sqrt());
            for (x, gain) in head.as_chunks_mut::<LANES>().0.iter_mut().zip(norm.gain.as_chunks().0) {
                lanes.store(lanes.mul(lanes.mul(lanes.load(x), factor), lanes.load(gain)), x);
            }
            for (panel, sums) in head.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                rotate(sums, rotation, number, panel);
            }
        }
    }
}
