//! Tokenizer cases.

use serde_json::Value;
use unmask_model::checkpoint::Checkpoint;

use crate::data::models;

fn ids(case: &Value, field: &str) -> Vec<u32> {
    let ids = case[field].as_array().unwrap();
    ids.iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

fn each_case(check: impl Fn(&str, &Checkpoint, &Value)) {
    let mut compared = 0;
    for model in models() {
        let Ok(file) = std::fs::read(model.folder.join("golden-tokenizer.json")) else { continue };
        let file: Value = serde_json::from_slice(&file).unwrap();
        let checkpoint = model.open();
        assert_eq!(u64::from(checkpoint.tokenizer.mask_id()), file["mask_token_id"].as_u64().unwrap());
        let known = |id: Option<u32>| id.map(u64::from);
        assert_eq!(known(checkpoint.tokenizer.bos_id()), file["bos_token_id"].as_u64(), "{}", model.name);
        assert_eq!(known(checkpoint.tokenizer.eos_id()), file["eos_token_id"].as_u64(), "{}", model.name);
        for case in file["cases"].as_array().unwrap() {
            check(&model.name, &checkpoint, case);
            compared += 1;
        }
    }
    assert!(compared > 0, "no tokenizer case");
}

#[test]
fn golden_tokenizer_ids() {
    each_case(|model, checkpoint, case| {
        let text = case["text"].as_str().unwrap();
        let tokenizer = &checkpoint.tokenizer;
        assert_eq!(tokenizer.encode_template(text, true).unwrap(), ids(case, "ids"), "{model}: {text:?}");
        let plain = ids(case, "ids_no_special");
        assert_eq!(tokenizer.encode_template(text, false).unwrap(), plain, "{model}: {text:?}");
    });
}

#[test]
fn golden_tokenizer_text() {
    each_case(|model, checkpoint, case| {
        let expected = case["decoded_skip_special"].as_str().unwrap();
        let found = checkpoint.tokenizer.decode(&ids(case, "ids"), true);
        assert_eq!(found, expected, "{model}: {:?}", case["text"]);
    });
}

/// A user's text is decoded as typed, with any special token's text in it, and is never turned into a special
/// token that the files declare.
#[test]
fn golden_tokenizer_user_text_is_never_special() {
    each_case(|model, checkpoint, case| {
        let tokenizer = &checkpoint.tokenizer;
        let special = checkpoint.profile.special_tokens.join("");
        for text in [case["text"].as_str().unwrap().to_owned(), format!("a{special}b")] {
            let tokens = tokenizer.encode(&text).unwrap();
            for id in [tokenizer.bos_id(), tokenizer.eos_id()].into_iter().flatten() {
                assert!(!tokens.contains(&id), "{model}: {text:?} holds {id}");
            }
            // An ordinary entry that is also declared special (a mask, a pad) has no text of its own.
            let declared: Vec<u32> = checkpoint
                .profile
                .special_tokens
                .iter()
                .flat_map(|t| tokenizer.encode_template(t, false).unwrap())
                .collect();
            if !tokens.iter().any(|token| declared.contains(token)) {
                // Some tokenizers compose characters (NFC); what comes back is recorded then.
                let composed = case["decoded"].as_str().filter(|_| case["text"] == text.as_str());
                let is_text = |found: &str| found == text || Some(found) == composed;
                let found = tokenizer.decode(&tokens, true);
                assert!(is_text(&found), "{model}: {text:?} {found:?}");
                let piece = tokenizer.decode(&tokenizer.encode_piece(&text).unwrap(), false);
                assert!(is_text(&piece), "{model}: as a piece, {text:?} {piece:?}");
            }
        }
    });
}
