//! Full attention over packed rows, one canvas at a time.

use rayon::prelude::*;

use super::SharedOutput;
use super::elementwise::softmax;
use super::matmul::{Block, PANEL, multiply_panel};

/// Query rows that share one block of scores.
const QUERIES: usize = 48;

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

/// Rows of one of the three inputs: row r starts at `start + r · stride`.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Storage.
    pub values: &'a [f32],
    /// Index of the first element.
    pub start: usize,
    /// Elements from row to row.
    pub stride: usize,
}

/// softmax(Q·Kᵀ/√width)·V for every head of every canvas, each canvas seeing itself alone and all of
/// itself.
///
/// `lengths` are the canvases' lengths in packing order. Query rows hold `count` heads, key and value
/// rows `shared` heads. Returns (rows, count · width), row-major.
#[must_use]
pub fn attention(
    query: Rows<'_>,
    key: Rows<'_>,
    value: Rows<'_>,
    lengths: &[usize],
    heads: Heads,
) -> Vec<f32> {
    let row_width = heads.count * heads.width;
    let mut out = vec![0.0; lengths.iter().sum::<usize>() * row_width];
    let output = SharedOutput(out.as_mut_ptr());
    let mut tasks = Vec::with_capacity(lengths.len() * heads.count);
    let mut first = 0;
    for &length in lengths {
        tasks.extend((0..heads.count).map(|head| (first, length, head)));
        first += length;
    }
    tasks.into_par_iter().for_each(|(first, length, head)| {
        let shared = head * heads.shared / heads.count;
        let keys = head_panels(key, first, length, shared, heads.width, true);
        let values = head_panels(value, first, length, shared, heads.width, false);
        let mut scores = vec![0.0; QUERIES.min(length) * length];
        for block in (0..length).step_by(QUERIES) {
            let count = QUERIES.min(length - block);
            let scores = &mut scores[..count * length];
            let start = query.start + (first + block) * query.stride + head * heads.width;
            let end = start + (count - 1) * query.stride + heads.width;
            let queries = &query.values[start..end];
            let target = SharedOutput(scores.as_mut_ptr());
            // SAFETY: `scores` belongs to this task and holds count × length elements.
            #[expect(unsafe_code, reason = "writes through SharedOutput")]
            unsafe {
                product(queries, query.stride, heads.width, &keys, length, target, 0, length);
            }
            for row in scores.chunks_exact_mut(length) {
                softmax(row, 1.0 / (heads.width as f32).sqrt());
            }
            let at = (first + block) * row_width + head * heads.width;
            // SAFETY: no other task has this canvas and head, so nobody else writes these rows ×
            // columns; `out` outlives the parallel loop.
            #[expect(unsafe_code, reason = "writes through SharedOutput")]
            unsafe {
                product(scores, length, length, &values, heads.width, output, at, row_width);
            }
        }
    });
    out
}

/// One head of one canvas as panels: (width × length) for keys, (length × width) for values.
fn head_panels(
    rows: Rows<'_>,
    first: usize,
    length: usize,
    head: usize,
    width: usize,
    transposed: bool,
) -> Vec<f32> {
    let (depth, columns) = if transposed { (width, length) } else { (length, width) };
    let mut panels = vec![0.0; columns.div_ceil(PANEL) * PANEL * depth];
    for r in 0..length {
        let start = rows.start + (first + r) * rows.stride + head * width;
        for (c, &value) in rows.values[start..start + width].iter().enumerate() {
            let (k, n) = if transposed { (c, r) } else { (r, c) };
            panels[n / PANEL * PANEL * depth + k * PANEL + n % PANEL] = value;
        }
    }
    panels
}

/// rows × panels into the output at `at`.
///
/// # Safety
/// The output elements exist and no other task touches them.
#[expect(unsafe_code, reason = "writes through SharedOutput")]
#[expect(clippy::too_many_arguments, reason = "the two operands and the place of the result")]
unsafe fn product(
    rows: &[f32],
    row_stride: usize,
    depth: usize,
    panels: &[f32],
    columns: usize,
    output: SharedOutput,
    at: usize,
    output_stride: usize,
) {
    let block = Block { rows, row_stride, depth, output, output_start: at, output_stride };
    for (panel, values) in panels.chunks_exact(PANEL * depth).enumerate() {
        let column = panel * PANEL;
        // SAFETY: promised by the caller.
        unsafe { multiply_panel(&block, values, column, PANEL.min(columns - column), None) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, salt: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + salt) * 2_654_435_761) % 2001) as f32 / 500.0 - 2.0).collect()
    }

    fn oracle(q: &[f32], k: &[f32], v: &[f32], length: usize, heads: Heads) -> Vec<f64> {
        let (wide, narrow) = (heads.count * heads.width, heads.shared * heads.width);
        let mut out = vec![0.0; length * wide];
        for head in 0..heads.count {
            let shared = head / (heads.count / heads.shared);
            for i in 0..length {
                let scores: Vec<f64> = (0..length)
                    .map(|j| {
                        let dot: f64 = (0..heads.width)
                            .map(|c| {
                                f64::from(q[i * wide + head * heads.width + c])
                                    * f64::from(k[j * narrow + shared * heads.width + c])
                            })
                            .sum();
                        (dot / (heads.width as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = scores.iter().sum();
                for c in 0..heads.width {
                    out[i * wide + head * heads.width + c] = (0..length)
                        .map(|j| scores[j] / total * f64::from(v[j * narrow + shared * heads.width + c]))
                        .sum();
                }
            }
        }
        out
    }

    #[test]
    fn packed_canvases_match_f64_and_equal_themselves_alone() {
        let heads = Heads { count: 4, shared: 2, width: 12 };
        let lengths = [1, 50, 7, 16, 97];
        let rows: usize = lengths.iter().sum();
        let (wide, narrow) = (48, 24);
        let (q, k, v) = (values(rows * wide, 1), values(rows * narrow, 2), values(rows * narrow, 3));
        let run = |q: &[f32], k: &[f32], v: &[f32], lengths: &[usize]| {
            let rows = |values, stride| Rows { values, start: 0, stride };
            attention(rows(q, wide), rows(k, narrow), rows(v, narrow), lengths, heads)
        };
        let all = run(&q, &k, &v, &lengths);
        let mut first = 0;
        for length in lengths {
            let cut = |x: &[f32], width: usize| x[first * width..(first + length) * width].to_vec();
            let (q, k, v) = (cut(&q, wide), cut(&k, narrow), cut(&v, narrow));
            let part = &all[first * wide..(first + length) * wide];
            for (found, expected) in part.iter().zip(oracle(&q, &k, &v, length, heads)) {
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} vs {expected}");
            }
            assert_eq!(part, &run(&q, &k, &v, &[length])[..], "a canvas of {length} alone");
            first += length;
        }
    }
}
