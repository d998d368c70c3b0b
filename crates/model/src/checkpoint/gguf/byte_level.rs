//! Byte-level BPE in a GGUF file's keys: a vocabulary, the pairs that are joined in order, and the name of the rule by which
//! a text is split first.

use serde_json::{Map, Value, json};

use super::tokenizer::{Kind, Refusal, added, around, kinds, tokens};

const RULE: &str = "tokenizer.ggml.pre";
const MERGES: &str = "tokenizer.ggml.merges";

/// Qwen2's words: digits one by one.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// LLaMA 3's words: digits by threes.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The words of Ling's tokenizer, which LLaDA and LLaDA-MoE have: digits one by one, lines one by one.
const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";

/// A rule by which a text is split, under llama.cpp's names for it.
struct Rule {
    names: &'static [&'static str],
    /// Words of a regular expression; without one, GPT-2's.
    words: Option<&'static str>,
    /// True if digits are split off first, one by one.
    digits: bool,
    /// True if the text is composed first (NFC).
    composed: bool,
    /// True if a word that is a token is taken as it is, before any pair is joined.
    whole: bool,
}

const RULES: [Rule; 5] = [
    Rule { names: &["gpt-2"], words: None, digits: false, composed: false, whole: false },
    Rule { names: &["smollm", "starcoder"], words: None, digits: true, composed: false, whole: false },
    Rule {
        names: &["llada-moe", "llada", "bailingmoe", "bailingmoe2"],
        words: Some(BAILING),
        digits: false,
        composed: false,
        whole: false,
    },
    Rule { names: &["qwen2"], words: Some(QWEN2), digits: false, composed: true, whole: false },
    Rule {
        names: &["llama-bpe", "llama3", "llama-v3"],
        words: Some(LLAMA3),
        digits: false,
        composed: false,
        whole: true,
    },
];

impl Rule {
    /// The rule of a name.
    fn named(name: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.names.contains(&name))
    }

    fn read(metadata: &Map<String, Value>) -> Result<&'static Self, Refusal> {
        let name = metadata.get(RULE).and_then(Value::as_str);
        let Some(name) = name else {
            let reason = "is missing; put the model's tokenizer.json beside the file".to_owned();
            return Err((RULE, reason));
        };
        Self::named(name).ok_or_else(|| {
            let known: Vec<&str> = RULES.iter().flat_map(|rule| rule.names).copied().collect();
            let reason = format!(
                "is `{name}`; supported are {}, and others with the model's tokenizer.json beside the file",
                known.join(", ")
            );
            (RULE, reason)
        })
    }

    /// The part of `tokenizer.json` that splits a text.
    fn splitting(&self) -> Value {
        let bytes = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": self.words.is_none(),
        });
        let digits = self.digits.then(|| json!({ "type": "Digits", "individual_digits": true }));
        let words = self.words.map(|words| {
            json!({ "type": "Split", "pattern": { "Regex": words }, "behavior": "Isolated", "invert": false })
        });
        let steps: Vec<Value> = digits.into_iter().chain(words).chain([bytes]).collect();
        json!({ "type": "Sequence", "pretokenizers": steps })
    }

    fn put_together(&self, parts: Parts) -> Value {
        let Parts { added, around, merges, vocabulary } = parts;
        json!({
            "version": "1.0",
            "added_tokens": added,
            "normalizer": self.composed.then(|| json!({ "type": "NFC" })),
            "pre_tokenizer": self.splitting(),
            "post_processor": around,
            "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
            "model": {
                "type": "BPE", "byte_fallback": false, "fuse_unk": false, "ignore_merges": self.whole,
                "vocab": vocabulary, "merges": merges,
            },
        })
    }
}

/// `tokenizer.json`.
pub(super) fn tokenizer(metadata: &Map<String, Value>) -> Result<Value, Refusal> {
    let rule = Rule::read(metadata)?;
    let tokens = tokens(metadata)?;
    let kinds = kinds(metadata, tokens.len())?;
    let merges: Vec<Value> = merges(metadata)?.into_iter().map(|pair| json!(pair)).collect();
    // Rows without a token are there as well.
    let used = |id: &usize| kinds[*id] != Kind::Other;
    let vocabulary = (0..tokens.len()).filter(used).map(|id| (tokens[id].to_owned(), id.into())).collect();
    let parts =
        Parts { added: added(&tokens, &kinds), around: around(metadata, &tokens)?, merges, vocabulary };
    Ok(rule.put_together(parts))
}

/// The parts of a tokenizer that files hold.
pub(in crate::checkpoint) struct Parts {
    /// Tokens that are recognised as a whole.
    pub(in crate::checkpoint) added: Vec<Value>,
    /// The tokens around a text; null for none.
    pub(in crate::checkpoint) around: Value,
    /// Pairs that are joined, the first one first.
    pub(in crate::checkpoint) merges: Vec<Value>,
    /// Ids by token.
    pub(in crate::checkpoint) vocabulary: Map<String, Value>,
}

/// `tokenizer.json` by the rule of a name; `None` if no rule has it.
pub(in crate::checkpoint) fn put_together(rule: &str, parts: Parts) -> Option<Value> {
    Some(Rule::named(rule)?.put_together(parts))
}

/// The pairs that are joined, the first one first.
fn merges(metadata: &Map<String, Value>) -> Result<Vec<[&str; 2]>, Refusal> {
    let list = metadata.get(MERGES).and_then(Value::as_array);
    let pairs = list.and_then(|list| list.iter().map(pair).collect());
    pairs.ok_or_else(|| {
        (MERGES, "must be a list of strings, two tokens with a space between them each".to_owned())
    })
}

fn pair(entry: &Value) -> Option<[&str; 2]> {
    entry.as_str()?.split_once(' ').map(|(left, right)| [left, right])
}
