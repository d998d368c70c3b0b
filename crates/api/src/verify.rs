//! `unmask verify`: the first thing to run on a released checkpoint.

use std::io::Write;

use anyhow::Context;
use unmask_model::checkpoint::{Architecture, ModelConfig};
use unmask_model::predictor::{Ask, MaskPredictor, Sampling, Want};
use unmask_model::tokenizer::TextTokenizer;

use crate::config::VerifyArgs;
use crate::load::{Loaded, load};
use crate::panics;
use crate::route_defaults::Route;

/// Loads the model, evaluates one canvas and prints what was found, one `name value` a line.
///
/// # Errors
/// Whatever keeps the model from being served.
pub fn verify(args: &VerifyArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let loaded = load(args.model.as_deref(), &args.load)?;
    let described = loaded.description();
    let Loaded { name, checkpoint, placement, mut predictor, chat_template, defaults } = loaded;
    let tokenizer = &checkpoint.tokenizer;
    let (parameters, bytes) = checkpoint.weights.size();
    let types = checkpoint.weights.types();
    let types: Vec<String> = types.into_iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let config = &checkpoint.config;
    let profile = &checkpoint.profile;
    let id = |id: Option<u32>| id.map_or("none".to_owned(), |id| id.to_string());
    let end = |token: Option<u32>, text: Option<&String>| match (token, text) {
        (Some(token), Some(text)) => format!("{token} {text:?}"),
        _ => "none".to_owned(),
    };
    let lines = [
        ("model", name),
        ("files", checkpoint.files.to_string()),
        ("family", format!("{:?}", profile.family)),
        ("architecture", format!("{:?}", config.architecture)),
        (
            "layers / width / heads (kv)",
            format!(
                "{} / {} / {} ({})",
                config.layers, config.width, config.head_count, config.kv_head_count
            ),
        ),
        ("parameters", format!("{parameters} in {bytes} bytes")),
        ("tensors by type", types.join(", ")),
        ("unread tensors", unread(checkpoint.weights.unread())),
        ("rotation", rotation(config)),
        ("head", if checkpoint.weights.has_own_head() { "own" } else { "tied to the embedding" }.to_owned()),
        ("fingerprint", checkpoint.weights.fingerprint()),
        ("device", format!("{:?} {}", placement.device.location(), placement.precision())),
        ("cpu", placement.cpu.to_string()),
        ("embedding rows", tokenizer.rows().to_string()),
        ("context", config.context.to_string()),
        ("trained length", id(profile.trained_length.map(|length| length as u32))),
        ("mask", format!("{} {:?}", tokenizer.mask_id(), profile.mask_token)),
        ("bos", end(tokenizer.bos_id(), profile.bos_token.as_ref())),
        ("eos", end(tokenizer.eos_id(), profile.eos_token.as_ref())),
        ("dropped of tokenizer.json", or_none(tokenizer.dropped_settings().join(", "))),
        ("round trip", round_trip(tokenizer)?),
        ("never drawn", format!("{} tokens", tokenizer.never_drawn().len())),
        ("logit shift", profile.shift.to_string()),
        ("chat template", chat_template.map_or("none".to_owned(), |template| template.origin().to_owned())),
        (
            "defaults",
            format!(
                "steps {}, temperature {}, top-p {}",
                profile.defaults.steps, profile.defaults.temperature, profile.defaults.top_p
            ),
        ),
        ("  of a hole", defaults.of(Route::Fill, profile.defaults).to_string()),
        ("  of a text that goes on", defaults.of(Route::Complete, profile.defaults).to_string()),
        ("  of a chat", defaults.of(Route::Chat, profile.defaults).to_string()),
    ];
    for (name, value) in lines {
        writeln!(out, "{name:<28} {value}")?;
    }
    let mut tokens = vec![tokenizer.bos_id().unwrap_or(0)];
    tokens.extend(tokenizer.encode("The")?);
    let first = tokens.len() as u32;
    tokens.resize((tokens.len() + 8).min(config.context), tokenizer.mask_id());
    let wants: Vec<Want> =
        (first..tokens.len() as u32).map(|position| Want { position, ..Want::default() }).collect();
    let greedy =
        [Sampling { temperature: 0.0, banned: tokenizer.never_drawn().to_vec(), ..Sampling::default() }];
    let ask = Ask { tokens: &tokens, wants: &wants, samplings: &greedy, ..Ask::default() };
    let evaluated =
        panics::as_error(&described, || predictor.predict(&[ask]).context("the evaluation failed"));
    let reads = evaluated?.remove(0);
    let best: Vec<String> = reads.iter().map(|read| tokenizer.display(read.token)).collect();
    writeln!(out, "{:<28} {best:?}", "one evaluation of \"The ▒…\"")?;
    writeln!(out, "ok")?;
    Ok(())
}

/// A text with what tokenizers are wrong about: a blank at its start, digits, signs, lines, characters of several bytes.
const SAMPLE: &str = " The cat, 12 dogs\n\tand x += 1 \u{2014} \u{e4}\u{f6}\u{fc} \u{65e5}\u{672c}\u{8a9e}";

/// Whether a text survives being tokenized and put together again.
fn round_trip(tokenizer: &TextTokenizer) -> anyhow::Result<String> {
    let tokens = tokenizer.encode(SAMPLE)?;
    let back = tokenizer.decode(&tokens, true);
    Ok(if back == SAMPLE {
        format!("{} characters in {} tokens, unchanged", SAMPLE.chars().count(), tokens.len())
    } else {
        format!("changed: {SAMPLE:?} comes back as {back:?}")
    })
}

/// The rotation of queries and keys.
fn rotation(config: &ModelConfig) -> String {
    match config.architecture {
        Architecture::Gpt2 => "none (learned positions)".to_owned(),
        Architecture::Llama => format!("theta {}, not scaled", config.rope_theta),
    }
}

/// Tensors that are not read: how many, and the first one.
fn unread(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        [first, ..] => format!("{}, the first one {first}", names.len()),
    }
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}
