//! Halves of surrogate pairs in JSON: `"\ud83d"` without the half that makes a character of it. Editors write them when
//! they cut a text within a character, by UTF-16 units.

use std::borrow::Cow;

/// The escape of U+FFFD, as long as every other one.
const REPLACEMENT: &[u8] = br"\ufffd";

/// The place of the first half without its other one, and the escape.
pub(super) fn first(json: &[u8]) -> Option<(usize, String)> {
    let at = lone(json).next()?;
    Some((at, String::from_utf8_lossy(&json[at..at + REPLACEMENT.len()]).into_owned()))
}

/// The text with U+FFFD in place of every half without its other one.
pub(super) fn replaced(json: &[u8]) -> Cow<'_, [u8]> {
    let mut text = Cow::Borrowed(json);
    for at in lone(json) {
        text.to_mut()[at..at + REPLACEMENT.len()].copy_from_slice(REPLACEMENT);
    }
    text
}

/// The places of all of them.
fn lone(json: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let mut place = 0;
    std::iter::from_fn(move || {
        while let Some(found) = json.get(place..)?.iter().position(|byte| *byte == b'\\') {
            let at = place + found;
            let Some(unit) = unit(json, at) else {
                // Another escape, of two bytes.
                place = at + 2;
                continue;
            };
            place = at + REPLACEMENT.len();
            match unit {
                0xd800..=0xdbff if unit_is_trailing(json, place) => place += REPLACEMENT.len(),
                0xd800..=0xdfff => return Some(at),
                _ => {}
            }
        }
        place = json.len();
        None
    })
}

/// The UTF-16 unit that is escaped at a place.
fn unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + REPLACEMENT.len())?.strip_prefix(br"\u")?;
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

fn unit_is_trailing(json: &[u8], at: usize) -> bool {
    unit(json, at).is_some_and(|unit| (0xdc00..=0xdfff).contains(&unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_found_and_pairs_are_left() {
        for (text, repaired) in [
            (r#"{"a":"x\ud83d"}"#, r#"{"a":"x\ufffd"}"#),
            (r#"{"a":"\ude00x"}"#, r#"{"a":"\ufffdx"}"#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\uD83D\uD83D\uDE00\uDE00""#, r#""\ufffd\uD83D\uDE00\ufffd""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d\n""#, r#""\\\ufffd\n""#),
            (r#""\ud83"#, r#""\ud83"#),
            (r#""\ud83d"#, r#""\ufffd"#),
            ("\"\\", "\"\\"),
        ] {
            assert_eq!(replaced(text.as_bytes()), repaired.as_bytes(), "{text}");
        }
        assert_eq!(first(br#""ab\udE00""#), Some((3, r"\udE00".to_owned())));
        assert_eq!(first(br#""ab\u00e9""#), None);
    }
}
