//! The tokens at the end of a text, or at its beginning, that a hole beside it may take.

use unmask_model::predictor::TokenId;
use unmask_model::tokenizer::TextTokenizer;

use crate::error::ApiError;

/// A side of a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Tokens of a word that are taken for cut at most: a word of more has hardly a token of its own.
const MOST_CUT: usize = 3;

/// Tokens that end at a hole or begin there.
#[derive(Debug)]
pub(super) struct CutWord {
    /// The first of them on the left of a hole, the last on its right.
    pub token: TokenId,
    /// Their number.
    pub tokens: usize,
    /// Their bytes.
    pub bytes: Vec<u8>,
}

/// The tokens at the end of a text (on the left of a hole) or at its beginning (on the right) that a longer token may
/// spell together: as many of them as there is such a token for.
pub(super) fn cut_word(side: Side, text: &[TokenId], tokenizer: &TextTokenizer) -> Option<CutWord> {
    // Bytes of other alphabets are those of letters.
    let within = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
    (1..=MOST_CUT.min(text.len())).rev().find_map(|tokens| {
        let (word, token) = match side {
            Side::Left => (&text[text.len() - tokens..], text[text.len() - tokens]),
            Side::Right => (&text[..tokens], text[tokens - 1]),
        };
        let bytes = tokenizer.bytes(word, false);
        // Only on the left may a word bring its blank.
        let letters =
            if side == Side::Left { bytes.strip_prefix(b" ").unwrap_or(&bytes) } else { &bytes[..] };
        let is_word = !letters.is_empty() && letters.iter().all(within);
        let longer = |other: TokenId| tokenizer.bytes(&[other], false).len() > bytes.len();
        let exists = is_word && drawable(&alike(side, &bytes, tokenizer), tokenizer).any(longer);
        exists.then_some(CutWord { token, tokens, bytes })
    })
}

/// Tokens that begin (on the left of a hole) or end (on its right) with some bytes.
pub(super) fn alike(side: Side, bytes: &[u8], tokenizer: &TextTokenizer) -> Vec<TokenId> {
    match side {
        Side::Left => tokenizer.spelled_like(bytes, &[]),
        Side::Right => tokenizer.spelled_like(&[], bytes),
    }
}

pub(super) fn drawable<'a>(
    tokens: &'a [TokenId],
    tokenizer: &'a TextTokenizer,
) -> impl Iterator<Item = TokenId> + 'a {
    tokens.iter().copied().filter(|token| !tokenizer.never_drawn().contains(token))
}

/// Takes one blank from the end of some tokens, of which the first `least` stay as they are, if the tokenizer gives it to
/// the word that follows: some give it to an indentation. The whitespace before it is tokenized anew, as it is in a text
/// where a word follows.
///
/// # Errors
/// The tokenizer refused the whitespace.
pub(crate) fn cut_blank(
    tokens: &mut Vec<TokenId>,
    least: usize,
    tokenizer: &TextTokenizer,
) -> Result<bool, ApiError> {
    let white = |token: &&TokenId| {
        let bytes = tokenizer.bytes(&[**token], false);
        !bytes.is_empty() && bytes.iter().all(u8::is_ascii_whitespace)
    };
    let count = tokens[least.min(tokens.len())..].iter().rev().take_while(white).count();
    let run = tokenizer.bytes(&tokens[tokens.len() - count..], false);
    let words = tokenizer.spelled_like(b" ", &[]);
    let exists = run.last() == Some(&b' ') && drawable(&words, tokenizer).next().is_some();
    if !exists || stands_alone(&run, tokenizer)? {
        return Ok(false);
    }
    let rest = String::from_utf8_lossy(&run[..run.len() - 1]).into_owned();
    tokens.truncate(tokens.len() - count);
    tokens.extend(tokenizer.encode_piece(&rest)?);
    Ok(true)
}

/// Bytes of the text before a hole that an alternative for the hole is tokenized with: a blank or a cut word, which
/// is taken from `before`.
///
/// # Errors
/// As [`cut_blank`].
pub(crate) fn cut_before(
    before: &mut Vec<TokenId>,
    least: usize,
    tokenizer: &TextTokenizer,
) -> Result<Vec<u8>, ApiError> {
    if cut_blank(before, least, tokenizer)? {
        return Ok(b" ".to_vec());
    }
    let cut = cut_word(Side::Left, &before[least.min(before.len())..], tokenizer);
    Ok(cut.map_or_else(Vec::new, |cut| {
        before.truncate(before.len() - cut.tokens);
        cut.bytes
    }))
}

/// The same of the text after a hole: a cut word.
pub(crate) fn cut_after(after: &mut Vec<TokenId>, tokenizer: &TextTokenizer) -> Vec<u8> {
    let cut = cut_word(Side::Right, after, tokenizer);
    cut.map_or_else(Vec::new, |cut| {
        after.drain(..cut.tokens);
        cut.bytes
    })
}

/// Returns true if whitespace before a word is one or more tokens of its own: no token spells the end of it
/// and the word.
fn stands_alone(white: &[u8], tokenizer: &TextTokenizer) -> Result<bool, ApiError> {
    let word = String::from_utf8_lossy(white).into_owned() + "a";
    let mut spelled = 0;
    let mut ends = tokenizer.encode_piece(&word)?.into_iter().map(|token| {
        spelled += tokenizer.bytes(&[token], false).len();
        spelled
    });
    Ok(ends.any(|end| end == white.len()))
}
