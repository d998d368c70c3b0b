//! Keys and values that are kept after an evaluation.

use std::mem::size_of_val;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::Heads;
use super::pack::{HeadLines, Packed, PackedMut};
use crate::kernel::cpu_features::CpuFeatures;
use crate::kernel::line::{Activations, Line};

/// Positions of a page. A multiple of 32, so that panels of keys do not cross pages.
pub const PAGE: usize = 256;

/// Keys and values of up to [`PAGE`] neighbouring positions in every layer, packed as attention multiplies them.
#[derive(Debug)]
pub struct Page {
    count: usize,
    layers: Vec<Layer>,
}

/// (heads, lines) each.
#[derive(Debug)]
struct Layer {
    keys: Vec<Line>,
    values: Vec<Line>,
}

/// Keys and values of the first `count` positions of a canvas.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    pub(super) pages: Vec<Arc<Page>>,
    count: usize,
}

/// Pages that an evaluation writes, layer after layer: those of a canvas from the first position on that `base`
/// does not cover.
#[derive(Debug)]
pub struct NewPages {
    base: Pages,
    /// Rows of the evaluation: the positions from `base.count()` on.
    rows: Range<usize>,
    pages: Vec<Page>,
}

impl Page {
    /// One head of one layer.
    pub(super) fn head(&self, layer: usize, head: usize, lines: HeadLines) -> Packed<'_> {
        let keys = lines.keys(self.count);
        let values = lines.values(self.count);
        let layer = &self.layers[layer];
        Packed {
            keys: &layer.keys[head * keys..][..keys],
            values: &layer.values[head * values..][..values],
            value_panel: lines.value_panel(self.count),
            count: self.count,
        }
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bytes = |layer: &Layer| size_of_val(layer.keys.as_slice()) + size_of_val(layer.values.as_slice());
        self.layers.iter().map(bytes).sum()
    }
}

impl Pages {
    /// Positions.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The pages, each of up to [`PAGE`] positions.
    #[must_use]
    pub fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    /// The first `count` positions, or all if there are fewer.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        let count = count.min(self.count);
        Self { pages: self.pages[..count.div_ceil(PAGE)].to_vec(), count }
    }

    /// The page of a chunk of [`PAGE`] positions, and how many of its positions count.
    pub(super) fn chunk(&self, chunk: usize) -> Option<(&Page, usize)> {
        let count = self.count.saturating_sub(chunk * PAGE).min(PAGE);
        self.pages.get(chunk).filter(|_| count > 0).map(|page| (page.as_ref(), count))
    }
}

impl NewPages {
    /// Room for the rows `rows` of an evaluation, which continue `base`.
    #[must_use]
    pub fn new(base: Pages, rows: Range<usize>) -> Self {
        let total = base.count + rows.len();
        let first = base.count / PAGE;
        let pages = (first..total.div_ceil(PAGE))
            .map(|chunk| Page { count: (total - chunk * PAGE).min(PAGE), layers: Vec::new() })
            .collect();
        Self { base, rows, pages }
    }

    /// Packs the keys and values of one more layer.
    pub fn push(&mut self, cpu: CpuFeatures, rows: [&Activations; 2], heads: Heads) {
        let [key, _] = rows;
        let Self { base, rows: range, pages } = self;
        let depth = key.numbers().lines(heads.width);
        let first = base.count / PAGE;
        for (chunk, page) in (first..).zip(pages) {
            let layer = page.layers.len();
            let count = page.count;
            let lines = |head: usize| HeadLines { numbers: key.numbers(), first: head * depth, depth };
            let keys = lines(0).keys(count);
            let values = lines(0).values(count);
            let mut made = Layer {
                keys: vec![Line::default(); heads.shared * keys],
                values: vec![Line::default(); heads.shared * values],
            };
            let old = base.chunk(chunk);
            let known = old.map_or(0, |(_, known)| known);
            let start = range.start + chunk * PAGE + known - base.count;
            let parts = made.keys.par_chunks_mut(keys).zip(made.values.par_chunks_mut(values));
            parts.enumerate().for_each(|(head, (keys, values))| {
                let mut out = PackedMut { keys, values, count };
                let lines = lines(head);
                let Some((old, known)) = old else {
                    return lines.pack(cpu, rows, start..start + count, &mut out);
                };
                lines.copy(old.head(layer, head, lines), known, &mut out);
                (known..count).for_each(|place| lines.put(rows, start + place - known, place, &mut out));
            });
            page.layers.push(made);
        }
    }

    /// All positions, once every layer was pushed.
    #[must_use]
    pub fn finish(self) -> Pages {
        let Self { base, rows, pages } = self;
        let count = base.count + rows.len();
        let whole = base.pages.into_iter().take(base.count / PAGE);
        Pages { pages: whole.chain(pages.into_iter().map(Arc::new)).collect(), count }
    }
}
