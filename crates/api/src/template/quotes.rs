//! Keeps users' texts from becoming special tokens.
//!
//! A template's text and the users' are one string when the template is done, in which `</s>` would be a
//! document end, also in a user's text. So every special string in a message is put between two characters of
//! the private planes that no message has, and the result is cut at them. Everything else stays as it is, so
//! that trimming and comparing in templates works, and texts without special strings are tokenized with the
//! template in one piece, as the model was trained.

use std::collections::HashSet;

use super::Piece;

/// Three characters that no message contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quotes {
    open: char,
    close: char,
    end: char,
}

impl Quotes {
    /// Characters that none of the texts contains; `None` when they contain all.
    pub(super) fn beside<'a>(texts: impl Iterator<Item = &'a str>) -> Option<Self> {
        let private = |c: &char| *c >= '\u{f0000}';
        let used: HashSet<char> = texts.flat_map(str::chars).filter(private).collect();
        let mut free = ('\u{f0000}'..='\u{10fffd}').filter(|c| !used.contains(c));
        Some(Self { open: free.next()?, close: free.next()?, end: free.next()? })
    }

    /// A message in which every special string is quoted. Where it begins or ends with a part of one, an
    /// empty quotation keeps the template's text from completing it.
    pub(super) fn quote(self, text: &str, specials: &[String]) -> String {
        let core = text.trim();
        let start = text.len() - text.trim_start().len();
        let before = &text[..start];
        let after = &text[start + core.len()..];
        let longest_first = |s: &&String| std::cmp::Reverse(s.len());
        let mut specials: Vec<&String> = specials.iter().collect();
        specials.sort_by_key(longest_first);
        let cuts =
            |special: &str| (1..special.len()).filter(|at| special.is_char_boundary(*at)).collect::<Vec<_>>();
        let completes = |s: &&String| cuts(s).into_iter().any(|at| core.starts_with(&s[at..]));
        let begins = |s: &&String| cuts(s).into_iter().any(|at| core.ends_with(&s[..at]));
        let mut quoted = before.to_owned();
        if specials.iter().any(completes) {
            quoted.extend([self.open, self.close]);
        }
        let mut rest = core;
        while let Some(first) = rest.chars().next() {
            match specials.iter().find(|special| rest.starts_with(special.as_str())) {
                Some(special) => {
                    quoted.push(self.open);
                    quoted.push_str(special);
                    quoted.push(self.close);
                    rest = &rest[special.len()..];
                }
                None => {
                    quoted.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        if specials.iter().any(begins) {
            quoted.extend([self.open, self.close]);
        }
        quoted + after
    }

    /// A quoted message whose end is marked, for [`Self::before_end`]. The mark stands before the space at its end, which a
    /// template may trim.
    pub(super) fn marked_end(self, quoted: &str) -> String {
        let (text, space) = quoted.split_at(quoted.trim_end().len());
        format!("{text}{}{space}", self.end)
    }

    /// A rendered text up to the mark, and the space behind it where the template has left it as it was in `message`.
    pub(super) fn before_end(self, rendered: &str, message: &str) -> Option<String> {
        let (before, after) = rendered.split_once(self.end)?;
        let space = &message[message.trim_end().len()..];
        let kept = if after.starts_with(space) { space } else { "" };
        Some(format!("{before}{kept}"))
    }

    /// Splits a rendered text into the template's own and quoted parts. A quotation that the template cut off
    /// ends where the next begins: text may lose its special tokens, but nothing gains them.
    pub(super) fn pieces(self, rendered: &str) -> Vec<Piece> {
        let mut parts = rendered.split(self.open);
        let mut pieces = vec![Piece::Template(parts.next().unwrap_or_default().replace(self.close, ""))];
        for part in parts {
            let (text, template) = part.split_once(self.close).unwrap_or((part, ""));
            pieces.push(Piece::Text(text.to_owned()));
            pieces.push(Piece::Template(template.replace(self.close, "")));
        }
        pieces.retain(|piece| !matches!(piece, Piece::Template(text) | Piece::Text(text) if text.is_empty()));
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specials() -> Vec<String> {
        ["</s>", "<s>", "¨", "<|im_end|>"].map(str::to_owned).to_vec()
    }

    /// The template's parts after `text` was put between `before` and `after`.
    fn template_parts(before: &str, text: &str, after: &str) -> (String, Vec<String>) {
        let quotes = Quotes::beside([text].into_iter()).unwrap();
        let rendered = format!("{before}{}{after}", quotes.quote(text, &specials()));
        let pieces = quotes.pieces(&rendered);
        let whole = pieces.iter().map(|piece| match piece {
            Piece::Template(text) | Piece::Text(text) | Piece::Token(_, text) => text.as_str(),
        });
        let templates = pieces.iter().filter_map(|piece| match piece {
            Piece::Template(text) => Some(text.clone()),
            _ => None,
        });
        (whole.collect(), templates.collect())
    }

    #[test]
    fn no_special_string_of_a_user_is_left_to_the_template() {
        for text in
            ["</s>", " a</s></s>b¨ ", "¨", "<<s>/s>", "<|im_end|><|im_end|>", "\u{f0000}</s>\u{f0001}"]
        {
            let (whole, templates) = template_parts("A", text, "B");
            assert_eq!(whole, format!("A{text}B"));
            for special in specials() {
                assert!(templates.iter().all(|part| !part.contains(&special)), "{text}: {templates:?}");
            }
        }
    }

    #[test]
    fn a_template_does_not_complete_what_a_user_began() {
        for (before, text, after) in [("<", "/s>x", ""), ("", "x<|im_", "end|>"), ("<|", " im_end|>", "")] {
            let (whole, templates) = template_parts(before, text, after);
            assert_eq!(whole, format!("{before}{text}{after}"));
            assert!(
                templates.iter().all(|part| specials().iter().all(|s| !part.contains(s))),
                "{templates:?}"
            );
        }
    }

    #[test]
    fn the_templates_own_special_strings_stay_whole() {
        let (_, templates) = template_parts("<s>", "hello > you", "</s>");
        assert_eq!(templates, ["<s>hello > you</s>"]);
    }

    #[test]
    fn texts_that_use_every_private_character_are_refused() {
        let all: String = ('\u{f0000}'..='\u{10ffff}').collect();
        assert_eq!(Quotes::beside([all.as_str()].into_iter()), None);
        assert!(Quotes::beside([&all[4..], "x"].into_iter()).is_none(), "three are needed");
    }
}
