//! The tokenizer that is made of a file's keys.

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use tempfile::tempdir;
use unmask_model::checkpoint::Checkpoint;

use crate::write::{Model, golden, read_json, vocabulary};

/// The golden cases, as transformers tokenizes them with the same vocabulary, special tokens and chat
/// template.
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
        let made = &checkpoint.tokenizer;
        let own = &expected.tokenizer;
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

/// GPT-2's kind, of the golden model with that tokenizer.
fn byte_level(rule: &str) -> Model {
    let spec = read_json(&golden("diffugpt-s").join("tokenizer.json"));
    let tokens = vocabulary(&spec);
    let special: Vec<u64> =
        spec["added_tokens"].as_array().unwrap().iter().map(|token| token["id"].as_u64().unwrap()).collect();
    let merges = spec["model"]["merges"].as_array().unwrap().iter();
    let merges = merges.map(|pair| Value::String(pair.as_str().unwrap().to_owned())).collect();
    let settings = read_json(&golden("diffugpt-s").join("golden-tokenizer.json"));
    let id = |field: &str| Value::U32(settings[field].as_u64().unwrap() as u32);
    let mut model = Model::golden("diffullama");
    model.keys.retain(|key, _| !key.starts_with("tokenizer."));
    let kinds = tokens.iter().map(|(id, _)| Value::I32(if special.contains(id) { 3 } else { 1 })).collect();
    let texts = tokens.into_iter().map(|(_, token)| Value::String(token)).collect();
    for (key, value) in [
        ("model", Value::String("gpt2".to_owned())),
        ("pre", Value::String(rule.to_owned())),
        ("tokens", Value::Array(texts)),
        ("token_type", Value::Array(kinds)),
        ("merges", Value::Array(merges)),
        ("bos_token_id", id("bos_token_id")),
        ("eos_token_id", id("eos_token_id")),
        ("mask_token_id", id("mask_token_id")),
    ] {
        model.keys.insert(format!("tokenizer.ggml.{key}"), value);
    }
    model
}

fn written(model: &Model) -> Result<Checkpoint, String> {
    let folder = tempdir().unwrap();
    model.write(&folder.path().join("model.gguf"), |_| GgmlDType::F16);
    Checkpoint::open(folder.path(), None).map_err(|error| error.to_string())
}

#[test]
fn a_byte_level_tokenizer_has_the_golden_cases_too() {
    let checkpoint = written(&byte_level("gpt-2")).unwrap();
    let (made, own) =
        (&checkpoint.tokenizer, Checkpoint::open(&golden("diffugpt-s"), None).unwrap().tokenizer);
    assert_eq!((made.mask_id(), made.bos_id(), made.eos_id()), (own.mask_id(), own.bos_id(), own.eos_id()));
    assert_eq!(made.never_drawn(), own.never_drawn());
    let cases = read_json(&golden("diffugpt-s").join("golden-tokenizer.json"));
    for case in cases["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(made.encode_template(text, true).unwrap(), ids, "{text:?}");
        assert_eq!(made.decode(&ids, true), case["decoded_skip_special"], "{text:?}");
        assert_eq!(made.encode(text), own.encode(text), "{text:?}");
        assert_eq!(made.encode_piece(text), own.encode_piece(text), "{text:?}");
    }
}

/// The same vocabulary under other rules: words are split as their models' own files split them.
#[test]
fn rules_differ_in_what_they_split() {
    let pieces = |rule: &str, text: &str| -> Vec<String> {
        let tokenizer = written(&byte_level(rule)).unwrap().tokenizer;
        let tokens = tokenizer.encode(text).unwrap();
        tokens.iter().map(|token| tokenizer.decode(&[*token], false)).collect()
    };
    // The vocabulary has ` 24` and `24`.
    assert_eq!(pieces("gpt-2", "x 24"), ["x", " 24"]);
    assert_eq!(pieces("llama-bpe", "x 24"), ["x", " ", "24"]);
    for rule in ["smollm", "starcoder", "qwen2"] {
        assert_eq!(pieces(rule, "x 24"), ["x", " ", "2", "4"], "{rule}");
    }
    // Qwen2's tokenizer composes characters.
    for (rule, text) in [("qwen2", "é"), ("smollm", "e\u{301}")] {
        let tokenizer = written(&byte_level(rule)).unwrap().tokenizer;
        assert_eq!(tokenizer.decode(&tokenizer.encode("e\u{301}").unwrap(), false), text, "{rule}");
    }
}

#[test]
fn unknown_rules_and_damaged_merges_are_refused() {
    let refusal = |model: &Model| written(model).unwrap_err();
    let unknown = refusal(&byte_level("dbrx"));
    assert!(
        unknown.contains("tokenizer.ggml.pre") && unknown.contains("dbrx") && unknown.contains("smollm"),
        "{unknown}"
    );
    for key in ["tokenizer.ggml.pre", "tokenizer.ggml.merges"] {
        let mut model = byte_level("gpt-2");
        model.keys.remove(key);
        assert!(refusal(&model).contains(key));
    }
    let mut model = byte_level("gpt-2");
    model
        .keys
        .insert("tokenizer.ggml.merges".to_owned(), Value::Array(vec![Value::String("one".to_owned())]));
    assert!(refusal(&model).contains("two tokens with a space"));
}

/// The file of an autoregressive model becomes a diffusion model by an adapter that brings its mask token.
#[test]
fn an_adapter_names_the_mask_token_of_a_file_that_has_none() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    let adapter = folder.path().join("adapter");
    let mut model = byte_level("gpt-2");
    model.keys.remove("tokenizer.ggml.mask_token_id");
    model.write(&file, |_| GgmlDType::F16);
    assert!(Checkpoint::open(&file, None).unwrap_err().to_string().contains("mask"));
    std::fs::create_dir(&adapter).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(golden("diffullama-gsm-lora").join(name), adapter.join(name)).unwrap();
    }
    assert!(Checkpoint::open(&file, Some(&adapter)).unwrap_err().to_string().contains("mask"));
    let mask = r#"{ "mask_token": { "content": "tion" }, "bos_token": "ion" }"#;
    std::fs::write(adapter.join("tokenizer_config.json"), mask).unwrap();
    let checkpoint = Checkpoint::open(&file, Some(&adapter)).unwrap();
    let id = |text: &str| checkpoint.tokenizer.encode(text).unwrap();
    assert_eq!(checkpoint.profile.mask_token, "tion");
    assert_eq!(vec![checkpoint.tokenizer.mask_id()], id("tion"));
    assert_eq!(checkpoint.profile.bos_token.as_deref(), Some("<|endoftext|>"));
}

#[test]
fn a_tokenizer_beside_the_file_comes_first() {
    let folder = tempdir().unwrap();
    let mut model = Model::golden("diffullama");
    model.keys.insert("tokenizer.ggml.model".to_owned(), Value::String("bert".to_owned()));
    model.write(&folder.path().join("model.gguf"), |_| GgmlDType::F16);
    let refusal = Checkpoint::open(folder.path(), None).unwrap_err().to_string();
    assert!(refusal.contains("tokenizer.ggml.model") && refusal.contains("tokenizer.json"), "{refusal}");
    std::fs::copy(golden("diffullama").join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let checkpoint = Checkpoint::open(folder.path(), None).unwrap();
    assert_eq!(checkpoint.tokenizer.mask_id(), 259);
}
