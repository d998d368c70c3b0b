//! The instances of one tokenizer, made of its file.

use std::thread;

use serde_json::{Value, json};
use tokenizers::{AddedToken, Tokenizer};

use super::TokenizeError;
use crate::predictor::TokenId;

/// The name of the thread that reads tokenizer.json. The library panics on some damaged files, and a panic of this
/// thread becomes an error: a panic hook may pass over it.
pub const PARSER_THREAD: &str = "unmask-tokenizer";

/// The same tokenizer four times: with special tokens recognised (templates) or as ordinary text, and at the start of a
/// canvas or in its middle ("piece"), without the space that SentencePiece puts before a text.
pub(super) struct Instances {
    pub(super) template: Tokenizer,
    pub(super) template_piece: Tokenizer,
    pub(super) text: Tokenizer,
    pub(super) piece: Tokenizer,
    /// The saved settings that are passed over.
    pub(super) dropped: Vec<&'static str>,
}

impl Instances {
    /// Makes them of tokenizer.json, its bytes and what it says; the templates recognise the `special` tokens besides the file's own.
    pub(super) fn read(file: &[u8], spec: Value, special: &[String]) -> Result<Self, String> {
        let dropped = dropped(&spec);
        let spec = without_leading_space(spec).to_string();
        let [mut text, mut template] = [parse(file)?, parse(file)?];
        let [mut piece, mut template_piece] = [parse(spec.as_bytes())?, parse(spec.as_bytes())?];
        text.set_encode_special_tokens(true);
        piece.set_encode_special_tokens(true);
        // Only those that have an id: adding others would give them ids beyond the embedding.
        let known = special.iter().filter(|token| text.token_to_id(token).is_some());
        let special: Vec<AddedToken> = known.map(|token| AddedToken::from(token.clone(), true)).collect();
        for templates in [&mut template, &mut template_piece] {
            let added = templates.add_special_tokens(special.iter().cloned());
            added.map_err(|error| error.to_string())?;
        }
        Ok(Self { template, template_piece, text, piece, dropped })
    }
}

/// A tokenizer that neither cuts nor fills up what it is given. Libraries save with it what they were last called
/// with: `truncation` and `padding` say how some training batch was made.
///
/// The library unwraps what it reads of some parts (a decoder, a normalizer's table, merges).
fn parse(bytes: &[u8]) -> Result<Tokenizer, String> {
    let read = thread::scope(|scope| {
        let parser = thread::Builder::new().name(PARSER_THREAD.to_owned());
        let parser = parser.spawn_scoped(scope, || Tokenizer::from_bytes(bytes));
        match parser.map_err(|error| format!("no thread to read it: {error}"))?.join() {
            Ok(parsed) => parsed.map_err(|error| error.to_string()),
            Err(_) => Err("a part of it cannot be understood".to_owned()),
        }
    });
    let mut parsed = read?;
    parsed.with_padding(None).with_truncation(None).map_err(|error| error.to_string())?;
    Ok(parsed)
}

/// The saved settings that [`parse`] drops.
fn dropped(spec: &Value) -> Vec<&'static str> {
    let is_set = |name: &&str| spec.get(name).is_some_and(|value| !value.is_null());
    ["truncation", "padding"].into_iter().filter(is_set).collect()
}

/// The tokenizer's description without the steps that put a space before a text.
fn without_leading_space(mut spec: Value) -> Value {
    fn is_prepend(normalizer: &Value) -> bool {
        normalizer["type"] == "Prepend"
    }
    if is_prepend(&spec["normalizer"]) {
        spec["normalizer"] = Value::Null;
    }
    if let Some(steps) = spec.pointer_mut("/normalizer/normalizers").and_then(Value::as_array_mut) {
        steps.retain(|step| !is_prepend(step));
    }
    let mut change = |step: &mut Value| match step["type"].as_str() {
        Some("Metaspace") => step["prepend_scheme"] = json!("never"),
        Some("ByteLevel") => step["add_prefix_space"] = json!(false),
        _ => {}
    };
    if let Some(steps) = spec.pointer_mut("/pre_tokenizer/pretokenizers").and_then(Value::as_array_mut) {
        steps.iter_mut().for_each(&mut change);
    }
    if let Some(step) = spec.get_mut("pre_tokenizer").filter(|step| step.is_object()) {
        change(step);
    }
    spec
}

/// The tokens of a text.
pub(super) fn encode(
    tokenizer: &Tokenizer,
    text: &str,
    add_special: bool,
) -> Result<Vec<TokenId>, TokenizeError> {
    match tokenizer.encode_fast(text, add_special) {
        Ok(encoding) => Ok(encoding.get_ids().to_vec()),
        Err(error) => Err(TokenizeError { reason: error.to_string() }),
    }
}
