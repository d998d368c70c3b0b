//! Products of activations with packed matrices, and what becomes of each result while it is in the
//! first-level cache.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::elementwise::{gelu, silu};
use super::encode;
use super::instructions::{Instructions, Kernel};
use super::lanes::{LANES, Lanes};
use super::line::{Activations, Line, Numbers, Shared, SharedLines, WORDS};
use super::matrix::{Format, PANEL, PackedMatrix};
use super::tile::{Blocking, Sums, Tile, blocking};

/// Where a product goes.
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
        /// What is done to the sums.
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

/// Columns of a panel that are finished with the others as pairs.
const HALF: usize = PANEL / 2;
/// Most bytes of the left-hand side that a task goes through for every panel: they stay in a core's own cache.
const BLOCK: usize = 1 << 20;
/// The same where every block costs that the panels are packed anew.
const STORED_BLOCK: usize = 4 << 20;
/// Multiplications that are worth the start of a task.
const WORK: usize = 2 << 20;

/// left × matrix, finished. Runs on the current rayon pool.
///
/// # Panics
/// When shapes or numbers do not fit.
pub fn product(instructions: Instructions, left: &Activations, matrix: &PackedMatrix, finish: Finish<'_>) {
    assert_eq!(left.numbers(), matrix.format().left(), "numbers of a row and of the matrix");
    assert_eq!(left.depth, matrix.depth, "lines of a row and of the matrix");
    let target = Target::new(finish, left.rows(), matrix.columns());
    let (rows, panels) = (left.rows(), matrix.panel_count());
    let Blocking { height, tiles, .. } = blocking(instructions, matrix.format);
    let (bytes, tiles) = if matrix.is_packed() { (BLOCK, tiles) } else { (STORED_BLOCK, usize::MAX) };
    let tiles_per_block = (bytes / (left.depth.max(1) * size_of::<Line>() * height)).clamp(1, tiles);
    let tiles = rows.div_ceil(height);
    let blocks = tiles.div_ceil(tiles_per_block).max(1);
    let work = (rows / blocks).max(1) * left.depth * left.numbers.per_line() * PANEL;
    // Wide enough to be worth its start, narrow enough to balance the threads.
    let group = (WORK / work.max(1)).clamp(1, panels.div_ceil(rayon::current_num_threads() * 4).max(1));
    let groups = panels.div_ceil(group);
    (0..blocks * groups).into_par_iter().for_each(|task| {
        let (block, group_number) = (task / groups, task % groups);
        let rows = share(rows, blocks, block);
        for panel in group_number * group..(group_number * group + group).min(panels) {
            // SAFETY: tasks are pairs of a block of rows and a group of panels, so no two write the same
            // elements; `Target::new` has checked that all of them exist, and `finish` outlives the loop.
            #[expect(unsafe_code, reason = "tasks write disjoint elements of one output")]
            unsafe {
                multiply_panel(instructions, left, matrix, panel, rows.clone(), &target);
            }
        }
    });
}

/// Part `number` of `0..count` in `parts` nearly equal ones.
pub(super) fn share(count: usize, parts: usize, number: usize) -> Range<usize> {
    count * number / parts..count * (number + 1) / parts
}

/// # Safety
/// The target has these rows and the panel's columns, and no other task touches them.
#[expect(unsafe_code, reason = "tasks write disjoint elements of one output")]
unsafe fn multiply_panel(
    instructions: Instructions,
    left: &Activations,
    matrix: &PackedMatrix,
    panel: usize,
    rows: Range<usize>,
    target: &Target<'_>,
) {
    let Blocking { height, lines, .. } = blocking(instructions, matrix.format);
    let tiles = rows.len().div_ceil(height);
    let parts = left.depth.div_ceil(lines).max(1);
    let right = matrix.panel(instructions, panel);
    let next = matrix.packed_panel(panel + 1);
    SUMS.with_borrow_mut(|sums| {
        if sums.len() < tiles {
            sums.resize_with(tiles, Sums::new);
        }
        for part in 0..parts {
            let lines = share(left.depth, parts, part);
            for (number, sums) in sums[..tiles].iter_mut().enumerate() {
                let tile_rows = share(rows.len(), tiles, number);
                let first = rows.start + tile_rows.start;
                let tile = Tile {
                    format: matrix.format,
                    left: left.lines_at(lines.start, first),
                    stride: left.stride,
                    rows: tile_rows.len(),
                    depth: lines.len(),
                    right: &right[matrix.lines_before(lines.start)..],
                    resumes: part > 0,
                    // Each tile fetches its share of the next panel.
                    ahead: &next[share(next.len(), parts * tiles, part * tiles + number)],
                };
                tile.multiply(instructions, sums.0.as_flattened_mut(), PANEL);
                if part + 1 == parts {
                    let sums = &mut sums.0[..tile_rows.len()];
                    instructions.run(FinishTile { sums, first, panel, left, matrix, target });
                }
            }
        }
    });
}

thread_local! {
    /// The sums of a block of rows with one panel; their memory is taken once and kept.
    static SUMS: RefCell<Vec<Sums>> = const { RefCell::new(Vec::new()) };
}

/// A checked [`Finish`] that tasks share.
#[derive(Clone, Copy)]
enum Target<'a> {
    Store { out: Shared<f32>, stride: usize },
    Add { out: Shared<f32>, stride: usize, bias: &'a [f32] },
    Activate { out: SharedLines, bias: &'a [f32], activation: Activation<'a> },
}

impl<'a> Target<'a> {
    fn new(finish: Finish<'a>, rows: usize, columns: usize) -> Self {
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
                let fits = out.rows() == rows && out.depth * out.numbers.per_line() >= width;
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

struct FinishTile<'a> {
    sums: &'a mut [[f32; PANEL]],
    /// The first row.
    first: usize,
    panel: usize,
    left: &'a Activations,
    matrix: &'a PackedMatrix,
    target: &'a Target<'a>,
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
                for (row, sums) in (first..).zip(&*sums) {
                    // SAFETY: rows and columns are this task's, as `multiply_panel` demands.
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
                let (gate, up) = (silu(lanes, lanes.load(&halves[0])), lanes.load(&halves[1]));
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

/// What sums of integers are worth; the left-hand side was stored 128 too high.
#[inline(always)]
fn dequantise<L: Lanes>(
    lanes: L,
    sums: &mut [[f32; PANEL]],
    row_scales: &[f32],
    matrix: &PackedMatrix,
    column: usize,
) {
    let (scales, offsets) = (panel_of(&matrix.scales, column), panel_of(&matrix.offsets, column));
    for (sums, row_scale) in sums.iter_mut().zip(row_scales) {
        let row_scale = lanes.splat(*row_scale);
        for ((sums, scales), offsets) in sums.as_chunks_mut().0.iter_mut().zip(scales).zip(offsets) {
            let whole = lanes.differences(sums, offsets);
            lanes.store(lanes.mul(whole, lanes.mul(row_scale, lanes.load(scales))), sums);
        }
    }
}

#[inline(always)]
fn rotate(sums: &mut [f32; PANEL], rotation: &Rotation, row: usize, panel: usize) {
    let start = row * rotation.width + panel * HALF % rotation.width;
    let (cos, sin) = (&rotation.cos[start..start + HALF], &rotation.sin[start..start + HALF]);
    let (first, second) = sums.split_at_mut(HALF);
    for i in 0..HALF {
        let (x, y) = (first[i], second[i]);
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
pub(super) unsafe fn write<L: Lanes>(
    lanes: L,
    out: &SharedLines,
    row: usize,
    column: usize,
    values: &[f32; PANEL],
    width: usize,
) {
    match out.numbers {
        Numbers::Bf16 => {
            let word = column / 2;
            // SAFETY: promised by the caller; 16 elements are half a line, 32 a whole one.
            let words = unsafe { out.words(word / WORDS, row, word % WORDS, width / 2) };
            let halves = values.as_chunks().0;
            let rounded = lanes.bf16(lanes.load(&halves[0]), lanes.load(&halves[1]));
            words.copy_from_slice(&rounded[..width / 2]);
        }
        _ => {
            for (line, values) in values[..width].chunks_exact(WORDS).enumerate() {
                // SAFETY: as above; 16 elements are a line.
                encode::f32(values, unsafe { out.words(column / WORDS + line, row, 0, WORDS) });
            }
        }
    }
}

#[cfg(test)]
mod tests;
