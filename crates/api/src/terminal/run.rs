//! One request as its events tell it: what stands where by now, and how far it is.

use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::visible::visible_line;

/// More positions than any model has.
const MOST_CELLS: usize = 1 << 20;

/// A generated position that is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    /// Its text, for display.
    pub(super) text: String,
    /// The evaluation that committed it, and when that came.
    pub(super) evaluation: u32,
    pub(super) at: Duration,
}

/// The state of a request, folded from its events.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    /// Generated positions, holes joined from left to right; nothing before the first event.
    pub(super) cells: Vec<Option<Committed>>,
    /// The cells of each hole.
    pub(super) holes: Vec<Range<usize>>,
    /// Evaluations so far, and how many there will be at most.
    pub(super) evaluation: u32,
    pub(super) planned: u32,
    /// Positions that are masked.
    pub(super) masked: usize,
    /// The text that is settled: of a completion, what grows; of a filled file, all of it at the end.
    pub(super) text: String,
    /// At the end.
    pub(super) end: Option<End>,
}

/// The contents of the last event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// A number of 64 bits, with or without a sign.
    pub(super) seed: Value,
    pub(super) evaluations: u64,
    /// Tokens that are in the text.
    pub(super) tokens: u64,
    /// The deadline came before the text.
    pub(super) timed_out: bool,
    /// The model was not shown all of a file.
    pub(super) truncated: bool,
    /// The places of a filled file's holes, in characters, and their positions.
    pub(super) filled: Vec<Filled>,
}

/// The text of a hole in a filled file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Filled {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) length: usize,
}

/// The fault of an event that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum EventError {
    /// Not what the API sends.
    #[error("unknown event ({0}); --url must name an Unmask server")]
    Foreign(String),
    /// The request failed on the way.
    #[error("{0}")]
    Failed(String),
}

/// A state as both routes send it.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum State {
    Start {
        length: usize,
        holes: Vec<StateHole>,
    },
    Step {
        evaluation: u32,
        max_evaluations: u32,
        remaining: usize,
        positions: Vec<usize>,
        texts: Vec<String>,
        #[serde(default)]
        remasked: Vec<usize>,
    },
    End {},
}

#[derive(Deserialize)]
struct StateHole {
    position: usize,
    length: usize,
}

impl Run {
    /// Returns true if the text is a filled file, and not the continuation of a prompt.
    pub(super) fn is_file(&self) -> bool {
        self.end.as_ref().is_some_and(|end| !end.filled.is_empty())
    }

    /// Folds the data of one event that came at `at`.
    ///
    /// # Errors
    /// The event says that the request failed, or is not one of these routes.
    pub(super) fn take(&mut self, data: &str, at: Duration) -> Result<(), EventError> {
        if data == "[DONE]" {
            return Ok(());
        }
        let event: Value = serde_json::from_str(data).map_err(|error| foreign(&error))?;
        if let Some(error) = event.get("error") {
            let message = error["message"].as_str().unwrap_or("no reason given");
            return Err(EventError::Failed(visible_line(message)));
        }
        // The native route names its events; a chunk of the other one has a choice and something about it.
        match event["type"].as_str() {
            Some("fill.state") => self.state(&event["state"], at)?,
            Some("fill.done") => self.filled(&event)?,
            Some(_) => {}
            None if event["choices"].is_array() => self.chunk(&event, at)?,
            None => return Err(foreign(&"neither a chunk nor an event of /fill")),
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: &Value, at: Duration) -> Result<(), EventError> {
        let choice = &chunk["choices"][0];
        let text = choice["text"].as_str().or(choice["delta"]["content"].as_str());
        self.text.push_str(text.unwrap_or_default());
        let diffusion = &chunk["diffusion"];
        if diffusion["type"].is_string() {
            self.state(diffusion, at)?;
        } else if diffusion.is_object() {
            self.end = Some(End::of(diffusion, Vec::new()));
        }
        Ok(())
    }

    fn filled(&mut self, done: &Value) -> Result<(), EventError> {
        let choice = &done["choices"][0];
        let text = choice["text"].as_str().ok_or_else(|| foreign(&"no text"))?;
        text.clone_into(&mut self.text);
        let holes = Vec::deserialize(&choice["holes"]).map_err(|error| foreign(&error))?;
        let truncated = done["truncated"] == true;
        self.end = Some(End { truncated, ..End::of(&done["diffusion"], holes) });
        Ok(())
    }

    fn state(&mut self, state: &Value, at: Duration) -> Result<(), EventError> {
        match State::deserialize(state).map_err(|error| foreign(&error))? {
            State::Start { length, .. } if length > MOST_CELLS => {
                return Err(foreign(&"a canvas without end"));
            }
            State::Start { length, holes } => {
                self.cells = vec![None; length];
                self.masked = length;
                let range = |hole: &StateHole| hole.position..hole.position.saturating_add(hole.length);
                self.holes = holes.iter().map(range).collect();
                if self.holes.iter().any(|hole| hole.end > length) {
                    return Err(foreign(&"a hole outside its canvas"));
                }
            }
            State::Step { evaluation, max_evaluations, remaining, positions, texts, remasked } => {
                self.evaluation = evaluation;
                self.planned = max_evaluations;
                self.masked = remaining;
                for position in remasked {
                    *self
                        .cells
                        .get_mut(position)
                        .ok_or_else(|| foreign(&"a position outside its canvas"))? = None;
                }
                for (position, text) in positions.into_iter().zip(texts) {
                    let cell = self.cells.get_mut(position);
                    *cell.ok_or_else(|| foreign(&"a position outside its canvas"))? =
                        Some(Committed { text, evaluation, at });
                }
            }
            State::End {} => {}
        }
        Ok(())
    }
}

impl End {
    fn of(report: &Value, filled: Vec<Filled>) -> Self {
        Self {
            seed: report["seed"].clone(),
            evaluations: report["forward_passes"].as_u64().unwrap_or_default(),
            tokens: report["returned_tokens"].as_u64().unwrap_or_default(),
            timed_out: report["early_exit"] == "timeout",
            truncated: false,
            filled,
        }
    }
}

fn foreign(reason: &impl std::fmt::Display) -> EventError {
    EventError::Foreign(visible_line(&reason.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(events: &[&str]) -> Result<Run, String> {
        let mut run = Run::default();
        for (second, event) in events.iter().enumerate() {
            run.take(event, Duration::from_secs(second as u64)).map_err(|error| error.to_string())?;
        }
        Ok(run)
    }

    fn shown(run: &Run) -> String {
        run.cells.iter().map(|cell| cell.as_ref().map_or("▒", |cell| &cell.text)).collect()
    }

    const START: &str = r#"{"type":"fill.state","state":{"type":"start","length":3,
        "holes":[{"id":"0","position":0,"length":1},{"id":"1","position":1,"length":2}]}}"#;

    fn step(evaluation: u32, rest: &str) -> String {
        let counts = format!(r#""evaluation":{evaluation},"max_evaluations":3,"remaining":1"#);
        format!(r#"{{"type":"fill.state","state":{{"type":"step",{counts},{rest}}}}}"#)
    }

    #[test]
    fn positions_are_filled_and_masked_again() {
        let first = step(1, r#""positions":[0,2],"texts":["a","c"]"#);
        let second = step(2, r#""positions":[1],"texts":["b"],"remasked":[2],"probabilities":[0.09]"#);
        let run = folded(&[START, &first, &second]).unwrap();
        assert_eq!((shown(&run).as_str(), run.masked, run.evaluation, run.planned), ("ab▒", 1, 2, 3));
        assert_eq!(run.holes, [0..1, 1..3]);
        let committed = |position: usize| run.cells[position].as_ref().map(|cell| (cell.evaluation, cell.at));
        assert_eq!(committed(0), Some((1, Duration::from_secs(1))));
        assert_eq!(committed(1), Some((2, Duration::from_secs(2))));
    }

    #[test]
    fn a_completion_grows_by_its_chunks() {
        let chunk = |text: &str, diffusion: &str| {
            format!(r#"{{"choices":[{{"text":"{text}"}}],"diffusion":{diffusion}}}"#)
        };
        let report = r#"{"seed":7,"forward_passes":2,"returned_tokens":3,"early_exit":"timeout"}"#;
        let events = [chunk("im", "null"), chunk("port", r#"{"type":"end","choice":0}"#), chunk("", report)];
        let events: Vec<&str> = events.iter().map(String::as_str).chain(["[DONE]"]).collect();
        let run = folded(&events).unwrap();
        assert_eq!(run.text, "import");
        let end = run.end.unwrap();
        assert_eq!((end.seed.as_u64(), end.evaluations, end.tokens, end.timed_out), (Some(7), 2, 3, true));
    }

    #[test]
    fn what_no_such_server_sends_is_an_error_and_not_a_panic() {
        let step = step(1, r#""positions":[3],"texts":["a"]"#);
        let hole = r#"{"type":"fill.state","state":{"type":"start","length":1,
            "holes":[{"position":1,"length":18446744073709551615}]}}"#;
        let failed = r#"{"error":{"message":"the engine has stopped"}}"#;
        for (events, part) in [
            (&["hello"][..], "unknown event"),
            (&["[1]"], "unknown event"),
            (&[START, &step], "outside its canvas"),
            (&[hole], "outside its canvas"),
            (&[r#"{"type":"fill.done","choices":[{}]}"#], "no text"),
            (&[failed], "the engine has stopped"),
        ] {
            assert!(folded(events).unwrap_err().contains(part), "{events:?}");
        }
    }
}
