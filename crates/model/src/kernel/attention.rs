//! Full attention over packed rows, one canvas at a time.

mod softmax;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use self::softmax::Softmax;
use super::cpu_features::{CpuFeatures, Kernel};
use super::lanes::{LANES, Lanes};
use super::line::{Activations, Line, Numbers, PANEL, SharedLines, WORDS, padded};
use super::matrix::Format;
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
#[derive(Clone, Debug)]
pub struct Span {
    /// Its rows of the queries and of the result.
    pub queries: Range<usize>,
    /// Its rows of the keys and values.
    pub keys: Range<usize>,
}

/// Memory for one thread, taken once and kept.
#[derive(Debug, Default)]
pub struct Scratch {
    keys: Vec<Line>,
    values: Vec<Line>,
    scores: Vec<f32>,
    weights: Vec<Line>,
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

/// softmax(Q·Kᵀ/√width)·V for every head of every span into `out`, which is shaped here; every query
/// sees all keys of its span. Runs on the current rayon pool; `scratch` has an element for each of its
/// threads.
///
/// # Panics
/// When shapes or numbers do not fit.
pub fn attention(
    cpu: CpuFeatures,
    operands: Operands<'_>,
    spans: &[Span],
    heads: Heads,
    out: &mut Activations,
    scratch: &[Mutex<Scratch>],
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
        let thread = rayon::current_thread_index().unwrap_or(0) % scratch.len();
        // A buffer that a panic has left behind is as good as any.
        let mut scratch = scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
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
        let Self { cpu, operands: Operands { query, key, value }, depth, .. } = *self;
        let numbers = query.numbers();
        let format = match numbers {
            Numbers::Bf16 => Format::Bf16,
            Numbers::Parts => Format::F32Parts,
            _ => Format::F32,
        };
        let count = span.keys.len();
        let columns = padded(count);
        let value_depth = numbers.lines(count);
        let Scratch { keys, values, scores, weights } = scratch;
        let panel_lines = format.panel_lines(depth);
        let value_lines = format.panel_lines(value_depth);
        let lines_of_panel = numbers.lines(PANEL);
        let value_panels = depth / lines_of_panel;
        grow(keys, columns / PANEL * panel_lines);
        grow(values, value_panels * value_lines);
        let height = height(cpu, format);
        grow(weights, value_depth * height);
        // A line more: rows of a power of two would all meet in a few sets of the cache.
        let score_stride = columns + LANES;
        grow(scores, height * score_stride);
        cpu.run(PackKeys { key, span, first: shared * depth, depth, out: keys });
        for panel in 0..value_panels {
            let first = shared * depth + panel * lines_of_panel;
            let out = &mut values[panel * value_lines..][..value_lines];
            cpu.run(PackValues { value, span, first, out });
        }
        let resumes = false;
        let tiles = span.queries.len().div_ceil(height);
        for number in 0..self.group * tiles {
            let head = shared * self.group + number / tiles;
            let number = number % tiles;
            let rows = share(span.queries.len(), tiles, number);
            let first = span.queries.start + rows.start;
            let left = query.lines_at(head * depth, first);
            let rows = rows.len();
            for (panel, right) in keys.chunks_exact(panel_lines).take(columns / PANEL).enumerate() {
                let tile =
                    Tile { format, left, stride: query.stride, rows, depth, right, resumes, ahead: &[] };
                tile.multiply(cpu, &mut scores[panel * PANEL..], score_stride);
            }
            let mut factors = [0.0; MOST_ROWS];
            cpu.run(Softmax {
                scores: &mut scores[..rows * score_stride],
                score_stride,
                count,
                scale: self.scale,
                numbers,
                out: weights,
                stride: height,
                factors: &mut factors,
            });
            let mut sums = Sums::new();
            for (panel, right) in values.chunks_exact(value_lines).take(value_panels).enumerate() {
                let tile = Tile {
                    format,
                    left: weights,
                    stride: height,
                    rows,
                    depth: value_depth,
                    right,
                    resumes,
                    ahead: &[],
                };
                tile.multiply(cpu, sums.0.as_flattened_mut(), PANEL);
                let column = (head * value_panels + panel) * PANEL;
                let sums = &mut sums.0[..rows];
                let result = Scaled { sums, factors: &factors, first, column, out: &self.out };
                cpu.run(result);
            }
        }
    }
}

fn grow<T: Clone + Default>(values: &mut Vec<T>, count: usize) {
    if values.len() < count {
        values.resize(count, T::default());
    }
}

/// One head of a span's keys as a right-hand side: K = width of the head, N = keys.
struct PackKeys<'a> {
    key: &'a Activations,
    span: &'a Span,
    /// The head's first line, and its lines.
    first: usize,
    depth: usize,
    out: &'a mut [Line],
}

impl Kernel for PackKeys<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { key, span, first, depth, out } = self;
        const HALVES: usize = PANEL / WORDS;
        for (block, start) in span.keys.clone().step_by(WORDS).enumerate() {
            let count = WORDS.min(span.keys.end - start);
            let panel = block / HALVES * depth * WORDS * HALVES;
            for line in 0..depth {
                let mut square = [[0; WORDS]; WORDS];
                for (square, row) in square.iter_mut().zip(&key.lines_at(first + line, start)[..count]) {
                    *square = row.0;
                }
                let out = &mut out[panel + line * WORDS * HALVES + block % HALVES..];
                for word in 0..WORDS {
                    out[word * HALVES].0 = std::array::from_fn(|row| square[row][word]);
                }
            }
        }
        // Keys that fill up the last panel.
        if span.keys.len().div_ceil(WORDS) % HALVES == 1 {
            let panel = span.keys.len() / PANEL * depth * WORDS * HALVES;
            for line in out[panel..][..depth * WORDS * HALVES].iter_mut().skip(1).step_by(HALVES) {
                *line = Line::default();
            }
        }
    }
}

/// 32 columns of a span's values as a right-hand side: K = values, N = columns.
struct PackValues<'a> {
    value: &'a Activations,
    span: &'a Span,
    /// The line of the first column.
    first: usize,
    out: &'a mut [Line],
}

impl Kernel for PackValues<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { value, span, first, out } = self;
        let count = span.keys.len();
        if value.numbers == Numbers::F32 {
            let (out, zeros) = out.split_at_mut(count * 2);
            zeros.fill(Line::default());
            let rows = &value.lines_at(first, span.keys.start)[..count];
            let next = &value.lines_at(first + 1, span.keys.start)[..count];
            for (out, (row, next)) in out.as_chunks_mut::<2>().0.iter_mut().zip(rows.iter().zip(next)) {
                *out = [*row, *next];
            }
            return;
        }
        let parts = value.numbers.parts();
        let blocks = out.as_chunks_mut::<{ 2 * WORDS }>().0;
        for part in 0..parts {
            let rows = &value.lines_at(first + part, span.keys.start)[..count];
            let blocks = blocks.iter_mut().skip(part).step_by(parts);
            for (block, rows) in blocks.zip(rows.chunks(2 * WORDS)) {
                let (pairs, zeros) = block.split_at_mut(rows.len().div_ceil(2) * 2);
                zeros.fill(Line::default());
                for (out, pair) in pairs.as_chunks_mut::<2>().0.iter_mut().zip(rows.chunks(2)) {
                    let even = pair[0].0;
                    let odd = if let [_, odd] = pair { odd.0 } else { [0; WORDS] };
                    for word in 0..WORDS {
                        let at = &mut out[word / (WORDS / 2)].0[word % (WORDS / 2) * 2..][..2];
                        at[0] = even[word] & 0xffff | odd[word] << 16;
                        at[1] = even[word] >> 16 | odd[word] & 0xffff_0000;
                    }
                }
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
