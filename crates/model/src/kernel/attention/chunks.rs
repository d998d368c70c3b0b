//! The keys and values of one head in chunks: neighbouring positions that lie together, packed from rows or in pages.

use super::super::cpu_features::CpuFeatures;
use super::super::line::{Line, PANEL, padded};
use super::super::tile::{Sums, Tile};
use super::pack::{HeadLines, Packed, PackedMut};
use super::page::PAGE;
use super::{Operands, Remembered, Scratch, Span};

/// Neighbouring positions of a span whose keys and values lie together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) count: usize,
    /// The place of its keys and values in [`Scratch`]; otherwise they are in a page.
    pub(super) packed: Option<(usize, usize)>,
}

/// The packed keys and values of one head of a span, chunk by chunk.
#[derive(Clone, Copy)]
pub(super) struct Chunks<'a> {
    pub(super) lines: HeadLines,
    /// The key head.
    pub(super) shared: usize,
    pub(super) keys: &'a [Line],
    pub(super) values: &'a [Line],
    pub(super) chunks: &'a [Chunk],
    pub(super) remembered: Option<&'a Remembered>,
}

impl<'a> Chunks<'a> {
    /// Each chunk that has one of the first `most` keys, with the number of keys before it and of those in it.
    fn first(self, most: usize) -> impl Iterator<Item = (usize, usize, Packed<'a>)> {
        let mut start = 0;
        (0..self.chunks.len()).map_while(move |number| {
            let chunk = self.packed(number)?;
            let before = start;
            start += chunk.count;
            (before < most).then(|| (before, (most - before).min(chunk.count), chunk))
        })
    }

    fn packed(self, number: usize) -> Option<Packed<'a>> {
        let Self { lines, keys, values, .. } = self;
        let Chunk { count, packed } = self.chunks[number];
        if let Some((key, value)) = packed {
            let keys = &keys[key..][..lines.keys(count)];
            let values = &values[value..][..lines.values(count)];
            return Some(Packed { keys, values, value_panel: lines.value_panel(count), count });
        }
        let kept = self.remembered?;
        let (page, count) = kept.pages.chunk(number)?;
        Some(Packed { count, ..page.head(kept.layer, self.shared, lines) })
    }

    /// Queries (`tile.left`) times the first `most` keys, in rows of `stride` scores.
    pub(super) fn scores(
        self,
        cpu: CpuFeatures,
        tile: Tile<'_>,
        most: usize,
        scores: &mut [f32],
        stride: usize,
    ) {
        for (start, seen, chunk) in self.first(most) {
            let panels = chunk.keys.chunks_exact(self.lines.key_panel()).take(padded(seen) / PANEL);
            for (panel, right) in panels.enumerate() {
                Tile { right, ..tile }.multiply(cpu, &mut scores[start + panel * PANEL..], stride);
            }
        }
    }

    /// Weights (`tile.left`) times one panel of the first `most` values.
    pub(super) fn sums(self, cpu: CpuFeatures, tile: Tile<'_>, most: usize, panel: usize, sums: &mut Sums) {
        let numbers = self.lines.numbers;
        for (start, seen, chunk) in self.first(most) {
            let left = &tile.left[numbers.lines(start) * tile.stride..];
            let right = &chunk.values[panel * chunk.value_panel..][..chunk.value_panel];
            let tile = Tile { left, depth: numbers.lines(seen), right, resumes: start > 0, ..tile };
            tile.multiply(cpu, sums.0.as_flattened_mut(), PANEL);
        }
    }
}

/// Packs a head's keys and values of the rows of a span, and finds the chunks that pages hold as they are.
pub(super) fn lay_out(
    cpu: CpuFeatures,
    Operands { key, value, .. }: Operands<'_>,
    span: &Span,
    lines: HeadLines,
    scratch: &mut Scratch,
) {
    let depth = lines.depth;
    let Scratch { keys, values, chunks, .. } = scratch;
    chunks.clear();
    let Some(Remembered { pages, layer, positions }) = &span.remembered else {
        let count = span.keys.len();
        let key_lines = lines.keys(count);
        let value_lines = lines.values(count);
        grow(keys, key_lines);
        grow(values, value_lines);
        let keys = &mut keys[..key_lines];
        let values = &mut values[..value_lines];
        lines.pack(cpu, [key, value], span.keys.clone(), &mut PackedMut { keys, values, count });
        chunks.push(Chunk { count, packed: Some((0, 0)) });
        return;
    };
    let mut key_lines = 0;
    let mut value_lines = 0;
    let mut rows = span.keys.clone().zip(positions.iter().map(|position| *position as usize)).peekable();
    let total = span.count();
    for chunk in 0..total.div_ceil(PAGE) {
        let start = chunk * PAGE;
        let count = (total - chunk * PAGE).min(PAGE);
        let old = pages.chunk(chunk);
        let untouched = rows.peek().is_none_or(|(_, position)| *position >= start + count);
        if untouched {
            chunks.push(Chunk { count, packed: None });
            continue;
        }
        let first_key = key_lines;
        let first_value = value_lines;
        (key_lines, value_lines) = (key_lines + lines.keys(count), value_lines + lines.values(count));
        grow(keys, key_lines);
        grow(values, value_lines);
        let keys = &mut keys[first_key..key_lines];
        let values = &mut values[first_value..value_lines];
        let mut out = PackedMut { keys, values, count };
        match old {
            Some((page, known)) => {
                lines.copy(page.head(*layer, lines.first / depth, lines), known, &mut out);
            }
            None => lines.clear(&mut out),
        }
        while let Some((row, position)) = rows.next_if(|(_, position)| *position < start + count) {
            lines.put([key, value], row, position - start, &mut out);
        }
        chunks.push(Chunk { count, packed: Some((first_key, first_value)) });
    }
}

pub(super) fn grow<T: Clone + Default>(values: &mut Vec<T>, count: usize) {
    if values.len() < count {
        values.resize(count, T::default());
    }
}
