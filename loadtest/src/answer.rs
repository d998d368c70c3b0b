//! A server's answer: the text, and its report about the work behind it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ending::Failure;

/// An answer's report about its own denoising (the answer's `diffusion`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Evaluations of the network.
    pub forward_passes: u32,
    /// Positions, given and generated ones, times evaluations.
    pub rows_computed: u64,
    /// Positions that were generated.
    pub generated_tokens: u32,
    /// Those of them that are in the text.
    pub returned_tokens: u32,
    /// Milliseconds in the queue.
    pub queue_ms: f64,
    /// Milliseconds from the first evaluation to the last.
    pub denoise_ms: f64,
    /// The most canvases that shared an evaluation with this one, itself included.
    pub batch_peak: u32,
}

/// A finished answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The first choice's text.
    #[serde(skip)]
    pub text: String,
    /// The work behind it.
    #[serde(flatten)]
    pub work: Work,
}

impl Answer {
    /// The answer to a request that did not ask for a stream; also what a `fill.done` event holds.
    ///
    /// # Errors
    /// If the text or the report is not where both routes have it.
    pub fn from_json(body: &Value) -> Result<Self, Failure> {
        let text = body["choices"][0]["text"].as_str().ok_or_else(|| malformed("no text", body))?;
        Ok(Self { text: text.to_owned(), work: work(&body["diffusion"])? })
    }
}

/// The content of a stream's event.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A denoising state: the result of an evaluation.
    State,
    /// Something else on the way.
    Other,
    /// The end, with all that came before put together.
    Done(Answer),
}

/// A stream of either route, while it is read.
#[derive(Debug, Default)]
pub struct StreamReading {
    text: String,
    work: Option<Work>,
}

impl StreamReading {
    /// Takes the data of the next event.
    ///
    /// # Errors
    /// If it is an error event, or none that either route sends.
    pub fn take(&mut self, data: &str) -> Result<Told, Failure> {
        if data == "[DONE]" {
            let work = self.work.ok_or(Failure::Cut)?;
            return Ok(Told::Done(Answer { text: std::mem::take(&mut self.text), work }));
        }
        let event: Value = serde_json::from_str(data)
            .map_err(|error| Failure::Malformed(format!("an event that is not JSON: {error}")))?;
        if let Some(error) = event.get("error") {
            return Err(Failure::Stream { code: error_code(error) });
        }
        match event["type"].as_str() {
            Some("fill.done") => Ok(Told::Done(Answer::from_json(&event)?)),
            Some("fill.state") => {
                Ok(if event["state"]["type"] == "step" { Told::State } else { Told::Other })
            }
            Some(_) => Ok(Told::Other),
            None => self.chunk(&event),
        }
    }

    /// A chunk of `/v1/completions`.
    fn chunk(&mut self, chunk: &Value) -> Result<Told, Failure> {
        let choice = &chunk["choices"][0];
        self.text.push_str(choice["text"].as_str().ok_or_else(|| malformed("no text", chunk))?);
        if choice["finish_reason"].is_string() {
            self.work = Some(work(&chunk["diffusion"])?);
        }
        Ok(if chunk["diffusion"]["type"] == "step" { Told::State } else { Told::Other })
    }
}

/// The `code` of an error object, or what stands in for it.
#[must_use]
pub fn error_code(error: &Value) -> String {
    error["code"].as_str().unwrap_or("no code").to_owned()
}

fn work(report: &Value) -> Result<Work, Failure> {
    Work::deserialize(report).map_err(|error| malformed(&format!("`diffusion`: {error}"), report))
}

fn malformed(what: &str, value: &Value) -> Failure {
    Failure::Malformed(format!("{what} in {}", value.to_string().chars().take(200).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{"forward_passes":5,"rows_computed":90,"generated_tokens":6,"returned_tokens":6,
        "queue_ms":0.1,"denoise_ms":9.5,"batch_peak":1,"seed":7}"#;

    #[test]
    fn a_completion_stream_becomes_its_text_and_report() {
        let mut reading = StreamReading::default();
        let chunk = |text: &str, rest: &str| {
            format!(r#"{{"choices":[{{"index":0,"text":"{text}","finish_reason":null}}]{rest}}}"#)
        };
        assert_eq!(reading.take(&chunk("", r#","diffusion":{"type":"start"}"#)), Ok(Told::Other));
        assert_eq!(reading.take(&chunk("", r#","diffusion":{"type":"step"}"#)), Ok(Told::State));
        assert_eq!(reading.take(&chunk("a lamp", "")), Ok(Told::Other));
        let last =
            format!(r#"{{"choices":[{{"text":" out","finish_reason":"length"}}],"diffusion":{REPORT}}}"#);
        assert_eq!(reading.take(&last), Ok(Told::Other));
        let Ok(Told::Done(answer)) = reading.take("[DONE]") else { panic!("the end was not seen") };
        assert_eq!((answer.text.as_str(), answer.work.forward_passes), ("a lamp out", 5));
    }

    #[test]
    fn a_fill_stream_ends_with_the_whole_answer() {
        let mut reading = StreamReading::default();
        assert_eq!(reading.take(r#"{"type":"fill.start","choices":1}"#), Ok(Told::Other));
        assert_eq!(reading.take(r#"{"type":"fill.state","state":{"type":"step"}}"#), Ok(Told::State));
        let done = format!(r#"{{"type":"fill.done","choices":[{{"text":"a lamp"}}],"diffusion":{REPORT}}}"#);
        let Ok(Told::Done(answer)) = reading.take(&done) else { panic!("the end was not seen") };
        assert_eq!(answer.text, "a lamp");
    }

    #[test]
    fn an_error_in_a_stream_is_not_an_answer() {
        let mut reading = StreamReading::default();
        let error = reading.take(r#"{"type":"error","seq":2,"error":{"code":"engine_error"}}"#);
        assert_eq!(error, Err(Failure::Stream { code: "engine_error".to_owned() }));
        assert_eq!(reading.take("[DONE]"), Err(Failure::Cut), "an end without a report is no answer");
        assert!(matches!(reading.take("{"), Err(Failure::Malformed(_))));
    }
}
