//! Bodies and what is refused of them.

use serde::Deserialize;

use super::unknown::SHOWN;
use super::*;
use crate::request::fields::integer;

#[derive(Debug, Deserialize)]
struct Loose {
    #[serde(default, deserialize_with = "integer")]
    n: Option<i64>,
    #[expect(dead_code, reason = "only its presence is tested")]
    prompt: String,
    #[serde(default)]
    #[expect(dead_code, reason = "only its type is tested")]
    inner: Option<Inner>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    #[expect(dead_code, reason = "only its type is tested")]
    steps: Option<u32>,
}

impl RequestBody for Loose {
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Tolerate;
}

fn failure(body: &str) -> (&'static str, Option<String>) {
    let object = parse::<Loose>(body.as_bytes(), false).unwrap_err().object();
    (object.code.unwrap(), object.param)
}

#[test]
fn null_is_absent_and_whole_floats_are_integers() {
    let n = |text: &str| parse::<Loose>(text.as_bytes(), false).unwrap().request.n;
    assert_eq!(n(r#"{"prompt":"","n":null}"#), None);
    assert_eq!(n(r#"{"prompt":"","n":5.0}"#), Some(5));
    assert_eq!(n(r#"{"prompt":"","n":5,"inner":null}"#), Some(5));
}

#[test]
fn errors_name_the_code_and_the_field() {
    let field = |name: &str| Some(name.to_owned());
    assert_eq!(failure("{"), ("invalid_json", None));
    assert_eq!(failure(r#"{"prompt":""} x"#), ("invalid_json", None));
    assert_eq!(failure("{}"), ("missing_field", field("prompt")));
    assert_eq!(failure(r#"{"prompt":1}"#), ("invalid_type", field("prompt")));
    assert_eq!(failure(r#"{"prompt":"","prompt":""}"#), ("invalid_json", field("prompt")));
    let twice = parse::<Loose>(br#"{"prompt":"","prompt":""}"#, false).unwrap_err().object().message;
    assert_eq!(twice, "`prompt` is given twice");
    for bad in ["\"5\"", "true", "1.5", "1e300", "[1]"] {
        let body = format!(r#"{{"prompt":"","n":{bad}}}"#);
        assert_eq!(failure(&body), ("invalid_type", field("n")), "{bad}");
    }
    assert_eq!(failure(r#"{"prompt":"","inner":{"stesp":1}}"#), ("unknown_parameter", field("inner.stesp")));
    assert_eq!(failure(r#"{"prompt":"","inner":{"steps":"x"}}"#), ("invalid_type", field("inner.steps")));
}

/// Bodies with tens of thousands of unknown fields once took seconds.
#[test]
fn a_bounded_number_of_unknown_fields_is_kept() {
    let fields: String = (0..40_000).map(|number| format!(",\"x{number}\":1")).collect();
    let body = format!("{{\"prompt\":\"\"{fields},\"best_of\":1}}");
    let ignored = parse::<Loose>(body.as_bytes(), false).unwrap().ignored;
    assert_eq!(ignored, (0..SHOWN).map(|number| format!("x{number}")).collect::<Vec<_>>());
    let asks = body.replace("\"best_of\":1", "\"best_of\":2");
    assert_eq!(
        failure(&asks),
        ("unsupported_parameter", Some("best_of".to_owned())),
        "the last of them counts"
    );
}

#[test]
fn unknown_fields_are_judged_by_what_they_ask_for() {
    let ignored = |text: &str| parse::<Loose>(text.as_bytes(), false).unwrap().ignored;
    assert_eq!(ignored(r#"{"prompt":"","user":"x","logprobs":null,"best_of":1.0}"#), [""; 0]);
    assert_eq!(ignored(r#"{"prompt":"","mirostat":2}"#), ["mirostat"]);
    let field = Some("best_of".to_owned());
    assert_eq!(failure(r#"{"prompt":"","best_of":2}"#), ("unsupported_parameter", field));
}
