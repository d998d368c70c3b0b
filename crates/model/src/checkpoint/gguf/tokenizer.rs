//! The tokenizer in a GGUF file's keys, as the files that it has elsewhere.
//!
//! A `llama` vocabulary is SentencePiece's: pieces with scores, of which the pair whose union has the
//! highest score is joined first. `tokenizer.json` says the same by a list of pairs in that order. A `gpt2`
//! vocabulary is byte-level BPE's and has this list itself.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::byte_level;

/// A key, and what is wrong with its value.
pub(super) type Refusal = (&'static str, String);

const MODEL: &str = "tokenizer.ggml.model";
/// Kinds of tokenizers.
const PIECES: &str = "llama";
const BYTES: &str = "gpt2";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const KINDS: &str = "tokenizer.ggml.token_type";

/// Special tokens: the name elsewhere, the key, and the token of a `llama` vocabulary when the key is missing, as
/// llama.cpp has it.
const ROLES: [(&str, &str, Option<usize>); 7] = [
    ("bos_token", "tokenizer.ggml.bos_token_id", Some(1)),
    ("eos_token", "tokenizer.ggml.eos_token_id", Some(2)),
    ("unk_token", "tokenizer.ggml.unknown_token_id", Some(0)),
    ("sep_token", "tokenizer.ggml.seperator_token_id", None),
    ("pad_token", "tokenizer.ggml.padding_token_id", None),
    ("cls_token", "tokenizer.ggml.cls_token_id", None),
    ("mask_token", "tokenizer.ggml.mask_token_id", None),
];

/// Longest piece that is built from others. SentencePiece's own default limit is 16 characters.
const LONGEST: usize = 512;

/// The kind of a token, by its number in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text that is built from pieces.
    Normal,
    /// Recognised before anything is built, and never text: unknown and control tokens.
    Special,
    /// Text that is recognised as a whole.
    Defined,
    /// Unused entries, and single bytes.
    Other,
}

/// `tokenizer.json`.
pub(super) fn tokenizer(metadata: &Map<String, Value>) -> Result<Value, Refusal> {
    match kind_of(metadata) {
        Some(PIECES) => pieces(metadata),
        Some(BYTES) => byte_level::tokenizer(metadata),
        Some(other) => {
            let reason = format!(
                "is `{other}`; supported are `{PIECES}` and `{BYTES}`, and others with the model's tokenizer.json \
                 beside the file"
            );
            Err((MODEL, reason))
        }
        None => Err((MODEL, "is missing; it says what kind of tokenizer this is".to_owned())),
    }
}

/// The kind of tokenizer.
fn kind_of(metadata: &Map<String, Value>) -> Option<&str> {
    metadata.get(MODEL).and_then(Value::as_str)
}

/// SentencePiece's pieces.
fn pieces(metadata: &Map<String, Value>) -> Result<Value, Refusal> {
    let tokens = tokens(metadata)?;
    let kinds = kinds(metadata, tokens.len())?;
    let mask = role(metadata, &tokens, "mask_token")?;
    let scores: Vec<f64> = numbers(metadata, SCORES, tokens.len(), Value::as_f64)?;
    Ok(json!({
        "version": "1.0",
        "added_tokens": added(&tokens, &kinds),
        // A space before the text, even if `tokenizer.ggml.add_space_prefix` is false: llama.cpp's
        // converter writes that where tokenizer_config.json says null, as DiffuLLaMA's does.
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ]},
        "pre_tokenizer": null,
        "post_processor": around(metadata, &tokens)?,
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" },
            { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ]},
        "model": {
            "type": "BPE", "byte_fallback": true, "fuse_unk": true,
            "unk_token": role(metadata, &tokens, "unk_token")?.map(|id| tokens[id]),
            "vocab": vocabulary(&tokens), "merges": merges(&tokens, &scores, |id| kinds[id] == Kind::Normal || mask == Some(id))?,
        },
    }))
}

/// Tokens that are recognised as a whole, as `tokenizer.json` lists them.
pub(super) fn added(tokens: &[&str], kinds: &[Kind]) -> Vec<Value> {
    (0..tokens.len())
        .filter(|id| matches!(kinds[*id], Kind::Special | Kind::Defined))
        .map(|id| {
            json!({
                "id": id, "content": tokens[id], "special": kinds[id] == Kind::Special,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            })
        })
        .collect()
}

/// Ids by token.
pub(super) fn vocabulary(tokens: &[&str]) -> Map<String, Value> {
    tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect()
}

/// `tokenizer_config.json`.
pub(super) fn settings(metadata: &Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    let tokens = tokens(metadata)?;
    let mut settings = Map::new();
    for (name, ..) in ROLES {
        if let Some(id) = role(metadata, &tokens, name)? {
            settings.insert(name.to_owned(), tokens[id].into());
        }
    }
    if let Some(template) = metadata.get("tokenizer.chat_template") {
        settings.insert("chat_template".to_owned(), template.clone());
    }
    Ok(settings)
}

pub(super) fn tokens(metadata: &Map<String, Value>) -> Result<Vec<&str>, Refusal> {
    let tokens = metadata.get(TOKENS).and_then(Value::as_array);
    let tokens = tokens.and_then(|tokens| tokens.iter().map(Value::as_str).collect());
    tokens.ok_or_else(|| (TOKENS, "must be a list of strings".to_owned()))
}

/// A list with a number for each token.
fn numbers<T>(
    metadata: &Map<String, Value>,
    key: &'static str,
    count: usize,
    number: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>, Refusal> {
    let list = metadata.get(key).and_then(Value::as_array).filter(|list| list.len() == count);
    let list = list.and_then(|list| list.iter().map(number).collect());
    list.ok_or_else(|| (key, format!("must be a list of numbers, one for each of {count} tokens")))
}

pub(super) fn kinds(metadata: &Map<String, Value>, count: usize) -> Result<Vec<Kind>, Refusal> {
    let numbers = numbers(metadata, KINDS, count, Value::as_u64)?;
    let kind = |number| match number {
        1 => Kind::Normal,
        2 | 3 => Kind::Special,
        4 => Kind::Defined,
        _ => Kind::Other,
    };
    Ok(numbers.into_iter().map(kind).collect())
}

/// The token of a role.
fn role(metadata: &Map<String, Value>, tokens: &[&str], name: &str) -> Result<Option<usize>, Refusal> {
    let Some((_, key, default)) = ROLES.iter().find(|(role, ..)| *role == name) else { return Ok(None) };
    let Some(given) = metadata.get(*key) else {
        let default = default.filter(|_| kind_of(metadata) == Some(PIECES));
        return Ok(default.filter(|id| *id < tokens.len()));
    };
    let id = given.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|id| *id < tokens.len());
    id.map(Some).ok_or_else(|| (*key, format!("is {given}; it must be one of {} tokens", tokens.len())))
}

/// The tokens around a text.
pub(super) fn around(metadata: &Map<String, Value>, tokens: &[&str]) -> Result<Value, Refusal> {
    let mut steps = vec![json!({ "Sequence": { "id": "A", "type_id": 0 } })];
    let mut special = Map::new();
    for (name, key, default) in [
        ("bos_token", "tokenizer.ggml.add_bos_token", kind_of(metadata) == Some(PIECES)),
        ("eos_token", "tokenizer.ggml.add_eos_token", false),
    ] {
        let wanted = metadata.get(key).and_then(Value::as_bool).unwrap_or(default);
        let Some(id) = role(metadata, tokens, name)?.filter(|_| wanted) else { continue };
        let token = tokens[id];
        special.insert(token.to_owned(), json!({ "id": token, "ids": [id], "tokens": [token] }));
        let place = if name == "bos_token" { 0 } else { steps.len() };
        steps.insert(place, json!({ "SpecialToken": { "id": token, "type_id": 0 } }));
    }
    let pair = [
        json!({ "Sequence": { "id": "A", "type_id": 0 } }),
        json!({ "Sequence": { "id": "B", "type_id": 1 } }),
    ];
    Ok(json!({ "type": "TemplateProcessing", "single": steps, "pair": pair, "special_tokens": special }))
}

/// All pairs of pieces whose union is a piece, those with the highest scores first. Pieces are what text
/// is built from: the mask as well, a syllable that is part of words, even where a file calls it special.
fn merges(
    tokens: &[&str],
    scores: &[f64],
    is_piece: impl Fn(usize) -> bool,
) -> Result<Vec<[String; 2]>, Refusal> {
    let pieces: Vec<usize> = (0..tokens.len()).filter(|id| is_piece(*id)).collect();
    let ids: HashMap<&str, usize> = pieces.iter().map(|&id| (tokens[id], id)).collect();
    let mut found = Vec::new();
    for id in pieces {
        let piece = tokens[id];
        if piece.len() > LONGEST {
            let reason = format!("holds a piece of {} bytes; at most {LONGEST} are supported", piece.len());
            return Err((TOKENS, reason));
        }
        for (place, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(place);
            if let (Some(left), Some(right)) = (ids.get(left), ids.get(right)) {
                found.push((id, *left, *right));
            }
        }
    }
    // Scores are finite: JSON has no others.
    found.sort_by(|a, b| scores[b.0].total_cmp(&scores[a.0]).then(a.cmp(b)));
    Ok(found
        .into_iter()
        .map(|(_, left, right)| [tokens[left].to_owned(), tokens[right].to_owned()])
        .collect())
}
