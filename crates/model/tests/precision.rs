//! Effects of the narrower precisions on a trained model: the one in the library. If this failed, `--dtype
//! bf16` or `int8` would be another model.

#![cfg(feature = "embedded")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test of numbers shows them")]

mod device;

use unmask_model::checkpoint::{Checkpoint, embedded};
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::predictor::CandlePredictor;

/// Code of the kind that the model was trained on.
const TEXTS: [&str; 4] = [
    "def read_lines(path):\n    with open(path, encoding='utf-8') as file:\n        return [line.rstrip() for line in file]\n",
    "class Stack:\n    def __init__(self):\n        self._items = []\n\n    def push(self, item):\n        self._items.append(item)\n",
    "import os\nimport sys\n\ndef main(argv=None):\n    if argv is None:\n        argv = sys.argv[1:]\n    return 0\n",
    "for key, value in sorted(counts.items()):\n    if value > limit:\n        raise ValueError('too many %s' % key)\n",
];

/// Agreement of the most probable token, and mean total variation, over masked positions.
#[derive(Debug)]
struct Difference {
    positions: usize,
    agreement: f64,
    variation: f64,
}

fn load(precision: Precision) -> (Checkpoint, CandlePredictor) {
    let checkpoint = Checkpoint::read(embedded::FILES.clone(), None).unwrap();
    let placement =
        Placement::new(DeviceChoice::Cpu, precision, checkpoint.profile.family, device::cpu()).unwrap();
    let predictor = CandlePredictor::load(&checkpoint, placement, 1).unwrap();
    (checkpoint, predictor)
}

/// The texts with a fifth, two fifths … of their positions masked.
fn canvases(checkpoint: &Checkpoint) -> Vec<Vec<u32>> {
    let tokenizer = &checkpoint.tokenizer;
    let hidden = |position: usize, share: usize| position > 0 && (position * 7 + position / 5) % 5 < share;
    let canvas = |text: &str, share: usize| {
        let tokens = tokenizer.encode(text).unwrap().into_iter().enumerate();
        tokens.map(|(i, token)| if hidden(i, share) { tokenizer.mask_id() } else { token }).collect()
    };
    (1..=5).flat_map(|share| TEXTS.map(|text| canvas(text, share))).collect()
}

fn softmax(row: &[f32]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = row.iter().map(|&logit| f64::from(logit - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

fn best(row: &[f32]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
}

fn difference(precision: Precision) -> Difference {
    let (checkpoint, exact) = load(Precision::F32);
    let (_, narrow) = load(precision);
    let mut positions = 0;
    let mut equal = 0;
    let mut variation = 0.0;
    for canvas in canvases(&checkpoint) {
        let rows = |model: &CandlePredictor| -> Vec<Vec<f32>> {
            model.all_logits(&[&canvas]).unwrap().to_vec2().unwrap()
        };
        let shift = usize::from(checkpoint.profile.shift);
        let masked = (1..canvas.len()).filter(|&position| canvas[position] == checkpoint.tokenizer.mask_id());
        let exact = rows(&exact);
        let narrow = rows(&narrow);
        for position in masked {
            let a = &exact[position - shift];
            let b = &narrow[position - shift];
            positions += 1;
            equal += usize::from(best(a) == best(b));
            variation += softmax(a).iter().zip(softmax(b)).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0;
        }
    }
    let count = positions as f64;
    Difference { positions, agreement: equal as f64 / count, variation: variation / count }
}

#[test]
fn bfloat16_reads_nearly_what_f32_reads() {
    let found = difference(Precision::Bf16);
    println!("bf16: {found:?}");
    assert!(found.positions > 200, "{found:?}");
    assert!(found.agreement > 0.97 && found.variation < 0.02, "{found:?}");
}

#[test]
fn integers_read_nearly_what_f32_reads() {
    let found = difference(Precision::Int8);
    println!("int8: {found:?}");
    assert!(found.agreement > 0.9 && found.variation < 0.05, "{found:?}");
}
