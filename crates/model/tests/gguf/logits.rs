//! Logits of GGUF files against those of the checkpoints that they were made of.

use crate::device;
use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use candle_core::{DType, Device};
use tempfile::tempdir;
use unmask_model::checkpoint::Checkpoint;
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::predictor::{CandlePredictor, MaskPredictor};

use crate::write::{Model, golden};

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

fn load(path: &Path, adapter: Option<&Path>, precision: Precision, threads: usize) -> CandlePredictor {
    let checkpoint = Checkpoint::open(path, adapter).unwrap();
    let placement =
        Placement::new(DeviceChoice::Cpu, precision, checkpoint.profile.family, device::cpu()).unwrap();
    CandlePredictor::load(&checkpoint, placement, threads).unwrap()
}

/// Canvases around the edges of tiles, lines and panels.
fn canvases() -> Vec<Vec<u32>> {
    let token = |length: usize, position: usize| ((length * 31 + position * 97) % 600) as u32;
    let canvas = |length: usize| (0..length).map(|position| token(length, position)).collect();
    [1, 5, 14, 15, 17, 33, 64].map(canvas).to_vec()
}

fn logits(predictor: &CandlePredictor, canvases: &[Vec<u32>]) -> Vec<u32> {
    let canvases: Vec<&[u32]> = canvases.iter().map(Vec::as_slice).collect();
    let logits: Vec<f32> = predictor.all_logits(&canvases).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert!(logits.iter().all(|logit| logit.is_finite()));
    logits.into_iter().map(f32::to_bits).collect()
}

/// Also what the authors' code computed; the shift and the mask are those of the checkpoint.
#[test]
fn files_of_floats_have_the_very_logits_of_the_checkpoint() {
    for (name, dtype) in [("diffullama", GgmlDType::F32), ("diffullama-gqa", GgmlDType::BF16)] {
        for (number, model) in [Model::golden(name), Model::golden(name).into_llada()].into_iter().enumerate()
        {
            let folder = tempdir().unwrap();
            let path = folder.path().join("model.gguf");
            model.write(&path, |_| dtype);
            // The folder with the file, and the file.
            let opened = [folder.path(), path.as_path()][number];
            let (found, expected) =
                (load(opened, None, Precision::F32, 2), load(&golden(name), None, Precision::F32, 2));
            assert_eq!(found.limits(), expected.limits(), "{name}");
            let canvases = canvases();
            assert!(logits(&found, &canvases) == logits(&expected, &canvases), "{name}");
            let cases = golden(name).join("golden-logits.safetensors");
            let cases = candle_core::safetensors::load(cases, &Device::Cpu).unwrap();
            let ids: Vec<Vec<u32>> = cases["0.input_ids"].to_dtype(DType::U32).unwrap().to_vec2().unwrap();
            let expected: Vec<f32> = cases["0.logits"].flatten_all().unwrap().to_vec1().unwrap();
            let found = logits(&found, &ids).into_iter().map(f32::from_bits);
            let worst = found.zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 5e-4, "{name}: {worst}");
        }
    }
}

/// The format in which a matrix is stored, by its name in the file.
type Encode = fn(&str) -> GgmlDType;

/// Mixes of types, such as llama.cpp's `Q4_K_M`; of shapes in which all, some and none of the matrices are
/// left where they are.
fn files() -> Vec<(Model, Encode)> {
    let file = |model: Model, encode: Encode| (model, encode);
    let mixed = |name: &str| match name {
        _ if name.contains("attn_v") || name.contains("ffn_down") || name == "output.weight" => {
            GgmlDType::Q6K
        }
        _ if name.contains("ffn_gate") => GgmlDType::Q5K,
        _ => GgmlDType::Q4K,
    };
    vec![
        file(Model::random(256, 512), mixed),
        file(Model::random(256, 512), |_| GgmlDType::Q4K),
        file(Model::random(256, 768), |_| GgmlDType::Q8_0),
        // Heads of 24: the output's rows have to be spread.
        file(Model::random(96, 160), |_| GgmlDType::Q8_0),
        file(
            Model::random(256, 512),
            |name| if name.contains("attn") { GgmlDType::F32 } else { GgmlDType::F16 },
        ),
        // 172 columns are no whole panels.
        file(Model::golden("diffullama"), |_| GgmlDType::F16),
        // Types of llama.cpp's older and smaller files.
        file(
            Model::random(64, 96),
            |name| if name.contains("attn") { GgmlDType::Q4_0 } else { GgmlDType::Q4_1 },
        ),
        file(
            Model::random(64, 96),
            |name| if name.contains("attn") { GgmlDType::Q5_0 } else { GgmlDType::Q5_1 },
        ),
        file(
            Model::random(256, 512),
            |name| if name.contains("ffn") { GgmlDType::Q2K } else { GgmlDType::Q3K },
        ),
        // Widths that no line of a product divides evenly.
        file(Model::random(48, 37), |_| GgmlDType::F16),
        file(Model::random(80, 111), |_| GgmlDType::BF16),
        file(Model::random(40, 1), |_| GgmlDType::F32),
    ]
}

/// And so they are exact for the file's numbers, in every precision.
#[test]
fn files_of_blocks_have_the_very_logits_of_their_dequantised_weights() {
    for (number, (model, encode)) in files().into_iter().enumerate() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("other.gguf");
        model.write(&path, encode);
        let plain = tempdir().unwrap();
        model.write_dequantised(plain.path(), encode);
        for precision in PRECISIONS {
            let found = logits(&load(&path, None, precision, 2), &canvases());
            let expected = logits(&load(plain.path(), None, precision, 1), &canvases());
            assert!(found == expected, "file {number} in {precision:?}");
        }
    }
}

/// If this failed, a request's text would change with the load on the server.
#[test]
fn logits_of_blocks_do_not_depend_on_other_rows_or_on_threads() {
    let (model, encode) = files().remove(0);
    let folder = tempdir().unwrap();
    model.write(&folder.path().join("model.gguf"), encode);
    for precision in PRECISIONS {
        let one = load(folder.path(), None, precision, 1);
        let two = load(folder.path(), None, precision, 2);
        let packed = logits(&two, &canvases());
        let alone: Vec<u32> =
            canvases().into_iter().flat_map(|canvas| logits(&one, std::slice::from_ref(&canvas))).collect();
        assert!(packed == alone, "{precision:?}");
    }
}

#[test]
fn an_adapter_is_merged_into_a_file_as_into_a_folder() {
    let folder = tempdir().unwrap();
    Model::golden("diffullama").write(&folder.path().join("model.gguf"), |_| GgmlDType::F32);
    let adapter = golden("diffullama-gsm-lora");
    let found = load(folder.path(), Some(&adapter), Precision::F32, 1);
    let expected = load(&golden("diffullama"), Some(&adapter), Precision::F32, 1);
    assert!(logits(&found, &canvases()) == logits(&expected, &canvases()));
}

#[test]
fn the_file_says_whether_logits_are_shifted() {
    for (value, shift) in [(None, false), (Some(true), true), (Some(false), false)] {
        let folder = tempdir().unwrap();
        let mut model = Model::golden("diffullama").into_llada();
        model.keys.remove("diffusion.shift_logits");
        model.keys.extend(value.map(|value| ("diffusion.shift_logits".to_owned(), Value::Bool(value))));
        model.write(&folder.path().join("model.gguf"), |_| GgmlDType::F16);
        assert_eq!(load(folder.path(), None, Precision::F32, 1).limits().shift, shift);
    }
}

/// Written by ggml's Python package (`reference.py`): every number is within half a step of the golden
/// checkpoint's, and the logits are near.
#[test]
fn a_file_of_the_format_s_own_library_holds_the_golden_checkpoint() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf/reference.gguf");
    let file = Checkpoint::open(&path, None).unwrap();
    let folder = golden("diffullama");
    let types = file.weights.types();
    let types: Vec<(&str, usize)> = types.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(types, [("BF16", 1), ("F16", 3), ("F32", 7), ("Q8_0", 19)]);
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    for (name, tensor) in &tensors {
        let Some(part) = name.strip_prefix("model.").filter(|part| *part != "embed_tokens.weight") else {
            continue;
        };
        let found = file.weights.get(part, tensor.dims()).unwrap().to_f32(device::cpu()).unwrap();
        let expected: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Half a step, and 127 times the rounding of a step to half precision.
        assert!(worst <= largest / 127.0 * (0.5 + 127.0 / 2048.0), "{name}: {worst} of {largest}");
    }
    let found = load(&path, None, Precision::F32, 1);
    let expected = load(&folder, None, Precision::F32, 1);
    assert_eq!(found.limits(), expected.limits());
    let [found, expected] = [found, expected].map(|predictor| logits(&predictor, &canvases()));
    let errors = found.iter().zip(&expected).map(|(a, b)| (f32::from_bits(*a) - f32::from_bits(*b)).abs());
    let mean = errors.sum::<f32>() / found.len() as f32;
    assert!(mean < 0.1, "mean error {mean}");
}
