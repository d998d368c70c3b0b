//! Independence of a canvas from its neighbours in the batch, from the number of its positions that are read,
//! and from the number of threads. If one of these failed, a request's text would change with the load on the
//! server. On a GPU the tests hold with `--deterministic`; they run there when UNMASK_TEST_GPU names its
//! number.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod device;

use std::path::{Path, PathBuf};

use unmask_model::checkpoint::Checkpoint;
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::diffusion::{
    DenoisingState, Noise, Order, Policy, Quota, Revise, Score, ScoreKind, StateSpec, Window, draw_round,
};
use unmask_model::error::PredictError;
use unmask_model::predictor::{
    Ask, CandlePredictor, Guidance, MaskPredictor, ModelLimits, Read, Sampling, Visibility, Want,
};
use unmask_model::readout::{RowContext, Scratch, read_row};

const MODELS: [&str; 9] = [
    "diffugpt-s",
    "diffugpt-m",
    "diffullama",
    "diffullama-gqa",
    "llada",
    "dream",
    "llada-moe",
    "sdar",
    "llada2",
];

fn golden(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(model)
}

/// Those of the device.
fn precisions() -> [Precision; 3] {
    let narrowest = match device::tested() {
        DeviceChoice::Cuda(_) => Precision::F16,
        _ => Precision::Int8,
    };
    [Precision::F32, Precision::Bf16, narrowest]
}

fn load(model: &str, threads: usize) -> CandlePredictor {
    load_in(Precision::Auto, model, threads)
}

fn load_in(precision: Precision, model: &str, threads: usize) -> CandlePredictor {
    let checkpoint = Checkpoint::open(&golden(model), None).unwrap();
    let placement =
        Placement::new(device::tested(), precision, checkpoint.profile.family, device::cpu()).unwrap();
    CandlePredictor::load(&checkpoint, placement.deterministic(true), threads).unwrap()
}

/// Canvases of eight lengths; the lengths around 14, 16 and 32 are the edges of the kernels' tiles,
/// lines and panels.
fn canvases(vocabulary: usize) -> Vec<Vec<u32>> {
    let lengths = [1, 5, 14, 15, 16, 17, 33, 64];
    let token = |length: usize, position: usize| ((length * 31 + position * 97) % vocabulary) as u32;
    lengths.iter().map(|&length| (0..length).map(|position| token(length, position)).collect()).collect()
}

#[test]
fn logits_among_seven_others_are_the_very_logits_alone() {
    for (precision, model) in
        precisions().into_iter().flat_map(|precision| MODELS.map(|model| (precision, model)))
    {
        let one = load_in(precision, model, 1);
        let two = load_in(precision, model, 2);
        let canvases = canvases(one.limits().vocabulary);
        let all: Vec<&[u32]> = canvases.iter().map(Vec::as_slice).collect();
        let packed: Vec<Vec<f32>> = two.all_logits(&all).unwrap().to_vec2().unwrap();
        let mut rows = packed.iter();
        for canvas in &canvases {
            let alone: Vec<Vec<f32>> = one.all_logits(&[canvas]).unwrap().to_vec2().unwrap();
            for (position, alone) in alone.iter().enumerate() {
                let packed = rows.next().unwrap();
                assert!(
                    packed.iter().zip(alone).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{model} in {precision:?}: length {}, row {position}",
                    canvas.len()
                );
            }
        }
    }
}

#[test]
fn reads_among_seven_others_are_the_very_reads_alone() {
    for (precision, model) in
        precisions().into_iter().flat_map(|precision| MODELS.map(|model| (precision, model)))
    {
        let mut predictor = load_in(precision, model, 1);
        let canvases = canvases(predictor.limits().vocabulary);
        let samplings = [Sampling { temperature: 0.9, top_p: 0.9, ..Sampling::default() }];
        let wants = |canvas: &Vec<u32>| -> Vec<Want> {
            let want = |position: u32| Want {
                position,
                uniform: f64::from(position % 16) / 16.0,
                ..Want::default()
            };
            (1..canvas.len() as u32).map(want).collect()
        };
        let wants: Vec<Vec<Want>> = canvases.iter().map(wants).collect();
        let asks = canvases.iter().zip(&wants);
        let asks: Vec<Ask<'_>> = asks
            .map(|(tokens, wants)| Ask { tokens, wants, samplings: &samplings, ..Ask::default() })
            .collect();
        let together = predictor.predict(&asks).unwrap();
        for (ask, expected) in asks.iter().zip(&together) {
            let alone = predictor.predict(std::slice::from_ref(ask)).unwrap();
            assert_eq!(alone[0], *expected, "{model} in {precision:?}: length {}", ask.tokens.len());
        }
    }
}

#[test]
fn a_read_does_not_depend_on_what_else_is_asked() {
    for (precision, model) in
        precisions().into_iter().flat_map(|precision| MODELS.map(|model| (precision, model)))
    {
        let mut predictor = load_in(precision, model, 2);
        let canvas = canvases(predictor.limits().vocabulary).pop().unwrap();
        let samplings = [Sampling { temperature: 0.8, top_p: 0.9, banned: vec![3], ..Sampling::default() }];
        let wants: Vec<Want> = (1..canvas.len() as u32)
            .map(|position| Want { position, uniform: f64::from(position) / 64.0, ..Want::default() })
            .collect();
        let mut ask = |wants: &[Want]| -> Vec<Read> {
            let ask =
                Ask { tokens: &canvas, wants, samplings: &samplings, alternatives: 3, ..Ask::default() };
            predictor.predict(&[ask]).unwrap().remove(0)
        };
        let all = ask(&wants);
        for (want, expected) in wants.iter().zip(&all) {
            assert_eq!(
                ask(std::slice::from_ref(want)),
                std::slice::from_ref(expected),
                "{model}: position {}",
                want.position
            );
        }
    }
}

/// Guidance of weight w reads u + (w + 1)·(c − u) of two separate canvases; weight 0 reads c.
#[test]
fn guidance_combines_the_logits_of_two_canvases() {
    for model in MODELS {
        let mut predictor = load(model, 2);
        let limits = predictor.limits();
        let canvas = canvases(limits.vocabulary).pop().unwrap();
        let bare: Vec<u32> = canvas
            .iter()
            .enumerate()
            .map(|(i, &token)| if i < 20 { limits.mask_token } else { token })
            .collect();
        let rows =
            |canvas: &[u32]| -> Vec<Vec<f32>> { predictor.all_logits(&[canvas]).unwrap().to_vec2().unwrap() };
        let conditional = rows(&canvas);
        let unconditional = rows(&bare);
        let samplings = [Sampling { temperature: 0.8, top_p: 0.9, ..Sampling::default() }];
        let wants: Vec<Want> = (1..canvas.len() as u32)
            .map(|position| Want { position, uniform: f64::from(position) / 64.0, ..Want::default() })
            .collect();
        let plain = Ask { tokens: &canvas, wants: &wants, samplings: &samplings, ..Ask::default() };
        let guided = |weight| Ask { guidance: Some(Guidance { tokens: &bare, weight }), ..plain };
        // Another canvas before and after; 63 guided wants fill more than one piece of the head.
        let asks = [plain, guided(1.5), guided(0.0), guided(-0.5), plain];
        let reads = predictor.predict(&asks).unwrap();
        assert_eq!(reads[0], reads[4], "{model}");
        assert_eq!(reads[0], reads[2], "{model}: weight 0");
        assert_ne!(reads[0], reads[1], "{model}: weight 1.5");
        for (ask, strength) in [(1, 2.5_f32), (3, 0.5)] {
            for (want, found) in wants.iter().zip(&reads[ask]) {
                let row = want.position as usize - usize::from(limits.shift);
                let pairs = unconditional[row].iter().zip(&conditional[row]);
                let logits: Vec<f32> = pairs.map(|(u, c)| u + strength * (c - u)).collect();
                let context = RowContext::new(&samplings[0]);
                let expected =
                    read_row(device::cpu(), &logits, &context, want.uniform, &mut Scratch::default());
                assert_eq!(Some(found), expected.as_ref(), "{model}: position {}", want.position);
            }
        }
    }
}

#[test]
fn wants_that_refer_to_nothing_are_refused() {
    let mut predictor = load("diffugpt-s", 1);
    let tokens = [5; 4];
    let samplings = [Sampling::default()];
    let allowed = [vec![1, 2]];
    let mut refused = |want: Want, guidance: Option<Guidance<'_>>| {
        let good = [Want { position: 1, ..Want::default() }];
        let ask = Ask { tokens: &tokens, samplings: &samplings, allowed: &allowed, ..Ask::default() };
        let asks = [Ask { wants: &good, ..ask }, Ask { wants: &[want], guidance, ..ask }];
        matches!(predictor.predict(&asks), Err(PredictError::Unreadable { ask: 1, .. }))
    };
    let want = Want { position: 2, allowed: Some(0), target: Some(3), ..Want::default() };
    assert!(!refused(want, Some(Guidance { tokens: &[5; 4], weight: 1.0 })));
    assert!(refused(want, Some(Guidance { tokens: &[5; 3], weight: 1.0 })));
    // The first row speaks of position 0 as well.
    assert!(!refused(Want { position: 0, ..want }, None));
    assert!(refused(Want { position: 4, ..want }, None));
    assert!(refused(Want { sampling: 1, ..want }, None));
    assert!(refused(Want { allowed: Some(1), ..want }, None));
    assert!(refused(Want { target: Some(u32::MAX), ..want }, None));
}

fn states(predictor: &CandlePredictor) -> Vec<DenoisingState> {
    let limits = predictor.limits();
    let lengths = [3, 8, 13, 20, 33, 47, 50, 64];
    let state = |(sample, &length): (usize, &usize)| {
        let policy = policy(&limits, sample);
        let spec = StateSpec {
            given: (0..length).map(|position| (position % 4 == 0).then_some(7)).collect(),
            samplings: vec![Sampling {
                temperature: 0.9,
                top_p: 0.9,
                banned: vec![limits.mask_token],
                ..Sampling::default()
            }],
            policy,
            noise: Noise::Keyed { seed: 11, sample: sample as u32 },
            // Guided canvases among plain ones.
            guidance: (sample % 3 == 2).then_some(0.7),
            ..StateSpec::default()
        };
        DenoisingState::new(spec, &limits).unwrap()
    };
    lengths.iter().enumerate().map(state).collect()
}

/// Rules of two kinds, in blocks where the network's attention is causal between them.
fn policy(limits: &ModelLimits, sample: usize) -> Policy {
    let even = sample.is_multiple_of(2);
    match limits.visibility {
        Visibility::Full if even => Policy::reference(8),
        Visibility::Full => Policy::confidence(8),
        Visibility::BlockCausal { block } => {
            let quota = Quota::PerBlock { steps: block as u32, threshold: Some(0.3) };
            let order = Order::Score(Score { kind: ScoreKind::Drawn, temperature: 0.0 });
            let revise = Revise::Edit { threshold: 0.3, post: 2, early_stop: false };
            let revise = if even { Revise::None } else { revise };
            Policy { window: Window::Block(block), order, quota, revise }
        }
    }
}

/// Runs states to their end, all that still ask sharing each evaluation.
fn run(predictor: &mut CandlePredictor, states: &mut [DenoisingState]) {
    while states.iter().any(|state| state.ask().is_some()) {
        let asks: Vec<Ask<'_>> = states.iter().filter_map(DenoisingState::ask).collect();
        let reads = predictor.predict(&asks).unwrap();
        let asking = states.iter_mut().filter(|state| state.ask().is_some());
        for (state, reads) in asking.zip(&reads) {
            state.act(reads);
        }
    }
}

#[test]
fn a_text_is_the_same_alone_and_among_seven_others() {
    for (precision, model) in
        precisions().into_iter().flat_map(|precision| MODELS.map(|model| (precision, model)))
    {
        let mut one = load_in(precision, model, 1);
        let mut two = load_in(precision, model, 2);
        let mut together = states(&two);
        run(&mut two, &mut together);
        for (mut alone, together) in states(&one).into_iter().zip(&together) {
            run(&mut one, std::slice::from_mut(&mut alone));
            assert_eq!(alone.canvas(), together.canvas(), "{model}");
            assert_eq!(alone.evaluations(), together.evaluations(), "{model}");
        }
    }
}

/// The number of evaluations is that of the distinct rounds drawn, never T, over a grid of (T, M).
#[test]
fn evaluations_equal_the_distinct_rounds_drawn() {
    let mut predictor = load("diffugpt-s", 1);
    let limits = predictor.limits();
    for (steps, masked) in [(1, 5), (4, 20), (16, 8), (64, 3), (64, 40)] {
        for seed in 0..4 {
            let noise = Noise::Keyed { seed, sample: 0 };
            let given = std::iter::once(Some(5)).chain(std::iter::repeat_n(None, masked)).collect();
            let spec = StateSpec {
                given,
                policy: Policy::reference(steps),
                noise: noise.clone(),
                ..StateSpec::default()
            };
            let mut state = DenoisingState::new(spec, &limits).unwrap();
            let rounds: std::collections::BTreeSet<u32> =
                (1..=masked as u32).map(|position| draw_round(&noise, steps, position)).collect();
            assert_eq!(state.evaluations_left() as usize, rounds.len());
            run(&mut predictor, std::slice::from_mut(&mut state));
            assert_eq!(state.evaluations() as usize, rounds.len(), "T={steps} M={masked} seed={seed}");
        }
    }
}
