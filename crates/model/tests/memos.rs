//! Keys and values that are kept between evaluations: with them and without them, alone and in company, evicted at any
//! moment, the bits are the same; and blocks that see no later block are computed exactly.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod device;

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use unmask_model::checkpoint::{Checkpoint, Visibility};
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::diffusion::{
    DenoisingState, Edit, Extent, KvCache, Noise, Order, Policy, Quota, Refresh, Revise, Score, ScoreKind,
    StateSpec, Window,
};
use unmask_model::kernel::CpuFeatures;
use unmask_model::predictor::{
    Ask, CandlePredictor, Context, MaskPredictor, ModelLimits, Read, Sampling, TokenId, Want, Work,
};

/// The shortest context of these models.
const CONTEXT: usize = 64;

const MODELS: [&str; 5] = ["diffugpt-s", "diffullama-gqa", "llada", "dream", "llada-moe"];

fn golden(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(model)
}

/// Those of the device.
fn precisions() -> Vec<Precision> {
    let narrowest = match device::tested() {
        DeviceChoice::Cuda(_) => Precision::F16,
        _ => Precision::Int8,
    };
    vec![Precision::F32, Precision::Bf16, narrowest]
}

/// Fewer where a GPU may be an interpreted one.
fn cases() -> u32 {
    match device::tested() {
        DeviceChoice::Cuda(_) => 3,
        _ => 24,
    }
}

/// A golden checkpoint whose positions see what `visibility` says, on the device that is tested.
fn load(model: &str, precision: Precision, threads: usize, visibility: Visibility) -> CandlePredictor {
    let checkpoint = Checkpoint::open(&golden(model), None).unwrap();
    let family = checkpoint.profile.family;
    let placement = Placement::new(device::tested(), precision, family, device::cpu()).unwrap();
    let placement = placement.deterministic(true);
    let mut spec = checkpoint.config.spec.clone();
    spec.visibility = visibility;
    let limits = ModelLimits {
        vocabulary: checkpoint.tokenizer.rows(),
        context: spec.context,
        mask_token: checkpoint.tokenizer.mask_id(),
        shift: checkpoint.profile.shift,
        visibility,
    };
    CandlePredictor::new(&spec, &checkpoint.weights, limits, &placement, threads).unwrap()
}

/// A sample of a random shape: a text with a hole, a rule and a cache.
#[derive(Clone, Debug)]
struct Sample {
    before: usize,
    hole: usize,
    after: usize,
    policy: Policy,
    cache: Option<KvCache>,
    seed: u64,
}

impl Sample {
    fn state(&self, limits: &ModelLimits) -> DenoisingState {
        let token = |place: usize| Some((place * 37 + self.before) as TokenId % 300);
        let before = (0..self.before).map(token);
        let after = (0..self.after).map(|place| token(place + 1000));
        let given = before.chain((0..self.hole).map(|_| None)).chain(after).collect();
        let spec = StateSpec {
            given,
            samplings: vec![Sampling { temperature: 0.8, top_p: 0.9, ..Sampling::default() }],
            policy: self.policy,
            noise: Noise::Keyed { seed: self.seed, sample: 0 },
            kv_cache: self.cache,
            ..StateSpec::default()
        };
        DenoisingState::new(spec, limits).unwrap()
    }
}

fn policies() -> impl Strategy<Value = Policy> {
    let scored = |quota, window| {
        let order = Order::Score(Score { kind: ScoreKind::Drawn, temperature: 0.0 });
        Policy { window, order, quota, revise: Revise::None }
    };
    prop_oneof![
        (1_u32..20).prop_map(Policy::reference),
        (1_usize..4).prop_map(move |count| scored(Quota::Count(count), Window::All)),
        (1_usize..6).prop_map(move |size| scored(Quota::Threshold(0.6), Window::Block(size))),
        (2_u32..12).prop_map(|steps| Policy { revise: Revise::Cap(0.3), ..Policy::reference(steps) }),
    ]
}

fn caches() -> impl Strategy<Value = KvCache> {
    let refresh = prop_oneof![
        Just(Refresh::Never),
        (1_u32..5).prop_map(Refresh::Every),
        Just(Refresh::Block),
        Just(Refresh::BlockFirst)
    ];
    let extent = prop_oneof![Just(Extent::Dual), Just(Extent::Prefix)];
    (extent, refresh, 0_u32..6).prop_map(|(extent, refresh, near)| KvCache { extent, refresh, near })
}

fn samples() -> impl Strategy<Value = Sample> {
    // At most CONTEXT together.
    let shape = (1_usize..40, 1_usize..9, 0_usize..17);
    (shape, policies(), prop::option::weighted(0.8, caches()), 0_u64..1000).prop_map(
        |((before, hole, after), policy, cache, seed)| Sample { before, hole, after, policy, cache, seed },
    )
}

/// Denoises all samples together; the edits of each.
fn denoise(predictor: &mut CandlePredictor, samples: &[Sample]) -> Vec<Vec<Edit>> {
    let limits = predictor.limits();
    let mut states: Vec<DenoisingState> = samples.iter().map(|sample| sample.state(&limits)).collect();
    let mut edits = vec![Vec::new(); samples.len()];
    while states.iter().any(|state| state.ask().is_some()) {
        let at_work: Vec<usize> = (0..states.len()).filter(|n| states[*n].ask().is_some()).collect();
        let asks: Vec<Ask<'_>> = at_work.iter().filter_map(|number| states[*number].ask()).collect();
        let reads = predictor.predict(&asks).unwrap();
        for (number, reads) in at_work.into_iter().zip(reads) {
            edits[number].extend(states[number].act(&reads));
        }
    }
    edits
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// A text that depended on what else is in memory would not be repeated by its seed.
    #[test]
    fn what_is_kept_changes_no_bit(
        samples in prop::collection::vec(samples(), 1..5),
        model in prop::sample::select(&MODELS[..]),
        precision in prop::sample::select(precisions()),
        budget in prop_oneof![Just(0_u64), 2_000_u64..60_000, Just(u64::MAX)],
    ) {
        let mut one = load(model, precision, 1, Visibility::Full);
        let mut two = load(model, precision, 2, Visibility::Full).with_memos(budget);
        let together = denoise(&mut two, &samples);
        prop_assert!(two.memos().bytes <= budget, "{:?}", two.memos());
        for (sample, together) in samples.iter().zip(together) {
            let alone = denoise(&mut one, std::slice::from_ref(sample));
            prop_assert_eq!(&alone[0], &together, "{} {:?} {:?}", model, precision, sample);
        }
    }

    /// Memos of blocks are exact: what is computed block by block is what is computed at once.
    #[test]
    fn finished_blocks_are_remembered_exactly(
        tokens in prop::collection::vec(0_u32..300, 1..=CONTEXT),
        block in 1_usize..9,
        model in prop::sample::select(&MODELS[..]),
        precision in prop::sample::select(precisions()),
        budget in prop_oneof![Just(0_u64), 2_000_u64..60_000, Just(u64::MAX)],
    ) {
        let visibility = Visibility::BlockCausal { block };
        let mut predictor = load(model, precision, 2, visibility).with_memos(budget);
        for start in (0..tokens.len()).step_by(block) {
            let shown = &tokens[..(start + block).min(tokens.len())];
            let whole = reads(&mut predictor, shown, start, Context::Fresh);
            let active: Vec<u32> = (start as u32..shown.len() as u32).collect();
            let context = match start {
                0 => Context::Fresh,
                _ => Context::Frozen { active: &active, as_of: &shown[..start] },
            };
            let kept = reads(&mut predictor, shown, start, context);
            prop_assert_eq!(whole, kept, "{} {:?} from {}", model, precision, start);
        }
        prop_assert!(predictor.memos().bytes <= budget, "{:?}", predictor.memos());
    }

    /// Each evaluation of a sample that fills blocks, or equal parts of them, reads what one without anything kept reads;
    /// with the shift, the first position of a block is read in the block before.
    #[test]
    fn samples_in_blocks_read_what_whole_evaluations_read(
        before in 1_usize..20,
        hole in 1_usize..24,
        (block, part) in prop::sample::select(&[(1, 1), (4, 4), (4, 2), (6, 3), (8, 2)][..]),
        steps in 1_u32..5,
        threshold in prop::option::of(0.0_f64..0.4),
        model in prop::sample::select(&MODELS[..]),
        precision in prop::sample::select(precisions()),
        budget in prop_oneof![Just(0_u64), 2_000_u64..60_000, Just(u64::MAX)],
        seed in 0_u64..1000,
    ) {
        let policy = Policy {
            window: Window::Block(part),
            order: Order::Score(Score { kind: ScoreKind::Drawn, temperature: 0.0 }),
            quota: Quota::PerBlock { steps, threshold },
            revise: Revise::None,
        };
        let mut predictor = load(model, precision, 2, Visibility::BlockCausal { block }).with_memos(budget);
        let sample = Sample { before, hole, after: 0, policy, cache: None, seed };
        let mut state = sample.state(&predictor.limits());
        while let Some(ask) = state.ask() {
            let left = state.evaluations_left();
            let whole = predictor.predict(&[Ask { context: Context::Fresh, ..ask }]).unwrap().remove(0);
            let kept = predictor.predict(&[ask]).unwrap().remove(0);
            prop_assert_eq!(&whole, &kept, "{} {:?}", model, precision);
            state.act(&kept);
            prop_assert!(state.evaluations_left() < left, "{} evaluations were left", left);
        }
        prop_assert_eq!(state.canvas().masked(), 0);
    }
}

/// The reads of the positions from `start` on whose rows are computed.
fn reads(
    predictor: &mut CandlePredictor,
    tokens: &[TokenId],
    start: usize,
    context: Context<'_>,
) -> Vec<Read> {
    let first = start + usize::from(predictor.limits().shift);
    let want = |position| Want { position, uniform: 0.3, ..Want::default() };
    let wants: Vec<Want> = (first as u32..tokens.len() as u32).map(want).collect();
    let samplings = [Sampling::default()];
    let ask =
        Ask { tokens, context, wants: &wants, samplings: &samplings, alternatives: 3, ..Ask::default() };
    predictor.predict(&[ask]).unwrap().remove(0)
}

/// Canvases with kept rows and without share a launch of the attention on a GPU.
#[test]
fn kept_rows_have_their_bits_in_any_company() {
    let before: Vec<u32> = (0..50).map(|place| place * 7 % 300).collect();
    let other: Vec<u32> = (0..33).map(|place| place * 11 % 300).collect();
    let mut now = before.clone();
    now[20..24].fill(11);
    let active: Vec<u32> = (18..26).chain(40..42).collect();
    let wants = [20, 22, 41].map(|position| Want { position, uniform: 0.3, ..Want::default() });
    let samplings = [Sampling::default()];
    for model in MODELS {
        for precision in [Precision::F32, Precision::Bf16] {
            let mut predictor = load(model, precision, 2, Visibility::Full).with_memos(u64::MAX);
            let context = Context::Frozen { active: &active, as_of: &before };
            let kept = Ask { tokens: &now, context, wants: &wants, samplings: &samplings, ..Ask::default() };
            let fresh = Ask { tokens: &other, wants: &wants[..2], samplings: &samplings, ..Ask::default() };
            let mut alone = predictor.predict(&[kept]).unwrap();
            alone.extend(predictor.predict(&[fresh]).unwrap());
            assert_eq!(predictor.predict(&[kept, fresh]).unwrap(), alone, "{model} {precision:?}");
            let visibility = Visibility::BlockCausal { block: 8 };
            let mut blocks = load(model, precision, 2, visibility).with_memos(u64::MAX);
            for start in [8, 24] {
                let shown = &before[..start + 8];
                let active: Vec<u32> = (start as u32..shown.len() as u32).collect();
                let context = Context::Frozen { active: &active, as_of: &shown[..start] };
                let whole = reads(&mut blocks, shown, start, Context::Fresh);
                assert_eq!(reads(&mut blocks, shown, start, context), whole, "{model} {precision:?} {start}");
            }
        }
    }
}

#[test]
fn a_canvas_of_active_rows_only_is_a_fresh_one() {
    for model in MODELS {
        let mut predictor = load(model, Precision::Auto, 2, Visibility::Full).with_memos(u64::MAX);
        let tokens: Vec<u32> = (0..50).map(|place| place * 7 % 300).collect();
        let active: Vec<u32> = (0..50).collect();
        let as_of = [3; 50];
        let frozen = reads(&mut predictor, &tokens, 0, Context::Frozen { active: &active, as_of: &as_of });
        assert_eq!(frozen, reads(&mut predictor, &tokens, 0, Context::Fresh), "{model}");
    }
}

#[test]
fn a_beginning_in_common_is_computed_once() {
    let visibility = Visibility::BlockCausal { block: 4 };
    let mut predictor = load("llada", Precision::Auto, 2, visibility).with_memos(u64::MAX);
    let prompt: Vec<u32> = (0..40).collect();
    let mut rows = Vec::new();
    for answer in [[7; 8], [9; 8]] {
        let tokens = [&prompt[..], &answer].concat();
        let active: Vec<u32> = (44..48).collect();
        let context = Context::Frozen { active: &active, as_of: &tokens[..44] };
        let ask = Ask { tokens: &tokens, context, ..Ask::default() };
        rows.push(predictor.work(&ask));
        reads(&mut predictor, &tokens, 44, context);
    }
    // The second request computes the block that differs, and its own.
    let rows: Vec<u64> = rows.iter().map(|work: &Work| work.rows).collect();
    assert_eq!(rows, [44 + 4, 4 + 4]);
    assert_eq!(predictor.memos().misses, 2);
}

#[test]
fn what_cannot_be_continued_is_refused() {
    let mut predictor = load("llada", Precision::Auto, 1, Visibility::Full);
    let tokens = [5; 10];
    let wants = [Want { position: 4, ..Want::default() }];
    let samplings = [Sampling::default()];
    let active: [&[u32]; 5] = [&[], &[5, 4], &[3, 5], &[4, 10], &[4, 9]];
    let as_of: [&[u32]; 5] = [&[5; 10], &[5; 10], &[5; 10], &[5; 10], &[5; 8]];
    for (active, as_of) in active.into_iter().zip(as_of) {
        let context = Context::Frozen { active, as_of };
        let ask = Ask { tokens: &tokens, context, wants: &wants, samplings: &samplings, ..Ask::default() };
        let error = predictor.predict(&[ask]).unwrap_err();
        assert!(error.to_string().contains("position 4"), "{active:?}: {error}");
    }
}

/// The executor of a GPU keeps keys and values as well.
#[test]
fn candle_s_operations_remember_what_our_kernels_do() {
    for model in MODELS {
        let checkpoint = Checkpoint::open(&golden(model), None).unwrap();
        let family = checkpoint.profile.family;
        let cpu = CpuFeatures::detect();
        let placement = Placement::new(DeviceChoice::Cpu, Precision::F32, family, cpu).unwrap();
        let mut ours = CandlePredictor::load(&checkpoint, placement, 2).unwrap();
        let placement = Placement::new(device::tested(), Precision::F32, family, cpu).unwrap();
        for budget in [0, u64::MAX] {
            let theirs = CandlePredictor::in_candle(&checkpoint, &placement).unwrap();
            let mut theirs = theirs.with_memos(budget);
            let before: Vec<u32> = (0..50).map(|place| place * 7 % 300).collect();
            let mut now = before.clone();
            now[20..24].fill(11);
            let active: Vec<u32> = (18..26).chain(40..42).collect();
            let context = Context::Frozen { active: &active, as_of: &before };
            let wants: Vec<Want> =
                [20, 22, 41].map(|position| Want { position, target: Some(5), ..Want::default() }).to_vec();
            let samplings = [Sampling { temperature: 0.0, ..Sampling::default() }];
            let ask = Ask { tokens: &now, context, wants: &wants, samplings: &samplings, ..Ask::default() };
            let expected = ours.predict(&[ask]).unwrap().remove(0);
            for _ in 0..2 {
                let found = theirs.predict(&[ask]).unwrap().remove(0);
                for (found, expected) in found.iter().zip(&expected) {
                    let error = (found.target.unwrap() - expected.target.unwrap()).abs();
                    assert!(error < 5e-4, "{model}: {error}");
                }
            }
            let hits = u64::from(budget > 0);
            assert_eq!(theirs.memos().hits, hits, "{model}");
        }
    }
}

#[test]
fn a_sample_with_one_evaluation_keeps_nothing() {
    let mut predictor = load("llada", Precision::Auto, 1, Visibility::Full).with_memos(u64::MAX);
    let cache = KvCache { extent: Extent::Dual, refresh: Refresh::Never, near: 0 };
    let sample = |hole| Sample {
        before: 20,
        hole,
        after: 5,
        policy: Policy {
            window: Window::All,
            order: Order::Score(Score { kind: ScoreKind::Drawn, temperature: 0.0 }),
            quota: Quota::Count(1),
            revise: Revise::None,
        },
        cache: Some(cache),
        seed: 1,
    };
    denoise(&mut predictor, &[sample(1)]);
    assert_eq!(predictor.memos().misses, 0);
    denoise(&mut predictor, &[sample(2)]);
    assert_eq!(predictor.memos().misses, 1);
}
