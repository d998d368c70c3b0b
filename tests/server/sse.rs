//! The two stream grammars, checked law by law while they are read.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A stream of an OpenAI route after all laws of its grammar were checked.
#[derive(Debug, Default)]
pub(crate) struct CompletionStream {
    /// Texts by choice.
    pub(crate) texts: Vec<String>,
    /// Why each choice ended.
    pub(crate) reasons: Vec<String>,
    /// The report of the last choice.
    pub(crate) report: Value,
    /// The usage chunk's content.
    pub(crate) usage: Option<Value>,
    /// Denoising states.
    pub(crate) states: States,
}

/// Reads a whole stream of `choices` choices.
pub(crate) fn completion(body: &str, choices: usize) -> CompletionStream {
    read(body, choices, ("text_completion", "cmpl-"), |choice, _| choice["text"].as_str().unwrap().to_owned())
}

/// Reads a whole stream of `/v1/chat/completions`: the first chunk of a choice has the role.
pub(crate) fn chat(body: &str, choices: usize) -> CompletionStream {
    read(body, choices, ("chat.completion.chunk", "chatcmpl-"), |choice, first| {
        let delta = choice["delta"].as_object().unwrap();
        assert_eq!(delta.get("role"), first.then(|| json!("assistant")).as_ref(), "{choice}");
        delta.get("content").map_or("", |content| content.as_str().unwrap()).to_owned()
    })
}

fn read(
    body: &str,
    choices: usize,
    (object, prefix): (&str, &str),
    text: impl Fn(&Value, bool) -> String,
) -> CompletionStream {
    let mut begun = vec![false; choices];
    let mut stream = CompletionStream { texts: vec![String::new(); choices], ..Default::default() };
    let mut reasons: Vec<Option<String>> = vec![None; choices];
    let data = data_lines(body);
    let (last, chunks) = data.split_last().unwrap();
    assert_eq!(*last, "[DONE]", "the end of the stream");
    for (number, line) in chunks.iter().enumerate() {
        let chunk: Value = serde_json::from_str(line).unwrap();
        assert_eq!(chunk["object"], object);
        assert!(chunk["id"].as_str().unwrap().starts_with(prefix));
        let entries = chunk["choices"].as_array().unwrap();
        let Some(choice) = entries.first() else {
            assert_eq!(number, chunks.len() - 1, "the usage comes last");
            stream.usage = Some(chunk["usage"].clone());
            continue;
        };
        assert_eq!(entries.len(), 1, "one choice per chunk");
        assert_eq!(chunk.get("usage"), None);
        let index = choice["index"].as_u64().unwrap() as usize;
        assert_eq!(reasons[index], None, "a chunk after the choice's end");
        let text = text(choice, !std::mem::replace(&mut begun[index], true));
        stream.texts[index].push_str(&text);
        reasons[index] = choice["finish_reason"].as_str().map(str::to_owned);
        if reasons[index].is_some() {
            stream.report = chunk["diffusion"].clone();
        } else if let Some(state) = chunk.get("diffusion") {
            assert_eq!(text, "");
            stream.states.take(state);
        }
    }
    stream.reasons = reasons.into_iter().map(|reason| reason.expect("one finish_reason a choice")).collect();
    stream
}

/// The content of every event of an OpenAI stream, which has `data:` lines and comments only.
pub(crate) fn data_lines(body: &str) -> Vec<&str> {
    let blocks = body.strip_suffix("\n\n").unwrap().split("\n\n").filter(|block| !block.starts_with(':'));
    let data: Vec<&str> = blocks.map(|block| block.strip_prefix("data: ").expect(block)).collect();
    assert!(data.iter().all(|line| !line.contains('\n')), "one line an event");
    assert_eq!(data.iter().filter(|line| **line == "[DONE]").count(), 1);
    data
}

/// The JSON of every data line of an OpenAI stream, without the last line.
pub(crate) fn chunks(body: &str) -> Vec<Value> {
    let lines = data_lines(body).into_iter().filter(|line| *line != "[DONE]");
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The denoising states of an OpenAI stream.
pub(crate) fn states(body: &str) -> Vec<Value> {
    chunks(body)
        .into_iter()
        .map(|chunk| chunk["diffusion"].clone())
        .filter(|state| !state["type"].is_null())
        .collect()
}

/// Name and data of every event of a native stream, numbered without a gap.
pub(crate) fn native(body: &str) -> Vec<(String, Value)> {
    let mut events = Vec::new();
    for block in body.strip_suffix("\n\n").unwrap().split("\n\n") {
        let mut fields = BTreeMap::new();
        for line in block.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            assert_eq!(fields.insert(name, value), None, "{block}");
        }
        assert!(fields.keys().eq(["data", "event"].iter()), "{block}");
        let data: Value = serde_json::from_str(fields["data"]).unwrap();
        assert_eq!(data["type"], fields["event"]);
        if data["type"] == "ping" {
            continue;
        }
        assert_eq!(data["seq"], events.len(), "{block}");
        events.push((fields["event"].to_owned(), data));
    }
    events
}

/// Denoising states, replayed.
#[derive(Debug, Default)]
pub(crate) struct States {
    canvases: BTreeMap<u64, Canvas>,
}

#[derive(Debug, Default)]
struct Canvas {
    tokens: Vec<Option<u64>>,
    evaluation: u64,
    left: u64,
    cut: Option<u64>,
}

impl States {
    /// The token that stands first in choice 0.
    pub(crate) fn first_token(&self) -> Option<u64> {
        self.canvases[&0].tokens[0]
    }

    /// Plays one state event.
    pub(crate) fn take(&mut self, state: &Value) {
        let c = state["choice"].as_u64().unwrap();
        let number = |name: &str| state[name].as_u64().unwrap();
        let list = |name: &str| state[name].as_array().unwrap();
        if state["type"] == "start" {
            let tokens = vec![None; number("length") as usize];
            assert_eq!(state["holes"], json!([{ "id": "0", "position": 0, "length": tokens.len() }]));
            let canvas = Canvas { left: number("length"), tokens, ..Default::default() };
            assert!(self.canvases.insert(c, canvas).is_none(), "two starts");
            return;
        }
        let canvas = self.canvases.get_mut(&c).expect("a start comes first");
        assert_eq!(canvas.cut, None, "an event after the end");
        if state["type"] == "end" {
            assert_eq!(number("evaluations"), canvas.evaluation);
            canvas.cut = Some(number("returned_tokens"));
            return;
        }
        assert_eq!(state["type"], "step");
        assert!(number("evaluation") > canvas.evaluation, "evaluations increase: {state}");
        assert!(number("evaluation") <= number("max_evaluations"), "{state}");
        canvas.evaluation = number("evaluation");
        for (p, i) in list("positions").iter().zip(list("token_ids")) {
            let slot = &mut canvas.tokens[p.as_u64().unwrap() as usize];
            assert_eq!(slot.replace(i.as_u64().unwrap()), None, "position {p} is set twice");
        }
        let count = list("positions").len();
        assert!(
            ["token_ids", "texts", "probabilities"].iter().all(|name| list(name).len() == count),
            "{state}"
        );
        assert!(list("probabilities").iter().all(|p| (0.0..=1.0).contains(&p.as_f64().unwrap())), "{state}");
        canvas.left -= count as u64;
        assert_eq!(number("remaining"), canvas.left, "{state}");
    }

    /// Every canvas was filled: `count` of them, each of `length` positions.
    pub(crate) fn assert_filled(&self, count: usize, length: usize) {
        assert_eq!(self.canvases.len(), count);
        for (c, canvas) in &self.canvases {
            assert_eq!(canvas.tokens.len(), length);
            assert!(canvas.tokens.iter().all(Option::is_some), "choice {c} has open positions");
        }
    }

    /// Positions that are part of the texts, over all choices.
    pub(crate) fn kept(&self) -> u64 {
        self.canvases.values().map(|canvas| canvas.cut.expect("an end event")).sum()
    }

    /// The token ids of a choice.
    pub(crate) fn tokens(&self, choice: u64) -> Vec<u64> {
        self.canvases[&choice].tokens.iter().flatten().copied().collect()
    }
}
