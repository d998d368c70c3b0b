//! Tokenizers and their settings: garbage, ids out of range, and mask tokens that are not there.

use serde_json::{Value, json};
use unmask_model::checkpoint::Checkpoint;

use crate::damage::Copy;

#[test]
fn tokenizers_that_are_garbage_are_refused() {
    for text in ["", "{}", "[]", "null", "no json", "{\"model\":{\"type\":\"BPE\"}}", "{\"version\":\"9\"}"] {
        let copy = Copy::of("diffugpt-s");
        copy.write("tokenizer.json", text);
        copy.assert_refused(&["tokenizer.json"]);
    }
    let edits: [(&str, Value); 10] = [
        ("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
        ("/model/merges", json!([["no such", "tokens"]])),
        ("/model/merges", json!(["a\nb c\nd"])),
        ("/model/vocab", json!({})),
        ("/model/vocab", json!({"a": -1})),
        ("/model/type", json!("Unheard")),
        ("/decoder", json!({"type": "WordPiece", "prefix": "##", "cleanup": true})),
        ("/decoder", Value::Null),
        ("/decoder", json!({"type": "Sequence", "decoders": []})),
        ("/pre_tokenizer", json!({"type": "Unheard"})),
    ];
    for (place, value) in edits {
        let copy = Copy::of("diffugpt-s");
        copy.edit_json("tokenizer.json", |spec| *spec.pointer_mut(place).unwrap() = value);
        copy.assert_refused(&["tokenizer.json"]);
    }
}

#[test]
fn ids_beyond_the_embedding_are_refused() {
    for (token, id) in [("extra", 600_u64), ("two\nlines", 601), ("last", u64::from(u32::MAX))] {
        let copy = Copy::of("diffugpt-s");
        copy.edit_json("tokenizer.json", |spec| spec["model"]["vocab"][token] = json!(id));
        copy.assert_refused(&["tokenizer.json", &id.to_string(), "600"]);
    }
    let copy = Copy::of("diffugpt-s");
    copy.edit_json("tokenizer.json", |spec| {
        let added = json!({"id": 600, "content": "<new>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true});
        spec["added_tokens"].as_array_mut().unwrap().push(added);
    });
    copy.assert_refused(&["tokenizer.json", "600"]);
}

#[test]
fn a_special_token_that_the_tokenizer_does_not_know_gets_no_id() {
    let copy = Copy::of("diffugpt-s");
    copy.edit_json("tokenizer_config.json", |config| config["pad_token"] = json!("[PAD]"));
    let checkpoint = Checkpoint::open(copy.0.path(), None).unwrap();
    let ids = checkpoint.tokenizer.encode_template("a[PAD]b", true).unwrap();
    assert!(ids.iter().all(|&id| (id as usize) < checkpoint.tokenizer.rows()), "{ids:?}");
}

/// In the autoregressive relative of LLaDA2 the number of its mask is that of the end of a turn.
#[test]
fn a_mask_that_ends_a_text_is_refused() {
    for (model, end) in [("sdar", "<|im_end|>"), ("llada2", "<|role_end|>"), ("llada2", "<|endoftext|>")] {
        let copy = Copy::of(model);
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            copy.edit_json(name, |config| config["mask_token"] = json!(end));
        }
        copy.edit_json("config.json", |config| drop(config.as_object_mut().unwrap().remove("mask_token_id")));
        copy.assert_refused(&["as mask and as end of a text", "--mask-token"]);
    }
}

/// Base models name the end of a turn there only. A number that no special token has is a default of the class.
#[test]
fn ends_that_only_the_configurations_list_end_texts() {
    let copy = Copy::of("llada");
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        copy.edit_json(name, |config| drop(config.as_object_mut().unwrap().remove("eos_token")));
    }
    copy.edit_json("config.json", |config| config["eos_token_id"] = json!(601));
    // 605 is the mask.
    copy.write("generation_config.json", r#"{"eos_token_id": [602, 7, 605]}"#);
    let checkpoint = Checkpoint::open(copy.0.path(), None).unwrap();
    let ends = checkpoint.tokenizer.ends();
    assert!(ends.contains(&601) && ends.contains(&602) && !ends.contains(&7), "{ends:?}");
    // Special tokens that end nothing are not drawn.
    let never = checkpoint.tokenizer.never_drawn();
    assert!(never.contains(&603) && !never.contains(&601) && !never.contains(&7), "{never:?}");
}

#[test]
fn a_model_without_a_mask_token_is_refused() {
    let copy = Copy::of("diffugpt-s");
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        copy.edit_json(name, |config| drop(config.as_object_mut().unwrap().remove("mask_token")));
    }
    copy.assert_refused(&["tokenizer_config.json", "mask_token"]);
    for value in [json!(7), json!(null), json!({}), json!({"content": 7}), json!([])] {
        copy.edit_json("tokenizer_config.json", |config| config["mask_token"] = value);
        copy.assert_refused(&["tokenizer_config.json", "mask_token"]);
    }
    copy.remove("tokenizer_config.json");
    copy.remove("special_tokens_map.json");
    copy.assert_refused(&["tokenizer_config.json", "mask_token"]);
}

#[test]
fn a_mask_token_that_the_tokenizer_does_not_know_is_refused() {
    for mask in ["<mask>", "", "two\nlines"] {
        let copy = Copy::of("diffugpt-s");
        copy.edit_json("tokenizer_config.json", |config| config["mask_token"] = json!(mask));
        copy.assert_refused(&["tokenizer.json", "mask token"]);
    }
}

#[test]
fn tokenizer_settings_that_are_no_json_object_are_refused() {
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        for text in ["", "[]", "no json"] {
            let copy = Copy::of("diffugpt-s");
            copy.write(name, text);
            copy.assert_refused(&[name]);
        }
    }
}

/// Libraries save with a tokenizer what they were last called with.
#[test]
fn saved_truncation_and_padding_are_not_obeyed() {
    let text = "The cat sat on the mat and looked at the moon. ".repeat(3);
    for golden in ["diffugpt-s", "diffullama"] {
        let whole = Checkpoint::open(Copy::of(golden).0.path(), None).unwrap().tokenizer;
        assert_eq!(whole.dropped_settings(), [""; 0]);
        let cut = json!({"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0});
        let filled = json!({"strategy": {"Fixed": 200}, "direction": "Left", "pad_to_multiple_of": null, "pad_id": 0,
                   "pad_type_id": 0, "pad_token": "<pad>"});
        let copy = Copy::of(golden);
        copy.edit_json("tokenizer.json", |spec| {
            spec["truncation"] = cut;
            spec["padding"] = filled;
        });
        let found = Checkpoint::open(copy.0.path(), None).unwrap().tokenizer;
        assert_eq!(found.dropped_settings(), ["truncation", "padding"]);
        assert!(whole.encode(&text).unwrap().len() > 8);
        assert_eq!(found.encode(&text), whole.encode(&text));
        assert_eq!(found.encode_piece(&text), whole.encode_piece(&text));
        assert_eq!(found.encode_template(&text, true), whole.encode_template(&text, true));
        assert_eq!(found.encode_template_piece(&text), whole.encode_template_piece(&text));
    }
}
