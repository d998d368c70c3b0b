//! The kernels on a GPU or their sources on this machine, against plain sums; and rows in batches against the
//! same rows alone.

use candle_core::DType;
use half::{bf16, f16};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::plan::{Extent, LARGEST_HEAD, TILE_WORDS, in_chunks, tiles};
use crate::kernel::Heads;
use crate::twin::Kernels;

const TYPES: [DType; 3] = [DType::BF16, DType::F16, DType::F32];
/// Rows, columns and inner width; some fill tiles, some do not, some rows begin on chunks.
const SHAPES: [(usize, usize, usize); 5] =
    [(1, 1, 1), (3, 5, 7), (130, 129, 40), (128, 256, 96), (200, 300, 172)];
const LENGTHS: [usize; 5] = [1, 64, 17, 130, 3];

fn kernels() -> Kernels {
    Kernels::new("src/backbone/cuda/twin.cpp")
}

/// A number as `dtype` stores it.
fn encode(dtype: DType, number: f32) -> Vec<u8> {
    match dtype {
        DType::BF16 => bf16::from_f32(number).to_le_bytes().to_vec(),
        DType::F16 => f16::from_f32(number).to_le_bytes().to_vec(),
        _ => number.to_le_bytes().to_vec(),
    }
}

fn decode(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let halves = || bytes.as_chunks::<2>().0.iter();
    match dtype {
        DType::BF16 => halves().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
        DType::F16 => halves().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
    }
}

/// Numbers between -1 and 1 that `dtype` holds.
fn random(dtype: DType, seed: u64, count: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // Uniform with the 24 bits that f32 holds.
    let mut number = || (random.next_u32() >> 7) as f32 / 2f32.powi(24) - 1.0;
    let bytes: Vec<u8> = (0..count).flat_map(|_| encode(dtype, number())).collect();
    decode(dtype, &bytes)
}

fn run(kernels: &Kernels, dtype: DType, words: &[usize], matrices: &[&[f32]]) -> Vec<f32> {
    let words = words.iter().flat_map(|word| (*word as u32).to_le_bytes());
    let numbers = matrices.iter().copied().flatten().flat_map(|number| encode(dtype, *number));
    decode(dtype, &kernels.ask_twin(&words.chain(numbers).collect::<Vec<u8>>()))
}

fn name(dtype: DType) -> usize {
    TYPES.iter().position(|other| *other == dtype).unwrap()
}

#[cfg(feature = "cuda")]
mod gpu {
    use candle_core::{DType, Device, Tensor};

    /// Rows of `width` numbers.
    pub(super) fn upload(device: &Device, dtype: DType, numbers: &[f32], width: usize) -> Tensor {
        let rows = Tensor::from_slice(numbers, (numbers.len() / width, width), device);
        rows.and_then(|rows| rows.to_dtype(dtype)).unwrap()
    }

    pub(super) fn download(rows: &Tensor) -> Vec<f32> {
        rows.to_dtype(DType::F32).and_then(|rows| rows.flatten_all()?.to_vec1()).unwrap()
    }
}

/// left · rightᵀ, both with rows of `inner` numbers.
fn product(kernels: &Kernels, dtype: DType, left: &[f32], right: &[f32], inner: usize) -> Vec<f32> {
    #[cfg(feature = "cuda")]
    if let Some(device) = &kernels.gpu {
        let upload = |numbers| gpu::upload(device, dtype, numbers, inner);
        return gpu::download(&super::product(&upload(left), &upload(right).t().unwrap()).unwrap());
    }
    let chunks = usize::from(in_chunks(dtype, &[inner]));
    let words = [0, name(dtype), left.len() / inner, right.len() / inner, inner, chunks, 0, 0];
    run(kernels, dtype, &words, &[left, right])
}

/// Queries, keys and values of packed canvases, rows of each `stride` numbers apart.
struct Packed {
    dtype: DType,
    heads: Heads,
    stride: usize,
    canvases: Vec<Extent>,
    /// Keys that each row of queries sees.
    seen: Vec<u32>,
    matrices: [Vec<f32>; 3],
}

impl Packed {
    /// Canvases of these lengths whose rows see all of their canvas.
    fn random(dtype: DType, heads: Heads, lengths: &[usize]) -> Self {
        // As of a matrix that holds more than heads.
        let stride = heads.count * heads.width + 8;
        let rows: usize = lengths.iter().sum();
        let matrices =
            [1, 2, 3].map(|seed| random(dtype, seed, rows * stride).iter().map(|x| 2.0 * x).collect());
        let canvases = lengths.iter().map(|&length| Extent { rows: length, keys: length }).collect();
        let seen = lengths.iter().flat_map(|&length| vec![length as u32; length]).collect();
        Self { dtype, heads, stride, canvases, seen, matrices }
    }

    /// The same, where a row sees its block and those before it.
    fn in_blocks(self, block: usize) -> Self {
        let seen = self.canvases.iter().flat_map(|canvas| {
            let end = move |row: usize| ((row / block + 1) * block).min(canvas.keys) as u32;
            (0..canvas.rows).map(end)
        });
        Self { seen: seen.collect(), ..self }
    }

    /// Only some of the canvases, in this order.
    fn only(&self, canvases: &[usize]) -> Self {
        let picked = |matrix: usize| {
            let part = |&canvas: &usize| match matrix {
                0 => self.rows(canvas, self.stride),
                _ => self.keys(canvas, self.stride),
            };
            canvases.iter().map(part).flat_map(|part| &self.matrices[matrix][part]).copied().collect()
        };
        let seen = canvases.iter().flat_map(|&canvas| &self.seen[self.rows(canvas, 1)]);
        Self {
            canvases: canvases.iter().map(|&canvas| self.canvases[canvas]).collect(),
            seen: seen.copied().collect(),
            matrices: [0, 1, 2].map(picked),
            ..*self
        }
    }

    /// Only these rows of the only canvas, and the first `keys` keys.
    fn active(&self, rows: &[usize], keys: usize) -> Self {
        let stride = self.stride;
        let queries = rows.iter().flat_map(|row| &self.matrices[0][row * stride..][..stride]);
        let [key, value] = [1, 2].map(|matrix: usize| self.matrices[matrix][..keys * stride].to_vec());
        Self {
            canvases: vec![Extent { rows: rows.len(), keys }],
            seen: rows.iter().map(|&row| self.seen[row]).collect(),
            matrices: [queries.copied().collect(), key, value],
            ..*self
        }
    }

    /// The range of a canvas's queries in a matrix with rows of `width` numbers.
    fn rows(&self, canvas: usize, width: usize) -> std::ops::Range<usize> {
        let first: usize = self.canvases[..canvas].iter().map(|canvas| canvas.rows).sum();
        first * width..(first + self.canvases[canvas].rows) * width
    }

    /// The same of its keys.
    fn keys(&self, canvas: usize, width: usize) -> std::ops::Range<usize> {
        let first: usize = self.canvases[..canvas].iter().map(|canvas| canvas.keys).sum();
        first * width..(first + self.canvases[canvas].keys) * width
    }

    fn attended(&self, kernels: &Kernels) -> Vec<f32> {
        let Heads { count, shared, width } = self.heads;
        #[cfg(feature = "cuda")]
        if let Some(device) = &kernels.gpu {
            let device_of = device.as_cuda_device().unwrap();
            let tiles = super::Tiles::new(&self.canvases, &self.seen, self.dtype, device_of);
            let heads = |matrix: usize, heads: usize| {
                let all = gpu::upload(device, self.dtype, &self.matrices[matrix], self.stride);
                all.narrow(1, 0, heads * width).unwrap()
            };
            let query = heads(0, count);
            let key = heads(1, shared);
            let value = heads(2, shared);
            return gpu::download(
                &super::attention([&query, &key, &value], &tiles.unwrap(), self.heads).unwrap(),
            );
        }
        let tiles = tiles(&self.canvases, &self.seen, self.dtype);
        let chunks = usize::from(in_chunks(self.dtype, &[width, self.stride]));
        let words = [
            1,
            name(self.dtype),
            tiles.len() / TILE_WORDS,
            count,
            width,
            count / shared,
            chunks,
            self.stride,
        ];
        let rest = tiles.iter().chain(&self.seen).map(|word| *word as usize);
        let words: Vec<usize> = words.into_iter().chain(rest).collect();
        run(kernels, self.dtype, &words, &self.matrices.each_ref().map(Vec::as_slice))
    }

    /// The row `row` of head `head` by its definition.
    fn exact(&self, canvas: usize, row: usize, head: usize) -> Vec<f64> {
        let width = self.heads.width;
        let shared = head / (self.heads.count / self.heads.shared);
        let part = |matrix: usize, row: usize, head: usize| {
            let range =
                if matrix == 0 { self.rows(canvas, self.stride) } else { self.keys(canvas, self.stride) };
            let canvas = &self.matrices[matrix][range];
            canvas[row * self.stride + head * width..][..width]
                .iter()
                .map(|x| f64::from(*x))
                .collect::<Vec<_>>()
        };
        let query = part(0, row, head);
        let score = |key: usize| {
            let dot: f64 = query.iter().zip(part(1, key, shared)).map(|(q, k)| q * k).sum();
            (dot / (width as f64).sqrt()).exp()
        };
        let seen = self.seen[self.rows(canvas, 1)][row] as usize;
        let shares: Vec<f64> = (0..seen).map(score).collect();
        let total: f64 = shares.iter().sum();
        let values: Vec<Vec<f64>> = (0..shares.len()).map(|key| part(2, key, shared)).collect();
        let mixed = |column: usize| {
            shares.iter().zip(&values).map(|(share, value)| share * value[column]).sum::<f64>()
        };
        (0..width).map(|column| mixed(column) / total).collect()
    }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn a_product_in_f32_is_one_sum_from_front_to_back() {
    let kernels = kernels();
    for (rows, columns, inner) in SHAPES {
        let left = random(DType::F32, 1, rows * inner);
        let right = random(DType::F32, 2, columns * inner);
        let found = product(&kernels, DType::F32, &left, &right, inner);
        let sums = left.chunks_exact(inner).flat_map(|left| {
            let sum = |right: &[f32]| left.iter().zip(right).fold(0.0f32, |sum, (a, b)| a.mul_add(*b, sum));
            right.chunks_exact(inner).map(sum)
        });
        assert_eq!(bits(&found), bits(&sums.collect::<Vec<f32>>()), "{rows} x {columns} x {inner}");
    }
}

#[test]
fn a_product_in_16_bits_is_rounded_once() {
    let kernels = kernels();
    for (dtype, step) in [(DType::BF16, 2f64.powi(-8)), (DType::F16, 2f64.powi(-11))] {
        for (rows, columns, inner) in SHAPES {
            let left = random(dtype, 1, rows * inner);
            let right = random(dtype, 2, columns * inner);
            let found = product(&kernels, dtype, &left, &right, inner);
            assert_eq!(found.len(), rows * columns);
            for (i, found) in found.into_iter().enumerate() {
                let (row, column) =
                    (&left[i / columns * inner..][..inner], &right[i % columns * inner..][..inner]);
                let terms = row.iter().zip(column).map(|(a, b)| f64::from(a * b));
                let (exact, size) =
                    terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                let most = step * exact.abs() + 1e-6 * size;
                assert!(
                    (f64::from(found) - exact).abs() <= most,
                    "{dtype:?}, {rows} x {columns}: {found}, {exact}"
                );
            }
        }
    }
}

#[test]
fn a_row_of_a_product_is_the_same_bits_in_every_batch() {
    let kernels = kernels();
    let rows = 150;
    let columns = 140;
    let inner = 104;
    for dtype in TYPES {
        let left = random(dtype, 3, rows * inner);
        let right = random(dtype, 4, columns * inner);
        let all = product(&kernels, dtype, &left, &right, inner);
        for chosen in [vec![149], vec![7], (0..rows).rev().collect(), (100..133).collect()] {
            let chosen: Vec<usize> = chosen;
            let some: Vec<f32> =
                chosen.iter().flat_map(|row| &left[row * inner..][..inner]).copied().collect();
            let expected: Vec<f32> =
                chosen.iter().flat_map(|row| &all[row * columns..][..columns]).copied().collect();
            let found = product(&kernels, dtype, &some, &right, inner);
            assert_eq!(bits(&found), bits(&expected), "{dtype:?}, {} rows", chosen.len());
        }
    }
}

#[test]
fn attention_is_a_mixture_by_softmax() {
    let kernels = kernels();
    // Odd widths do not begin on chunks; 80 leaves the kernel's columns empty; keys may be shared.
    let shapes = [(2, 2, 5), (4, 2, 16), (3, 1, 64), (2, 2, 80), (1, 1, LARGEST_HEAD)];
    for (dtype, step) in [(DType::BF16, 2e-2), (DType::F16, 3e-3), (DType::F32, 2e-6)] {
        for (count, shared, width) in shapes {
            let all = Packed::random(dtype, Heads { count, shared, width }, &LENGTHS);
            let blocks = Packed::random(dtype, Heads { count, shared, width }, &LENGTHS).in_blocks(7);
            for packed in [all, blocks] {
                let found = packed.attended(&kernels);
                for canvas in 0..LENGTHS.len() {
                    let found = &found[packed.rows(canvas, count * width)];
                    for (place, found) in found.chunks_exact(width).enumerate() {
                        let exact = packed.exact(canvas, place / count, place % count);
                        let distances = found.iter().zip(&exact).map(|(a, b)| (f64::from(*a) - b).abs());
                        let far = distances.fold(0.0, f64::max);
                        // Numbers that the kernel does not write are NaN, and NaN is not below anything.
                        assert!(far <= step, "{dtype:?}, {width} wide, canvas {canvas}, row {place}: {far}");
                        assert!(found.iter().all(|number| number.is_finite()));
                    }
                }
            }
        }
    }
}

#[test]
fn a_canvas_gets_the_same_bits_in_every_batch() {
    let kernels = kernels();
    for dtype in TYPES {
        let packed = Packed::random(dtype, Heads { count: 2, shared: 1, width: 24 }, &LENGTHS);
        let width = 2 * 24;
        let all = packed.attended(&kernels);
        for chosen in [&[3][..], &[2], &[4, 3, 0], &[2, 2]] {
            let expected: Vec<f32> =
                chosen.iter().flat_map(|&canvas| &all[packed.rows(canvas, width)]).copied().collect();
            assert_eq!(
                bits(&packed.only(chosen).attended(&kernels)),
                bits(&expected),
                "{dtype:?}, {chosen:?}"
            );
        }
    }
}

/// Rows that are computed by themselves, beside keys and values that were kept, have the bits that they have among all; and
/// a row that sees blocks up to its own does not change when later blocks come.
#[test]
fn rows_have_the_same_bits_whatever_is_computed_with_them() {
    let kernels = kernels();
    const LENGTH: usize = 150;
    let heads = Heads { count: 2, shared: 1, width: 24 };
    let width = heads.count * heads.width;
    let pick = |all: &[f32], rows: &[usize]| -> Vec<u32> {
        bits(&rows.iter().flat_map(|row| &all[row * width..][..width]).copied().collect::<Vec<f32>>())
    };
    for dtype in TYPES {
        let whole = Packed::random(dtype, heads, &[LENGTH]);
        let all = whole.attended(&kernels);
        for rows in [vec![149], vec![0, 3, 64, 65, 130], (40..110).collect()] {
            let alone = whole.active(&rows, LENGTH).attended(&kernels);
            assert_eq!(bits(&alone), pick(&all, &rows), "{dtype:?}, {rows:?}");
        }
        let whole = whole.in_blocks(32);
        let all = whole.attended(&kernels);
        for end in [32, 64, 128] {
            for rows in [(0..end).collect::<Vec<usize>>(), (end - 32..end).collect()] {
                let beginning = whole.active(&rows, end).attended(&kernels);
                assert_eq!(bits(&beginning), pick(&all, &rows), "{dtype:?}, {end}, {rows:?}");
            }
        }
    }
}

/// One request's numbers that are not finite must not reach its neighbours' rows.
#[test]
fn rows_that_are_not_finite_stay_by_themselves() {
    let kernels = kernels();
    for dtype in TYPES {
        let left = random(dtype, 5, 4 * 16);
        let right = random(dtype, 6, 6 * 16);
        let expected = product(&kernels, dtype, &left, &right, 16);
        let mut damaged = left;
        damaged[2 * 16 + 3] = f32::NAN;
        let found = product(&kernels, dtype, &damaged, &right, 16);
        assert!(found[12..18].iter().all(|number| number.is_nan()));
        assert_eq!((bits(&found[..12]), bits(&found[18..])), (bits(&expected[..12]), bits(&expected[18..])));

        let mut packed = Packed::random(dtype, Heads { count: 1, shared: 1, width: 16 }, &[20, 20, 20]);
        let expected = packed.attended(&kernels);
        let damaged = packed.rows(1, packed.stride);
        packed.matrices.iter_mut().for_each(|matrix| matrix[damaged.clone()].fill(f32::NAN));
        let found = packed.attended(&kernels);
        assert!(found[20 * 16..40 * 16].iter().all(|number| number.is_nan()));
        assert_eq!(bits(&found[..20 * 16]), bits(&expected[..20 * 16]));
        assert_eq!(bits(&found[40 * 16..]), bits(&expected[40 * 16..]));
    }
}
