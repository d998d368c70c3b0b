//! The tokenizer that is made of a file's keys.

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use tempfile::tempdir;
use unmask_model::checkpoint::Checkpoint;

use crate::write::{Model, golden, read_json};

/// What transformers makes of the same vocabulary, special tokens and chat template included.
#[test]
fn it_has_the_golden_cases_of_the_tokenizer_that_it_was_made_of() {
    for name in ["diffullama", "diffullama-gqa"] {
        let folder = tempdir().unwrap();
        let mut model = Model::golden(name);
        model.keys.insert("tokenizer.chat_template".to_owned(), Value::String("{{ messages }}".to_owned()));
        // As the converter writes it of DiffuLLaMA.
        model.keys.insert("tokenizer.ggml.add_space_prefix".to_owned(), Value::Bool(false));
        model.write(&folder.path().join("model.gguf"), |_| GgmlDType::F16);
        let checkpoint = Checkpoint::open(folder.path(), None).unwrap();
        let expected = Checkpoint::open(&golden(name), None).unwrap();
        let (made, own) = (&checkpoint.tokenizer, &expected.tokenizer);
        assert_eq!(checkpoint.profile.mask_token, expected.profile.mask_token);
        assert_eq!(checkpoint.profile.chat_template.as_deref(), Some("{{ messages }}"));
        assert_eq!(checkpoint.profile.named_tokens, expected.profile.named_tokens);
        assert_eq!(
            (made.mask_id(), made.bos_id(), made.eos_id()),
            (own.mask_id(), own.bos_id(), own.eos_id())
        );
        assert_eq!(made.never_drawn(), own.never_drawn());
        let cases = read_json(&golden(name).join("golden-tokenizer.json"));
        for case in cases["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let ids = |field: &str| -> Vec<u32> { serde_json::from_value(case[field].clone()).unwrap() };
            assert_eq!(made.encode_template(text, true).unwrap(), ids("ids"), "{name}: {text:?}");
            assert_eq!(made.encode_template(text, false).unwrap(), ids("ids_no_special"), "{name}: {text:?}");
            assert_eq!(made.decode(&ids("ids"), true), case["decoded_skip_special"], "{name}: {text:?}");
            assert_eq!(made.encode(text), own.encode(text), "{name}: {text:?}");
            assert_eq!(made.encode_piece(text), own.encode_piece(text), "{name}: {text:?}");
        }
    }
}

#[test]
fn a_tokenizer_beside_the_file_comes_first() {
    let folder = tempdir().unwrap();
    let mut model = Model::golden("diffullama");
    model.keys.insert("tokenizer.ggml.model".to_owned(), Value::String("gpt2".to_owned()));
    model.write(&folder.path().join("model.gguf"), |_| GgmlDType::F16);
    let refusal = Checkpoint::open(folder.path(), None).unwrap_err().to_string();
    assert!(refusal.contains("tokenizer.ggml.model") && refusal.contains("tokenizer.json"), "{refusal}");
    std::fs::copy(golden("diffullama").join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let checkpoint = Checkpoint::open(folder.path(), None).unwrap();
    assert_eq!(checkpoint.tokenizer.mask_id(), 259);
}
