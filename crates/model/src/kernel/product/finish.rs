//! Epilogues of a product: the last operations on its sums, while these are in the first-level cache.

use crate::kernel::convert::parts_of;
use crate::kernel::cpu_features::Kernel;
use crate::kernel::elementwise::{gelu, silu};
use crate::kernel::encode;
use crate::kernel::lanes::{LANES, Lanes};
use crate::kernel::line::{Activations, Numbers, PANEL, Shared, SharedLines, WORDS};
use crate::kernel::matrix::{Format, PackedMatrix};

/// Columns of a panel that are finished with the others as pairs.
const HALF: usize = PANEL / 2;

/// The epilogue of a product and its output.
#[derive(Debug)]
pub enum Finish<'a> {
    /// out = product; rows `stride` apart.
    Store {
        /// (rows, stride).
        out: &'a mut [f32],
        /// At least the columns.
        stride: usize,
    },
    /// out += product + bias.
    Add {
        /// (rows, stride).
        out: &'a mut [f32],
        /// At least the columns.
        stride: usize,
        /// One for each column.
        bias: &'a [f32],
    },
    /// out = activation(product + bias), as the left-hand side of another product.
    Activate {
        /// F32 or Bf16, shaped for the result.
        out: &'a mut Activations,
        /// One for each column.
        bias: &'a [f32],
        /// The function applied to the sums.
        activation: Activation<'a>,
    },
}

/// A function of a product's columns.
#[derive(Clone, Copy, Debug)]
pub enum Activation<'a> {
    /// None.
    Linear,
    /// GELU in its tanh form, x·½(1 + tanh(√(2/π)(x + 0.044715x³))) (`gelu_new` of GPT-2).
    Gelu,
    /// silu(g)·u; every panel is 16 columns of g and the 16 of u that belong to them. The result has
    /// half as many columns.
    Swiglu,
    /// Rotation by position; every panel is 16 columns of the first half of a head and the 16 of the
    /// second half that pair with them.
    Rotate(&'a Rotation),
}

/// Angles of a rotation, for every row of an evaluation.
#[derive(Debug, Default)]
pub struct Rotation {
    /// (rows, width) cosines, width a multiple of 16: one for each pair of a head.
    pub cos: Vec<f32>,
    /// Sines.
    pub sin: Vec<f32>,
    /// Pairs of a head.
    pub width: usize,
}

/// A checked [`Finish`] that tasks share.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Store { out: Shared<f32>, stride: usize },
    Add { out: Shared<f32>, stride: usize, bias: &'a [f32] },
    Activate { out: SharedLines, bias: &'a [f32], activation: Activation<'a> },
}

impl<'a> Target<'a> {
    pub(super) fn new(finish: Finish<'a>, rows: usize, columns: usize) -> Self {
        match finish {
            Finish::Store { out, stride } => {
                assert!(stride >= columns && out.len() >= rows * stride, "output of {rows} x {columns}");
                Self::Store { out: Shared(out.as_mut_ptr()), stride }
            }
            Finish::Add { out, stride, bias } => {
                assert!(stride >= columns && out.len() >= rows * stride, "output of {rows} x {columns}");
                assert_eq!(bias.len(), columns, "bias");
                Self::Add { out: Shared(out.as_mut_ptr()), stride, bias }
            }
            Finish::Activate { out, bias, activation } => {
                let width = match activation {
                    Activation::Swiglu => columns / 2,
                    _ => columns,
                };
                assert!(out.numbers() != Numbers::Int8, "integers need whole rows");
                let fits = out.rows() == rows && out.columns() >= width;
                assert!(fits, "output of {rows} x {width}");
                assert_eq!(bias.len(), columns, "bias");
                if let Activation::Rotate(rotation) = activation {
                    let angles = rows * rotation.width;
                    assert!(rotation.cos.len() >= angles && rotation.sin.len() >= angles, "angles");
                    assert_eq!(columns % (2 * rotation.width), 0, "whole heads");
                }
                Self::Activate { out: out.shared(), bias, activation }
            }
        }
    }
}

/// The sums of a tile on their way to the target.
pub(super) struct FinishTile<'a> {
    pub(super) sums: &'a mut [[f32; PANEL]],
    /// The first row.
    pub(super) first: usize,
    pub(super) panel: usize,
    pub(super) left: &'a Activations,
    pub(super) matrix: &'a PackedMatrix,
    pub(super) target: &'a Target<'a>,
}

impl Kernel for FinishTile<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(unsafe_code, reason = "tasks write disjoint elements of one output")]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { sums, first, panel, left, matrix, target } = self;
        let column = panel * PANEL;
        if matrix.format == Format::Int8 {
            dequantise(lanes, sums, &left.scales[first..], matrix, column);
        }
        match *target {
            Target::Store { out, stride } => {
                for row in first..first + sums.len() {
                    // SAFETY: rows and columns are this task's, as `Product::multiply` demands.
                    let out = unsafe { out.slice(row * stride + column, PANEL) };
                    out.as_chunks().0.iter().for_each(|out| lanes.expect_store(out));
                }
                for (row, sums) in (first..).zip(&*sums) {
                    // SAFETY: as above.
                    unsafe { out.slice(row * stride + column, PANEL) }.copy_from_slice(sums);
                }
            }
            Target::Add { out, stride, bias } => {
                let bias = panel_of(bias, column);
                for (row, sums) in (first..).zip(&*sums) {
                    // SAFETY: as above.
                    let out = unsafe { out.slice(row * stride + column, PANEL) };
                    for (out, sums) in out.as_chunks_mut().0.iter_mut().zip(plus(lanes, sums, bias)) {
                        lanes.store(lanes.add(lanes.load(out), sums), out);
                    }
                }
            }
            Target::Activate { out, bias, activation } => {
                let bias = panel_of(bias, column);
                for sums in sums.iter_mut() {
                    let total = plus(lanes, sums, bias);
                    for (out, sum) in sums.as_chunks_mut().0.iter_mut().zip(total) {
                        lanes.store(sum, out);
                    }
                }
                activate(lanes, sums, activation, first, panel);
                let width = if let Activation::Swiglu = activation { HALF } else { PANEL };
                for (row, sums) in (first..).zip(&*sums) {
                    // SAFETY: as above.
                    unsafe { write(lanes, &out, row, panel * width, sums, width) };
                }
            }
        }
    }
}

#[inline(always)]
fn activate<L: Lanes>(
    lanes: L,
    sums: &mut [[f32; PANEL]],
    activation: Activation<'_>,
    first: usize,
    panel: usize,
) {
    match activation {
        Activation::Linear => {}
        Activation::Gelu => {
            for sums in sums.as_flattened_mut().as_chunks_mut().0 {
                lanes.store(gelu(lanes, lanes.load(sums)), sums);
            }
        }
        Activation::Swiglu => {
            for sums in sums {
                let halves = sums.as_chunks_mut().0;
                let gate = silu(lanes, lanes.load(&halves[0]));
                let up = lanes.load(&halves[1]);
                lanes.store(lanes.mul(gate, up), &mut halves[0]);
            }
        }
        Activation::Rotate(rotation) => {
            for (row, sums) in (first..).zip(sums) {
                rotate(sums, rotation, row, panel);
            }
        }
    }
}

/// The 32 elements from `column` on.
fn panel_of<T>(values: &[T], column: usize) -> &[[T; LANES]] {
    values[column..column + PANEL].as_chunks().0
}

#[inline(always)]
fn plus<L: Lanes>(lanes: L, sums: &[f32; PANEL], bias: &[[f32; LANES]]) -> [L::F; 2] {
    let halves = sums.as_chunks().0;
    [
        lanes.add(lanes.load(&halves[0]), lanes.load(&bias[0])),
        lanes.add(lanes.load(&halves[1]), lanes.load(&bias[1])),
    ]
}

/// Scales sums of integers to floats. The left-hand side was stored 128 too high.
#[inline(always)]
fn dequantise<L: Lanes>(
    lanes: L,
    sums: &mut [[f32; PANEL]],
    row_scales: &[f32],
    matrix: &PackedMatrix,
    column: usize,
) {
    let scales = panel_of(&matrix.scales, column);
    let offsets = panel_of(&matrix.offsets, column);
    for (sums, row_scale) in sums.iter_mut().zip(row_scales) {
        let row_scale = lanes.splat(*row_scale);
        for ((sums, scales), offsets) in sums.as_chunks_mut().0.iter_mut().zip(scales).zip(offsets) {
            let whole = lanes.differences(sums, offsets);
            lanes.store(lanes.mul(whole, lanes.mul(row_scale, lanes.load(scales))), sums);
        }
    }
}

/// Rotates the pairs of a panel of queries or keys; `row` is the position of the token.
#[inline(always)]
pub(in crate::kernel) fn rotate(sums: &mut [f32; PANEL], rotation: &Rotation, row: usize, panel: usize) {
    let start = row * rotation.width + panel * HALF % rotation.width;
    let cos = &rotation.cos[start..start + HALF];
    let sin = &rotation.sin[start..start + HALF];
    let (first, second) = sums.split_at_mut(HALF);
    for i in 0..HALF {
        let x = first[i];
        let y = second[i];
        first[i] = x * cos[i] - y * sin[i];
        second[i] = x * sin[i] + y * cos[i];
    }
}

/// Writes the first `width` of some elements of a row, 16 or 32.
///
/// # Safety
/// They exist, and no other task touches them.
#[inline(always)]
#[expect(unsafe_code, reason = "tasks write disjoint elements of one output")]
pub(in crate::kernel) unsafe fn write<L: Lanes>(
    lanes: L,
    out: &SharedLines,
    row: usize,
    column: usize,
    values: &[f32; PANEL],
    width: usize,
) {
    let halves = values.as_chunks().0;
    let halves = [lanes.load(&halves[0]), lanes.load(&halves[1])];
    let line = column / PANEL * out.numbers.parts();
    let word = column % PANEL / 2;
    match out.numbers {
        Numbers::Bf16 => {
            // SAFETY: promised by the caller; 16 elements are half a line, 32 a whole one.
            let words = unsafe { out.words(line, row, word, width / 2) };
            words.copy_from_slice(&lanes.bf16(halves[0], halves[1])[..width / 2]);
        }
        Numbers::Parts => {
            for (part, rounded) in parts_of(lanes, halves).iter().enumerate() {
                // SAFETY: as above.
                let words = unsafe { out.words(line + part, row, word, width / 2) };
                words.copy_from_slice(&rounded[..width / 2]);
            }
        }
        _ => {
            for (line, values) in values[..width].chunks_exact(WORDS).enumerate() {
                // SAFETY: as above; 16 elements are a line.
                encode::f32(values, unsafe { out.words(column / WORDS + line, row, 0, WORDS) });
            }
        }
    }
}
