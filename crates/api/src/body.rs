//! Request bodies: JSON with errors that name the field, and one policy for fields that a route does not
//! know.

mod offered;
mod surrogates;
#[cfg(test)]
mod tests;
mod unknown;
mod wording;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, IgnoredAny};

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
    let plain = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        return Err(ApiError::MediaType {
            message: "compressed request bodies are not accepted; send it without `content-encoding`",
        });
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
    if bytes.trim_ascii().is_empty() {
        let message = "the request body is empty; send a JSON object".to_owned();
        return Err(ApiError::Body { code: "invalid_json", param: None, message });
    }
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        // serde would take the values of a list for the fields in the order of their declaration.
        let message = "the request body must be an object, not a list".to_owned();
        return Err(ApiError::Body { code: "invalid_type", param: None, message });
    }
    let mut unknown = Unknown::default();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut note = |path: serde_ignored::Path<'_>| unknown.note(unknown::written(&path));
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

/// The sentence for a field that a body has twice, perhaps under another of its names.
fn given_twice(field: &str) -> String {
    const NAMES: [[&str; 2]; 5] = [
        ["seed", "random_seed"],
        ["token_healing", "heal"],
        ["include", "return"],
        ["commit_rule", "quota"],
        ["repetition_penalty", "repeat_penalty"],
    ];
    let last = field.rsplit('.').next().unwrap_or(field);
    match NAMES.iter().find(|[name, _]| *name == last) {
        Some([_, other]) => format!("`{field}` is given twice; `{other}` is the same field"),
        None => format!("`{field}` is given twice"),
    }
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
        ("invalid_json", Some(inner(quoted)))
    } else {
        ("invalid_type", (path != ".").then(|| path.to_owned()))
    };
    let param = param.map(|param| shown(&param));
    let message = match &param {
        Some(field) if reason.starts_with("duplicate field") => given_twice(field),
        Some(field) if code == "missing_field" => format!("missing field `{field}`"),
        _ if code != "invalid_type" => reason.to_owned(),
        Some(param) => wording::plain(&format!("`{param}`"), reason),
        None => wording::plain("the request body", reason),
    };
    ApiError::Body { code, param, message }
}
