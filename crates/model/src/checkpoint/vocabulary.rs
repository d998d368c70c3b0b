//! Byte-level tokenizers without `tokenizer.json`: `vocab.json`, `merges.txt` and `tokenizer_config.json`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::ModelFiles;
use super::gguf::byte_level::{Parts, put_together};
use crate::error::{LoadError, one_line};

const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const SETTINGS: &str = "tokenizer_config.json";

/// Names of tokenizers in transformers, and of the rule by which they split a text.
const CLASSES: [(&str, &str); 5] = [
    ("DreamTokenizer", "qwen2"),
    ("Qwen2Tokenizer", "qwen2"),
    ("Qwen2TokenizerFast", "qwen2"),
    ("GPT2Tokenizer", "gpt-2"),
    ("GPT2TokenizerFast", "gpt-2"),
];

/// Returns true if the files are there.
pub(super) fn exists(files: &ModelFiles) -> bool {
    [VOCABULARY, MERGES, SETTINGS].iter().all(|name| files.exists(name))
}

/// `tokenizer.json`, put together from them.
///
/// # Errors
/// One of them is damaged, or the tokenizer is of a kind whose rules are not known.
pub(super) fn tokenizer(files: &ModelFiles) -> Result<Vec<u8>, LoadError> {
    let settings = files.json(SETTINGS)?;
    let class = settings.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
    let Some((_, rule)) = CLASSES.iter().find(|(name, _)| *name == class) else {
        let names: Vec<&str> = CLASSES.iter().map(|(name, _)| *name).collect();
        let reason = format!("is `{class}`; without tokenizer.json, supported are {}", names.join(", "));
        return Err(LoadError::Field {
            path: files.path(SETTINGS),
            field: "tokenizer_class".to_owned(),
            reason: one_line(&reason),
        });
    };
    let vocabulary = files.json(VOCABULARY)?;
    let added = added(files, &settings)?;
    let merges = merges(files)?;
    let parts = Parts { added, around: Value::Null, merges, vocabulary };
    Ok(put_together(rule, parts).unwrap_or_default().to_string().into_bytes())
}

/// Added tokens by their numbers, as `tokenizer.json` lists them.
fn added(files: &ModelFiles, settings: &Map<String, Value>) -> Result<Vec<Value>, LoadError> {
    let mut tokens: BTreeMap<u64, Value> = BTreeMap::new();
    let entry = |id: u64, content: &str, special: bool| {
        json!({
            "id": id, "content": content, "special": special,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    if files.exists("added_tokens.json") {
        let others = files.json("added_tokens.json")?;
        let others = others.iter().filter_map(|(text, id)| Some((id.as_u64()?, text)));
        tokens.extend(others.map(|(id, text)| (id, entry(id, text, true))));
    }
    let listed = settings.get("added_tokens_decoder").and_then(Value::as_object);
    for (id, token) in listed.into_iter().flatten() {
        let known = id.parse().ok().zip(token.get("content").and_then(Value::as_str));
        let Some((id, content)) = known else {
            let reason = format!("holds `{id}`: {token}; entries are tokens by their numbers");
            let field = "added_tokens_decoder".to_owned();
            return Err(LoadError::Field { path: files.path(SETTINGS), field, reason: one_line(&reason) });
        };
        let special = token.get("special").and_then(Value::as_bool).unwrap_or(true);
        tokens.insert(id, entry(id, content, special));
    }
    Ok(tokens.into_values().collect())
}

/// The pairs that are joined: one a line, after a line with the version.
fn merges(files: &ModelFiles) -> Result<Vec<Value>, LoadError> {
    let text = files.read(MERGES, "")?;
    let malformed = |reason: String| LoadError::Malformed { path: files.path(MERGES), reason };
    let text = std::str::from_utf8(&text).map_err(|error| malformed(one_line(&error)))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(number, line)| !(line.is_empty() || *number == 0 && line.starts_with("#version")));
    let pair = |(number, line): (usize, &str)| match line.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok(json!([left, right])),
        _ => Err(malformed(format!("line {} is no pair of tokens", number + 1))),
    };
    lines.map(pair).collect()
}
