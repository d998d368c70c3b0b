//! `unmask models`, `pull`, `rm` and `show`.

use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use unmask_model::kernel::CpuFeatures;

use super::cache;
use super::known::{known, suggestion};
use super::listing::{Listed, cache_lines, details, list, table};
use super::machine::available_memory;
use super::size::{Dtype, gigabytes, refuse_if_too_large};
use crate::config::{HubArgs, LogArgs};

/// Settings of `unmask models`.
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// Print one JSON object for each model instead of a table.
    #[arg(long)]
    pub json: bool,
    /// The hub and its cache.
    #[command(flatten)]
    pub hub: HubArgs,
}

/// Settings of `unmask rm` and `unmask show`.
#[derive(Debug, Args)]
pub struct HubModelArgs {
    /// A short name that `unmask models` lists, or a hub name.
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// The hub and its cache.
    #[command(flatten)]
    pub hub: HubArgs,
}

/// Settings of `unmask pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// A short name that `unmask models` lists, or a hub name.
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Download a model that needs more memory than this machine has.
    #[arg(long)]
    pub force: bool,
    /// The hub and its cache.
    #[command(flatten)]
    pub hub: HubArgs,
    /// Log lines.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Lists the known models, and those in the cache.
///
/// # Errors
/// The cache cannot be read, or writing fails.
pub fn models(args: &ModelsArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let cached = cache::all(&args.hub)?;
    let available = available_memory();
    let listed = list(&cached, available);
    if !args.json {
        return out.write_all(table(&listed, &cached, available).as_bytes()).context("cannot write the list");
    }
    for model in &listed {
        serde_json::to_writer(&mut *out, model)?;
        writeln!(out)?;
    }
    Ok(())
}

/// Downloads a model into the cache, or brings it up to date.
///
/// # Errors
/// The name is not one of a model, the model needs more memory than this machine has, or the hub refuses.
pub fn pull(args: &PullArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let name = hub_name(&args.model)?;
    if let Some(model) =
        known(&name).filter(|_| !args.force && !cache::is_complete(&name, &args.hub).unwrap_or(false))
    {
        // In the precision that takes the least.
        refuse_if_too_large(model, Dtype::Int8, CpuFeatures::detect())?;
    }
    let folder = cache::fetch(&name, &args.hub).with_context(|| format!("cannot download {name}"))?;
    writeln!(out, "{}", folder.display()).context("cannot write the folder's name")
}

/// Deletes a model from the cache.
///
/// # Errors
/// The name is not one of a model, or the cache does not have it.
pub fn remove(args: &HubModelArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let name = hub_name(&args.model)?;
    match cache::remove(&name, &args.hub)? {
        Some(model) => {
            let size = usize::try_from(model.bytes).unwrap_or(usize::MAX);
            writeln!(out, "removed {} ({})", model.name, gigabytes(size)).context("cannot write the result")
        }
        None => bail!("{name} is not in the cache; `unmask models` lists the models in it"),
    }
}

/// Prints the facts about a model, and its place in the cache.
///
/// # Errors
/// The name is not one of a model, or nothing is known of it.
pub fn show(args: &HubModelArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let name = hub_name(&args.model)?;
    let all = cache::all(&args.hub)?;
    let cached = all.iter().find(|cached| cached.name.eq_ignore_ascii_case(&name));
    let lines = match (known(&name), cached) {
        (Some(model), _) => details(&Listed::new(model, &all, available_memory()), cached),
        (None, Some(cached)) => [vec![("hub name", cached.name.clone())], cache_lines(cached)].concat(),
        (None, None) => bail!("{name} is neither a known model nor in the cache; `unmask models` lists both"),
    };
    for (label, text) in lines {
        writeln!(out, "{label:<16} {text}")?;
    }
    Ok(())
}

/// The hub name of a short name or a hub name.
fn hub_name(name: &str) -> anyhow::Result<String> {
    if let Some(model) = known(name) {
        return Ok(model.hub.to_owned());
    }
    if name.split('/').filter(|part| !part.is_empty()).count() == 2 && name.matches('/').count() == 1 {
        return Ok(name.to_owned());
    }
    match suggestion(name) {
        Some(near) => bail!("there is no model {name}; did you mean {near}?"),
        None => {
            bail!("there is no model {name}; `unmask models` lists short names, and a hub name is owner/name")
        }
    }
}
