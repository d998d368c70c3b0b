//! The bytes that the first tokens of a text spell.

use unmask_model::predictor::TokenId;
use unmask_model::tokenizer::TextTokenizer;

/// The number of `tokens` that it takes to spell `length` bytes.
pub(super) fn tokens_of(
    tokens: &[TokenId],
    length: usize,
    tokenizer: &TextTokenizer,
    at_start: bool,
) -> usize {
    if length == 0 {
        return 0;
    }
    let shorter =
        spelled_lengths(tokens, tokenizer, at_start).take_while(|spelled| *spelled < length).count();
    (shorter + 1).min(tokens.len())
}

/// Bytes that the first token spells, the first two, and so on.
pub(super) fn spelled_lengths<'a>(
    tokens: &'a [TokenId],
    tokenizer: &'a TextTokenizer,
    at_start: bool,
) -> impl Iterator<Item = usize> + 'a {
    let mut spelled = 0;
    let mut first = at_start;
    tokens.iter().map(move |token| {
        spelled += tokenizer.bytes(&[*token], first).len();
        // Special tokens spell nothing: the first bytes of a text are those of the first token that has any.
        first &= tokenizer.bytes(&[*token], false).is_empty();
        spelled
    })
}
