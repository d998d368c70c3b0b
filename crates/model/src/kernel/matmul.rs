//! Matrix product with a right-hand side packed once.

use half::bf16;
use rayon::prelude::*;

use super::{SharedOutput, simd};

/// Columns of one panel: two AVX2 registers.
pub(super) const PANEL: usize = 16;
/// Rows of one register tile: with [`PANEL`] columns it fills 12 of the 16 AVX2 registers.
const TILE: usize = 6;
/// Terms of the sum before the accumulators go through memory, so that a panel's part stays in the
/// first-level cache. Storing and reloading an f32 is exact: the chain of operations is unchanged.
const DEPTH: usize = 384;
/// Rows that share a panel while it is in the cache.
const ROWS: usize = TILE * 16;

/// How a packed matrix keeps its elements. Arithmetic is in f32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// 4 bytes an element.
    F32,
    /// 2 bytes an element: exact for weights that are bfloat16 already, rounded for others.
    Bf16,
}

/// A K × N matrix cut into panels of 16 columns, each stored row after row, the last one padded with
/// zeros.
#[derive(Debug)]
pub struct PackedMatrix {
    panels: Panels,
    depth: usize,
    columns: usize,
}

#[derive(Debug)]
enum Panels {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl PackedMatrix {
    /// Packs a matrix given by `element(k, n)`, K = `depth`, N = `columns`.
    pub fn pack(
        storage: Storage,
        depth: usize,
        columns: usize,
        element: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        fn panels<E: Element>(
            depth: usize,
            columns: usize,
            element: impl Fn(usize, usize) -> f32 + Sync,
        ) -> Vec<E> {
            let mut out = vec![E::from_f32(0.0); columns.div_ceil(PANEL) * PANEL * depth];
            out.par_chunks_mut(PANEL * depth.max(1)).enumerate().for_each(|(panel, out)| {
                let first = panel * PANEL;
                let width = PANEL.min(columns - first);
                for (k, row) in out.chunks_exact_mut(PANEL).enumerate() {
                    for (j, slot) in row[..width].iter_mut().enumerate() {
                        *slot = E::from_f32(element(k, first + j));
                    }
                }
            });
            out
        }
        let panels = match storage {
            Storage::F32 => Panels::F32(panels(depth, columns, element)),
            Storage::Bf16 => Panels::Bf16(panels(depth, columns, element)),
        };
        Self { panels, depth, columns }
    }

    /// K, the length of the sums.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// N, the width of a result row.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// `rows` × this matrix, plus `bias` on every row: (M, K) row-major in, (M, N) row-major out. Runs
    /// on the current rayon pool.
    #[must_use]
    pub fn multiply(&self, rows: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        match &self.panels {
            Panels::F32(panels) => multiply(rows, panels, self.depth, self.columns, bias),
            Panels::Bf16(panels) => multiply(rows, panels, self.depth, self.columns, bias),
        }
    }
}

/// What a panel is made of.
pub(super) trait Element: Copy + Send + Sync {
    fn from_f32(value: f32) -> Self;
    fn to_f32(self) -> f32;
}

impl Element for f32 {
    fn from_f32(value: f32) -> Self {
        value
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    fn from_f32(value: f32) -> Self {
        bf16::from_f32(value)
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        // Unlike half's own conversion this has no branch for NaN, so that it vectorises.
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

fn multiply<E: Element>(
    rows: &[f32],
    panels: &[E],
    depth: usize,
    columns: usize,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let count = rows.len().checked_div(depth).unwrap_or(0);
    let mut out = vec![0.0; count * columns];
    let output = SharedOutput(out.as_mut_ptr());
    let panel_count = columns.div_ceil(PANEL);
    // Enough tasks to balance the threads, each wide enough to be worth its start.
    let group = panel_count.div_ceil(rayon::current_num_threads() * 4).max(4);
    let row_blocks = count.div_ceil(ROWS);
    let groups = panel_count.div_ceil(group);
    (0..groups * row_blocks).into_par_iter().for_each(|task| {
        let first_row = (task / groups) * ROWS;
        let block = Block {
            rows: &rows[first_row * depth..(first_row + ROWS).min(count) * depth],
            row_stride: depth,
            depth,
            output,
            output_start: first_row * columns,
            output_stride: columns,
        };
        let first = (task % groups) * group;
        for panel in first..(first + group).min(panel_count) {
            let column = panel * PANEL;
            let width = PANEL.min(columns - column);
            let bias = bias.map(|bias| &bias[column..column + width]);
            // SAFETY: tasks are pairs of a row block and a group of panels, so no two tasks write the
            // same element, and `out` outlives the parallel loop.
            #[expect(unsafe_code, reason = "writes through SharedOutput")]
            unsafe {
                multiply_panel(
                    &block,
                    &panels[panel * PANEL * depth..][..PANEL * depth],
                    column,
                    width,
                    bias,
                );
            }
        }
    });
    out
}

/// Some rows of the left-hand side and where their products go.
pub(super) struct Block<'a> {
    /// The rows, `row_stride` apart, `depth` elements each.
    pub(super) rows: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) depth: usize,
    pub(super) output: SharedOutput,
    /// Index of the output element (row 0, column 0).
    pub(super) output_start: usize,
    pub(super) output_stride: usize,
}

/// Multiplies a block by one panel into `width` columns of the output from `column`.
///
/// # Safety
/// The output elements (rows of the block × those columns) exist, and no other task touches them.
#[expect(unsafe_code, reason = "writes through SharedOutput")]
pub(super) unsafe fn multiply_panel<E: Element>(
    block: &Block<'_>,
    panel: &[E],
    column: usize,
    width: usize,
    bias: Option<&[f32]>,
) {
    let count = (block.rows.len() + block.row_stride - block.depth) / block.row_stride.max(1);
    for start in (0..block.depth).step_by(DEPTH) {
        let end = (start + DEPTH).min(block.depth);
        let panel = &panel[start * PANEL..end * PANEL];
        let (first, last) = (start == 0, end == block.depth);
        let mut row = 0;
        while row < count {
            let height = TILE.min(count - row);
            let lines = &block.rows[row * block.row_stride + start..];
            let mut sums = [[0.0; PANEL]; TILE];
            let at = |i: usize| block.output_start + (row + i) * block.output_stride + column;
            if !first {
                for (i, sums) in sums[..height].iter_mut().enumerate() {
                    // SAFETY: promised by the caller.
                    sums[..width].copy_from_slice(unsafe { block.output.slice(at(i), width) });
                }
            }
            accumulate(lines, block.row_stride, panel, &mut sums, height);
            for (i, sums) in sums[..height].iter_mut().enumerate() {
                // SAFETY: promised by the caller.
                let target = unsafe { block.output.slice(at(i), width) };
                match bias.filter(|_| last) {
                    Some(bias) => {
                        for ((target, sum), bias) in target.iter_mut().zip(&*sums).zip(bias) {
                            *target = sum + bias;
                        }
                    }
                    None => target.copy_from_slice(&sums[..width]),
                }
            }
            row += height;
        }
    }
}

/// Adds `height` rows × one panel to the first `height` rows of `sums`.
fn accumulate<E: Element>(
    rows: &[f32],
    stride: usize,
    panel: &[E],
    sums: &mut [[f32; PANEL]; TILE],
    height: usize,
) {
    match height {
        1 => simd::run(Tile::<E, 1> { rows, stride, panel, sums }),
        2 => simd::run(Tile::<E, 2> { rows, stride, panel, sums }),
        3 => simd::run(Tile::<E, 3> { rows, stride, panel, sums }),
        4 => simd::run(Tile::<E, 4> { rows, stride, panel, sums }),
        5 => simd::run(Tile::<E, 5> { rows, stride, panel, sums }),
        _ => simd::run(Tile::<E, TILE> { rows, stride, panel, sums }),
    }
}

/// The innermost loop, written so that the compiler keeps `H` × [`PANEL`] sums in registers.
struct Tile<'a, E, const H: usize> {
    rows: &'a [f32],
    stride: usize,
    panel: &'a [E],
    sums: &'a mut [[f32; PANEL]; TILE],
}

impl<E: Element, const H: usize> simd::Kernel for Tile<'_, E, H> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let (panel, _) = self.panel.as_chunks::<PANEL>();
        let lines: [&[f32]; H] = std::array::from_fn(|i| &self.rows[i * self.stride..][..panel.len()]);
        let mut sums: [[f32; PANEL]; H] = std::array::from_fn(|i| self.sums[i]);
        for (k, line) in panel.iter().enumerate() {
            let right: [f32; PANEL] = std::array::from_fn(|j| line[j].to_f32());
            for i in 0..H {
                let left = lines[i][k];
                for j in 0..PANEL {
                    let sum = sums[i][j];
                    sums[i][j] = if FUSED { left.mul_add(right[j], sum) } else { sum + left * right[j] };
                }
            }
        }
        self.sums[..H].copy_from_slice(&sums);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(i: usize) -> f32 {
        ((i * 2_654_435_761) % 2001) as f32 / 1000.0 - 1.0
    }

    fn oracle(rows: &[f32], count: usize, depth: usize, columns: usize) -> Vec<f64> {
        let mut out = vec![0.0; count * columns];
        for i in 0..count {
            for n in 0..columns {
                out[i * columns + n] = (0..depth)
                    .map(|k| f64::from(rows[i * depth + k]) * f64::from(value(k * columns + n)))
                    .sum();
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn products_match_a_plain_f64_sum(count in 0_usize..20, depth in 1_usize..900, columns in 1_usize..70) {
            let rows: Vec<f32> = (0..count * depth).map(|i| value(i + 7)).collect();
            let matrix = PackedMatrix::pack(Storage::F32, depth, columns, |k, n| value(k * columns + n));
            let bias: Vec<f32> = (0..columns).map(value).collect();
            let found = matrix.multiply(&rows, Some(&bias));
            for (i, expected) in oracle(&rows, count, depth, columns).iter().enumerate() {
                let expected = expected + f64::from(bias[i % columns]);
                prop_assert!((f64::from(found[i]) - expected).abs() < 1e-3, "{} vs {expected}", found[i]);
            }
        }

        #[test]
        fn a_row_does_not_depend_on_its_neighbours_or_on_threads(
            count in 1_usize..120, pick in 0_usize..120, depth in 1_usize..900, bf16 in any::<bool>(),
        ) {
            let columns = 37;
            let pick = pick % count;
            let storage = if bf16 { Storage::Bf16 } else { Storage::F32 };
            let rows: Vec<f32> = (0..count * depth).map(|i| value(i + 3)).collect();
            let matrix = PackedMatrix::pack(storage, depth, columns, |k, n| value(k * columns + n));
            let all = matrix.multiply(&rows, None);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let alone = pool.install(|| matrix.multiply(&rows[pick * depth..(pick + 1) * depth], None));
            prop_assert_eq!(&all[pick * columns..(pick + 1) * columns], &alone[..]);
        }
    }

    #[test]
    fn bfloat16_weights_give_the_very_bits_of_their_f32_values() {
        let exact = |k: usize, n: usize| bf16::from_f32(value(k * 20 + n)).to_f32();
        let rows: Vec<f32> = (0..5 * 300).map(value).collect();
        let wide = PackedMatrix::pack(Storage::F32, 300, 20, exact).multiply(&rows, None);
        let narrow = PackedMatrix::pack(Storage::Bf16, 300, 20, exact).multiply(&rows, None);
        assert_eq!(wide, narrow);
    }
}
