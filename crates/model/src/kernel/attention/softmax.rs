//! Scores to weights, in the first-level cache between two products.

use crate::kernel::convert::parts_of;
use crate::kernel::cpu_features::Kernel;
use crate::kernel::elementwise::{exp2, maximum};
use crate::kernel::encode;
use crate::kernel::lanes::{LANES, Lanes};
use crate::kernel::line::{Line, Numbers, PANEL, PARTS, padded};
use crate::kernel::tile::MOST_ROWS;

/// exp(scale · (score − largest)) as left-hand rows, and one over the sum of each.
pub(super) struct Softmax<'a> {
    /// (rows, score stride).
    pub(super) scores: &'a mut [f32],
    pub(super) score_stride: usize,
    /// Scores of each row that count.
    pub(super) counts: &'a [usize; MOST_ROWS],
    /// Lines of a left-hand row; those behind the scores that count are zeroed.
    pub(super) lines: usize,
    pub(super) scale: f32,
    pub(super) numbers: Numbers,
    pub(super) out: &'a mut [Line],
    /// Lines from one line of a row to the next.
    pub(super) stride: usize,
    pub(super) factors: &'a mut [f32; MOST_ROWS],
}

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { scores, score_stride, counts, lines, scale, numbers, out, stride, factors } = self;
        // In powers of 2.
        let scale = scale * std::f32::consts::LOG2_E;
        let rows = scores.chunks_exact_mut(score_stride).zip(factors).zip(counts);
        for (number, ((row, factor), &count)) in rows.enumerate() {
            let row = &mut row[..padded(count)];
            let shift = lanes.splat(-scale * maximum(lanes, &row[..count]));
            let line = (lanes.splat(scale), shift);
            *factor = 1.0 / weights(lanes, row, count, line, numbers, &mut out[number..], stride);
            let unseen = numbers.lines(count)..lines;
            unseen.for_each(|line| out[number + line * stride] = Line::default());
        }
    }
}

/// 2^(scale · score + shift) as a left-hand row, its lines `stride` apart; gives their sum.
#[inline(always)]
fn weights<L: Lanes>(
    lanes: L,
    scores: &mut [f32],
    count: usize,
    (scale, shift): (L::F, L::F),
    numbers: Numbers,
    out: &mut [Line],
    stride: usize,
) -> f32 {
    let mut sums = [lanes.splat(0.0); 2];
    for (number, scores) in scores.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
        let halves = scores.as_chunks_mut::<LANES>().0;
        let powers = [
            lanes.mul_add(lanes.load(&halves[0]), scale, shift),
            lanes.mul_add(lanes.load(&halves[1]), scale, shift),
        ];
        let mut weights = [exp2(lanes, powers[0]), exp2(lanes, powers[1])];
        if (number + 1) * PANEL > count {
            weights = cut(lanes, weights, count - number * PANEL);
        }
        sums = [lanes.add(sums[0], weights[0]), lanes.add(sums[1], weights[1])];
        match numbers {
            Numbers::Bf16 => out[number * stride].0 = lanes.bf16(weights[0], weights[1]),
            Numbers::Parts => {
                for (part, words) in parts_of(lanes, weights).into_iter().enumerate() {
                    out[(number * PARTS + part) * stride].0 = words;
                }
            }
            _ => {
                for (half, weights) in weights.into_iter().enumerate() {
                    lanes.store(weights, &mut halves[half]);
                    encode::f32(&halves[half], &mut out[(2 * number + half) * stride].0);
                }
            }
        }
    }
    lanes.sum(lanes.add(sums[0], sums[1]))
}

/// The first `count` of 32 numbers, zeros behind them.
#[inline(always)]
fn cut<L: Lanes>(lanes: L, values: [L::F; 2], count: usize) -> [L::F; 2] {
    let mut all = [0.0; PANEL];
    let halves = all.as_chunks_mut().0;
    lanes.store(values[0], &mut halves[0]);
    lanes.store(values[1], &mut halves[1]);
    all[count..].fill(0.0);
    let halves = all.as_chunks().0;
    [lanes.load(&halves[0]), lanes.load(&halves[1])]
}
