use proptest::prelude::*;

use super::*;
use crate::kernel::convert::decoded;
use crate::kernel::elementwise::{gelu, silu};
use crate::kernel::lanes::LANES;
use crate::kernel::lanes::Plain;
use crate::kernel::line::Numbers;
use crate::kernel::matrix::Format;

fn value(i: usize) -> f32 {
    ((i * 2_654_435_761) % 2001) as f32 / 1000.0 - 1.0
}

const FORMATS: [Format; 6] =
    [Format::F32, Format::WideBf16, Format::Bf16, Format::Int8, Format::F32Parts, Format::Bf16Parts];

/// (rows, depth) of numbers as the left-hand side of a format.
fn left(cpu: CpuFeatures, format: Format, values: &[f32], depth: usize) -> Activations {
    let mut left = Activations::new(format.left());
    let rows = values.len() / depth;
    left.shape(rows, depth);
    for row in 0..rows {
        #[expect(unsafe_code, reason = "writes through Shared")]
        // SAFETY: there is only this thread.
        unsafe {
            left.shared().write_row(cpu, row, &values[row * depth..][..depth]);
        }
    }
    left
}

fn stored(cpu: CpuFeatures, left: &Activations, matrix: &PackedMatrix) -> Vec<f32> {
    let mut out = vec![f32::NAN; left.rows() * matrix.columns()];
    let stride = matrix.columns();
    product(cpu, left, matrix, Finish::Store { out: &mut out, stride });
    out
}

/// The largest error that rounding the operands may cause in one product of numbers below 1.
fn tolerance(format: Format, depth: usize) -> f64 {
    let each = match format {
        Format::F32 | Format::F32Parts => 1e-6,
        Format::WideBf16 | Format::Bf16Parts => 0.002,
        Format::Bf16 => 0.004,
        Format::Int8 => 0.006,
    };
    // Errors of either sign: they add up like a random walk.
    1e-4 + each * 4.0 * (depth as f64).sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Over odd shapes, in every format, with every set of instructions that this processor has.
    #[test]
    fn products_match_a_plain_f64_sum(rows in 0_usize..40, depth in 1_usize..700, panels in 1_usize..4) {
        let columns = panels * PANEL;
        let values: Vec<f32> = (0..rows * depth).map(|i| value(i + 7)).collect();
        for (cpu, format) in
            CpuFeatures::available().into_iter().flat_map(|set| FORMATS.map(|format| (set, format)))
        {
            let matrix = PackedMatrix::pack(format, depth, columns, |k, n| value(k * columns + n));
            let found = stored(cpu, &left(cpu, format, &values, depth), &matrix);
            for (i, found) in found.iter().enumerate() {
                let row = i / columns;
                let n = i % columns;
                let term = |k| f64::from(values[row * depth + k]) * f64::from(value(k * columns + n));
                let expected: f64 = (0..depth).map(term).sum();
                let error = (f64::from(*found) - expected).abs();
                prop_assert!(error < tolerance(format, depth), "{cpu} {format:?}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours_or_on_threads(
        rows in 1_usize..120, pick in 0_usize..120, depth in 1_usize..700,
    ) {
        let columns = 3 * PANEL;
        let pick = pick % rows;
        let values: Vec<f32> = (0..rows * depth).map(|i| value(i + 3)).collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        for (cpu, format) in
            CpuFeatures::available().into_iter().flat_map(|set| FORMATS.map(|format| (set, format)))
        {
            let matrix = PackedMatrix::pack(format, depth, columns, |k, n| value(k * columns + n));
            let run = |values: &[f32]| {
                stored(cpu, &left(cpu, format, values, depth), &matrix)
            };
            let all = run(&values);
            let alone = pool.install(|| run(&values[pick * depth..(pick + 1) * depth]));
            prop_assert_eq!(&all[pick * columns..(pick + 1) * columns], &alone[..], "{:?}", format);
        }
    }
}

/// `--dtype f32` with weights stored as bfloat16 promises this.
#[test]
fn bfloat16_weights_give_the_very_bits_of_their_f32_values() {
    let exact = |k: usize, n: usize| half::bf16::from_f32(value(k * 32 + n)).to_f32();
    let values: Vec<f32> = (0..15 * 300).map(value).collect();
    for cpu in CpuFeatures::available() {
        let run = |format| {
            let matrix = PackedMatrix::pack(format, 300, 32, exact);
            stored(cpu, &left(cpu, format, &values, 300), &matrix)
        };
        assert_eq!(run(Format::F32), run(Format::WideBf16), "{cpu}");
        assert_eq!(run(Format::F32Parts), run(Format::Bf16Parts), "{cpu}, in parts");
    }
}

/// Products of f32 in parts are about as close as those of f32: six times as many random roundings are √6
/// times the error.
#[test]
fn parts_are_as_close_as_f32() {
    let depth = 3000;
    let columns = 64;
    let values: Vec<f32> = (0..20 * depth).map(|i| value(i * 3 + 1) * 1.234_567_9).collect();
    let element = |k: usize, n: usize| value(k * 64 + n + 5) * 0.987_654_3;
    let error = |cpu, format| {
        let matrix = PackedMatrix::pack(format, depth, columns, element);
        let found = stored(cpu, &left(cpu, format, &values, depth), &matrix);
        let square = |(i, found): (usize, &f32)| {
            let row = i / columns;
            let n = i % columns;
            let term = |k| f64::from(values[row * depth + k]) * f64::from(element(k, n));
            (f64::from(*found) - (0..depth).map(term).sum::<f64>()).powi(2)
        };
        (found.iter().enumerate().map(square).sum::<f64>() / found.len() as f64).sqrt()
    };
    let plain = error(CpuFeatures::portable(), Format::F32);
    for cpu in CpuFeatures::available() {
        let parts = error(cpu, Format::F32Parts);
        assert!(parts < 3.0 * plain, "{cpu}: {parts}, f32 {plain}");
    }
}

/// A head that is the embedding as well is kept once.
#[test]
fn columns_are_read_back() {
    let exact = |k: usize, n: usize| half::bf16::from_f32(value(k * 64 + n)).to_f32();
    for format in [Format::F32, Format::WideBf16, Format::Bf16] {
        let matrix = PackedMatrix::pack(format, 50, 64, exact);
        assert!(matrix.has_columns(), "{format:?}");
        for n in [0, 15, 16, 31, 32, 63] {
            let mut found = vec![0.0; 50];
            matrix.add_column(n, &mut found);
            assert_eq!(found, (0..50).map(|k| exact(k, n)).collect::<Vec<_>>(), "{format:?} column {n}");
        }
    }
    for format in [Format::Int8, Format::F32Parts, Format::Bf16Parts] {
        assert!(!PackedMatrix::pack(format, 50, 64, exact).has_columns(), "{format:?}");
    }
}

/// Sums of integers are exact, so every processor finds the same.
#[test]
fn integer_products_are_the_same_bits_everywhere() {
    let values: Vec<f32> = (0..17 * 200).map(value).collect();
    let matrix = PackedMatrix::pack(Format::Int8, 200, 64, |k, n| value(k * 64 + n));
    let run = |cpu| stored(cpu, &left(CpuFeatures::portable(), Format::Int8, &values, 200), &matrix);
    for cpu in CpuFeatures::available() {
        assert_eq!(run(cpu), run(CpuFeatures::portable()), "{cpu}");
    }
}

/// NaN must not be hidden by rounding: a damaged model is noticed by it.
#[test]
fn a_value_that_is_no_number_stays_visible() {
    for (cpu, format) in
        CpuFeatures::available().into_iter().flat_map(|set| FORMATS.map(|format| (set, format)))
    {
        let matrix = PackedMatrix::pack(format, 40, 32, |k, n| value(k + n));
        for bad in [f32::NAN, f32::INFINITY] {
            let mut values: Vec<f32> = (0..2 * 40).map(value).collect();
            values[43] = bad;
            let found = stored(cpu, &left(cpu, format, &values, 40), &matrix);
            assert!(found[..32].iter().all(|x| x.is_finite()), "{format:?}: the other row");
            assert!(found[32..].iter().any(|x| !x.is_finite()), "{cpu} {format:?} {bad}");
        }
    }
}

#[test]
fn what_is_done_to_a_product_is_what_its_name_says() {
    let rows = 33;
    let depth = 50;
    let columns = 96;
    let values: Vec<f32> = (0..rows * depth).map(value).collect();
    let bias: Vec<f32> = (0..columns).map(|n| value(n + 5)).collect();
    let angles = |function: fn(f32) -> f32| (0..rows * 48).map(|i| function(value(i) * 3.0)).collect();
    let rotation = Rotation { cos: angles(f32::cos), sin: angles(f32::sin), width: 48 };
    for cpu in CpuFeatures::available() {
        let matrix = PackedMatrix::pack(Format::F32, depth, columns, |k, n| value(k * columns + n));
        let left = left(cpu, Format::F32, &values, depth);
        let plain: Vec<f32> = stored(cpu, &left, &matrix)
            .chunks_exact(columns)
            .flat_map(|row| row.iter().zip(&bias).map(|(x, bias)| x + bias).collect::<Vec<_>>())
            .collect();
        let mut added = vec![1.0; rows * columns];
        let finish = Finish::Add { out: &mut added, stride: columns, bias: &bias };
        product(cpu, &left, &matrix, finish);
        assert!(added.iter().zip(&plain).all(|(found, x)| (found - x - 1.0).abs() < 1e-5));
        for numbers in [Numbers::F32, Numbers::Bf16, Numbers::Parts] {
            let run = |activation, width| {
                let mut out = Activations::new(numbers);
                out.shape(rows, width);
                product(cpu, &left, &matrix, Finish::Activate { out: &mut out, bias: &bias, activation });
                (0..rows).map(move |row| decoded(&out, row)[..width].to_vec())
            };
            let close = |found: f32, expected: f32| {
                let allowed = if numbers == Numbers::Bf16 { 0.01 * expected.abs().max(0.1) } else { 1e-5 };
                assert!((found - expected).abs() < allowed, "{found} and {expected}");
            };
            let lines = || plain.chunks_exact(columns);
            for (found, x) in run(Activation::Linear, columns).zip(lines()) {
                found.iter().zip(x).for_each(|(found, x)| close(*found, *x));
            }
            for (found, x) in run(Activation::Gelu, columns).zip(lines()) {
                found
                    .iter()
                    .zip(x)
                    .for_each(|(found, x)| close(*found, gelu(Plain::<false>, [*x; LANES])[0]));
            }
            for (found, x) in run(Activation::Swiglu, columns / 2).zip(lines()) {
                for (i, found) in found.iter().enumerate() {
                    let gate = i / 16 * 32 + i % 16;
                    close(*found, silu(Plain::<false>, [x[gate]; LANES])[0] * x[gate + 16]);
                }
            }
            for (row, (found, x)) in run(Activation::Rotate(&rotation), columns).zip(lines()).enumerate() {
                for pair in 0..48 {
                    let first = pair / 16 * 32 + pair % 16;
                    let cos = rotation.cos[row * 48 + pair];
                    let sin = rotation.sin[row * 48 + pair];
                    close(found[first], x[first] * cos - x[first + 16] * sin);
                    close(found[first + 16], x[first] * sin + x[first + 16] * cos);
                }
            }
        }
    }
}
