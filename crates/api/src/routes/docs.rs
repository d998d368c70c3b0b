//! `/docs`: the OpenAPI document as a page. It has no script and loads nothing.

use std::fmt::Write;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use serde_json::Value;
use utoipa::openapi::{OpenApi, RefOr, Schema};

use super::document;
use crate::playground::{Page, source};
use crate::state::AppState;

const STYLE: &str = "body{max-width:60rem;margin:2rem auto;padding:0 1rem;font:16px/1.5 system-ui,sans-serif;\
color:#1b2128;background:#fff}h1,h2,h3{line-height:1.2}h2{margin-top:3rem;border-top:1px solid #d5dae0;padding-top:1rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;\
border-bottom:1px solid #e6e9ed}td:first-child{white-space:nowrap}code,pre{font:14px/1.45 ui-monospace,monospace}\
pre{background:#f3f5f7;padding:.8rem;overflow-x:auto}a{color:#0b5cad}small{color:#566070}\
@media(prefers-color-scheme:dark){body{background:#12161b;color:#dde3ea}pre{background:#1b2128}\
th,td,h2{border-color:#2c343d}a{color:#7db7f0}small{color:#98a4b1}}";

/// The route of the page.
pub(super) fn routes() -> Router<AppState> {
    let html = html(&document());
    let policy = format!(
        "default-src 'none'; style-src '{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        source(STYLE)
    );
    let page = Page::new(html, &policy);
    Router::new().route("/docs", get(async move |headers: HeaderMap| page.answer(&headers)))
}

fn html(document: &OpenApi) -> String {
    let mut page = String::new();
    let title = escaped(&document.info.title);
    let about = prose(document.info.description.as_deref().unwrap_or_default());
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}: the API</title><style>{STYLE}</style>\
         <h1>{title}: the API</h1><p>{about}</p><p>The same for programs: <a href=\"openapi.json\">openapi.json</a>.\
         </p><ul>"
    );
    let operations = operations(document);
    for operation in &operations {
        let Operation { id, method, path, summary, .. } = operation;
        let _ = write!(page, "<li><a href=\"#{id}\"><code>{method} {path}</code></a> {summary}");
    }
    page.push_str("</ul>");
    for operation in &operations {
        operation.write(&mut page);
    }
    page.push_str("<h1>Types</h1>");
    let schemas = document.components.iter().flat_map(|components| &components.schemas);
    for (name, schema) in schemas {
        write_type(&mut page, name, schema);
    }
    page.push_str("</html>\n");
    page
}

/// A method of a path, as text that is safe in the page.
struct Operation {
    id: String,
    method: &'static str,
    path: String,
    summary: String,
    about: String,
    /// The type of the body, and an example.
    request: Option<(String, Option<String>)>,
    /// Status, meaning, type.
    answers: Vec<(String, String, String)>,
}

fn operations(document: &OpenApi) -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in [("GET", &item.get), ("POST", &item.post)] {
            let Some(operation) = operation else { continue };
            let value = serde_json::to_value(operation).unwrap_or_default();
            let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
            let body = &value["requestBody"]["content"]["application/json"]["schema"];
            let request = body.is_object().then(|| (kind(body), example(document, body)));
            let answers = value["responses"].as_object().into_iter().flatten().map(|(status, answer)| {
                let answer = resolved(document, answer);
                let schema = &answer["content"]["application/json"]["schema"];
                let kind = if schema.is_object() { kind(schema) } else { String::new() };
                (escaped(status), prose(answer["description"].as_str().unwrap_or_default()), kind)
            });
            found.push(Operation {
                id: escaped(&format!("{}-{path}", method.to_lowercase())),
                method,
                path: escaped(path),
                summary: prose(&text("summary")),
                about: prose(&text("description")),
                request,
                answers: answers.collect(),
            });
        }
    }
    found
}

impl Operation {
    fn write(&self, page: &mut String) {
        let Self { id, method, path, summary, about, request, answers } = self;
        let _ = write!(page, "<h2 id=\"{id}\"><code>{method} {path}</code></h2><p>{summary}</p>");
        if !about.is_empty() {
            let _ = write!(page, "<p>{about}</p>");
        }
        if let Some((kind, example)) = request {
            let _ = write!(page, "<p>Body: {kind}</p>");
            if let Some(example) = example {
                let _ = write!(
                    page,
                    "<pre>curl -s localhost:8080{path} -H 'content-type: application/json' \\\n  -d '{example}'</pre>"
                );
            }
        }
        page.push_str("<table><tr><th>status<th>answer<th>type");
        for (status, about, kind) in answers {
            let _ = write!(page, "<tr><td>{status}<td>{about}<td>{kind}");
        }
        page.push_str("</table>");
    }
}

/// The example of a body's type, for a shell's single quotes.
fn example(document: &OpenApi, body: &Value) -> Option<String> {
    let schema = resolved(document, body);
    let example = schema.get("example").filter(|example| !example.is_null())?;
    Some(escaped(&example.to_string().replace('\'', "'\\''")))
}

/// The target of a reference, or the value itself.
fn resolved(document: &OpenApi, value: &Value) -> Value {
    let Some(reference) = value["$ref"].as_str() else { return value.clone() };
    let Some(components) = &document.components else { return Value::Null };
    let name = reference.rsplit('/').next().unwrap_or_default();
    let found = match reference.contains("/schemas/") {
        true => components.schemas.get(name).and_then(|schema| serde_json::to_value(schema).ok()),
        false => components.responses.get(name).and_then(|answer| serde_json::to_value(answer).ok()),
    };
    found.unwrap_or_default()
}

fn write_type(page: &mut String, name: &str, schema: &RefOr<Schema>) {
    let value = serde_json::to_value(schema).unwrap_or_default();
    let about = prose(value["description"].as_str().unwrap_or_default());
    let _ = write!(page, "<h3 id=\"type-{0}\">{0}</h3><p>{about}</p>", escaped(name));
    if let RefOr::T(Schema::Object(object)) = schema
        && !object.properties.is_empty()
    {
        fields(page, object);
        return;
    }
    let variants = ["oneOf", "anyOf", "allOf"].iter().find_map(|of| value[of].as_array());
    let Some(variants) = variants else {
        let _ = write!(page, "<p>{}</p>", kind(&value));
        return;
    };
    page.push_str("<table><tr><th>one of<th>meaning");
    for variant in variants {
        let about = prose(variant["description"].as_str().unwrap_or_default());
        let _ = write!(page, "<tr><td>{}<td>{about}", kind(variant));
    }
    page.push_str("</table>");
}

/// The fields of an object, in the order of the document.
fn fields(page: &mut String, object: &utoipa::openapi::Object) {
    page.push_str("<table><tr><th>field<th>type<th>meaning");
    for (field, schema) in &object.properties {
        let value = serde_json::to_value(schema).unwrap_or_default();
        let inner = value["oneOf"]
            .as_array()
            .and_then(|parts| parts.iter().find_map(|part| part["description"].as_str()));
        let about = prose(value["description"].as_str().or(inner).unwrap_or_default());
        let mark = if object.required.contains(field) { " <small>required</small>" } else { "" };
        let _ = write!(page, "<tr><td><code>{}</code>{mark}<td>{}<td>{about}", escaped(field), kind(&value));
    }
    page.push_str("</table>");
}

/// A type in a few words, with a link where it has a name.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escaped(reference.rsplit('/').next().unwrap_or_default());
        return format!("<a href=\"#type-{name}\">{name}</a>");
    }
    let joined = |kinds: Vec<String>| kinds.join(" or ");
    for of in ["oneOf", "anyOf", "allOf"] {
        if let Some(parts) = schema[of].as_array() {
            return joined(parts.iter().map(kind).collect());
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        return joined(
            values.iter().map(|value| format!("<code>{}</code>", escaped(&value.to_string()))).collect(),
        );
    }
    let names: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => return "any".to_owned(),
    };
    let named = |name: &str| match name {
        "array" if schema["items"].is_object() => format!("list of {}", kind(&schema["items"])),
        "object" if schema["properties"].is_object() => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            joined_fields(fields.map(|(field, value)| (field.as_str(), kind(value))))
        }
        name => escaped(name),
    };
    let kind = joined(names.into_iter().map(named).collect());
    let bound = |field: &str, text: &str| match &schema[field] {
        Value::Null => String::new(),
        bound => format!(", {text} {}", escaped(&bound.to_string())),
    };
    kind + &bound("minimum", "at least") + &bound("maximum", "at most")
}

fn joined_fields<'a>(fields: impl Iterator<Item = (&'a str, String)>) -> String {
    let fields: Vec<String> =
        fields.map(|(field, kind)| format!("<code>{}</code>: {kind}", escaped(field))).collect();
    format!("object of {}", fields.join(", "))
}

/// Text of the document, with what stands between backticks as code.
fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(number, part)| match number % 2 {
            0 => escaped(part),
            _ => format!("<code>{}</code>", escaped(part)),
        })
        .collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_path_and_type_and_loads_nothing() {
        let document = document();
        let page = html(&document);
        for path in document.paths.paths.keys() {
            assert!(page.contains(&format!(" {}</code></h2>", escaped(path))), "{path}");
        }
        let schemas = &document.components.as_ref().unwrap().schemas;
        for name in schemas.keys() {
            assert!(page.contains(&format!("<h3 id=\"type-{name}\">")), "{name}");
        }
        for link in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(page.contains(&format!("id=\"{link}\"")), "{link} leads nowhere");
        }
        for foreign in ["<script", "src=", "http://", "https://", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.len() < 256_000, "{} bytes", page.len());
    }

    /// A reader meets the text before its settings.
    #[test]
    fn fields_stand_in_the_order_of_their_declaration() {
        let page = html(&document());
        let fill = page.split_once("<h3 id=\"type-FillRequest\">").unwrap().1;
        let at = |field: &str| fill.find(&format!("<code>{field}</code>")).unwrap();
        assert!(at("prefix") < at("suffix") && at("suffix") < at("length") && at("length") < at("seed"));
    }
}
