//! One evaluation of a DiffuGPT-S-shaped network with random weights, and the readout of one row, each
//! beside a plain candle formulation of the same work in the same run.
//!
//! `cargo bench -p unmask-model --bench evaluation`

#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first failure")]

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;

use candle_core::{D, DType, Device, Tensor};
use criterion::{Criterion, criterion_group, criterion_main};
use unmask_model::checkpoint::Checkpoint;
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::kernel::CpuFeatures;
use unmask_model::predictor::{Ask, CandlePredictor, MaskPredictor, Sampling, Want};
use unmask_model::readout::{RowContext, Scratch, read_row};

const LAYERS: usize = 12;
const WIDTH: usize = 768;
const HEADS: usize = 12;
const ROWS: usize = 50257;

/// Random weights by the wrapper layout's names.
fn weights() -> HashMap<String, Tensor> {
    let random = |shape: &[usize]| (Tensor::randn(0_f32, 1.0, shape, &Device::Cpu).unwrap() * 0.02).unwrap();
    let ones = || Tensor::ones(WIDTH, DType::F32, &Device::Cpu).unwrap();
    let zeros = |width| Tensor::zeros(width, DType::F32, &Device::Cpu).unwrap();
    let mut tensors = HashMap::new();
    tensors.insert("embed_tokens.weight".to_owned(), random(&[ROWS, WIDTH]));
    tensors.insert("denoise_model.wpe.weight".to_owned(), random(&[1024, WIDTH]));
    for norm in
        (0..LAYERS).flat_map(|i| [format!("h.{i}.ln_1"), format!("h.{i}.ln_2")]).chain(["ln_f".to_owned()])
    {
        tensors.insert(format!("denoise_model.{norm}.weight"), ones());
        tensors.insert(format!("denoise_model.{norm}.bias"), zeros(WIDTH));
    }
    for i in 0..LAYERS {
        let shapes = [
            ("attn.c_attn", WIDTH, 3 * WIDTH),
            ("attn.c_proj", WIDTH, WIDTH),
            ("mlp.c_fc", WIDTH, 4 * WIDTH),
            ("mlp.c_proj", 4 * WIDTH, WIDTH),
        ];
        for (name, from, to) in shapes {
            tensors.insert(format!("denoise_model.h.{i}.{name}.weight"), random(&[from, to]));
            tensors.insert(format!("denoise_model.h.{i}.{name}.bias"), zeros(to));
        }
    }
    tensors
}

/// A checkpoint on disk: the tokenizer of a tiny one, the shape of DiffuGPT-S.
fn predictor(tensors: &HashMap<String, Tensor>) -> CandlePredictor {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/diffugpt-s");
    for file in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
        std::fs::copy(golden.join(file), folder.path().join(file)).unwrap();
    }
    let config = format!(
        r#"{{"model_type": "gpt2", "n_embd": {WIDTH}, "n_head": {HEADS}, "n_layer": {LAYERS}, "n_positions": 1024}}"#
    );
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    candle_core::safetensors::save(tensors, folder.path().join("model.safetensors")).unwrap();
    let checkpoint = Checkpoint::open(folder.path(), None).unwrap();
    let placement =
        Placement::new(DeviceChoice::Cpu, Precision::F32, checkpoint.profile.family, CpuFeatures::detect())
            .unwrap();
    CandlePredictor::load(&checkpoint, placement, 0).unwrap()
}

/// The same trunk in candle's own operations, one canvas.
fn plain_trunk(tensors: &HashMap<String, Tensor>, rows: usize) -> candle_core::Result<Tensor> {
    let get = |name: String| &tensors[&format!("denoise_model.{name}")];
    let linear = |x: &Tensor, name: String| {
        x.matmul(get(format!("{name}.weight")))?.broadcast_add(get(format!("{name}.bias")))
    };
    let norm = |x: &Tensor, name: String| {
        candle_nn::ops::layer_norm(x, get(format!("{name}.weight")), get(format!("{name}.bias")), 1e-5)
    };
    let heads = |x: Tensor| x.reshape((1, rows, HEADS, WIDTH / HEADS))?.transpose(1, 2)?.contiguous();
    let ids = Tensor::zeros(rows, DType::U32, &Device::Cpu)?;
    let mut x = (tensors["embed_tokens.weight"].index_select(&ids, 0)?
        + get("wpe.weight".to_owned()).narrow(0, 0, rows)?)?;
    for i in 0..LAYERS {
        let fused = linear(&norm(&x, format!("h.{i}.ln_1"))?, format!("h.{i}.attn.c_attn"))?;
        let part = |p: usize| heads(fused.narrow(1, p * WIDTH, WIDTH)?);
        let scores = (part(0)?.matmul(&part(1)?.t()?)? * 0.125)?;
        let mixed = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&part(2)?)?;
        let mixed = mixed.transpose(1, 2)?.contiguous()?.reshape((rows, WIDTH))?;
        x = (x + linear(&mixed, format!("h.{i}.attn.c_proj"))?)?;
        let inner = linear(&norm(&x, format!("h.{i}.ln_2"))?, format!("h.{i}.mlp.c_fc"))?.gelu()?;
        x = (x + linear(&inner, format!("h.{i}.mlp.c_proj"))?)?;
    }
    norm(&x, "ln_f".to_owned())
}

fn evaluation(criterion: &mut Criterion) {
    let tensors = weights();
    let mut predictor = predictor(&tensors);
    let samplings = [Sampling { temperature: 0.95, top_p: 0.9, ..Sampling::default() }];
    for rows in [128_usize, 512] {
        let canvas = vec![1_u32; rows];
        let mut group = criterion.benchmark_group(format!("{rows} rows"));
        group.sample_size(10);
        // One round of T = 64 asks a 64th of the positions.
        for asked in [rows / 64, rows - 1] {
            let wants: Vec<Want> = (1..=asked as u32)
                .map(|position| Want { position, uniform: 0.5, ..Want::default() })
                .collect();
            group.bench_function(format!("evaluation, {asked} positions asked"), |bencher| {
                bencher.iter(|| {
                    let ask = Ask { tokens: &canvas, wants: &wants, samplings: &samplings, ..Ask::default() };
                    black_box(predictor.predict(&[ask]).unwrap())
                });
            });
        }
        group.bench_function("plain candle, trunk alone", |bencher| {
            bencher.iter(|| black_box(plain_trunk(&tensors, rows).unwrap()));
        });
        group.finish();
    }
}

/// The reference's way: sort the vocabulary, accumulate, draw.
fn sorted_read(logits: &[f32], temperature: f64, top_p: f64, uniform: f64) -> usize {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |&logit: &f32| (f64::from(logit - largest) / temperature).exp();
    let mut order: Vec<(f64, usize)> = logits.iter().map(weight).zip(0..).collect();
    order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let total: f64 = order.iter().map(|(weight, _)| weight).sum();
    let mut before = 0.0;
    let kept = order.iter().take_while(|(weight, _)| {
        let keep = before <= top_p * total;
        before += weight;
        keep
    });
    let kept: Vec<_> = kept.collect();
    let mut left = uniform * kept.iter().map(|(weight, _)| weight).sum::<f64>();
    let chosen = kept.iter().find(|(weight, _)| {
        left -= weight;
        left < 0.0
    });
    chosen.map_or(0, |(_, token)| *token)
}

fn readout(criterion: &mut Criterion) {
    let logits: Vec<f32> = Tensor::randn(0_f32, 3.0, ROWS, &Device::Cpu).unwrap().to_vec1().unwrap();
    let tensor = Tensor::from_slice(&logits, (1, ROWS), &Device::Cpu).unwrap();
    let sampling = Sampling { temperature: 0.95, top_p: 0.9, banned: vec![10541], ..Sampling::default() };
    let mut scratch = Scratch::default();
    let mut group = criterion.benchmark_group("one row of 50257 logits");
    group.bench_function("readout, top-p 0.9", |bencher| {
        bencher.iter(|| {
            black_box(read_row(
                CpuFeatures::detect(),
                &logits,
                &RowContext::new(&sampling),
                black_box(0.37),
                &mut scratch,
            ))
        });
    });
    group.bench_function("sorted, top-p 0.9", |bencher| {
        bencher.iter(|| black_box(sorted_read(&logits, 0.95, 0.9, black_box(0.37))));
    });
    group.bench_function("plain candle, softmax alone", |bencher| {
        bencher.iter(|| black_box(candle_nn::ops::softmax(&tensor, D::Minus1).unwrap()));
    });
    group.finish();
}

criterion_group!(benches, evaluation, readout);
criterion_main!(benches);
