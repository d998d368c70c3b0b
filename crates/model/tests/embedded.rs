//! The model inside the library: files in memory are read exactly as files of a folder, and refused as
//! clearly. If these failed, the program would start with nothing to serve, or answer differently from the
//! same model given by `--model`.

#![cfg(feature = "embedded")]
#![expect(clippy::unwrap_used, reason = "clippy exempts functions marked as tests, and not their helpers")]

mod device;

use std::path::Path;

use unmask_model::checkpoint::{Checkpoint, ModelFiles, embedded};
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::predictor::{CandlePredictor, MaskPredictor};

type Files = Vec<(&'static str, &'static [u8])>;

fn open() -> Checkpoint {
    Checkpoint::read(embedded::FILES.clone(), None).unwrap()
}

fn predictor(checkpoint: &Checkpoint) -> CandlePredictor {
    let placement =
        Placement::new(DeviceChoice::Cpu, Precision::Auto, checkpoint.profile.family, device::cpu()).unwrap();
    CandlePredictor::load(checkpoint, placement, 1).unwrap()
}

/// The message with which the embedded model is refused after its files were changed.
fn refusal(change: impl FnOnce(&mut Files)) -> String {
    let ModelFiles::Memory { name, files } = &embedded::FILES else { unreachable!("they are in memory") };
    let mut files = files.to_vec();
    change(&mut files);
    let damaged = ModelFiles::Memory { name, files: files.leak() };
    Checkpoint::read(damaged, None).expect_err("the checkpoint must be refused").to_string()
}

fn file<'a>(files: &'a mut Files, name: &str) -> &'a mut &'static [u8] {
    &mut files.iter_mut().find(|(file, _)| *file == name).unwrap().1
}

#[test]
fn code_goes_through_its_tokenizer_and_all_its_logits_are_finite() {
    let checkpoint = open();
    let tokenizer = &checkpoint.tokenizer;
    let text = "def __len__(self):\n    return len(self._items)\n";
    let mut tokens = tokenizer.encode(text).unwrap();
    assert_eq!(tokenizer.decode(&tokens, true), text);
    let model = predictor(&checkpoint);
    assert_eq!(model.limits().mask_token, tokenizer.mask_id());
    tokens.resize(model.limits().context, tokenizer.mask_id());
    let logits: Vec<Vec<f32>> = model.all_logits(&[&tokens]).unwrap().to_vec2().unwrap();
    assert_eq!((logits.len(), logits[0].len()), (tokens.len(), model.limits().vocabulary));
    assert!(logits.iter().flatten().all(|logit| logit.is_finite()));
}

#[test]
fn files_in_memory_give_the_same_bits_as_files_of_a_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("embedded");
    let memory = open();
    let disk = Checkpoint::open(&folder, None).unwrap();
    assert_eq!(memory.weights.fingerprint(), disk.weights.fingerprint());
    assert_eq!((&memory.config, &memory.profile), (&disk.config, &disk.profile));
    let canvas: Vec<u32> = (0..memory.config.spec.context as u32).map(|position| position * 7 + 2).collect();
    let bits = |checkpoint: &Checkpoint| -> Vec<u32> {
        let logits = predictor(checkpoint).all_logits(&[&canvas]).unwrap();
        logits.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    assert!(bits(&memory) == bits(&disk), "the logits differ");
}

#[test]
fn weights_in_memory_that_end_early_are_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("embedded");
    let whole = std::fs::metadata(folder.join("model.safetensors")).unwrap().len() as usize;
    for length in [0, 7, 8, 100, whole / 2, whole - 1] {
        let message = refusal(|files| {
            let weights = file(files, "model.safetensors");
            *weights = &weights[..length];
        });
        assert!(message.starts_with("unmask-code/model.safetensors is damaged"), "{length}: {message}");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn a_file_in_memory_that_is_not_there_or_not_json_is_named() {
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let message = refusal(|files| files.retain(|(file, _)| *file != name));
        assert!(message.starts_with(&format!("unmask-code/{name} is missing")), "{message}");
    }
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let message = refusal(|files| *file(files, name) = b"{");
        assert!(message.starts_with(&format!("unmask-code/{name} is damaged")), "{message}");
    }
}
