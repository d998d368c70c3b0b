//! `unmask try`, `unmask fill` and `unmask chat`: a request whose denoising is seen in the terminal.
//!
//! `api` calls the HTTP routes, those of this process or a server's, and both are read as events. `run` folds
//! these, `picture` makes rows of the known tokens, `screen` draws them. `visible` stands between every
//! foreign text and the terminal.

pub(crate) mod api;
mod picture;
mod prompt;
mod question;
mod run;
mod saved;
mod screen;
mod session;
mod show;
pub(crate) mod visible;

use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use self::question::Question;
use self::session::Session;
use self::visible::visible_line;
use crate::config::{ChatArgs, FillArgs, LengthArg, TerminalArgs, TryArgs};
use crate::input::read_bounded;
use crate::limits::Limits;

/// `unmask try`.
///
/// # Errors
/// The model cannot be loaded, the server not be reached, or the request is refused.
pub fn try_prompt(args: &TryArgs) -> anyhow::Result<()> {
    let mut body = body(&args.shared);
    let prompt = match args.prompt.as_str() {
        "-" => read(Path::new("-")).context("cannot read standard input")?,
        prompt => prompt.to_owned(),
    };
    body["prompt"] = json!(prompt);
    body["diffusion"]["stream_states"] = json!("delta");
    set(&mut body, "max_tokens", args.max_tokens);
    let given = vec![prompt, String::new()];
    let question = Question { path: "/v1/completions", body, given, searches: false, output: None };
    Session::open(&args.shared)?.answer_once(&question)
}

/// `unmask chat`.
///
/// # Errors
/// The model cannot be loaded, or standard input cannot be read.
pub fn chat(args: &ChatArgs) -> anyhow::Result<()> {
    prompt::chat(args, Session::open(&args.shared)?)
}

/// `unmask fill`.
///
/// # Errors
/// As [`try_prompt`]; the file cannot be read, or has no hole.
pub fn fill_file(args: &FillArgs) -> anyhow::Result<()> {
    if args.marker.is_empty() {
        bail!("--marker is empty");
    }
    let file = match &args.file {
        Some(file) => file.as_path(),
        None if std::io::stdin().is_terminal() => return prompt::fill(args, Session::open(&args.shared)?),
        None => Path::new("-"),
    };
    let name = match file.display().to_string().as_str() {
        "-" => "standard input".to_owned(),
        name => visible_line(name),
    };
    let text = read(file).with_context(|| format!("cannot read {name}"))?;
    args.output.as_deref().map_or(Ok(()), saved::check)?;
    let question = filling(&text, args, body(&args.shared)).with_context(|| name.clone())?;
    Session::open(&args.shared)?.answer_once(&question)
}

/// The question that fills the holes of a text; `body` has the settings.
fn filling(text: &str, args: &FillArgs, mut body: Value) -> anyhow::Result<Question> {
    let given: Vec<String> = text.split(&args.marker).map(str::to_owned).collect();
    if given.len() == 1 {
        bail!("there is no hole: write {} where there should be one", visible_line(&args.marker));
    }
    if given.iter().all(String::is_empty) {
        bail!("there is no text around the hole: nothing says what belongs there");
    }
    if let [prefix, suffix] = &given[..] {
        // The form of which the model may be shown a part: files are long.
        body["prefix"] = json!(prefix);
        body["suffix"] = json!(suffix);
    } else {
        body["template"] = json!(text);
        body["marker"] = json!(args.marker);
    }
    if body.get("length").is_none() {
        set(&mut body, "length", args.length.map(LengthArg::json));
    }
    let searches = !body.get("length").is_some_and(Value::is_number);
    Ok(Question { path: "/fill", body, given, searches, output: args.output.clone() })
}

/// A file or standard input, which may have no end, up to what a request may hold.
fn read(file: &Path) -> anyhow::Result<String> {
    let most = Limits::default().body_bytes;
    let bytes = match file == Path::new("-") {
        true => read_bounded(std::io::stdin().lock(), most)?,
        false => read_bounded(std::fs::File::open(file)?, most)?,
    };
    let bytes = bytes
        .with_context(|| format!("it is longer than {most} bytes, which is more than a request holds"))?;
    Ok(String::from_utf8(bytes)?)
}

/// The settings that both routes have.
fn body(args: &TerminalArgs) -> Value {
    let mut body = json!({ "stream": true, "diffusion": {} });
    set(&mut body, "temperature", args.temperature);
    set(&mut body, "top_p", args.top_p);
    set(&mut body, "seed", args.seed.map(|seed| json!(seed)));
    set(&mut body["diffusion"], "steps", args.steps);
    set(&mut body["diffusion"], "preset", args.preset.as_deref());
    body
}

fn set(object: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object[name] = value.into();
    }
}
