//! Serde's messages about wrong values, in the words of JSON: without names of Rust's types, and without the
//! value, which may be a part of a user's text.

/// The sentence for a value of the wrong kind at `subject`; `reason` is serde's, without the place in the
/// text.
pub(super) fn plain(subject: &str, reason: &str) -> String {
    let parts = ["invalid type: ", "invalid value: ", "invalid length "].iter();
    let rest = parts.filter_map(|start| reason.strip_prefix(start)).next();
    if let Some((found, expected)) = rest.and_then(|rest| rest.rsplit_once(", expected ")) {
        return sentence(subject, expected_kind(expected), found_kind(found));
    }
    if let Some((_, names)) =
        reason.strip_prefix("unknown variant ").and_then(|rest| rest.rsplit_once(", expected "))
    {
        return format!("{subject} must be {names}");
    }
    match reason.strip_prefix("expected ") {
        Some(expected) => format!("{subject} must be {expected}"),
        None => format!("{subject}: {reason}"),
    }
}

fn sentence(subject: &str, expected: &str, found: &str) -> String {
    // It has the right kind, and is too small or too large.
    if found == expected {
        return format!("{subject} is out of range");
    }
    format!("{subject} must be {expected}, not {found}")
}

fn found_kind(found: &str) -> &str {
    match found.split([' ', '`']).next().unwrap_or_default() {
        "string" | "character" => "a string",
        "integer" => "an integer",
        "floating" => "a number with a fraction",
        "boolean" => "a boolean",
        "sequence" => "a list",
        // The length of a list that was read as an object, value by value.
        digits if digits.starts_with(|c: char| c.is_ascii_digit()) => "a list",
        "map" => "an object",
        "null" | "unit" => "null",
        _ => "this",
    }
}

fn expected_kind(expected: &str) -> &str {
    let first = expected.split(' ').next().unwrap_or_default();
    match first {
        "struct" | "map" | "internally" => "an object",
        "sequence" | "tuple" => "a list",
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => "an integer",
        "f32" | "f64" => "a number",
        "string" | "variant" | "enum" => "a string",
        _ => match expected {
            "a sequence" => "a list",
            "a map" => "an object",
            "a JSON number" => "an integer",
            "a borrowed string" | "string or map" => "a string",
            other => other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_names_of_json() {
        for (reason, sentence) in [
            ("invalid type: string \"a, expected b\", expected i64", "`x` must be an integer, not a string"),
            ("invalid type: null, expected struct FillRequest", "`x` must be an object, not null"),
            (
                "invalid type: floating point `1.5`, expected u32",
                "`x` must be an integer, not a number with a fraction",
            ),
            ("invalid value: integer `-1`, expected u32", "`x` is out of range"),
            ("invalid type: boolean `true`, expected a sequence", "`x` must be a list, not a boolean"),
            ("invalid type: map, expected a string", "`x` must be a string, not an object"),
            ("unknown variant `se, expected cret`, expected one of `a`, `b`", "`x` must be one of `a`, `b`"),
            ("expected a string or a list of strings", "`x` must be a string or a list of strings"),
            (
                "invalid length 0, expected struct Message with 2 elements",
                "`x` must be an object, not a list",
            ),
            ("1.5 is not an integer from 0 to 9", "`x`: 1.5 is not an integer from 0 to 9"),
        ] {
            assert_eq!(plain("`x`", reason), sentence);
        }
    }
}
