//! The three forms of a text with holes, which all become the same: texts with a hole between each two.

use super::request::{FillRequest, HoleOptions, Segment};
use crate::error::ApiError;
use crate::request::ranges::out_of_range;

/// Holes of a request.
pub(in crate::routes) const MOST_HOLES: usize = 64;

/// Characters of a marker.
const MOST_MARKER: usize = 64;

const DEFAULT_MARKER: &str = "<fill>";

/// The form of a text with holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `prefix` and `suffix`.
    Around,
    /// `segments`.
    Segments,
    /// `template`.
    Template,
}

impl Form {
    /// The field that errors about the text name.
    pub(super) fn text_field(self) -> &'static str {
        match self {
            Self::Around => "prefix",
            Self::Segments => "segments",
            Self::Template => "template",
        }
    }

    /// The field that errors about the lengths of all holes together name.
    pub(super) fn length_field(self) -> &'static str {
        if self == Self::Around { "length" } else { self.text_field() }
    }
}

/// A text with holes, as it was given.
#[derive(Debug)]
pub(super) struct GivenText {
    pub(super) form: Form,
    /// The text before each hole, and that after the last one. Some may be empty.
    pub(super) texts: Vec<String>,
    pub(super) holes: Vec<GivenHole>,
}

/// A hole, as it was given.
#[derive(Debug, Default)]
pub(super) struct GivenHole {
    /// Its place in the request, for errors.
    pub(super) at: String,
    pub(super) options: HoleOptions,
}

impl GivenText {
    /// Takes the text and its holes out of a request.
    ///
    /// # Errors
    /// More than one form, no hole or too many, no text, or a template that does not fit its holes.
    pub(super) fn of(request: &mut FillRequest) -> Result<Self, ApiError> {
        let prefix = request.prefix.take();
        let suffix = request.suffix.take();
        let segments = request.segments.take();
        let template = request.template.take();
        let marker = request.marker.take();
        let holes = request.holes.take();
        let around = prefix.is_some() || suffix.is_some();
        if [around, segments.is_some(), template.is_some()].into_iter().filter(|given| *given).count() > 1 {
            let param = if template.is_some() { "template" } else { "segments" };
            let message = "give `prefix` and `suffix`, or `segments`, or `template`, and only one of these";
            return Err(conflict(param, message));
        }
        if template.is_none() && (marker.is_some() || holes.is_some()) {
            let param = if marker.is_some() { "marker" } else { "holes" };
            return Err(conflict(param, "`marker` and `holes` need a `template`"));
        }
        let given = match (segments, template) {
            (Some(segments), _) => Self::of_segments(segments),
            (_, Some(template)) => Self::of_template(&template, marker.as_deref(), holes)?,
            _ => Self {
                form: Form::Around,
                texts: vec![prefix.unwrap_or_default(), suffix.unwrap_or_default()],
                holes: vec![GivenHole::default()],
            },
        };
        given.check(request.allow_empty.unwrap_or(false))?;
        Ok(given)
    }

    fn of_segments(segments: Vec<Segment>) -> Self {
        let mut texts = vec![String::new()];
        let mut holes = Vec::new();
        for (number, segment) in segments.into_iter().enumerate() {
            match segment {
                Segment::Text(text) => {
                    if let Some(last) = texts.last_mut() {
                        last.push_str(&text);
                    }
                }
                Segment::Hole(options) => {
                    holes.push(GivenHole { at: format!("segments[{number}]"), options });
                    texts.push(String::new());
                }
            }
        }
        Self { form: Form::Segments, texts, holes }
    }

    fn of_template(
        template: &str,
        marker: Option<&str>,
        holes: Option<Vec<HoleOptions>>,
    ) -> Result<Self, ApiError> {
        let marker = marker.unwrap_or(DEFAULT_MARKER);
        let characters = marker.chars().count();
        if !(1..=MOST_MARKER).contains(&characters) {
            let given = format!("a string of {characters} characters");
            return Err(out_of_range("marker", given, format!("a string of 1 to {MOST_MARKER} characters")));
        }
        let texts: Vec<String> = template.split(marker).map(str::to_owned).collect();
        let marked = texts.len() - 1;
        let options = holes.unwrap_or_else(|| vec![HoleOptions::default(); marked.min(MOST_HOLES + 1)]);
        // Too many are refused as such below.
        if options.len() != marked && marked <= MOST_HOLES {
            let message =
                format!("the marker stands in `template` {marked} times, but `holes` has {}", options.len());
            return Err(conflict(if marked == 0 { "template" } else { "holes" }, &message));
        }
        let hole = |(number, options)| GivenHole { at: format!("holes[{number}]"), options };
        let holes = options.into_iter().enumerate().map(hole).collect();
        Ok(Self { form: Form::Template, texts, holes })
    }

    fn check(&self, allow_empty: bool) -> Result<(), ApiError> {
        let field = self.form.text_field();
        let holes = self.texts.len() - 1;
        if holes == 0 {
            let hole = match self.form {
                Form::Template => format!(
                    "`{field}` does not hold a hole: its marker is `{DEFAULT_MARKER}`, or what `marker` says"
                ),
                _ => format!("`{field}` has no hole in it; a hole is an object, such as {{\"length\": 1}}"),
            };
            return Err(conflict(field, &hole));
        }
        if holes > MOST_HOLES {
            let given = format!("a text with {holes} holes");
            return Err(out_of_range(field, given, format!("a text with 1 to {MOST_HOLES} holes")));
        }
        if !allow_empty && self.texts.iter().all(String::is_empty) {
            let message = match self.form {
                Form::Around => {
                    "`prefix` and `suffix` are both empty; give one, or set `allow_empty`: true".to_owned()
                }
                _ => format!("`{field}` has no text; give some, or set `allow_empty`: true"),
            };
            return Err(conflict(field, &message));
        }
        Ok(())
    }
}

pub(super) fn conflict(param: &str, message: &str) -> ApiError {
    ApiError::Conflict { param: param.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn given(body: Value) -> Result<GivenText, ApiError> {
        GivenText::of(&mut serde_json::from_value(body).unwrap())
    }

    fn texts(body: Value) -> Vec<String> {
        given(body).unwrap().texts
    }

    #[test]
    fn adjacent_strings_are_one_text_and_adjacent_holes_have_none_between() {
        let segments = json!(["a", "b", { "hole": "x" }, {}, "c", "", "d"]);
        assert_eq!(texts(json!({ "segments": segments })), ["ab", "", "cd"]);
        assert_eq!(texts(json!({ "template": "__b", "marker": "_" })), ["", "", "b"]);
        assert_eq!(texts(json!({ "suffix": "b" })), ["", "b"]);
    }

    #[test]
    fn the_marker_is_matched_literally_from_left_to_right() {
        assert_eq!(texts(json!({ "template": "a.*b.*", "marker": ".*" })), ["a", "b", ""]);
        assert_eq!(texts(json!({ "template": "aaab", "marker": "aa" })), ["", "ab"]);
        let error = given(json!({ "template": "<FILL>" })).unwrap_err();
        assert_eq!(error.object().code, Some("conflicting_fields"));
    }

    proptest! {
        #[test]
        fn every_form_of_any_text_becomes_the_same_texts(parts in prop::collection::vec(any::<String>(), 2..9)) {
            let mut segments = vec![json!(parts[0])];
            for part in &parts[1..] {
                segments.extend([json!({}), json!(part)]);
            }
            let found = texts(json!({ "segments": segments, "allow_empty": true }));
            prop_assert_eq!(&found, &parts);
            // A marker that no part holds, and no two parts make up between them.
            let marker = "\u{10fffe}<\u{10ffff}>";
            let template = parts.join(marker);
            if template.matches(marker).count() == parts.len() - 1 {
                let found = texts(json!({ "template": template, "marker": marker, "allow_empty": true }));
                prop_assert_eq!(&found, &parts);
            }
            let found = texts(json!({ "prefix": parts[0], "suffix": parts[1], "allow_empty": true }));
            prop_assert_eq!(&found[..], &parts[..2]);
        }
    }
}
