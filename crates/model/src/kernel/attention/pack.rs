//! Keys and values of one head as right-hand sides of products.
//!
//! Keys lie in panels of 32 positions, (K = width of the head, N = positions). Values lie in panels of 32 columns,
//! (K = positions, N = columns).

use std::ops::Range;

use crate::kernel::cpu_features::{CpuFeatures, Kernel};
use crate::kernel::lanes::Lanes;
use crate::kernel::line::{Activations, Line, Numbers, PANEL, WORDS, padded};
use crate::kernel::matrix::Format;

const HALVES: usize = PANEL / WORDS;

/// The lines of one head in rows of keys and values, and the sizes of its panels.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLines {
    pub(super) numbers: Numbers,
    /// First line of the head in a row.
    pub(super) first: usize,
    /// Lines of the head in a row.
    pub(super) depth: usize,
}

/// Packed keys and values of one head and of neighbouring positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed<'a> {
    pub(super) keys: &'a [Line],
    pub(super) values: &'a [Line],
    /// Lines from one panel of values to the next.
    pub(super) value_panel: usize,
    /// Positions.
    pub(super) count: usize,
}

/// The same, to write.
#[derive(Debug)]
pub(super) struct PackedMut<'a> {
    pub(super) keys: &'a mut [Line],
    pub(super) values: &'a mut [Line],
    pub(super) count: usize,
}

impl HeadLines {
    pub(super) fn format(self) -> Format {
        match self.numbers {
            Numbers::Bf16 => Format::Bf16,
            Numbers::Parts => Format::F32Parts,
            _ => Format::F32,
        }
    }

    /// Lines of a panel of keys.
    pub(super) fn key_panel(self) -> usize {
        self.format().panel_lines(self.depth)
    }

    /// Lines of the keys of `count` positions.
    pub(super) fn keys(self, count: usize) -> usize {
        padded(count) / PANEL * self.key_panel()
    }

    /// Panels of values.
    pub(super) fn value_panels(self) -> usize {
        self.depth / self.numbers.lines(PANEL)
    }

    /// Lines of a panel of values of `count` positions.
    pub(super) fn value_panel(self, count: usize) -> usize {
        self.format().panel_lines(self.numbers.lines(count))
    }

    /// Lines of the values of `count` positions.
    pub(super) fn values(self, count: usize) -> usize {
        self.value_panels() * self.value_panel(count)
    }

    /// Packs neighbouring rows, as many as `out` has positions.
    pub(super) fn pack(
        self,
        cpu: CpuFeatures,
        [key, value]: [&Activations; 2],
        rows: Range<usize>,
        out: &mut PackedMut<'_>,
    ) {
        let Self { first, depth, .. } = self;
        cpu.run(PackKeys { key, rows: rows.clone(), first, depth, out: out.keys });
        let panel = self.value_panel(rows.len());
        for (number, out) in out.values.chunks_exact_mut(panel.max(1)).enumerate() {
            let first = first + number * self.numbers.lines(PANEL);
            cpu.run(PackValues { value, rows: rows.clone(), first, out });
        }
    }

    /// Copies the first `count` positions of `from`; what lies behind them is zeroed.
    pub(super) fn copy(self, from: Packed<'_>, count: usize, out: &mut PackedMut<'_>) {
        let lines = self.keys(count);
        out.keys[..lines].copy_from_slice(&from.keys[..lines]);
        out.keys[lines..].fill(Line::default());
        let lines = self.value_panel(count);
        let panels = out.values.chunks_exact_mut(self.value_panel(out.count).max(1));
        for (out, from) in panels.zip(from.values.chunks_exact(from.value_panel.max(1))) {
            out[..lines].copy_from_slice(&from[..lines]);
            out[lines..].fill(Line::default());
        }
    }

    /// Zeroes all positions.
    pub(super) fn clear(self, out: &mut PackedMut<'_>) {
        out.keys.fill(Line::default());
        out.values.fill(Line::default());
    }

    /// Writes one row over a position.
    pub(super) fn put(
        self,
        [key, value]: [&Activations; 2],
        row: usize,
        position: usize,
        out: &mut PackedMut<'_>,
    ) {
        let panel = position / PANEL;
        let column = position % PANEL;
        let keys = &mut out.keys[panel * self.key_panel()..][..self.key_panel()];
        for (line, lines) in keys.chunks_exact_mut(WORDS * HALVES).enumerate() {
            let words = key.lines_at(self.first + line, row)[0].0;
            let column_lines = lines.iter_mut().skip(column / WORDS).step_by(HALVES);
            column_lines.zip(words).for_each(|(line, word)| line.0[column % WORDS] = word);
        }
        let per_panel = self.numbers.lines(PANEL);
        let panels = out.values.chunks_exact_mut(self.value_panel(out.count).max(1));
        for (number, panel) in panels.enumerate() {
            let first = self.first + number * per_panel;
            if self.numbers == Numbers::F32 {
                let lines = &mut panel[position * HALVES..][..HALVES];
                (first..).zip(lines).for_each(|(line, out)| *out = value.lines_at(line, row)[0]);
                continue;
            }
            let block = position / (2 * WORDS);
            let within = position % (2 * WORDS);
            for part in 0..per_panel {
                let at = (block * per_panel + part) * 2 * WORDS + within / 2 * HALVES;
                put_half(&mut panel[at..][..HALVES], value.lines_at(first + part, row)[0].0, within % 2 == 1);
            }
        }
    }
}

/// Writes 32 bfloat16 into the lower or upper halves of as many words.
fn put_half(out: &mut [Line], words: [u32; WORDS], upper: bool) {
    let columns = words.into_iter().flat_map(|word| [word & 0xffff, word >> 16]);
    let places = out.iter_mut().flat_map(|line| line.0.iter_mut());
    for (place, column) in places.zip(columns) {
        *place = if upper { *place & 0xffff | column << 16 } else { *place & 0xffff_0000 | column };
    }
}

/// One head's keys as a right-hand side.
struct PackKeys<'a> {
    key: &'a Activations,
    rows: Range<usize>,
    /// The head's first line, and its lines.
    first: usize,
    depth: usize,
    out: &'a mut [Line],
}

impl Kernel for PackKeys<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { key, rows, first, depth, out } = self;
        for (block, start) in rows.clone().step_by(WORDS).enumerate() {
            let count = WORDS.min(rows.end - start);
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
        if rows.len().div_ceil(WORDS) % HALVES == 1 {
            let panel = rows.len() / PANEL * depth * WORDS * HALVES;
            for line in out[panel..][..depth * WORDS * HALVES].iter_mut().skip(1).step_by(HALVES) {
                *line = Line::default();
            }
        }
    }
}

/// 32 columns of values as a right-hand side.
struct PackValues<'a> {
    value: &'a Activations,
    rows: Range<usize>,
    /// The line of the first column.
    first: usize,
    out: &'a mut [Line],
}

impl Kernel for PackValues<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { value, rows, first, out } = self;
        let start = rows.start;
        let count = rows.len();
        if value.numbers == Numbers::F32 {
            let (out, zeros) = out.split_at_mut(count * 2);
            zeros.fill(Line::default());
            let rows = &value.lines_at(first, start)[..count];
            let next = &value.lines_at(first + 1, start)[..count];
            for (out, (row, next)) in out.as_chunks_mut::<2>().0.iter_mut().zip(rows.iter().zip(next)) {
                *out = [*row, *next];
            }
            return;
        }
        let parts = value.numbers.parts();
        let blocks = out.as_chunks_mut::<{ 2 * WORDS }>().0;
        for part in 0..parts {
            let rows = &value.lines_at(first + part, start)[..count];
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
