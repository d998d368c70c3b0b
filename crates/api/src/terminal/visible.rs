//! Text that is safe to print on a terminal: no character of it moves the cursor, changes a colour or turns
//! the direction of writing.

/// The character that is printed for a character; line feeds and tabs are left to the caller.
pub(super) fn visible(c: char) -> char {
    match c {
        // ␀ to ␟, the pictures of these characters.
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f' => '␡',
        // Marks and overrides of direction, separators, tags: invisible themselves, and not what they touch.
        '\u{61c}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// A text of several lines. A carriage return before a line feed is part of the line's end.
pub(super) fn visible_text(text: &str) -> String {
    let show = |c| if matches!(c, '\n' | '\t') { c } else { visible(c) };
    text.replace("\r\n", "\n").chars().map(show).collect()
}

/// A text on one line.
pub(crate) fn visible_line(text: &str) -> String {
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_act_on_a_terminal_is_shown_as_a_symbol() {
        let hostile = "\x1b]0;owned\x07\x1b[2Jred\x1b[31m \u{9b}2J\u{202e}txt.exe\r\n\x08\x7f\tend\rover";
        let shown = "␛]0;owned␇␛[2Jred␛[31m \u{fffd}2J\u{fffd}txt.exe\n␈␡\tend␍over";
        assert_eq!(visible_text(hostile), shown);
        assert_eq!(visible_line("two\nlines\t"), "two␊lines␉");
        assert_eq!(visible_text("é▒ 世界 👩‍👩‍👧 e\u{301}"), "é▒ 世界 👩‍👩‍👧 e\u{301}", "text is left as it is");
    }

    proptest! {
        #[test]
        fn nothing_but_line_feeds_and_tabs_is_left_of_control_characters(text in any::<String>()) {
            prop_assert!(visible_text(&text).chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()));
            prop_assert!(!visible_line(&text).chars().any(char::is_control));
        }
    }
}
