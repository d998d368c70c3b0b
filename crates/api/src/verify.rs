//! `unmask verify`: the first thing to run on a released checkpoint.

use std::io::Write;

use anyhow::Context;
use unmask_model::backbone::{Computed, Network, StoredAs};
use unmask_model::checkpoint::{
    Checkpoint, Experts, FeedForward, ModelFiles, SamplingDefaults, TransformerSpec, Visibility,
};
use unmask_model::kernel::Numbers;
use unmask_model::predictor::{Ask, MaskPredictor, Sampling, Want};
use unmask_model::tokenizer::TextTokenizer;

use crate::commands::VerifyArgs;
use crate::load::{Loaded, load};
use crate::panics;
use crate::route_defaults::Route;

/// Loads the model, evaluates one canvas and prints what was found, one `name value` a line.
///
/// # Errors
/// Whatever keeps the model from being served.
pub fn verify(args: &VerifyArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let mut loaded = load(args.model.as_deref(), &args.load)?;
    let described = loaded.description();
    for (name, value) in network(&loaded).into_iter().chain(text(&loaded)?) {
        writeln!(out, "{name:<28} {value}")?;
    }
    let best = panics::as_error(&described, || evaluate(&mut loaded))?;
    writeln!(out, "{:<28} {best:?}", "one evaluation of \"The ▒…\"")?;
    writeln!(out, "ok")?;
    Ok(())
}

/// The network, its weights and the device.
fn network(loaded: &Loaded) -> Vec<(&'static str, String)> {
    let Loaded { name, checkpoint, placement, .. } = loaded;
    let (weights, spec) = (&checkpoint.weights, &checkpoint.config.spec);
    let (parameters, bytes) = weights.size();
    let types = weights.types().into_iter().map(|(kind, count)| format!("{kind} {count}"));
    let family = checkpoint.profile.family;
    vec![
        ("model", name.clone()),
        ("files", checkpoint.files.to_string()),
        ("family", format!("{} ({})", family.name, family.title)),
        ("network", spec.to_string()),
        ("parameters", format!("{parameters} in {bytes} bytes")),
        ("weights in memory", memory(loaded)),
        ("tensors by type", types.collect::<Vec<_>>().join(", ")),
        ("unread tensors", unread(weights.unread())),
        ("rotation", rotation(spec)),
        ("biases", biases(spec)),
        ("head norms", if spec.head_norm { "of queries and keys" } else { "none" }.to_owned()),
        ("experts", experts(spec)),
        ("attention", attention(spec)),
        ("head", if weights.has_own_head() { "own" } else { "tied to the embedding" }.to_owned()),
        ("fingerprint", weights.fingerprint()),
        ("device", format!("{:?} {}", placement.device.location(), placement.precision())),
        ("cpu", placement.cpu.to_string()),
        ("embedding rows", checkpoint.tokenizer.rows().to_string()),
        ("context", spec.context.to_string()),
    ]
}

/// Texts in and out: special tokens, templates and defaults.
fn text(loaded: &Loaded) -> anyhow::Result<Vec<(&'static str, String)>> {
    let Checkpoint { profile, tokenizer, .. } = &loaded.checkpoint;
    let defaults = loaded.defaults;
    let token = |token: Option<u32>, text: Option<&String>| match (token, text) {
        (Some(token), Some(text)) => format!("{token} {text:?}"),
        _ => "none".to_owned(),
    };
    let start = tokenizer.document_start().map_or("nothing".to_owned(), |id| tokenizer.display(id));
    let template = loaded.chat_template.as_ref();
    let SamplingDefaults { preset, steps, temperature, top_p, .. } = profile.defaults;
    let trained = profile.trained_length.map_or("none".to_owned(), |length| length.to_string());
    Ok(vec![
        ("trained length", trained),
        ("mask", format!("{} {:?}, by {}", tokenizer.mask_id(), profile.mask_token, profile.mask_origin)),
        ("bos", token(tokenizer.bos_id(), profile.bos_token.as_ref())),
        ("eos", token(tokenizer.eos_id(), profile.eos_token.as_ref())),
        ("start of a text", start),
        ("ends of a text", ends(tokenizer)),
        ("dropped of tokenizer.json", or_none(tokenizer.dropped_settings().join(", "))),
        ("round trip", round_trip(tokenizer)?),
        ("never drawn", format!("{} tokens", tokenizer.never_drawn().len())),
        ("logit shift", shift(profile.shift).to_owned()),
        ("chat template", template.map_or("none".to_owned(), |template| template.origin().to_owned())),
        ("defaults", format!("preset {preset}, steps {steps}, temperature {temperature}, top-p {top_p}")),
        ("  of a hole", defaults.of(Route::Fill, profile.defaults).to_string()),
        ("  of a text that goes on", defaults.of(Route::Complete, profile.defaults).to_string()),
        ("  of a chat", defaults.of(Route::Chat, profile.defaults).to_string()),
    ])
}

/// The most probable tokens of a few masked positions behind a word.
fn evaluate(loaded: &mut Loaded) -> anyhow::Result<Vec<String>> {
    let Loaded { checkpoint, predictor, .. } = loaded;
    let tokenizer = &checkpoint.tokenizer;
    let mut tokens: Vec<u32> = tokenizer.document_start().into_iter().collect();
    tokens.extend(tokenizer.encode("The")?);
    let first = tokens.len() as u32;
    tokens.resize((tokens.len() + 8).min(checkpoint.config.spec.context), tokenizer.mask_id());
    let wants: Vec<Want> =
        (first..tokens.len() as u32).map(|position| Want { position, ..Want::default() }).collect();
    let greedy =
        [Sampling { temperature: 0.0, banned: tokenizer.never_drawn().to_vec(), ..Sampling::default() }];
    let ask = Ask { tokens: &tokens, wants: &wants, samplings: &greedy, ..Ask::default() };
    let reads = predictor.predict(&[ask]).context("the evaluation failed")?.remove(0);
    Ok(reads.iter().map(|read| tokenizer.display(read.token)).collect())
}

/// A text with what tokenizers are wrong about: a blank at its start, digits, signs, lines, characters of several bytes.
const SAMPLE: &str = " The cat, 12 dogs\n\tand x += 1 \u{2014} \u{e4}\u{f6}\u{fc} \u{65e5}\u{672c}\u{8a9e}";

/// Reports whether a text survives being tokenized and put together again.
fn round_trip(tokenizer: &TextTokenizer) -> anyhow::Result<String> {
    let tokens = tokenizer.encode(SAMPLE)?;
    let back = tokenizer.decode(&tokens, true);
    Ok(if back == SAMPLE {
        format!("{} characters in {} tokens, unchanged", SAMPLE.chars().count(), tokens.len())
    } else {
        format!("changed: {SAMPLE:?} comes back as {back:?}")
    })
}

/// The memory of the weights on a CPU in each precision, and how much of it is the file's own.
fn memory(loaded: &Loaded) -> String {
    let Loaded { checkpoint, placement, .. } = loaded;
    let weights = &checkpoint.weights;
    let in_gguf = matches!(checkpoint.files, ModelFiles::Gguf(_));
    let most = weights.types().into_iter().max_by_key(|(_, count)| *count).map(|(kind, _)| kind);
    let stored = match most.as_deref() {
        _ if in_gguf => StoredAs::Q4KM,
        Some("BF16") => StoredAs::Bf16,
        Some("F16") => StoredAs::F16,
        _ => StoredAs::F32,
    };
    let network = Network {
        spec: checkpoint.config.spec.clone(),
        vocabulary: checkpoint.tokenizer.rows(),
        own_head: weights.has_own_head(),
        stored,
        adapted: weights.is_adapted(),
    };
    let taken = |numbers| network.weights(Computed { numbers, cpu: placement.cpu, rows: 0, threads: 1 });
    let megabytes = |bytes: usize| bytes.div_ceil(1_000_000);
    let each = [("f32", Numbers::F32), ("bf16", Numbers::Bf16), ("int8", Numbers::Int8)];
    let own = each.map(|(name, numbers)| format!("{name} {} MB", megabytes(taken(numbers).own)));
    let own = own.join(", ");
    if in_gguf { format!("{own}, besides the file's {} MB", megabytes(weights.size().1)) } else { own }
}

/// The tokens that end a text.
fn ends(tokenizer: &TextTokenizer) -> String {
    let ends = tokenizer.ends().iter().map(|id| format!("{id} {:?}", tokenizer.display(*id)));
    or_none(ends.collect::<Vec<_>>().join(", "))
}

/// The rotation of queries and keys.
fn rotation(spec: &TransformerSpec) -> String {
    spec.rotation().map_or("none (learned positions)".to_owned(), ToString::to_string)
}

/// The positions that a position sees.
fn attention(spec: &TransformerSpec) -> String {
    match spec.visibility {
        Visibility::Full => "full".to_owned(),
        Visibility::BlockCausal { block } => format!("causal between blocks of {block} positions"),
    }
}

/// The linear layers that have a bias.
fn biases(spec: &TransformerSpec) -> String {
    let layers = [
        ("queries, keys and values", spec.biases.qkv),
        ("attention's output", spec.biases.output),
        ("feed-forward", spec.biases.feed_forward),
    ];
    or_none(layers.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect::<Vec<_>>().join(", "))
}

/// Experts, and the layers that have them.
fn experts(spec: &TransformerSpec) -> String {
    let kinds = spec.feed_forward.iter().filter_map(|kind| match kind {
        FeedForward::Experts(experts) => Some(experts),
        FeedForward::Gelu { .. } | FeedForward::SwiGlu { .. } => None,
    });
    let kinds: Vec<_> = kinds.collect();
    kinds.first().map_or("none".to_owned(), |experts| {
        let Experts { count, shared, routing, .. } = experts;
        let beside = if shared.is_some() { " and a shared one" } else { "" };
        format!("{} of {count}{beside} in {} layers, {routing}", routing.used, kinds.len())
    })
}

/// The row of logits that predicts a position.
fn shift(shift: bool) -> &'static str {
    if shift { "row p - 1 for position p" } else { "row p for position p" }
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
