//! `unmask verify`: the first thing to run on a released checkpoint.

use std::io::Write;

use anyhow::Context;
use unmask_model::predictor::{Ask, MaskPredictor, Sampling, Want};

use crate::config::VerifyArgs;
use crate::load::{Loaded, load};
use crate::panics;

/// Loads the model, evaluates one canvas and prints what was found, one `name value` a line.
///
/// # Errors
/// Whatever keeps the model from being served.
pub fn verify(args: &VerifyArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let loaded = load(args.model.as_deref(), &args.load)?;
    let described = loaded.description();
    let Loaded { name, checkpoint, placement, mut predictor, chat_template } = loaded;
    let tokenizer = &checkpoint.tokenizer;
    let (parameters, bytes) = checkpoint.weights.size();
    let types = checkpoint.weights.types();
    let types: Vec<String> = types.into_iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let config = &checkpoint.config;
    let profile = &checkpoint.profile;
    let id = |id: Option<u32>| id.map_or("none".to_owned(), |id| id.to_string());
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
        ("fingerprint", checkpoint.weights.fingerprint()),
        ("device", format!("{:?} {}", placement.device.location(), placement.precision())),
        ("cpu", placement.cpu.to_string()),
        ("embedding rows", tokenizer.rows().to_string()),
        ("context", config.context.to_string()),
        ("trained length", id(profile.trained_length.map(|length| length as u32))),
        ("mask", format!("{} {:?}", tokenizer.mask_id(), profile.mask_token)),
        ("bos / eos", format!("{} / {}", id(tokenizer.bos_id()), id(tokenizer.eos_id()))),
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
