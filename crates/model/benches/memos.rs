//! The time that kept keys and values save: LLaMA's blocks in GPT-2 small's size with random weights, bfloat16, 2,048
//! positions. Prints milliseconds and their ratios.
//!
//! `cargo bench -p unmask-model --bench memos`

#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first failure")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::time::Instant;

use unmask_model::checkpoint::{
    Biases, FeedForward, NormKind, Positions, Projections, Rotation, StoredType, TransformerSpec, Visibility,
    Weights, families,
};
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::diffusion::{
    DenoisingState, Extent, KvCache, Noise, Order, Policy, Quota, Refresh, Revise, Score, ScoreKind,
    StateSpec, Window,
};
use unmask_model::kernel::CpuFeatures;
use unmask_model::predictor::{
    Ask, CandlePredictor, Context, MaskPredictor, ModelLimits, Sampling, TokenId, Want,
};

const CONTEXT: usize = 2048;
const VOCABULARY: usize = 32_000;
const REPEATS: usize = 3;

fn predictor(visibility: Visibility) -> CandlePredictor {
    let spec = TransformerSpec {
        width: 768,
        head_count: 12,
        kv_head_count: 12,
        head_width: 64,
        context: CONTEXT,
        norm: NormKind::Rms,
        norm_epsilon: 1e-5,
        positions: Positions::Rotary(Rotation::plain(10_000.0)),
        projections: Projections::Separate,
        biases: Biases::default(),
        head_norm: false,
        feed_forward: vec![FeedForward::SwiGlu { width: 2048 }; 12],
        visibility,
        ties_missing_head: true,
    };
    let limits = ModelLimits {
        vocabulary: VOCABULARY,
        context: CONTEXT,
        mask_token: VOCABULARY as TokenId - 1,
        shift: false,
        visibility,
    };
    let cpu = CpuFeatures::detect();
    let placement = Placement::new(DeviceChoice::Cpu, Precision::Bf16, &families::DIFFULLAMA, cpu).unwrap();
    let weights = Weights::random(VOCABULARY, StoredType::Bf16);
    CandlePredictor::new(&spec, &weights, limits, &placement, 0).unwrap().with_memos(8 << 30)
}

/// Milliseconds of the fastest of a few runs.
fn fastest(mut run: impl FnMut()) -> f64 {
    let once = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..REPEATS).map(|_| once(&mut run)).fold(f64::INFINITY, f64::min)
}

fn tokens(salt: usize) -> Vec<TokenId> {
    (0..CONTEXT).map(|place| ((place * 31 + salt * 7919) % 30_000) as TokenId).collect()
}

fn evaluate(predictor: &mut CandlePredictor, tokens: &[TokenId], at: u32, context: Context<'_>) {
    let wants = [Want { position: at, uniform: 0.5, ..Want::default() }];
    let samplings = [Sampling::default()];
    let ask = Ask { tokens, context, wants: &wants, samplings: &samplings, ..Ask::default() };
    predictor.predict(&[ask]).unwrap();
}

/// A hole of 16 in the middle, one token an evaluation.
fn hole(predictor: &mut CandlePredictor, salt: usize, kv_cache: Option<KvCache>) {
    let mut given: Vec<Option<TokenId>> = tokens(salt).into_iter().map(Some).collect();
    given[1000..1016].fill(None);
    let order = Order::Score(Score { kind: ScoreKind::Drawn, temperature: 0.0 });
    let policy = Policy { window: Window::All, order, quota: Quota::Count(1), revise: Revise::None };
    let noise = Noise::Keyed { seed: 1, sample: 0 };
    let spec = StateSpec { given, policy, noise, kv_cache, ..StateSpec::default() };
    let mut state = DenoisingState::new(spec, &predictor.limits()).unwrap();
    while let Some(ask) = state.ask() {
        let reads = predictor.predict(&[ask]).unwrap().remove(0);
        state.act(&reads);
    }
}

fn full_attention() {
    let mut predictor = predictor(Visibility::Full);
    let canvas = tokens(0);
    evaluate(&mut predictor, &canvas, 1000, Context::Fresh);
    let whole = fastest(|| evaluate(&mut predictor, &canvas, 1000, Context::Fresh));
    let active: Vec<u32> = (1000..1032).collect();
    let context = Context::Frozen { active: &active, as_of: &canvas };
    evaluate(&mut predictor, &canvas, 1000, context);
    let some = fastest(|| evaluate(&mut predictor, &canvas, 1000, context));
    println!(
        "evaluation of 2,048 rows: {whole:.1} ms; of 32 among 2,016 kept: {some:.1} ms, {:.1} %",
        100.0 * some / whole
    );
    let mut salt = 1;
    let fresh = fastest(|| hole(&mut predictor, 1, None));
    for near in [0, 16] {
        let cache = KvCache { extent: Extent::Dual, refresh: Refresh::Never, near };
        let dual = fastest(|| {
            // Another text each time: nothing of it is kept yet.
            salt += 1;
            hole(&mut predictor, salt, Some(cache));
        });
        println!(
            "hole of 16, {near} neighbours: fresh {fresh:.0} ms, dual {dual:.0} ms, {:.1} times",
            fresh / dual
        );
    }
}

fn blocks() {
    const BLOCK: usize = 32;
    let mut predictor = predictor(Visibility::BlockCausal { block: BLOCK });
    let canvas = tokens(0);
    let mut times = Vec::new();
    let mut recomputed = 0.0;
    for start in (0..CONTEXT).step_by(BLOCK) {
        let shown = &canvas[..start + BLOCK];
        let active: Vec<u32> = (start as u32..(start + BLOCK) as u32).collect();
        let context = match start {
            0 => Context::Fresh,
            _ => Context::Frozen { active: &active, as_of: &shown[..start] },
        };
        let begun = Instant::now();
        // As many evaluations as a block with a threshold takes.
        for _ in 0..4 {
            evaluate(&mut predictor, shown, start as u32, context);
        }
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        if start % 256 == 0 {
            // One block in eight stands for its neighbours.
            recomputed +=
                8.0 * 4.0 * fastest(|| evaluate(&mut predictor, shown, start as u32, Context::Fresh));
        }
    }
    let kept: f64 = times.iter().sum();
    println!(
        "64 blocks of 32, 4 evaluations each: kept {kept:.0} ms, recomputed {recomputed:.0} ms, {:.1} times",
        recomputed / kept
    );
    let mut sorted = times[1..].to_vec();
    sorted.sort_by(f64::total_cmp);
    println!("a block: median {:.1} ms, slowest {:.1} ms", sorted[31], sorted[62]);
    let prompt = 1500 / BLOCK * BLOCK;
    let mut first = |salt: usize, beginning: usize| {
        let shown = [&tokens(beginning)[..prompt], &tokens(salt)[..BLOCK]].concat();
        let active: Vec<u32> = (prompt as u32..(prompt + BLOCK) as u32).collect();
        let context = Context::Frozen { active: &active, as_of: &shown[..prompt] };
        let begun = Instant::now();
        evaluate(&mut predictor, &shown, prompt as u32, context);
        begun.elapsed().as_secs_f64() * 1e3
    };
    let cold = first(5, 77);
    let warm = first(6, 77);
    println!(
        "first block behind 1,472 tokens: {cold:.0} ms; behind the same again: {warm:.1} ms, {:.1} %",
        100.0 * warm / cold
    );
}

fn main() {
    full_attention();
    blocks();
}
