//! From the model's name to a predictor: folder, file, hub or the embedded model; files; device.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use unmask_model::checkpoint::{Checkpoint, ModelFiles};
use unmask_model::device::Placement;
use unmask_model::kernel::CpuFeatures;
use unmask_model::predictor::{CandlePredictor, MaskPredictor};
use unmask_scheduler::EngineMetrics;

use crate::config::LoadArgs;
use crate::metrics::{Metrics, ModelLabels};
use crate::panics;
use crate::report::unix_seconds;
use crate::state::ServedModel;
use crate::template::ChatTemplate;

/// A checkpoint and the predictor that computes it.
#[derive(Debug)]
pub struct Loaded {
    /// The model's name: its folder's or file's, the one on the hub, or the embedded model's.
    pub name: String,
    /// What was read of its files.
    pub checkpoint: Checkpoint,
    /// Where it is computed.
    pub placement: Placement,
    /// The network.
    pub predictor: CandlePredictor,
    /// How messages become a prompt, when that is known.
    pub chat_template: Option<ChatTemplate>,
}

impl Loaded {
    /// Name and shape of the model.
    #[must_use]
    pub fn description(&self) -> String {
        describe(&self.name, &self.checkpoint)
    }

    /// What computes, what is said of it under `id`, and what is counted of it; `loading` is what it took.
    #[must_use]
    pub fn served_as(
        self,
        id: Option<String>,
        loading: Duration,
    ) -> (CandlePredictor, ServedModel, (Metrics, EngineMetrics)) {
        let Self { name, checkpoint, placement, predictor, chat_template } = self;
        let device = if placement.device.is_cpu() { "cpu" } else { "cuda" };
        let precision = placement.precision();
        let served = ServedModel {
            id: id.unwrap_or(name),
            created: unix_seconds(),
            fingerprint: format!(
                "unmask-{}-{}-{precision}-{device}",
                env!("CARGO_PKG_VERSION"),
                checkpoint.weights.fingerprint(),
            ),
            profile: checkpoint.profile,
            chat_template,
            parameters: checkpoint.weights.size().0,
            tokenizer: checkpoint.tokenizer,
            limits: predictor.limits(),
        };
        let (id, dtype, device) = (served.id.clone(), precision.to_owned(), device.to_owned());
        let metrics = Metrics::new(ModelLabels { id, dtype, device }, loading);
        (predictor, served, metrics)
    }
}

/// Loads a model, the embedded one when none is named.
///
/// # Errors
/// As `Checkpoint::read` and `CandlePredictor::load`, the hub's, and a chat template that does not work.
pub fn load(model: Option<&str>, args: &LoadArgs) -> anyhow::Result<Loaded> {
    let (files, name) = match model {
        Some(model) => {
            let found = locate(model, args, Kind::Model);
            let (path, name) = found.with_context(|| format!("cannot load model {model}"))?;
            (ModelFiles::open(&path).with_context(|| format!("cannot load model {model}"))?, name)
        }
        None => embedded()?,
    };
    let adapter = match &args.adapter {
        Some(adapter) => {
            let found = locate(adapter, args, Kind::Adapter);
            Some(found.with_context(|| format!("cannot load adapter {adapter}"))?.0)
        }
        None => None,
    };
    let failed = || format!("cannot load model {name}");
    let checkpoint = Checkpoint::read(files, adapter.as_deref()).with_context(failed)?;
    // Before the weights, which may take minutes.
    let given = args.chat_template.as_deref();
    let chat_template = ChatTemplate::choose(given, &checkpoint.profile, &checkpoint.tokenizer)?;
    let described = describe(&name, &checkpoint);
    let placed = panics::as_error(&described, || place(&checkpoint, args));
    let (placement, predictor) = placed.with_context(failed)?;
    Ok(Loaded { name, checkpoint, placement, predictor, chat_template })
}

/// Name and shape of a model, for errors.
fn describe(name: &str, checkpoint: &Checkpoint) -> String {
    format!("{name} ({})", checkpoint.config)
}

fn place(checkpoint: &Checkpoint, args: &LoadArgs) -> anyhow::Result<(Placement, CandlePredictor)> {
    let cpu = args.cpu.unwrap_or_else(CpuFeatures::detect);
    let placement = Placement::new(args.device.0, args.dtype.into(), checkpoint.profile.family, cpu)?;
    let placement = placement.deterministic(args.deterministic);
    let (parameters, bytes) = checkpoint.weights.size();
    tracing::info!(
        files = %checkpoint.files,
        parameters,
        megabytes = bytes / 1_000_000,
        %cpu,
        deterministic = placement.deterministic,
        "loading weights"
    );
    let predictor = CandlePredictor::load(checkpoint, placement.clone(), args.threads)?;
    Ok((placement, predictor))
}

#[cfg(feature = "embedded")]
fn embedded() -> anyhow::Result<(ModelFiles, String)> {
    use unmask_model::checkpoint::embedded::{FILES, NAME};

    Ok((FILES.clone(), NAME.to_owned()))
}

#[cfg(not(feature = "embedded"))]
fn embedded() -> anyhow::Result<(ModelFiles, String)> {
    bail!(
        "no model was named, and this build carries none (it lacks the feature `embedded`): name a folder or a \
         hub name such as diffusionfamily/diffugpt-s (`serve` takes --model, `verify` an argument, both UNMASK_MODEL)"
    );
}

#[derive(Clone, Copy)]
enum Kind {
    Model,
    Adapter,
}

/// A folder or file on disk wins; what does not exist and looks like `owner/name` is a name on the hub.
fn locate(name: &str, args: &LoadArgs, kind: Kind) -> anyhow::Result<(PathBuf, String)> {
    let path = Path::new(name);
    if path.exists() {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let own = if path.is_dir() { path.file_name() } else { path.file_stem() };
        let name = own.map_or_else(|| name.to_owned(), |own| own.to_string_lossy().into_owned());
        return Ok((path, name));
    }
    let parts: Vec<&str> = name.split('/').collect();
    let plain = |part: &&str| !part.is_empty() && !part.starts_with('.');
    if parts.len() == 2 && parts.iter().all(plain) {
        return Ok((fetch(name, args, kind)?, name.to_owned()));
    }
    bail!("there is no folder or GGUF file {name}, and a name on the hub looks like owner/name");
}

#[cfg(feature = "hub")]
fn fetch(name: &str, args: &LoadArgs, kind: Kind) -> anyhow::Result<PathBuf> {
    use unmask_model::checkpoint::hub::{HubOptions, Wanted, fetch};

    let standard = &args.standard;
    let endpoint = args.hub_endpoint.as_ref().or(standard.hf_endpoint.as_ref());
    let token = args.hub_token.as_ref().or(standard.hf_token.as_ref());
    let options = HubOptions {
        endpoint: endpoint.map_or("https://huggingface.co", String::as_str).trim_end_matches('/').to_owned(),
        token: token.map(|secret| secret.0.clone()),
        home: args.hub_home.clone().or_else(|| standard.hf_home.clone()),
        revision: args.revision.clone(),
    };
    let wanted = match kind {
        Kind::Model => Wanted::Model,
        Kind::Adapter => Wanted::Adapter,
    };
    Ok(fetch(name, wanted, &options)?)
}

#[cfg(not(feature = "hub"))]
fn fetch(name: &str, _: &LoadArgs, _: Kind) -> anyhow::Result<PathBuf> {
    bail!("there is no folder {name}, and this build cannot download (it lacks the feature `hub`)");
}
