//! Attention over packed rows, one canvas at a time: every query sees the keys of its own canvas, all of them or the
//! first ones. Keys and values are rows of the same evaluation, pages of an earlier one, or both.

mod chunks;
mod pack;
mod page;
mod softmax;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;
use thread_local::ThreadLocal;

use self::chunks::{Chunk, Chunks, grow, lay_out};
use self::pack::HeadLines;
pub use self::page::{NewPages, PAGE, Page, Pages};
use self::softmax::Softmax;
use super::cpu_features::{CpuFeatures, Kernel};
use super::lanes::{LANES, Lanes};
use super::line::{Activations, Line, Numbers, PANEL, SharedLines, padded};
use super::product::{share, write};
use super::tile::{MOST_ROWS, Sums, Tile, height};

/// The shape of one attention layer.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub count: usize,
    /// Key and value heads; divides `count`.
    pub shared: usize,
    /// Width of one head.
    pub width: usize,
}

/// One canvas among packed rows.
#[derive(Clone, Debug, Default)]
pub struct Span {
    /// Its rows of the queries and of the result.
    pub queries: Range<usize>,
    /// Its rows of the keys and values.
    pub keys: Range<usize>,
    /// Keys and values of an earlier evaluation, among which those of `keys` are put.
    pub remembered: Option<Remembered>,
    /// For each query, how many keys it sees, from position 0 on; empty if each sees all.
    pub visible: Vec<u32>,
}

/// Keys and values of an earlier evaluation.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// The positions from 0 on.
    pub pages: Pages,
    /// The layer that is computed.
    pub layer: usize,
    /// The positions of [`Span::keys`], ascending. They replace remembered ones or continue them without a gap.
    pub positions: Vec<u32>,
}

impl Span {
    /// Positions with keys.
    #[must_use]
    pub fn count(&self) -> usize {
        let Some(Remembered { pages, positions, .. }) = &self.remembered else { return self.keys.len() };
        positions.last().map_or(0, |last| *last as usize + 1).max(pages.count())
    }
}

/// Memory for one thread, taken once and kept.
#[derive(Debug, Default)]
pub struct Scratch {
    keys: Vec<Line>,
    values: Vec<Line>,
    scores: Vec<f32>,
    weights: Vec<Line>,
    chunks: Vec<Chunk>,
}

/// Operands of [`attention`]. Heads lie side by side, each padded with zeros to whole panels of 32
/// columns; all operands have the same numbers, anything but integers.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    /// (query rows, count heads).
    pub query: &'a Activations,
    /// (key rows, shared heads).
    pub key: &'a Activations,
    /// (key rows, shared heads).
    pub value: &'a Activations,
}

/// softmax(Q·Kᵀ/√width)·V for every head of every span into `out`, which is shaped here. Runs on the current rayon pool,
/// each thread with a `scratch` of its own.
///
/// # Panics
/// When shapes or numbers do not fit.
pub fn attention(
    cpu: CpuFeatures,
    operands: Operands<'_>,
    spans: &[Span],
    heads: Heads,
    out: &mut Activations,
    scratch: &ThreadLocal<RefCell<Scratch>>,
) {
    let Operands { query, key, value } = operands;
    let numbers = query.numbers();
    assert!(numbers != Numbers::Int8, "attention has no integers");
    assert!(key.numbers() == numbers && value.numbers() == numbers && out.numbers() == numbers);
    assert!(spans.iter().all(|span| span.queries.end <= query.rows() && span.keys.end <= key.rows()));
    assert!(spans.windows(2).all(|pair| pair[0].queries.end <= pair[1].queries.start));
    let depth = numbers.lines(heads.width);
    assert!(query.depth == heads.count * depth && key.depth == heads.shared * depth);
    assert!(value.depth == key.depth && value.rows() == key.rows());
    assert!(spans.iter().all(|span| {
        let Span { queries, keys, remembered, visible } = span;
        let positions = remembered.as_ref().is_none_or(|kept| kept.positions.len() == keys.len());
        let seen = visible.iter().all(|seen| (1..=span.count()).contains(&(*seen as usize)));
        positions && seen && (visible.is_empty() || visible.len() == queries.len())
    }));
    out.shape(query.rows(), query.columns());
    let task = Task {
        cpu,
        operands,
        depth,
        scale: 1.0 / (heads.width as f32).sqrt(),
        group: heads.count / heads.shared,
        out: out.shared(),
    };
    (0..spans.len() * heads.shared).into_par_iter().for_each(|number| {
        let span = &spans[number / heads.shared];
        let head = number % heads.shared;
        // One that a panic has left behind is as good as any.
        let mut scratch = scratch.get_or_default().borrow_mut();
        // SAFETY: spans have different queries, so no two tasks write the same rows of the same head, and
        // `out`, which was shaped for all of them, outlives the loop.
        #[expect(unsafe_code, reason = "tasks write disjoint elements of one output")]
        unsafe {
            task.run(span, head, &mut scratch);
        }
    });
}

#[derive(Clone, Copy)]
struct Task<'a> {
    cpu: CpuFeatures,
    operands: Operands<'a>,
    /// Lines of a head.
    depth: usize,
    scale: f32,
    /// Query heads for each key head.
    group: usize,
    out: SharedLines,
}

impl Task<'_> {
    /// All queries of a span with the heads that share key head `shared`.
    ///
    /// # Safety
    /// No other task writes these rows and heads of the output.
    #[expect(unsafe_code, reason = "tasks write disjoint elements of one output")]
    unsafe fn run(&self, span: &Span, shared: usize, scratch: &mut Scratch) {
        let Self { cpu, operands: Operands { query, .. }, depth, .. } = *self;
        let lines = HeadLines { numbers: query.numbers(), first: shared * depth, depth };
        let numbers = lines.numbers;
        let format = lines.format();
        lay_out(cpu, self.operands, span, lines, scratch);
        let Scratch { keys, values, scores, weights, chunks } = scratch;
        let remembered = span.remembered.as_ref();
        let packed = Chunks { lines, shared, keys, values, chunks, remembered };
        let total = span.count();
        let height = height(cpu, format);
        grow(weights, numbers.lines(total) * height);
        // A line more: rows of a power of two would all meet in a few sets of the cache.
        let score_stride = padded(total) + LANES;
        grow(scores, height * score_stride);
        let tiles = span.queries.len().div_ceil(height);
        for number in 0..self.group * tiles {
            let head = shared * self.group + number / tiles;
            let number = number % tiles;
            let rows = share(span.queries.len(), tiles, number);
            let first = span.queries.start + rows.start;
            let mut counts = [total; MOST_ROWS];
            let seen = span.visible.get(rows.clone()).unwrap_or_default();
            counts.iter_mut().zip(seen).for_each(|(count, seen)| *count = *seen as usize);
            let rows = rows.len();
            let most = counts[..rows].iter().copied().max().unwrap_or_default();
            let tile = Tile {
                format,
                left: query.lines_at(head * depth, first),
                stride: query.stride,
                rows,
                depth,
                right: &[],
                resumes: false,
                ahead: &[],
            };
            packed.scores(cpu, tile, most, scores, score_stride);
            let mut factors = [0.0; MOST_ROWS];
            cpu.run(Softmax {
                scores: &mut scores[..rows * score_stride],
                score_stride,
                counts: &counts,
                lines: numbers.lines(most),
                scale: self.scale,
                numbers,
                out: weights,
                stride: height,
                factors: &mut factors,
            });
            let mut sums = Sums::new();
            for panel in 0..lines.value_panels() {
                packed.sums(cpu, Tile { left: weights, stride: height, ..tile }, most, panel, &mut sums);
                let column = (head * lines.value_panels() + panel) * PANEL;
                let sums = &mut sums.0[..rows];
                let result = Scaled { sums, factors: &factors, first, column, out: &self.out };
                cpu.run(result);
            }
        }
    }
}

/// Sums times the factors of their rows, as part of the result.
struct Scaled<'a> {
    sums: &'a mut [[f32; PANEL]],
    factors: &'a [f32; MOST_ROWS],
    first: usize,
    column: usize,
    out: &'a SharedLines,
}

impl Kernel for Scaled<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(unsafe_code, reason = "tasks write disjoint elements of one output")]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { sums, factors, first, column, out } = self;
        for ((row, sums), factor) in (first..).zip(sums).zip(factors) {
            let factor = lanes.splat(*factor);
            for sums in sums.as_chunks_mut().0 {
                lanes.store(lanes.mul(lanes.load(sums), factor), sums);
            }
            // SAFETY: this task's rows and head, as `Task::run` demands.
            unsafe { write(lanes, out, row, column, sums, PANEL) };
        }
    }
}
