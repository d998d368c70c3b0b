//! The rate of matrix products by format and shape, for every set of instructions of this processor,
//! beside candle's product of the same shape in the same run.
//!
//! `cargo bench --bench kernels -- [rows] [threads]`
//!
//! Cells are the best of many repetitions in GFLOP/s (for integers: 10⁹ multiplications and additions a
//! second): on a machine that is shared, the best is what a kernel can do.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and stops at a failure")]

use std::time::Instant;

use candle_core::{Device, Tensor};
use unmask_model::kernel::{Activations, CpuFeatures, Finish, Format, Norm, PackedMatrix, product};

const FORMATS: [Format; 6] =
    [Format::F32, Format::WideBf16, Format::Bf16, Format::Int8, Format::F32Parts, Format::Bf16Parts];
const SHAPES: [(usize, usize); 4] = [(768, 768), (768, 3072), (3072, 768), (768, 50272)];
/// Seconds that a cell is measured for.
const PATIENCE: f64 = 0.3;

/// The shortest of many repetitions, in seconds.
#[expect(clippy::disallowed_methods, reason = "measures")]
fn best(mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let first = Instant::now();
    while first.elapsed().as_secs_f64() < PATIENCE {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// (rows, depth) for a product, by way of a norm.
fn left(format: Format, rows: usize, depth: usize) -> Activations {
    let values: Vec<f32> = (0..rows * depth).map(|i| (i * 37 % 1001) as f32 / 500.0 - 1.0).collect();
    let mut left = Activations::new(format.left());
    let norm = Norm::Rms { gain: vec![1.0; depth], epsilon: 1e-6 };
    norm.apply(CpuFeatures::detect(), &values, depth, &mut left);
    left
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<usize>().ok());
    let rows = numbers.next().unwrap_or(512);
    let threads = numbers.next().unwrap_or(0);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    println!("{rows} rows, {} threads, K x N:", rayon::current_num_threads());
    print!("{:<28}", "");
    SHAPES.iter().for_each(|(depth, columns)| print!("{:>12}", format!("{depth}x{columns}")));
    println!();
    let rate = |depth: usize, columns: usize, seconds: f64| {
        print!("{:>12.0}", 2.0 * (rows * depth * columns) as f64 / seconds / 1e9);
    };
    for (format, cpu) in FORMATS
        .into_iter()
        .flat_map(|format| CpuFeatures::available().into_iter().map(move |set| (format, set)))
    {
        print!("{:<28}", format!("{format:?} {cpu}"));
        for (depth, columns) in SHAPES {
            let matrix = PackedMatrix::pack(format, depth, columns, |k, n| ((k * 31 + n) % 97) as f32 / 97.0);
            let left = left(format, rows, depth);
            let mut out = vec![0.0; rows * columns];
            let seconds = best(|| {
                product(cpu, &left, &matrix, Finish::Store { out: &mut out, stride: columns });
            });
            rate(depth, columns, seconds);
        }
        println!();
    }
    print!("{:<28}", "candle, f32");
    for (depth, columns) in SHAPES {
        let a = Tensor::ones((rows, depth), candle_core::DType::F32, &Device::Cpu).unwrap();
        let b = Tensor::ones((depth, columns), candle_core::DType::F32, &Device::Cpu).unwrap();
        rate(depth, columns, best(|| drop(a.matmul(&b).unwrap())));
    }
    println!();
}
