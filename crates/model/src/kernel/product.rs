//! Products of activations with packed matrices, in loops that fit the caches of a core.
//!
//! A task takes a block of rows and some panels. It goes through the lines in parts that fit the core's
//! second-level cache for the block of rows, and within these in parts that fit the first-level cache for one
//! panel, for all tiles of the block one after another. A tile's sums are spilled to memory in between and
//! loaded again, which changes no bit. `README.md` in this folder draws the loops.

mod finish;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

pub use self::finish::{Activation, Finish, Rotation};
use self::finish::{FinishTile, Target};
pub(super) use self::finish::{rotate, write};
use super::cpu_features::CpuFeatures;
use super::line::{Activations, Line, PANEL};
use super::matrix::PackedMatrix;
use super::tile::{Blocking, Sums, Tile, blocking};

/// Most bytes of a block of rows that a task goes through for every panel.
const BLOCK: usize = 1 << 20;
/// The same where every block costs that the panels are packed anew.
const STORED_BLOCK: usize = 4 << 20;
/// Panels whose sums wait while a task goes through more of their rows than that.
const WAITING: usize = 4;
/// Multiplications that are worth the start of a task.
const WORK: usize = 2 << 20;

/// left × matrix, finished. Runs on the current rayon pool.
///
/// # Panics
/// When shapes or numbers do not fit.
pub fn product(cpu: CpuFeatures, left: &Activations, matrix: &PackedMatrix, finish: Finish<'_>) {
    assert_eq!(left.numbers(), matrix.format().left(), "numbers of a row and of the matrix");
    assert_eq!(left.depth, matrix.depth, "lines of a row and of the matrix");
    let target = Target::new(finish, left.rows(), matrix.columns());
    let blocking = blocking(cpu, matrix.format);
    let cut = Cut::new(left, matrix, blocking);
    let product = Product { cpu, left, matrix, blocking, chunks: cut.chunks, target };
    let panels = matrix.panel_count();
    let groups = panels.div_ceil(cut.panels);
    (0..cut.blocks * groups).into_par_iter().for_each(|task| {
        let block = task / groups;
        let group = task % groups;
        let tiles = share(cut.tiles, cut.blocks, block);
        let rows = tiles.start * blocking.height..(tiles.end * blocking.height).min(left.rows());
        let panels = group * cut.panels..(group * cut.panels + cut.panels).min(panels);
        // SAFETY: tasks are pairs of a block of rows and a group of panels, so no two write the same
        // elements; `Target::new` has checked that all of them exist, and `finish` outlives the loop.
        #[expect(unsafe_code, reason = "tasks write disjoint elements of one output")]
        unsafe {
            product.multiply(rows, panels);
        }
    });
}

/// Part `number` of `0..count` in `parts` nearly equal ones.
pub(super) fn share(count: usize, parts: usize, number: usize) -> Range<usize> {
    count * number / parts..count * (number + 1) / parts
}

/// The division of a product into tasks.
struct Cut {
    /// Tiles of all rows.
    tiles: usize,
    /// Blocks of rows.
    blocks: usize,
    /// Parts of a row's lines.
    chunks: usize,
    /// Panels of a task.
    panels: usize,
}

impl Cut {
    fn new(left: &Activations, matrix: &PackedMatrix, blocking: Blocking) -> Self {
        let tile_bytes = left.depth.max(1) * size_of::<Line>() * blocking.height;
        // A panel that is packed anew each time is packed once for as many rows as can be, in one piece.
        let packed = matrix.is_packed();
        let most = if packed { blocking.tiles } else { (STORED_BLOCK / tile_bytes).max(1) };
        let tiles = left.rows().div_ceil(blocking.height);
        // To the nearest: one tile too many is no reason to read all panels once more.
        let blocks = ((tiles + most / 2) / most).max(1);
        let chunks = if packed { (tiles.div_ceil(blocks) * tile_bytes).div_ceil(BLOCK) } else { 1 };
        let work = (left.rows() / blocks).max(1) * left.columns() * PANEL;
        // Narrow enough to balance the threads, wide enough to be worth its start.
        let narrow = matrix.panel_count().div_ceil(rayon::current_num_threads() * 4).max(1);
        let wide = if chunks > 1 { WAITING } else { WORK / work.max(1) };
        Self { tiles, blocks, chunks: chunks.max(1), panels: wide.clamp(1, narrow) }
    }
}

/// State shared by all tasks.
struct Product<'a> {
    cpu: CpuFeatures,
    left: &'a Activations,
    matrix: &'a PackedMatrix,
    blocking: Blocking,
    chunks: usize,
    target: Target<'a>,
}

impl Product<'_> {
    /// # Safety
    /// The target has these rows and the panels' columns, and no other task touches them.
    #[expect(unsafe_code, reason = "tasks write disjoint elements of one output")]
    unsafe fn multiply(&self, rows: Range<usize>, panels: Range<usize>) {
        let tiles = rows.len().div_ceil(self.blocking.height);
        let waiting = if self.chunks > 1 { panels.len() } else { 1 };
        SUMS.with_borrow_mut(|sums| {
            if sums.len() < waiting * tiles {
                sums.resize_with(waiting * tiles, Sums::new);
            }
            for chunk in 0..self.chunks {
                let lines = self.lines(0..self.left.depth, self.chunks, chunk);
                for (number, panel) in panels.clone().enumerate() {
                    let sums = &mut sums[number % waiting * tiles..][..tiles];
                    // SAFETY: promised by the caller.
                    unsafe { self.multiply_panel(panel, rows.clone(), lines.clone(), sums) };
                }
            }
        });
    }

    /// Some lines of a panel; with the last of them, the sums are finished.
    ///
    /// # Safety
    /// The same as of [`Self::multiply`].
    #[expect(unsafe_code, reason = "tasks write disjoint elements of one output")]
    unsafe fn multiply_panel(
        &self,
        panel: usize,
        rows: Range<usize>,
        lines: Range<usize>,
        sums: &mut [Sums],
    ) {
        let Self { cpu, left, matrix, ref target, .. } = *self;
        let height = self.blocking.height;
        let right = matrix.panel(cpu, panel);
        let next = matrix.packed_panel(panel + 1);
        let next = if next.is_empty() { next } else { &next[matrix.lines_before(lines.start)..] };
        let next = &next[..next.len().min(matrix.lines_before(lines.len()))];
        let stretches = lines.len().div_ceil(self.blocking.lines).max(1);
        for stretch in 0..stretches {
            let lines = self.lines(lines.clone(), stretches, stretch);
            let tiles = sums.len();
            for (number, sums) in sums.iter_mut().enumerate() {
                // Whole tiles and a rest: AMX takes its time to change their height.
                let first = rows.start + number * height;
                let count = height.min(rows.end - first);
                let tile = Tile {
                    format: matrix.format,
                    left: left.lines_at(lines.start, first),
                    stride: left.stride,
                    rows: count,
                    depth: lines.len(),
                    right: &right[matrix.lines_before(lines.start)..],
                    resumes: lines.start > 0,
                    // Each tile fetches its share of the next panel.
                    ahead: &next[share(next.len(), stretches * tiles, stretch * tiles + number)],
                };
                tile.multiply(cpu, sums.0.as_flattened_mut(), PANEL);
                if lines.end == left.depth {
                    let sums = &mut sums.0[..count];
                    cpu.run(FinishTile { sums, first, panel, left, matrix, target });
                }
            }
        }
    }

    /// Part `number` of some lines; those that hold parts of the same numbers stay together.
    fn lines(&self, lines: Range<usize>, parts: usize, number: usize) -> Range<usize> {
        let together = self.left.numbers.parts();
        let part = share(lines.len() / together, parts, number);
        lines.start + part.start * together..lines.start + part.end * together
    }
}

thread_local! {
    /// The sums of a task; their memory is taken once and kept.
    static SUMS: RefCell<Vec<Sums>> = const { RefCell::new(Vec::new()) };
}
