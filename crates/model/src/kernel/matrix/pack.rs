//! One panel of a packed matrix, column by column.

use super::Format;
use crate::kernel::encode;
use crate::kernel::line::{Line, PANEL, PARTS, WORDS};

/// Sets word `word` of column `j` in a panel.
fn set(out: &mut [Line], word: usize, j: usize, value: u32) {
    out[word * (PANEL / WORDS) + j / WORDS].0[j % WORDS] = value;
}

/// Writes column `j` of a panel in a format that needs no scale.
pub(super) fn pack_column(format: Format, column: &[f32], j: usize, out: &mut [Line]) {
    let mut word = [0];
    if format == Format::F32 {
        for (k, value) in column.iter().enumerate() {
            set(out, k, j, value.to_bits());
        }
    } else if format == Format::F32Parts {
        for (k, pair) in column.chunks(2).enumerate() {
            let parts = pair.iter().map(|value| encode::parts(*value)).collect::<Vec<_>>();
            for part in 0..PARTS {
                let pair = [parts[0][part], parts.get(1).map_or(0.0, |parts| parts[part])];
                encode::bf16(&pair, &mut word);
                set(out, (k / WORDS * PARTS + part) * WORDS + k % WORDS, j, word[0]);
            }
        }
    } else {
        for (k, pair) in column.chunks(2).enumerate() {
            encode::bf16(pair, &mut word);
            set(out, k, j, word[0]);
        }
    }
}

/// Columns of a panel, each with the factor that makes its largest element 127.
pub(super) fn pack_int8(
    rows: usize,
    element: impl Fn(usize, usize) -> f32,
    column: &mut Vec<f32>,
    out: &mut [Line],
    (scales, offsets): (&mut [f32], &mut [i32]),
) {
    for j in 0..PANEL {
        column.clear();
        column.extend((0..rows).map(|k| element(k, j)));
        let scale = encode::int8_scale(column);
        let mut sum = 0;
        for (k, quad) in column.chunks(4).enumerate() {
            let mut bytes = [0; 4];
            for (byte, value) in bytes.iter_mut().zip(quad) {
                let whole = encode::nearest(*value, scale);
                sum += whole;
                *byte = whole as i8 as u8;
            }
            set(out, k, j, u32::from_le_bytes(bytes));
        }
        scales[j] = scale;
        offsets[j] = 128 * sum;
    }
}
