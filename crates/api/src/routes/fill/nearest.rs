//! Texts that are too long for the model: what is nearest to their holes is kept.

use unmask_model::predictor::TokenId;

use crate::error::ApiError;
use crate::state::ServedModel;

/// Shares of the room: of a text that ends at a hole, and of one that begins at a hole. A text between two holes has both.
const BEFORE: usize = 2;
const AFTER: usize = 1;

/// Bytes that are tokenized beyond the longest text of the context: a tokenizer that begins inside a word needs some to
/// fall into step.
const STEP: usize = 4096;

/// Shortens the texts around holes to `room` tokens in all. The first text keeps its end, the last one its beginning, and
/// a text between two holes both of its ends. Two thirds of the room beside a hole are for the text before it; what one
/// text does not need goes to the others. Returns whether anything was left out.
pub(in crate::routes) fn keep_nearest(texts: &mut [Vec<TokenId>], room: usize) -> bool {
    let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
    if lengths.iter().sum::<usize>() <= room {
        return false;
    }
    let last = texts.len().saturating_sub(1);
    let weight = |number: usize| match number {
        0 => BEFORE,
        _ if number == last => AFTER,
        _ => BEFORE + AFTER,
    };
    let kept = shares(&lengths, weight, room);
    for (number, (text, kept)) in texts.iter_mut().zip(kept).enumerate() {
        match number {
            _ if kept == text.len() => {}
            0 => drop(text.drain(..text.len() - kept)),
            _ if number == last => text.truncate(kept),
            _ => {
                let end = kept * BEFORE / (BEFORE + AFTER);
                text.drain(kept - end..text.len() - end);
            }
        }
    }
    true
}

/// Shortens the texts around one hole so that up to `most` positions can be generated, and no more than a quarter of the
/// context. Returns whether anything was left out.
pub(in crate::routes) fn make_room(texts: &mut [Vec<TokenId>; 2], most: usize, model: &ServedModel) -> bool {
    let context = model.limits.context;
    // One position is for the document start.
    let room = context.saturating_sub(most.min(context / 4).max(1) + 1);
    keep_nearest(texts, room)
}

/// The tokens of a text before a hole, without what is too far from the hole for any context.
///
/// # Errors
/// The tokenizer refused it.
pub(in crate::routes) fn tokens_before(text: &str, model: &ServedModel) -> Result<Vec<TokenId>, ApiError> {
    let kept = before(text, model);
    let whole = kept.len() == text.len();
    Ok(if whole { model.tokenizer.encode(kept)? } else { model.tokenizer.encode_piece(kept)? })
}

/// The room of each text by its weight, and no more than its length. The lengths exceed the room.
fn shares(lengths: &[usize], weight: impl Fn(usize) -> usize, mut room: usize) -> Vec<usize> {
    let mut shares = vec![None; lengths.len()];
    let open = |shares: &[Option<usize>]| -> Vec<usize> {
        (0..lengths.len()).filter(|number| shares[*number].is_none()).collect()
    };
    let weights = |numbers: &[usize]| numbers.iter().map(|number| weight(*number)).sum::<usize>();
    // Texts that are shorter than their share are kept whole, which leaves more to the others.
    loop {
        let numbers = open(&shares);
        let all = weights(&numbers);
        let short = numbers.into_iter().find(|number| lengths[*number] * all <= room * weight(*number));
        let Some(number) = short else { break };
        shares[number] = Some(lengths[number]);
        room -= lengths[number];
    }
    let numbers = open(&shares);
    let all = weights(&numbers).max(1);
    let mut rest = room;
    for &number in &numbers {
        let share = room * weight(number) / all;
        shares[number] = Some(share);
        rest -= share;
    }
    for &number in numbers.iter().rev().take(rest) {
        shares[number] = shares[number].map(|share| share + 1);
    }
    shares.into_iter().map(Option::unwrap_or_default).collect()
}

/// The parts of a text that can be among the tokens nearest to its holes.
pub(in crate::routes) struct Nearest<'a> {
    /// The part after the hole before it; all of a text that is short enough.
    pub(in crate::routes) head: &'a str,
    /// The part before the hole after it, where something between the two is left out.
    pub(in crate::routes) tail: Option<&'a str>,
}

/// The end of a text before a hole, without what is too far from the hole for any context.
pub(in crate::routes) fn before<'a>(text: &'a str, model: &ServedModel) -> &'a str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(most(model)))..]
}

/// The beginning of a text after a hole, without what is too far from the hole for any context.
pub(in crate::routes) fn after<'a>(text: &'a str, model: &ServedModel) -> &'a str {
    &text[..text.floor_char_boundary(most(model).min(text.len()))]
}

/// Both ends of a text between two holes.
pub(super) fn between<'a>(text: &'a str, model: &ServedModel) -> Nearest<'a> {
    if text.len() <= 2 * most(model) {
        return Nearest { head: text, tail: None };
    }
    Nearest { head: after(text, model), tail: Some(before(text, model)) }
}

fn most(model: &ServedModel) -> usize {
    model.longest_text() + STEP
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_nearest_to_the_hole_is_kept() {
        let run = |left: u32, right: u32, room: usize| {
            let mut texts = [(0..left).collect(), (100..100 + right).collect()];
            let cut = keep_nearest(&mut texts, room);
            let [before, after] = texts;
            (cut, before, after)
        };
        assert_eq!(run(3, 2, 5), (false, vec![0, 1, 2], vec![100, 101]));
        assert_eq!(run(9, 9, 6), (true, vec![5, 6, 7, 8], vec![100, 101]));
        // The left side has no use for two thirds.
        assert_eq!(run(1, 9, 6), (true, vec![0], vec![100, 101, 102, 103, 104]));
        assert_eq!(run(9, 1, 6), (true, vec![4, 5, 6, 7, 8], vec![100]));
        assert_eq!(run(9, 9, 0), (true, vec![], vec![]));
    }

    #[test]
    fn a_text_between_two_holes_keeps_both_ends() {
        let mut texts = [(0..9).collect(), (100..120).collect(), (200..209).collect::<Vec<_>>()];
        assert!(keep_nearest(&mut texts, 12));
        assert_eq!(texts, [vec![5, 6, 7, 8], vec![100, 101, 116, 117, 118, 119], vec![200, 201]]);
        let mut texts = [(0..9).collect(), vec![100], (200..209).collect::<Vec<_>>()];
        assert!(keep_nearest(&mut texts, 7));
        assert_eq!(texts, [vec![5, 6, 7, 8], vec![100], vec![200, 201]], "short texts are kept whole");
    }

    proptest! {
        #[test]
        fn the_room_is_used_up_and_no_text_gets_more_than_it_has(
            lengths in prop::collection::vec(0_usize..40, 2..8),
            room in 0_usize..200,
        ) {
            let mut texts: Vec<Vec<TokenId>> = lengths.iter().map(|length| (0..*length as u32).collect()).collect();
            let all: usize = lengths.iter().sum();
            let cut = keep_nearest(&mut texts, room);
            prop_assert_eq!(cut, all > room);
            prop_assert_eq!(texts.iter().map(Vec::len).sum::<usize>(), all.min(room));
            for (text, length) in texts.iter().zip(&lengths) {
                prop_assert!(text.len() <= *length);
                prop_assert!(text.windows(2).all(|pair| pair[0] < pair[1]), "tokens stay in order");
            }
        }
    }
}
