//! The operations that run on a GPU, on the CPU, against our kernels: batches of canvases of equal and of
//! different lengths, few and many wants, guidance, shared canvases. If one of these failed, a GPU would
//! write other texts than the CPU. On a GPU, readout included, when UNMASK_TEST_GPU names its number.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod device;

use std::path::Path;

use unmask_model::checkpoint::Checkpoint;
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::predictor::{Ask, CandlePredictor, Guidance, MaskPredictor, Sampling, Want};

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

fn wants(positions: impl Iterator<Item = u32>) -> Vec<Want> {
    positions
        .map(|position| Want { position, uniform: f64::from(position % 16) / 16.0, ..Want::default() })
        .collect()
}

#[test]
fn a_batch_is_read_as_our_kernels_read_it() {
    // Where a choice is, which is not on a CPU.
    let modes: &[bool] =
        if matches!(device::tested(), DeviceChoice::Cuda(_)) { &[false, true] } else { &[false] };
    for (model, &deterministic) in
        MODELS.into_iter().flat_map(|model| modes.iter().map(move |mode| (model, mode)))
    {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(model);
        let checkpoint = Checkpoint::open(&folder, None).unwrap();
        let place = |device| {
            Placement::new(device, Precision::F32, checkpoint.profile.family, device::cpu()).unwrap()
        };
        let placement = place(device::tested()).deterministic(deterministic);
        let mut candle = CandlePredictor::in_candle(&checkpoint, &placement).unwrap();
        let mut kernels = CandlePredictor::load(&checkpoint, place(DeviceChoice::Cpu), 1).unwrap();
        let vocabulary = kernels.limits().vocabulary as u32;
        // Out of order, so that packing has to bring equal lengths together.
        let canvases: Vec<Vec<u32>> = [20, 7, 64, 7, 20, 20, 1, 33]
            .into_iter()
            .zip(0..)
            .map(|(length, name)| (0..length).map(|i| (name * 31 + i * 97) % vocabulary).collect())
            .collect();
        let samplings = [Sampling { temperature: 0.9, top_p: 0.9, banned: vec![3], ..Sampling::default() }];
        let few = wants([1, 5].into_iter());
        let many = wants(1..20);
        let ask = |canvas: usize, wants| {
            let tokens = canvases[canvas].as_slice();
            Ask { tokens, wants, samplings: &samplings, alternatives: 2, ..Ask::default() }
        };
        let guidance = Some(Guidance { tokens: &canvases[4], weight: 1.5 });
        let plain = [ask(0, &few), ask(1, &few), ask(2, &many), ask(3, &few), ask(7, &many), ask(0, &many)];
        let guided = [ask(2, &few), Ask { guidance, ..ask(5, &many) }, ask(6, &[]), ask(4, &few)];
        let one = wants([2].into_iter());
        for asks in [&plain[..], &guided, &[ask(2, &one)], &[ask(0, &many), ask(4, &many)]] {
            let found = candle.predict(asks).unwrap();
            let expected = kernels.predict(asks).unwrap();
            for (ask, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_eq!(found.len(), expected.len(), "{model}, ask {ask}");
                for (found, expected) in found.iter().zip(expected) {
                    let near = |a: f32, b: f32| (a - b).abs() < 1e-3;
                    let same = found.token == expected.token
                        && near(found.score, expected.score)
                        && near(found.logprob, expected.logprob)
                        && near(found.entropy, expected.entropy)
                        && found.alternatives[0].0 == expected.alternatives[0].0;
                    assert!(same, "{model}, ask {ask}: {found:?}, {expected:?}");
                }
            }
        }
    }
}
