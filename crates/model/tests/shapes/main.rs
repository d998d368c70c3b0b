//! Networks of random shapes at every instruction set of this processor, against plain loops over f64.
//!
//! A kernel that is right for some widths only, or a layout that two sides of a product compute differently,
//! shows here. A failure names the seed of its shape; `UNMASK_SHAPE` runs that one alone.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![expect(unreachable_pub, reason = "modules of one test binary")]

#[path = "../reference/mod.rs"]
mod reference;
mod shape;

use unmask_model::checkpoint::{ModelConfig, ModelFiles, Weights};
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::kernel::CpuFeatures;
use unmask_model::predictor::{Ask, CandlePredictor, MaskPredictor, ModelLimits, Sampling, Visibility, Want};

use crate::shape::Shape;

/// Shapes of each of the two architectures.
const SHAPES: u64 = 150;

#[test]
fn gpt2_of_any_shape_matches_f64() {
    seeds().for_each(|seed| check(&Shape::random(seed, true)));
}

#[test]
fn llama_of_any_shape_matches_f64() {
    seeds().for_each(|seed| check(&Shape::random(seed, false)));
}

#[expect(clippy::disallowed_methods, reason = "an argument of this test")]
fn seeds() -> std::ops::Range<u64> {
    let one = std::env::var("UNMASK_SHAPE").ok().map(|seed| seed.parse::<u64>().unwrap());
    one.map_or(0..SHAPES, |seed| seed..seed + 1)
}

/// Largest difference of a logit, and mean difference of all, in units of their standard deviation. What is rounded
/// before a router may choose other experts.
fn tolerance(precision: Precision, chooses: bool) -> (f64, f64) {
    match (precision, chooses) {
        (Precision::Bf16, false) => (0.3, 0.03),
        (Precision::Bf16, true) => (2.5, 0.08),
        (Precision::Int8, false) => (0.8, 0.1),
        (Precision::Int8, true) => (4.0, 0.3),
        _ => (5e-4, 5e-5),
    }
}

fn check(shape: &Shape) {
    let expected: Vec<Vec<f64>> =
        shape.canvases.iter().flat_map(|canvas| shape.network.evaluate(canvas).logits).collect();
    let folder = tempfile::tempdir().unwrap();
    shape.write(folder.path());
    let files = ModelFiles::open(folder.path()).unwrap();
    let config = ModelConfig::read(&files).unwrap();
    let chooses = shape.network.experts.is_some_and(|(count, used)| used < count);
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        for cpu in CpuFeatures::available() {
            let weights = Weights::open(&files, &config, None).unwrap();
            let placement = Placement::new(DeviceChoice::Cpu, precision, shape.family(), cpu).unwrap();
            let limits = ModelLimits {
                vocabulary: shape.vocabulary,
                context: config.spec.context,
                mask_token: 0,
                shift: true,
                visibility: Visibility::Full,
            };
            let loaded = CandlePredictor::new(&config.spec, &weights, limits, &placement, 1);
            let mut predictor = loaded.unwrap_or_else(|error| panic!("{shape}, {cpu}: {error}"));
            let label = format!("{shape}, {precision:?}, {cpu}");
            compare_logits(shape, &predictor, &expected, tolerance(precision, chooses), &label);
            compare_reads(shape, &mut predictor, &expected, tolerance(precision, chooses), &label);
        }
    }
}

/// All rows of all canvases, packed into one evaluation.
fn compare_logits(
    shape: &Shape,
    predictor: &CandlePredictor,
    expected: &[Vec<f64>],
    (largest, mean): (f64, f64),
    label: &str,
) {
    let canvases: Vec<&[u32]> = shape.canvases.iter().map(Vec::as_slice).collect();
    let found: Vec<Vec<f32>> = predictor.all_logits(&canvases).unwrap().to_vec2().unwrap();
    assert_eq!(found.len(), expected.len(), "{label}: rows");
    let unit = deviation(expected);
    let mut total = 0.0;
    for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len(), "{label}: vocabulary");
        for (token, (found, expected)) in found.iter().zip(expected).enumerate() {
            let error = (f64::from(*found) - expected).abs() / unit;
            assert!(error < largest, "{label}: row {row}, token {token}: {found}, expected {expected}");
            total += error;
        }
    }
    let average = total / (expected.len() * shape.vocabulary) as f64;
    assert!(average < mean, "{label}: mean error {average}");
}

/// A few positions of each canvas, in one evaluation in which other rows do not pass the last block.
fn compare_reads(
    shape: &Shape,
    predictor: &mut CandlePredictor,
    expected: &[Vec<f64>],
    (largest, _): (f64, f64),
    label: &str,
) {
    let wants = |canvas: &Vec<u32>| -> Vec<Want> {
        let positions = (1..canvas.len() as u32).filter(|position| position % 5 == 1);
        let target = |position: u32| Some(canvas[position as usize]);
        positions.map(|position| Want { position, target: target(position), ..Want::default() }).collect()
    };
    let wants: Vec<Vec<Want>> = shape.canvases.iter().map(wants).collect();
    let samplings = [Sampling::default()];
    let asks = shape.canvases.iter().zip(&wants);
    let asks: Vec<Ask<'_>> =
        asks.map(|(tokens, wants)| Ask { tokens, wants, samplings: &samplings, ..Ask::default() }).collect();
    let reads = predictor.predict(&asks).unwrap_or_else(|error| panic!("{label}: {error}"));
    let unit = deviation(expected);
    let mut first = 0;
    for (ask, reads) in asks.iter().zip(&reads) {
        assert_eq!(reads.len(), ask.wants.len(), "{label}: reads");
        for (want, read) in ask.wants.iter().zip(reads) {
            let row = &expected[first + want.position as usize - 1];
            let logprob = row[want.target.unwrap() as usize] - log_sum(row);
            let error = (f64::from(read.target.unwrap()) - logprob).abs() / unit;
            assert!(error < 2.0 * largest, "{label}: position {}: error {error}", want.position);
        }
        first += ask.tokens.len();
    }
}

fn deviation(rows: &[Vec<f64>]) -> f64 {
    let count = rows.iter().map(Vec::len).sum::<usize>() as f64;
    let mean = rows.iter().flatten().sum::<f64>() / count;
    (rows.iter().flatten().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt()
}

fn log_sum(row: &[f64]) -> f64 {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + row.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
}
