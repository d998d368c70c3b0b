//! Request bodies: JSON with errors that name the field, and one policy for fields that a route does not
//! know.

mod surrogates;
mod unknown;
mod wording;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value, json};

use self::unknown::{DEEPEST, Unknown, depth};
use crate::error::{ApiError, shown};
use crate::fair_pool::Abandoned;
use crate::observation::Observation;
use crate::renamed::{self, Renamed};
use crate::state::AppState;

/// A route's policy for fields that its type does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// 400: typing errors must not pass in silence.
    Refuse,
    /// Clients send whatever their SDK knows: harmless ones pass, ones that would change the result are
    /// refused unless they ask for nothing, and the rest are ignored and named in a header.
    Tolerate,
}

/// A type that is a request's body.
pub trait RequestBody: DeserializeOwned + Send + 'static {
    /// The route's policy.
    const UNKNOWN_FIELDS: UnknownFields;
    /// True if half of a surrogate pair becomes U+FFFD, because editors cut texts by UTF-16 units; otherwise
    /// it is refused.
    const REPAIRS_SURROGATES: bool = false;
    /// Former names of its fields.
    const RENAMED: &'static [Renamed] = &[COMMIT_RULE];
}

/// The former name of a field that every generating route has.
pub(crate) const COMMIT_RULE: Renamed = Renamed { old: "quota", new: "diffusion.commit_rule" };

/// A decoded body.
#[derive(Debug)]
pub struct Body<T> {
    /// The request.
    pub request: T,
    /// Names of fields that had no effect, for the `x-ignored-params` header: the first of them.
    pub ignored: Vec<String>,
    /// Its size in bytes.
    pub bytes: usize,
}

/// Fields that change nothing about the answer; accepted and forgotten.
const HARMLESS: [&str; 16] = [
    "user",
    "safety_identifier",
    "metadata",
    "store",
    "service_tier",
    "prompt_cache_key",
    "parallel_tool_calls",
    "reasoning_effort",
    "cache_prompt",
    "id_slot",
    "samplers",
    "n_keep",
    "timings_per_token",
    "keep_alive",
    "spaces_between_special_tokens",
    "add_special_tokens",
];

/// Fields that would change the answer and are not offered, with the values that ask for nothing.
fn neutral_values(field: &str) -> Option<Value> {
    Some(match field {
        "echo"
        | "use_beam_search"
        | "logprobs"
        | "diffusing"
        | "early_stopping"
        | "include_stop_str_in_output"
        | "return_token_ids"
        | "return_tokens_as_token_ids" => json!([false]),
        "skip_special_tokens" => json!([true]),
        "best_of" | "length_penalty" => json!([1]),
        "top_logprobs" => json!([0]),
        "modalities" => json!([["text"]]),
        "tool_choice" | "function_call" => json!(["none", "auto"]),
        "tools" | "functions" | "stop_token_ids" | "allowed_token_ids" | "bad_words"
        | "logits_processors" => {
            json!([[]])
        }
        "response_format" => json!([{ "type": "text" }]),
        "audio"
        | "chat_template"
        | "structured_outputs"
        | "guided_json"
        | "guided_regex"
        | "guided_choice"
        | "guided_grammar"
        | "grammar"
        | "json_schema"
        | "lora"
        | "prediction"
        | "prompt_logprobs"
        | "truncate_prompt_tokens"
        | "prompt_embeds" => json!([]),
        _ => return None,
    })
}

impl<T: RequestBody> FromRequest<AppState> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        check_media_type(request.headers())?;
        let limit = state.limits.body_bytes;
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > limit) {
            // Refused before a byte of it is read.
            return Err(ApiError::BodyTooLarge { limit });
        }
        let time = state.limits.body_time;
        let observation = request.extensions().get::<Observation>().cloned();
        let client = observation.as_ref().map(Observation::client).unwrap_or_default();
        let large = announced.is_none_or(|length| length > AT_ONCE);
        // Held until the body is decoded.
        let size = announced.unwrap_or(limit);
        let turn = if large { Some(state.bodies.turn(client, size).await) } else { None };
        let bytes = tokio::time::timeout(time, read(request.into_body(), announced, limit)).await;
        let bytes = bytes.map_err(|_| ApiError::BodyTimeout { limit: time })??;
        let strict = state.limits.strict_params;
        if let Some(observation) = &observation {
            observation.renamed(renamed::used(&bytes, T::RENAMED));
        }
        if bytes.len() <= AT_ONCE {
            return parse(&bytes, strict);
        }
        let decode = move |_: &Abandoned| {
            let parsed = parse(&bytes, strict);
            drop((bytes, turn));
            parsed
        };
        let parsed = state.pool.run(client, decode).await;
        parsed.unwrap_or(Err(ApiError::Internal))
    }
}

/// Bytes of a body that is decoded at once. A larger one takes long enough, and enough memory, to hold up others: it is
/// read and decoded when it is its client's turn.
const AT_ONCE: usize = 16 * 1024;

/// All of a body of at most `limit` bytes, in one piece of memory: pieces of the connection's would be kept apart by
/// what is allocated between them.
async fn read(
    mut body: axum::body::Body,
    announced: Option<usize>,
    limit: usize,
) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0));
    while let Some(frame) = body.frame().await {
        let unreadable = |_| ApiError::Body {
            code: "invalid_json",
            param: None,
            message: "the request body could not be read".to_owned(),
        };
        let Ok(data) = frame.map_err(unreadable)?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(ApiError::BodyTooLarge { limit });
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// A body must say that it is JSON, which also keeps other sites' forms out, and must not be compressed.
fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(ApiError::MediaType { message: "compressed request bodies are not accepted" });
    }
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::MediaType { message: "send the body as `content-type: application/json`" })
}

/// Decodes a body and applies the route's policy to fields that its type does not have.
fn parse<T: RequestBody>(bytes: &[u8], strict: bool) -> Result<Body<T>, ApiError> {
    if T::REPAIRS_SURROGATES {
        return decode(&surrogates::replaced(bytes), strict);
    }
    let decoded = decode(bytes, strict);
    match (&decoded, surrogates::first(bytes)) {
        (Err(ApiError::Body { code: "invalid_json", .. }), Some((at, half))) => {
            let message = format!(
                "the request body holds {half} at byte {at}, one half of a surrogate pair: a text was cut within a \
                 character; cut texts between characters"
            );
            Err(ApiError::Body { code: "invalid_json", param: None, message })
        }
        _ => decoded,
    }
}

fn decode<T: RequestBody>(bytes: &[u8], strict: bool) -> Result<Body<T>, ApiError> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        let message =
            "the request body begins with a byte order mark (EF BB BF); send it without one".to_owned();
        return Err(ApiError::Body { code: "invalid_json", param: None, message });
    }
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        // serde would take the values of a list for the fields in the order of their declaration.
        let message = "the request body must be an object, not a list".to_owned();
        return Err(ApiError::Body { code: "invalid_type", param: None, message });
    }
    let mut unknown = Unknown::default();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    // An optional field stands in the path as a `?` of its own.
    let mut note = |path: serde_ignored::Path<'_>| unknown.note(path.to_string().replace("?.", ""));
    let watched = serde_ignored::Deserializer::new(&mut json, &mut note);
    let request = serde_path_to_error::deserialize(watched).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        // Where one of several names is expected, serde_json calls other values bad syntax.
        let misnamed = error.is_syntax() && error.to_string().starts_with("expected value");
        if misnamed && serde_json::from_slice::<IgnoredAny>(bytes).is_ok() {
            let message = format!("`{path}` must be a string");
            return ApiError::Body { code: "invalid_type", param: Some(path), message };
        }
        refused(&path, error)
    })?;
    json.end().map_err(|error| refused(".", error))?;
    if unknown.first.is_some() && depth(bytes) > DEEPEST {
        // The parser passes over values that are not wanted, however deep they are.
        let message = format!("the request body is not valid JSON: it is more than {DEEPEST} levels deep");
        return Err(ApiError::Body { code: "invalid_json", param: None, message });
    }
    if let (UnknownFields::Refuse, Some(field)) = (T::UNKNOWN_FIELDS, &unknown.first) {
        return Err(unknown_parameter(field));
    }
    let ignored = unknown.ignored(bytes)?;
    match ignored.first().filter(|_| strict) {
        Some(field) => Err(unknown_parameter(field)),
        None => Ok(Body { request, ignored, bytes: bytes.len() }),
    }
}

/// Refuses a field that is not offered, unless its value asks for nothing.
fn judge(field: &str, values: &Map<String, Value>) -> Result<(), ApiError> {
    let value = values.get(field).unwrap_or(&Value::Null);
    if ask_for_no_tool(field, values) {
        return Ok(());
    }
    let neutral = neutral_values(field).unwrap_or_default();
    let accepted = neutral.as_array().map_or(&[][..], Vec::as_slice);
    let same = |a: &Value, b: &Value| a == b || (a.is_number() && a.as_f64() == b.as_f64());
    if value.is_null() || accepted.iter().any(|neutral| same(neutral, value)) {
        return Ok(());
    }
    let mut names = vec!["null".to_owned()];
    names.extend(accepted.iter().map(Value::to_string));
    Err(ApiError::Unsupported { param: field.to_owned(), neutral: names.join(" or ") })
}

/// Returns true if a field lists tools of which none may be used: agents end with such a request.
fn ask_for_no_tool(field: &str, fields: &Map<String, Value>) -> bool {
    let choice = match field {
        "tools" => "tool_choice",
        "functions" => "function_call",
        _ => return false,
    };
    fields.get(choice).is_some_and(|choice| choice == "none")
}

/// The error for a field that a route does not know.
pub(crate) fn unknown_parameter(field: &str) -> ApiError {
    let field = shown(field);
    let message = format!("`{field}` is not a field of this request; GET /openapi.json lists the fields");
    ApiError::Body { code: "unknown_parameter", param: Some(field), message }
}

/// serde's error as ours. `path` is where it happened, `.` for the top.
fn refused(path: &str, error: serde_json::Error) -> ApiError {
    let text = error.to_string();
    // serde_json appends the place in the text; for a shape error the field says more.
    let reason = text.split(" at line ").next().unwrap_or(&text);
    if !error.is_data() {
        let message = format!("the request body is not valid JSON: {text}");
        return ApiError::Body { code: "invalid_json", param: None, message };
    }
    let quoted = reason.split('`').nth(1).unwrap_or_default();
    let inner = |field: &str| if path == "." { field.to_owned() } else { format!("{path}.{field}") };
    if reason.starts_with("unknown field") {
        // The path already ends in the unknown field.
        let parent = path.strip_suffix(quoted).map_or(path, |parent| parent.trim_end_matches('.'));
        let field =
            if parent.is_empty() || parent == "." { quoted.to_owned() } else { format!("{parent}.{quoted}") };
        return unknown_parameter(&field);
    }
    let (code, param): (_, Option<String>) = if reason.starts_with("missing field") {
        ("missing_field", Some(inner(quoted)))
    } else if reason.starts_with("duplicate field") {
        ("invalid_json", Some(quoted.to_owned()))
    } else {
        ("invalid_type", (path != ".").then(|| path.to_owned()))
    };
    let param = param.map(|param| shown(&param));
    let message = match &param {
        _ if code != "invalid_type" => reason.to_owned(),
        Some(param) => wording::plain(&format!("`{param}`"), reason),
        None => wording::plain("the request body", reason),
    };
    ApiError::Body { code, param, message }
}

#[cfg(test)]
mod tests {
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
        for bad in ["\"5\"", "true", "1.5", "1e300", "[1]"] {
            let body = format!(r#"{{"prompt":"","n":{bad}}}"#);
            assert_eq!(failure(&body), ("invalid_type", field("n")), "{bad}");
        }
        assert_eq!(
            failure(r#"{"prompt":"","inner":{"stesp":1}}"#),
            ("unknown_parameter", field("inner.stesp"))
        );
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
}
