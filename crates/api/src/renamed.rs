//! Former names of fields, which are accepted for one version.

use axum::http::HeaderValue;

/// A field that has another name now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// The former name.
    pub old: &'static str,
    /// The present name, with its path.
    pub new: &'static str,
}

/// The former names that a body uses: those that stand in it as the key of a value.
pub(super) fn used(bytes: &[u8], names: &'static [Renamed]) -> Vec<Renamed> {
    names.iter().copied().filter(|renamed| has_key(bytes, renamed.old)).collect()
}

/// True if a quoted `name` stands before a colon. A text that quotes it has a backslash before its quotation marks.
fn has_key(bytes: &[u8], name: &str) -> bool {
    let quoted = format!("\"{name}\"");
    let mut places = bytes.windows(quoted.len()).enumerate().filter(|(_, part)| *part == quoted.as_bytes());
    places.any(|(at, _)| {
        let escaped = at.checked_sub(1).is_some_and(|before| bytes[before] == b'\\');
        !escaped && bytes[at + quoted.len()..].trim_ascii_start().first() == Some(&b':')
    })
}

/// The value of `x-deprecated-params`.
pub(crate) fn header(renamed: &[Renamed]) -> Option<HeaderValue> {
    let names: Vec<String> =
        renamed.iter().map(|Renamed { old, new }| format!("{old} (use {new})")).collect();
    HeaderValue::from_str(&names.join(", ")).ok().filter(|_| !names.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[Renamed] =
        &[Renamed { old: "heal", new: "token_healing" }, Renamed { old: "return", new: "include" }];

    #[test]
    fn keys_are_told_from_texts_that_quote_them() {
        let olds = |body: &str| -> Vec<&str> {
            used(body.as_bytes(), NAMES).iter().map(|renamed| renamed.old).collect()
        };
        assert_eq!(olds(r#"{"prefix": "a", "return" : "holes", "heal":true}"#), ["heal", "return"]);
        assert_eq!(olds(r#"{"prefix": "\"return\": 1", "suffix": "return", "stop": ["heal"]}"#), [""; 0]);
        assert_eq!(olds("\"heal\""), [""; 0]);
        let told = header(&used(br#"{"return":"holes"}"#, NAMES));
        assert_eq!(told.as_ref().map(HeaderValue::as_bytes), Some(&b"return (use include)"[..]));
        assert_eq!(header(&[]), None);
    }
}
