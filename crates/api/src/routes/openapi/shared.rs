//! Parts that many routes share in the document: errors, headers of answers, the header of requests. Routes
//! refer to them.

use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{
    Components, Content, Object, ObjectBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Type,
};

/// The routes that an error, or a header of whole answers, belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// All.
    Any,
    /// Those that ask for a key where there are keys.
    Keyed,
    /// Those of them that take a body.
    Body,
    /// Those of them that generate.
    Generating,
}

/// An error: its status, its name in the document, whose it is, what it means, its own headers.
type Failure = (&'static str, &'static str, Of, &'static str, &'static [&'static str]);

const FAILURES: [Failure; 13] = [
    ("400", "BadRequest", Of::Body, "The request is wrong; `param` and `code` say where and why", &[]),
    (
        "401",
        "Unauthorized",
        Of::Keyed,
        "The server has keys, and this is none of them",
        &["www-authenticate"],
    ),
    (
        "403",
        "Forbidden",
        Of::Any,
        "On a loopback address, or with --allowed-host: `Host` is no name of this server",
        &[],
    ),
    ("404", "NotFound", Of::Any, "Nothing is at this path, or the model is not served here", &[]),
    ("405", "MethodNotAllowed", Of::Any, "Another method than those of this path", &["allow"]),
    ("408", "RequestTimeout", Of::Body, "The body did not arrive in time; the connection is closed", &[]),
    ("413", "ContentTooLarge", Of::Body, "The body is larger than `limits.body_bytes` of /v1/models", &[]),
    ("415", "UnsupportedMediaType", Of::Body, "The body is not `application/json`, or it is compressed", &[]),
    (
        "429",
        "TooManyRequests",
        Of::Body,
        "The client has used up its requests or tokens of this minute",
        &["retry-after", "retry-after-ms", "x-should-retry"],
    ),
    ("431", "RequestHeaderFieldsTooLarge", Of::Any, HEAD_TOO_LARGE, &[]),
    ("500", "InternalServerError", Of::Any, "Internal error; see the server's log", &["x-should-retry"]),
    (
        "503",
        "ServiceUnavailable",
        Of::Generating,
        "No room, or the server is stopping: another replica may answer",
        &["retry-after", "retry-after-ms"],
    ),
    (
        "504",
        "GatewayTimeout",
        Of::Generating,
        "Its time was over before any text was settled",
        &["x-should-retry"],
    ),
];

const HEAD_TOO_LARGE: &str =
    "The head is larger than 16 KiB or, over HTTP/1.1, has more than 64 headers; without a body";

/// A header: its name, which whole answers have it, its type, what it says.
const HEADERS: [(&str, Option<Of>, Type, &str); 18] = [
    (
        "x-request-id",
        Some(Of::Any),
        Type::String,
        "The request's own, when it is 1 to 128 letters, digits, dots, underscores and hyphens, or a fresh one",
    ),
    (
        "x-ratelimit-limit-requests",
        Some(Of::Keyed),
        Type::Integer,
        "Where requests are limited: how many a minute",
    ),
    ("x-ratelimit-remaining-requests", Some(Of::Keyed), Type::Integer, "How many are left"),
    ("x-ratelimit-reset-requests", Some(Of::Keyed), Type::String, "Until all are back, such as `1.5s`"),
    (
        "x-ratelimit-limit-tokens",
        Some(Of::Keyed),
        Type::Integer,
        "Where tokens are limited: how many a minute, given and to be generated",
    ),
    ("x-ratelimit-remaining-tokens", Some(Of::Keyed), Type::Integer, "How many are left"),
    ("x-ratelimit-reset-tokens", Some(Of::Keyed), Type::String, "Until all are back, such as `1.5s`"),
    ("x-ignored-params", Some(Of::Body), Type::String, "Fields of the body without effect, at most 20"),
    (
        "x-deprecated-params",
        Some(Of::Body),
        Type::String,
        "Former names of fields that the body uses, each with the present one; they are accepted for one version",
    ),
    ("x-served-model", Some(Of::Body), Type::String, "The model"),
    (
        "x-engine-ms",
        Some(Of::Generating),
        Type::Integer,
        "Milliseconds in the queue and in evaluations; not of streams",
    ),
    ("openai-processing-ms", Some(Of::Generating), Type::Integer, "The same"),
    (
        "x-unmask-warning",
        Some(Of::Generating),
        Type::String,
        "A canvas is longer than those that the model was trained on",
    ),
    ("retry-after", None, Type::Integer, "Seconds until there should be room, 1 to 60"),
    ("retry-after-ms", None, Type::Integer, "The same in milliseconds"),
    ("x-should-retry", None, Type::String, "`false`: it would fail alike"),
    ("allow", None, Type::String, "The methods that there are"),
    ("www-authenticate", None, Type::String, "`Bearer`"),
];

/// The one header that requests may have.
const TIMEOUT: &str = "x-request-timeout-ms";

/// The schema of a stream's events.
const EVENT: &str = "ServerSentEvent";

/// Tells all of it in the document's shared part.
pub(super) fn describe(components: &mut Components) {
    for (status, name, of, description, own) in FAILURES {
        let limited = of != Of::Any && status != "401";
        let common = HEADERS.iter().filter(|(_, whole, ..)| match whole {
            Some(Of::Any) => status != "431",
            Some(Of::Keyed) => limited,
            _ => false,
        });
        let headers = common.map(|(header, ..)| *header).chain(own.iter().copied());
        let mut response = headers.fold(Response::builder().description(description), refer);
        if status != "431" {
            let body = Content::new(Some(Ref::from_schema_name("ErrorBody")));
            response = response.content("application/json", body);
        }
        components.responses.insert(name.to_owned(), response.into());
    }
    for (name, _, kind, description) in HEADERS {
        let header: Header =
            HeaderBuilder::new().schema(Some(Object::with_type(kind))).description(Some(description)).build();
        components.headers.insert(name.to_owned(), header.into());
    }
    let text = || Object::with_type(Type::String);
    let event = ObjectBuilder::new()
        .description(Some("One event of a stream, as its readers take it apart"))
        .property("event", text())
        .property("data", text())
        .required("data");
    components.schemas.insert(EVENT.to_owned(), event.into());
    let milliseconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    let timeout: Parameter = ParameterBuilder::new()
        .name(TIMEOUT)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("The same as `timeout_ms`; the earlier one counts"))
        .schema(Some(milliseconds))
        .build();
    components.parameters.insert(TIMEOUT.to_owned(), timeout.into());
}

fn refer(response: ResponseBuilder, header: &str) -> ResponseBuilder {
    response.header_ref(header, Ref::new(format!("#/components/headers/{header}")))
}

/// Adds what an operation shares with others: errors that it does not describe itself, and headers.
pub(super) fn complete(operation: &mut Operation, keyed: bool) {
    let body = keyed && operation.request_body.is_some();
    let generating = operation.tags.iter().flatten().any(|tag| tag == "generation");
    if generating {
        let timeout = Ref::new(format!("#/components/parameters/{TIMEOUT}"));
        operation.parameters.get_or_insert_default().push(RefOr::Ref(timeout));
    }
    let has = |of: Of| match of {
        Of::Any => true,
        Of::Keyed => keyed,
        Of::Body => body,
        Of::Generating => generating,
    };
    for (status, name, ..) in FAILURES.into_iter().filter(|(_, _, of, ..)| has(*of)) {
        let shared = Ref::new(format!("#/components/responses/{name}"));
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| shared.into());
    }
    if let Some(RefOr::T(whole)) = operation.responses.responses.get_mut("200") {
        for (name, ..) in HEADERS.into_iter().filter(|(_, of, ..)| of.is_some_and(has)) {
            let shared = Ref::new(format!("#/components/headers/{name}"));
            whole.headers.insert(name.to_owned(), RefOr::Ref(shared));
        }
        if generating {
            let event = Content::new(Some(Ref::from_schema_name(EVENT)));
            whole.content.insert("text/event-stream".to_owned(), event.into());
        }
    }
}
