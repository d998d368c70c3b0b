//! Text to tokens and back.
//!
//! Four instances of the same tokenizer: special tokens are recognised (templates) or are ordinary text
//! (what users write), at the start of a canvas or in its middle, where the space that SentencePiece puts
//! before a text is left out. Decoding goes through a table of each token's bytes, so that
//! any stretch of a partly masked canvas can be decoded by itself.

mod byte_style;
mod instances;
mod label;
mod special;

use serde_json::Value;
use tokenizers::Tokenizer;

use self::byte_style::ByteStyle;
pub use self::instances::PARSER_THREAD;
use self::instances::{Instances, encode};
pub use self::label::bytes_label;
use self::label::bytes_name;
use self::special::{SpecialTokens, special_texts};
use crate::checkpoint::{ModelFiles, Profile, no_json};
use crate::error::{LoadError, one_line};
use crate::predictor::TokenId;

/// A model's tokenizer.
///
/// Texts are encoded in four ways: with special tokens recognised (templates) or as ordinary text (users'
/// text), and at the start of a canvas or in its middle ("piece"). Decoding goes through a table of each
/// token's bytes, so any stretch of a canvas can be decoded by itself.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// use unmask_model::checkpoint::{Checkpoint, embedded};
///
/// let tokenizer = Checkpoint::read(embedded::FILES.clone(), None)?.tokenizer;
/// let tokens = tokenizer.encode("import os")?;
/// assert_eq!(tokenizer.bytes(&tokens, true), b"import os");
/// // A user's text never becomes a special token.
/// let mask = tokenizer.mask_id();
/// assert!(!tokenizer.encode(&tokenizer.display(mask))?.contains(&mask));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TextTokenizer {
    template: Tokenizer,
    template_piece: Tokenizer,
    text: Tokenizer,
    piece: Tokenizer,
    /// The bytes that each row of the embedding stands for; empty for special tokens and unused rows.
    bytes: Vec<Box<[u8]>>,
    /// True if decoding drops the space at the very start of a text.
    leading_space: bool,
    mask: TokenId,
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    ends: Vec<TokenId>,
    document_start: Option<TokenId>,
    never_drawn: Vec<TokenId>,
    special_texts: Vec<String>,
    longest: usize,
    dropped: Vec<&'static str>,
    /// Tokens that begin with a blank, ascending.
    words: Vec<TokenId>,
}

/// A text that cannot be tokenized.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the text cannot be tokenized: {reason}")]
pub struct TokenizeError {
    reason: String,
}

impl TextTokenizer {
    /// Reads `tokenizer.json` of a model whose embedding has `rows` rows.
    ///
    /// # Errors
    /// The file is missing or damaged, holds ids beyond the embedding, has a decoder other than
    /// byte-level or SentencePiece, or does not know the mask token.
    pub fn read(files: &ModelFiles, profile: &Profile, rows: usize) -> Result<Self, LoadError> {
        let path = files.path("tokenizer.json");
        let malformed =
            |reason: String| LoadError::Malformed { path: path.clone(), reason: one_line(&reason) };
        let hint = ": the fast tokenizer's file is needed; transformers writes it with \
                    AutoTokenizer.from_pretrained(…).save_pretrained(…)";
        let file = files.read("tokenizer.json", hint)?;
        let spec: Value = serde_json::from_slice(&file).map_err(|error| malformed(no_json(&file, &error)))?;
        let Instances { template, template_piece, text, piece, dropped } =
            Instances::read(&file, spec, &profile.special_tokens).map_err(malformed)?;

        let vocabulary = text.get_vocab(true);
        if let Some((token, id)) = vocabulary.iter().find(|(_, id)| **id as usize >= rows) {
            let token = token.escape_debug();
            return Err(malformed(format!("token `{token}` has id {id}, but the embedding has {rows} rows")));
        }
        let SpecialTokens { ids: special, mask, bos, eos, ends } = SpecialTokens::of(&text, profile, &path)?;
        let style = ByteStyle::of(text.get_decoder()).map_err(malformed)?;
        let mut bytes = vec![Box::default(); rows];
        let mut used = vec![false; rows];
        for (token, &id) in &vocabulary {
            used[id as usize] = true;
            if !special.contains(&id) {
                bytes[id as usize] = style.bytes(token).into_boxed_slice();
            }
        }
        let never_drawn = (0..rows as TokenId)
            .filter(|id| !used[*id as usize] || (special.contains(id) && ends.binary_search(id).is_err()))
            .collect();
        let is_word = |bytes: &[u8]| bytes.first() == Some(&b' ');
        let words = (0..).zip(&bytes).filter(|(_, bytes)| is_word(bytes)).map(|(token, _)| token).collect();
        let spelled = bytes.iter().map(|bytes| bytes.len());
        let longest = spelled.chain(vocabulary.keys().map(String::len)).max().unwrap_or(1).max(1);
        Ok(Self {
            special_texts: special_texts(&template),
            template,
            template_piece,
            text,
            piece,
            bytes,
            leading_space: matches!(style, ByteStyle::SentencePiece),
            mask,
            bos,
            eos,
            ends,
            document_start: bos.filter(|_| profile.family.document_start),
            never_drawn,
            longest,
            dropped,
            words,
        })
    }

    /// Bytes of the longest token, as it is spelled in a text or in the vocabulary: a text of more than n times as
    /// many bytes has more than n tokens.
    #[must_use]
    pub fn longest_token(&self) -> usize {
        self.longest
    }

    /// The tokens of a text at the start of a canvas, as the user wrote it: special tokens in it are
    /// ordinary text, and none are added.
    ///
    /// # Errors
    /// The tokenizer refused the text.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>, TokenizeError> {
        encode(&self.text, text, false)
    }

    /// The tokens of a text that stands in the middle of a canvas: as [`Self::encode`], without the
    /// space that SentencePiece puts before a text.
    ///
    /// # Errors
    /// The tokenizer refused the text.
    pub fn encode_piece(&self, text: &str) -> Result<Vec<TokenId>, TokenizeError> {
        encode(&self.piece, text, false)
    }

    /// The tokens of a template: special tokens in it are recognised, and `add_special` adds those that
    /// the tokenizer puts around a text.
    ///
    /// # Errors
    /// The tokenizer refused the text.
    pub fn encode_template(&self, text: &str, add_special: bool) -> Result<Vec<TokenId>, TokenizeError> {
        encode(&self.template, text, add_special)
    }

    /// The tokens of a stretch of template in the middle of a canvas, special tokens recognised.
    ///
    /// # Errors
    /// The tokenizer refused the text.
    pub fn encode_template_piece(&self, text: &str) -> Result<Vec<TokenId>, TokenizeError> {
        encode(&self.template_piece, text, false)
    }

    /// The strings that become special tokens in a template. Ascending.
    #[must_use]
    pub fn special_texts(&self) -> &[String] {
        &self.special_texts
    }

    /// Settings saved in `tokenizer.json` that are not obeyed: `truncation` and `padding`.
    #[must_use]
    pub fn dropped_settings(&self) -> &[&'static str] {
        &self.dropped
    }

    /// The token that is spelled like this, special or not.
    #[must_use]
    pub fn token_id(&self, text: &str) -> Option<TokenId> {
        self.text.token_to_id(text)
    }

    /// The bytes of a stretch of tokens; special tokens have none. `at_start` says that nothing but
    /// special tokens stands before it.
    #[must_use]
    pub fn bytes(&self, tokens: &[TokenId], at_start: bool) -> Vec<u8> {
        let known = tokens.iter().filter_map(|&token| self.bytes.get(token as usize));
        let mut bytes: Vec<u8> = known.flat_map(|bytes| bytes.iter().copied()).collect();
        if at_start && self.leading_space && bytes.first() == Some(&b' ') {
            bytes.remove(0);
        }
        bytes
    }

    /// Returns true if the first word of a text is spelled without the blank that other words begin with.
    #[must_use]
    pub fn drops_leading_space(&self) -> bool {
        self.leading_space
    }

    /// The tokens whose bytes begin with `start` and end with `end`, ascending; special tokens have no bytes.
    #[must_use]
    pub fn spelled_like(&self, start: &[u8], end: &[u8]) -> Vec<TokenId> {
        if start == b" " && end.is_empty() {
            return self.words.clone();
        }
        let tokens = (0..).zip(&self.bytes);
        let alike = |bytes: &[u8]| bytes.starts_with(start) && bytes.ends_with(end);
        // What is shared on both sides is spelled by one token: the only one of its hole, which has text of its own.
        let least = if start.is_empty() || end.is_empty() { 0 } else { start.len() + end.len() + 1 };
        let alike = tokens.filter(|(_, bytes)| bytes.len() >= least && alike(bytes));
        alike.map(|(token, _)| token).collect()
    }

    /// The text of a stretch of tokens; bytes that are no UTF-8 become U+FFFD.
    #[must_use]
    pub fn decode(&self, tokens: &[TokenId], at_start: bool) -> String {
        String::from_utf8_lossy(&self.bytes(tokens, at_start)).into_owned()
    }

    /// The text of one token by itself, for display.
    #[must_use]
    pub fn display(&self, token: TokenId) -> String {
        match self.bytes.get(token as usize) {
            Some(bytes) if !bytes.is_empty() => String::from_utf8_lossy(bytes).into_owned(),
            _ => self.entry(token),
        }
    }

    /// The entry of the vocabulary for a token, as tokenizer.json writes it; empty for a row without one.
    #[must_use]
    pub fn entry(&self, token: TokenId) -> String {
        self.template.id_to_token(token).unwrap_or_default()
    }

    /// A name of one token for programs: its text; where that is no text by itself, its bytes, as `bytes:\xe6`; of a
    /// row without a token, `token_id:7`. Bytes of a SentencePiece vocabulary are bytes also where they are text: a
    /// piece has that text.
    #[must_use]
    pub fn label(&self, token: TokenId) -> String {
        let bytes = self.bytes.get(token as usize).map_or(&[][..], |bytes| bytes);
        let name = self.template.id_to_token(token);
        let is_byte = self.leading_space
            && name.as_ref().is_some_and(|name| name.starts_with("<0x") && bytes.len() == 1);
        match std::str::from_utf8(bytes) {
            Ok("") => name.unwrap_or_else(|| format!("token_id:{token}")),
            Ok(_) if is_byte => bytes_name(bytes),
            _ => bytes_label(bytes),
        }
    }

    /// Rows of the embedding.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.bytes.len()
    }

    /// The token shown at masked positions.
    #[must_use]
    pub fn mask_id(&self) -> TokenId {
        self.mask
    }

    /// Document start.
    #[must_use]
    pub fn bos_id(&self) -> Option<TokenId> {
        self.bos
    }

    /// Document end; the same token as the start in GPT-2.
    #[must_use]
    pub fn eos_id(&self) -> Option<TokenId> {
        self.eos
    }

    /// Tokens that end a text: the document end and the ends of a turn. Ascending.
    #[must_use]
    pub fn ends(&self) -> &[TokenId] {
        &self.ends
    }

    /// The token that stands at position 0 of every text, for families that begin texts with one.
    #[must_use]
    pub fn document_start(&self) -> Option<TokenId> {
        self.document_start
    }

    /// Tokens that are not drawn by default: rows without a token, and special tokens that end no text, such as the mask,
    /// a document start and the roles of a chat. They spell nothing. Ascending.
    #[must_use]
    pub fn never_drawn(&self) -> &[TokenId] {
        &self.never_drawn
    }
}
