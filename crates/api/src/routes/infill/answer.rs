//! llama.cpp's answer to `/infill`, whole and in events.

use axum::Json;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use unmask_scheduler::Timings;
use utoipa::ToSchema;

use crate::clock::milliseconds;
use crate::error::{ApiError, ErrorBody};
use crate::generation::{Running, Step};
use crate::request::options::Settings;
use crate::sse::{Grammar, KEEP_ALIVE, json_event};
use crate::state::AppState;
use crate::text_view::End;

/// A completion at the cursor.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Infilled {
    /// Number of the sample.
    #[schema(required = false)]
    index: usize,
    /// The text.
    #[schema(required = false)]
    content: String,
    /// Always empty.
    #[schema(required = false)]
    tokens: Vec<u32>,
    /// The model.
    #[schema(required = false)]
    model: String,
    /// True.
    #[schema(required = false)]
    stop: bool,
    /// `eos`, `word` (a stop string), `limit` (the canvas is full) or `none`.
    #[schema(required = false)]
    stop_type: &'static str,
    /// The stop string, when the request gave just one and the text ends before it.
    #[schema(required = false)]
    stopping_word: String,
    /// Tokens of the text.
    #[schema(required = false)]
    tokens_predicted: usize,
    /// Tokens given.
    #[schema(required = false)]
    tokens_evaluated: usize,
    /// 0: nothing is kept between requests.
    #[schema(required = false)]
    tokens_cached: usize,
    /// True if some of the given text was left out.
    #[schema(required = false)]
    truncated: bool,
    /// The settings of the generation.
    #[schema(value_type = Object, required = false)]
    generation_settings: Map<String, Value>,
    /// Times of the generation.
    #[schema(required = false)]
    timings: InfillTimings,
}

/// One completion, or a list of `n_cmpl`; of each, what `response_fields` leaves. Only the document has this type:
/// fields are chosen by name.
#[derive(Debug, ToSchema)]
#[schema(as = InfillAnswer)]
#[serde(untagged)]
pub enum Described {
    /// One.
    One(Box<Infilled>),
    /// Several.
    Several(Vec<Infilled>),
}

/// Times. Prompt and text are computed together, so the prompt has the time in the queue.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct InfillTimings {
    /// Tokens given.
    prompt_n: usize,
    /// Time in the queue, in milliseconds.
    prompt_ms: f64,
    /// The same per token given.
    prompt_per_token_ms: f64,
    /// Tokens given per second of it; 0 when there was none.
    prompt_per_second: f64,
    /// Tokens of the text.
    predicted_n: usize,
    /// Time from the first evaluation to the last, in milliseconds.
    predicted_ms: f64,
    /// The same per token of the text.
    predicted_per_token_ms: f64,
    /// Tokens of the text per second of it; 0 when there was none.
    predicted_per_second: f64,
}

/// State shared by all parts of an answer.
pub(super) struct Answer {
    pub(super) state: AppState,
    pub(super) settings: Settings,
    pub(super) fields: Option<Vec<String>>,
    pub(super) indent: usize,
    pub(super) truncated: bool,
    pub(super) prompt_tokens: usize,
}

impl Answer {
    /// The answer to a request for `count` times no text.
    pub(super) fn nothing(
        state: &AppState,
        fields: Option<Vec<String>>,
        count: usize,
        stream: bool,
    ) -> Response {
        let one = |index| {
            let model = state.model.id.clone();
            let answer = Infilled { index, model, stop: true, stop_type: "limit", ..Infilled::default() };
            chosen(answer, fields.as_deref())
        };
        let all = (0..count).map(one);
        if stream {
            let events: Vec<_> = all.map(|one| Ok::<_, std::convert::Infallible>(json_event(&one))).collect();
            return Sse::new(futures_util::stream::iter(events)).into_response();
        }
        Json(one_or_list(all.collect())).into_response()
    }

    /// One text, or a list of several.
    pub(super) fn whole(&self, running: &Running, timings: &Timings) -> Value {
        one_or_list((0..running.views.len()).map(|index| self.one(running, index, timings, false)).collect())
    }

    /// `streamed` texts are in events of their own, so a client that adds up the texts of all events counts none twice.
    fn one(&self, running: &Running, index: usize, timings: &Timings, streamed: bool) -> Value {
        let text = running.text(index);
        let content = indented(&text.text, self.indent, true);
        let cut = content.len() < text.text.len();
        let (stop_type, word) = match text.end {
            _ if cut => ("none", None),
            End::Full => ("limit", None),
            End::Complete | End::Eos => ("eos", None),
            End::Stop => ("word", self.settings.stops.first().filter(|_| self.settings.stops.len() == 1)),
        };
        let per = |time: f64, count: usize| time / count.max(1) as f64;
        let rate = |time: f64, count: usize| if time > 0.0 { count as f64 / time * 1e3 } else { 0.0 };
        let prompt_n = self.prompt_tokens;
        let predicted_n = text.tokens;
        let prompt_ms = milliseconds(timings.queued);
        let predicted_ms = milliseconds(timings.denoising);
        let mut generation_settings = Map::new();
        generation_settings.insert("seed".to_owned(), json!(self.settings.seed));
        generation_settings.insert("temperature".to_owned(), json!(self.settings.sampling.temperature));
        generation_settings.insert("top_p".to_owned(), json!(self.settings.sampling.top_p));
        let answer = Infilled {
            index,
            content: if streamed { String::new() } else { content.to_owned() },
            tokens: Vec::new(),
            model: self.state.model.id.clone(),
            stop: true,
            stop_type,
            stopping_word: word.cloned().unwrap_or_default(),
            tokens_predicted: predicted_n,
            tokens_evaluated: prompt_n,
            tokens_cached: 0,
            truncated: self.truncated,
            generation_settings,
            timings: InfillTimings {
                prompt_n,
                prompt_ms,
                prompt_per_token_ms: per(prompt_ms, prompt_n),
                prompt_per_second: rate(prompt_ms, prompt_n),
                predicted_n,
                predicted_ms,
                predicted_per_token_ms: per(predicted_ms, predicted_n),
                predicted_per_second: rate(predicted_ms, predicted_n),
            },
        };
        chosen(answer, self.fields.as_deref())
    }
}

fn one_or_list(mut answers: Vec<Value>) -> Value {
    if answers.len() == 1 { answers.remove(0) } else { Value::Array(answers) }
}

/// The fields that were asked for, each under its path; names that are not there are skipped.
fn chosen(answer: Infilled, fields: Option<&[String]>) -> Value {
    let answer = json!(answer);
    let Some(fields) = fields.filter(|fields| !fields.is_empty()) else { return answer };
    let found = fields.iter().filter_map(|field| {
        let value = answer.pointer(&format!("/{field}"))?;
        Some((field.clone(), value.clone()))
    });
    Value::Object(found.collect())
}

/// The text up to the first line after its own first one that begins with fewer blanks than `indent`.
/// Of a text that is not `finished`, also without an ending that may turn out to begin such a line.
fn indented(text: &str, indent: usize, finished: bool) -> &str {
    if indent == 0 {
        return text;
    }
    let blank = [' ', '\t'];
    for (at, _) in text.match_indices('\n') {
        let line = text[at + 1..].split('\n').next().unwrap_or_default();
        let rest = line.trim_start_matches(blank);
        let last = at + 1 + line.len() == text.len();
        if rest.is_empty() && last && !finished {
            return &text[..at];
        }
        if !rest.is_empty() && line.len() - rest.len() < indent {
            return &text[..at];
        }
    }
    text
}

/// llama.cpp's stream: events without names, the last with everything, no `[DONE]`.
pub(super) struct Events {
    pub(super) answer: Answer,
    /// Bytes of each text that were sent.
    pub(super) sent: Vec<usize>,
}

impl Events {
    fn gained(&mut self, running: &Running, index: usize, finished: bool) -> Option<Event> {
        let text = running.text(index).text;
        let text = indented(&text, self.answer.indent, finished);
        let gained = text.get(self.sent[index]..).filter(|gained| !gained.is_empty())?;
        let event = json_event(&json!({ "index": index, "content": gained, "stop": false }));
        self.sent[index] = text.len();
        Some(event)
    }
}

impl Grammar for Events {
    fn start(&mut self, _: &Running) -> Vec<Event> {
        Vec::new()
    }

    fn step(&mut self, running: &Running, step: Step) -> Vec<Event> {
        let finished = running.views[step.sample].done;
        self.gained(running, step.sample, finished).into_iter().collect()
    }

    fn finish(&mut self, running: &Running, timings: &Timings) -> Vec<Event> {
        let mut events = Vec::new();
        for index in 0..running.views.len() {
            events.extend(self.gained(running, index, true));
            events.push(json_event(&self.answer.one(running, index, timings, true)));
        }
        events
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Event> {
        vec![json_event(&ErrorBody { error: error.object() })]
    }

    fn keep_alive(&self) -> KeepAlive {
        KeepAlive::new().interval(KEEP_ALIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_before_a_line_that_is_indented_less() {
        let whole = |text, indent| indented(text, indent, true);
        assert_eq!(whole("x\ny", 0), "x\ny");
        assert_eq!(whole("x\n    y\n  z\n    w", 4), "x\n    y");
        assert_eq!(whole("x\n\n    y\n\nz", 4), "x\n\n    y\n");
        assert_eq!(whole("x\n\ty", 1), "x\n\ty");
        assert_eq!(whole("x\n  ", 4), "x\n  ");
    }

    #[test]
    fn what_was_sent_is_never_taken_back() {
        let text = "x\n    y\n   \n  z\n    w";
        let end = indented(text, 4, true);
        for (at, _) in text.char_indices() {
            assert!(end.starts_with(indented(&text[..at], 4, false)), "{at}");
        }
    }
}
