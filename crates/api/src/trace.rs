//! The identity of a request: its id, and its place in a distributed trace.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use axum::http::HeaderMap;

/// A request's id: the client's own when it is harmless, else a fresh one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RequestId {
    /// From `x-request-id`: 1 to 128 letters, digits, dots, underscores and hyphens.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
        let harmless = |id: &&str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            (1..=128).contains(&id.len()) && id.chars().all(plain)
        };
        Self(given.filter(harmless).map_or_else(|| fresh(32), str::to_owned))
    }
}

/// The trace that a request is part of and the request's own span in it, as W3C Trace Context names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// 32 hexadecimal digits: the caller's, or the first of a new trace.
    pub trace_id: String,
    /// 16 hexadecimal digits: this request.
    pub span_id: String,
    /// The caller's span.
    pub parent_id: Option<String>,
}

impl Trace {
    /// From `traceparent`; one that is absent or malformed begins a new trace, as the specification says.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all("traceparent").iter();
        let parent = match (given.next(), given.next()) {
            (Some(only), None) => only.to_str().ok().and_then(parse),
            _ => None,
        };
        let (trace_id, parent_id) = parent
            .map_or_else(|| (fresh(32), None), |(trace, parent)| (trace.to_owned(), Some(parent.to_owned())));
        Self { trace_id, span_id: fresh(16), parent_id }
    }
}

/// Trace and parent of `version-trace-parent-flags`. Later versions may append fields.
fn parse(text: &str) -> Option<(&str, &str)> {
    let mut fields = text.split('-');
    let version = fields.next()?;
    let trace = fields.next()?;
    let parent = fields.next()?;
    let flags = fields.next()?;
    let hex = |field: &str, length: usize| {
        field.len() == length && field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let id = |field: &str, length| hex(field, length) && field.bytes().any(|byte| byte != b'0');
    let known = hex(version, 2) && version != "ff" && (version != "00" || fields.next().is_none());
    (known && id(trace, 32) && id(parent, 16) && hex(flags, 2)).then_some((trace, parent))
}

/// Random hexadecimal digits, at most 32. The standard library keys its maps from the operating system's
/// generator.
fn fresh(digits: usize) -> String {
    let half = |number: u8| RandomState::new().hash_one(number);
    let mut id = format!("{:016x}{:016x}", half(0), half(1));
    id.truncate(digits);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_trace_parent_is_taken_as_the_specification_says() {
        let parent = "b7ad6b7169203331";
        let good = format!("00-{TRACE}-{parent}-01");
        assert_eq!(parse(&good), Some((TRACE, parent)));
        assert_eq!(parse(&format!("cc-{TRACE}-{parent}-01-what-comes")), Some((TRACE, parent)));
        for bad in [
            "",
            "00",
            &format!("ff-{TRACE}-{parent}-01"),
            &format!("00-{TRACE}-{parent}-01-more"),
            &format!("00-{}-{parent}-01", "0".repeat(32)),
            &format!("00-{TRACE}-{}-01", "0".repeat(16)),
            &format!("00-{TRACE}-{parent}-1"),
            &format!("00-{}-{parent}-01", TRACE.to_uppercase()),
            &format!("00-{TRACE}{parent}-01"),
            &good.replace("0af", "0aé"),
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_read_begins_a_new_trace() {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", "nonsense".parse().unwrap());
        let trace = Trace::of(&headers);
        assert_eq!((trace.trace_id.len(), trace.span_id.len(), trace.parent_id), (32, 16, None));
    }
}
