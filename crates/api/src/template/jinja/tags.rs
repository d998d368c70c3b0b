//! Tags that chat templates use and the template language here does not have.
//!
//! `{% generation %}` (transformers) says which text a training learns; `{% block %}` names a part that other
//! templates could replace, and there are none. Both become a scope, `{% with %}`, of the same text.

/// A template in which such tags are those of a scope. Its lines keep their numbers.
pub(super) fn with_scopes(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let (part, after) = next(&rest[at..]);
        match part {
            Part::Tag(text) => out.push_str(&scoped(text).unwrap_or_else(|| text.to_owned())),
            Part::Other(text) => out.push_str(text),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The part that begins at a brace.
enum Part<'a> {
    /// `{% … %}`.
    Tag(&'a str),
    /// A comment, an expression, or everything up to the end of `{% raw %}`; or the brace alone.
    Other(&'a str),
}

/// The part at the start of `text`, which begins with a brace, and what follows it.
fn next(text: &str) -> (Part<'_>, &str) {
    let whole = |length: usize| text.split_at(length.min(text.len()));
    if text.starts_with("{#") {
        let (part, after) = whole(text.find("#}").map_or(text.len(), |at| at + 2));
        return (Part::Other(part), after);
    }
    if text.starts_with("{{") {
        let (part, after) = whole(end_of_code(text, "}}"));
        return (Part::Other(part), after);
    }
    if !text.starts_with("{%") {
        let (part, after) = whole(1);
        return (Part::Other(part), after);
    }
    let (tag, after) = whole(end_of_code(text, "%}"));
    if words(tag).next() != Some("raw") {
        return (Part::Tag(tag), after);
    }
    let mut length = tag.len();
    while let Some(at) = text[length..].find("{%") {
        length += at;
        let end = &text[length..][..end_of_code(&text[length..], "%}")];
        length += if words(end).next() == Some("endraw") { end.len() } else { 2 };
        if words(end).next() == Some("endraw") {
            break;
        }
    }
    let (part, after) = whole(length);
    (Part::Other(part), after)
}

/// The end of the code that begins `text`: after the first `end` outside a string.
fn end_of_code(text: &str, end: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(2) {
        match quote {
            None if text[at..].starts_with(end) => return at + end.len(),
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(open) if c == open && !escaped => quote = None,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// The words of a tag.
fn words(tag: &str) -> impl Iterator<Item = &str> {
    let inner = tag.strip_prefix("{%").and_then(|inner| inner.strip_suffix("%}")).unwrap_or_default();
    inner.trim_matches(['-', '+']).split_whitespace()
}

/// The tag of a scope in place of one of those above.
fn scoped(tag: &str) -> Option<String> {
    let name = match words(tag).next()? {
        "generation" | "block" => "with",
        "endgeneration" | "endblock" => "endwith",
        _ => return None,
    };
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let sign =
        |found: Option<char>| found.filter(|c| matches!(c, '-' | '+')).map_or(String::new(), String::from);
    let before = sign(inner.chars().next());
    let after = sign(inner.chars().next_back());
    Some(format!("{{%{before} {name} {}{after}%}}", "\n".repeat(inner.matches('\n').count())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tags_become_scopes() {
        for (source, scopes) in [
            ("a{% generation %}b{% endgeneration %}c", "a{% with %}b{% endwith %}c"),
            ("{%- generation -%} x {%+ endgeneration-%}", "{%- with -%} x {%+ endwith -%}"),
            ("{% block head scoped %}{{ x }}{% endblock head %}", "{% with %}{{ x }}{% endwith %}"),
            ("{%\nblock a\n%}", "{% with \n\n%}"),
            (
                "{% raw %}{% generation %}{% endraw %}{%block b%}",
                "{% raw %}{% generation %}{% endraw %}{% with %}",
            ),
            ("{# {% generation %} #}", "{# {% generation %} #}"),
            ("{{ '{% generation %}' }}", "{{ '{% generation %}' }}"),
            ("{{ \"\\\"}}\" }}{% endblock %}", "{{ \"\\\"}}\" }}{% endwith %}"),
            ("{% set x = '%}{% block a %}' %}", "{% set x = '%}{% block a %}' %}"),
            ("{% if generation %}{% endif %}", "{% if generation %}{% endif %}"),
            ("{ % {%", "{ % {%"),
            ("{% raw %}{% generation", "{% raw %}{% generation"),
        ] {
            let plain = |text: &str| text.replace(" %}", "%}").replace(" -%}", "-%}");
            assert_eq!(plain(&with_scopes(source)), plain(scopes), "{source}");
        }
    }
}
