//! GGUF files that are damaged, contradict themselves or ask for what is not served.

use std::panic::catch_unwind;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};
use unmask_model::checkpoint::{Checkpoint, Family, ModelFiles, ReadOptions};

use crate::damage::{assert_names, load, message};
use crate::write::Model;

const FILE: &str = "model.gguf";

/// A folder with one file.
fn folder(content: impl AsRef<[u8]>) -> TempDir {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), content).unwrap();
    folder
}

/// A sound file, with other keys.
fn file(edit: impl FnOnce(&mut Model)) -> Vec<u8> {
    let mut model = Model::golden("diffullama");
    edit(&mut model);
    let folder = tempdir().unwrap();
    model.write(&folder.path().join(FILE), |_| GgmlDType::F16);
    std::fs::read(folder.path().join(FILE)).unwrap()
}

#[track_caller]
fn assert_refused(content: impl AsRef<[u8]>, parts: &[&str]) {
    let folder = folder(content);
    let refusal = message(catch_unwind(|| load(folder.path(), None)).expect("loading must not panic"));
    assert_names(&refusal, &[&[FILE], parts].concat());
}

/// A header with one tensor of 32 numbers, put together by hand.
struct Raw {
    version: u32,
    keys: Vec<(&'static str, u32, Vec<u8>)>,
    shape: Vec<u64>,
    kind: u32,
    offset: u64,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Default for Raw {
    fn default() -> Self {
        let keys = vec![
            ("general.architecture", 8, text("llama")),
            ("tokenizer.ggml.mask_token_id", 4, 0_u32.to_le_bytes().to_vec()),
            (
                "tokenizer.ggml.tokens",
                9,
                [&8_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &text("m")].concat(),
            ),
        ];
        Self { version: 3, keys, shape: vec![32], kind: 0, offset: 0 }
    }
}

impl Raw {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.keys {
            bytes.extend(text(key));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        bytes.extend(text("output_norm.weight"));
        bytes.extend((self.shape.len() as u32).to_le_bytes());
        self.shape.iter().for_each(|length| bytes.extend(length.to_le_bytes()));
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.offset.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(32) + 128, 0);
        bytes
    }

    fn with_key(key: &'static str, kind: u32, value: Vec<u8>) -> Vec<u8> {
        let mut raw = Self::default();
        raw.keys.push((key, kind, value));
        raw.bytes()
    }
}

#[test]
fn files_that_end_early_are_refused() {
    let whole = file(|_| {});
    assert!(load(folder(&whole).path(), None).is_ok());
    let header = whole.len() / 40;
    let some = (0..200).chain((200..header).step_by(97)).chain([whole.len() / 2, whole.len() - 100]);
    for length in some {
        assert_refused(&whole[..length], &[]);
    }
}

#[test]
fn headers_that_say_nothing_usable_are_refused() {
    // Sound but for what it lacks.
    assert_refused(Raw::default().bytes(), &["llama.embedding_length", "missing"]);
    let mut other = Raw::default().bytes();
    other[..4].copy_from_slice(b"GGML");
    assert_refused(other, &["GGUF"]);
    for version in [0, 1, 4, 3 << 24] {
        assert_refused(Raw { version, ..Raw::default() }.bytes(), &["version", "2 and 3"]);
    }
    assert_refused(Raw { version: 3 << 24, ..Raw::default() }.bytes(), &["big-endian"]);
    // Counts and lengths that no file could hold.
    for place in [8, 16, 24] {
        for count in [u64::MAX, 1 << 63, 1 << 40, 1 << 32] {
            let mut bytes = Raw::default().bytes();
            bytes[place..place + 8].copy_from_slice(&count.to_le_bytes());
            assert_refused(bytes, &[]);
        }
    }
    let array = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    for count in [u64::MAX, 1 << 40, 1 << 23, 100_000] {
        for kind in [0, 8, 12] {
            assert_refused(Raw::with_key("some.list", 9, array(kind, count)), &["some.list"]);
        }
    }
    assert_refused(Raw::with_key("some.lists", 9, array(9, 1)), &["some.lists", "arrays"]);
    assert_refused(Raw::with_key("some.key", 13, vec![0; 8]), &["some.key", "13"]);
    assert_refused(
        Raw::with_key("general.architecture", 8, text("llama")),
        &["general.architecture", "twice"],
    );
    for alignment in [0_u32, 3, 1 << 31] {
        let value = alignment.to_le_bytes().to_vec();
        assert_refused(Raw::with_key("general.alignment", 4, value), &["general.alignment", "power of two"]);
    }
}

#[test]
fn tensors_that_cannot_be_are_refused() {
    for (shape, offset) in [
        (vec![33], 0),
        (vec![32], 1),
        (vec![32], 1 << 62),
        (vec![32], u64::MAX),
        (vec![u64::MAX], 0),
        (vec![1 << 62, 4], 0),
        (vec![1 << 32, 1 << 32, 1 << 32], 0),
    ] {
        assert_refused(Raw { shape, offset, ..Raw::default() }.bytes(), &["output_norm.weight", "beyond"]);
    }
    assert_refused(Raw { shape: vec![1; 5], ..Raw::default() }.bytes(), &["5 dimensions"]);
    assert_refused(
        Raw { kind: 12, ..Raw::default() }.bytes(),
        &["output_norm.weight", "Q4_K", "blocks of 256"],
    );
    for (kind, name) in
        [(9, "Q8_1"), (15, "Q8_K"), (23, "IQ4_XS"), (4, "type 4"), (u32::MAX, "type 4294967295")]
    {
        let bytes = Raw { kind, ..Raw::default() }.bytes();
        assert_refused(bytes, &["output_norm.weight", name, "supported are F32, F16, BF16, Q4_0, Q4_1"]);
    }
}

#[test]
fn models_that_are_no_llama_are_refused() {
    let keyed =
        |key: &'static str, value: Value| file(|model| drop(model.keys.insert(key.to_owned(), value)));
    let text = |text: &str| Value::String(text.to_owned());
    assert_refused(
        keyed("general.architecture", text("qwen\n2")),
        &["`qwen`", "llama (DiffuLLaMA, --family diffullama)"],
    );
    assert_refused(keyed("general.architecture", Value::U32(1)), &["general.architecture", "string"]);
    assert_refused(
        keyed("llama.rope.scaling.type", text("yarn")),
        &["llama.rope.scaling.type", "yarn", "none"],
    );
    assert_refused(
        keyed("llama.rope.dimension_count", Value::U32(8)),
        &["llama.rope.dimension_count", "8", "16"],
    );
    assert_refused(keyed("llama.attention.head_count", Value::U32(0)), &["llama.attention.head_count"]);
    assert_refused(keyed("llama.attention.head_count_kv", Value::U32(3)), &["llama.attention.head_count_kv"]);
    assert_refused(keyed("llama.attention.key_length", Value::U32(1 << 20)), &["llama.attention.key_length"]);
    assert_refused(
        keyed("llama.embedding_length", Value::U32(128)),
        &["token_embd.weight", "[600, 64]", "[600, 128]"],
    );
    assert_refused(keyed("llama.block_count", Value::U32(4)), &["blk.3.", "missing"]);
    assert_refused(keyed("split.count", Value::U16(3)), &["split.count", "llama-gguf-split"]);
    assert_refused(
        keyed("diffusion.shift_logits", Value::U32(1)),
        &["diffusion.shift_logits", "true or false"],
    );
    // The rotation of LLaMA 3.1; without the tensor it would be another one.
    let scaled = file(|model| {
        let norm = model.tensors["model.layers.0.input_layernorm.weight"].clone();
        model.tensors.insert("rope_freqs.weight".to_owned(), norm);
    });
    assert_refused(scaled, &["rope_freqs.weight", "give the folder of the model"]);
    let bias = file(|model| {
        let norm = model.tensors["model.layers.0.input_layernorm.weight"].clone();
        model.tensors.insert("model.layers.0.self_attn.q_norm.weight".to_owned(), norm);
    });
    assert_refused(bias, &["blk.0.attn_q_norm.weight", "does not have"]);
}

/// Its attention in blocks would be lost, which no key of such a file says.
#[test]
fn a_family_that_is_not_read_from_gguf_files_is_refused() {
    let folder = folder(file(|_| {}));
    for name in ["stable-diffcoder", "sdar", "llada2", "fast-dllm-v2", "diffugpt"] {
        let files = ModelFiles::open(folder.path()).unwrap();
        let options = ReadOptions { family: Family::named(name), ..ReadOptions::default() };
        let error = Checkpoint::read_with(files, options).unwrap_err().to_string();
        assert!(error.contains("not read from GGUF files") && error.contains("safetensors"), "{error}");
    }
}

#[test]
fn tokenizers_that_cannot_be_are_refused() {
    let keyed = |key: &str, value: Option<Value>| {
        let key = format!("tokenizer.ggml.{key}");
        let bytes = file(|model| match value {
            Some(value) => drop(model.keys.insert(key.clone(), value)),
            None => drop(model.keys.remove(&key)),
        });
        assert_refused(bytes, &[&key]);
    };
    for key in ["model", "tokens", "scores", "token_type", "mask_token_id"] {
        keyed(key, None);
        keyed(key, Some(Value::U32(u32::MAX)));
        keyed(key, Some(Value::Array(vec![Value::U32(7); 599])));
    }
    let nan = Value::Array(vec![Value::F32(f32::NAN); 600]);
    keyed("scores", Some(nan));
    keyed("scores", Some(Value::Array(vec![Value::F32(0.0); 599])));
    keyed("bos_token_id", Some(Value::U32(600)));
    let long =
        |token: usize| Value::String(if token == 300 { "a".repeat(100_000) } else { format!("t{token}") });
    keyed("tokens", Some(Value::Array((0..600).map(long).collect())));
    let many = file(|model| {
        let Some(Value::Array(tokens)) = model.keys.get_mut("tokenizer.ggml.tokens") else { return };
        tokens.push(Value::String("one more".to_owned()));
        model.keys.insert("tokenizer.ggml.scores".to_owned(), Value::Array(vec![Value::F32(0.0); 601]));
        model.keys.insert("tokenizer.ggml.token_type".to_owned(), Value::Array(vec![Value::I32(1); 601]));
    });
    assert_refused(many, &["600"]);
}

#[test]
fn a_folder_with_several_files_is_refused() {
    let folder = folder(file(|_| {}));
    std::fs::copy(folder.path().join(FILE), folder.path().join("another.gguf")).unwrap();
    assert_names(&message(load(folder.path(), None)), &["2 GGUF files", "another.gguf"]);
    load(&folder.path().join(FILE), None).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn flipped_bytes_in_a_header_never_panic(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 1..=u8::MAX), 1..4),
    ) {
        let mut bytes = file(|_| {});
        // Behind its header there are numbers.
        let header = bytes.len() / 20;
        for (place, byte) in flips {
            bytes[place.index(header)] ^= byte;
        }
        let folder = folder(bytes);
        let loaded = catch_unwind(|| load(folder.path(), None)).expect("loading must not panic");
        if let Err(error) = loaded {
            prop_assert!(!error.to_string().chars().any(char::is_control), "{error}");
        }
    }
}

/// A file that is another network under the name of a supported one.
#[test]
fn keys_that_change_the_network_are_refused() {
    for (key, value) in [
        ("llama.rope.scaling.type", Value::String("yarn".to_owned())),
        ("llama.rope.scaling.factor", Value::F32(0.25)),
        ("llama.rope.scale_linear", Value::F32(0.5)),
        ("llama.rope.scaling.attn_factor", Value::F32(0.5)),
        ("llama.expert_count", Value::U32(8)),
        ("llama.attention.sliding_window", Value::U32(512)),
        ("llama.attention.scale", Value::F32(0.1)),
        ("llama.final_logit_softcapping", Value::F32(30.0)),
        ("llama.logit_scale", Value::F32(8.0)),
    ] {
        assert_refused(file(|model| drop(model.keys.insert(key.to_owned(), value))), &[key]);
    }
    let neutral = file(|model| {
        for (key, value) in [
            ("llama.rope.scaling.type", Value::String("linear".to_owned())),
            ("llama.rope.scaling.factor", Value::F32(1.0)),
            ("llama.expert_count", Value::U32(0)),
            ("llama.attention.sliding_window", Value::U32(0)),
        ] {
            model.keys.insert(key.to_owned(), value);
        }
    });
    load(folder(neutral).path(), None).unwrap();
}

#[test]
fn fewer_blocks_than_the_file_holds_are_refused() {
    let fewer = |model: &mut Model| drop(model.keys.insert("llama.block_count".to_owned(), Value::U32(2)));
    assert_refused(file(fewer), &["blk.2.attn_k.weight", "2 layers"]);
}
