//! From the model's name to a predictor: folder, file, hub or the embedded model; files; device.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use unmask_model::checkpoint::{Checkpoint, ModelFiles, ReadOptions};
use unmask_model::device::{DeviceChoice, Placement};
use unmask_model::kernel::CpuFeatures;
use unmask_model::predictor::{CandlePredictor, MaskPredictor};
use unmask_scheduler::EngineMetrics;

use crate::clock::unix_seconds;
use crate::config::LoadArgs;
use crate::metrics::{Metrics, ModelLabels};
use crate::panics;
use crate::route_defaults::RouteDefaults;
use crate::shelf::{Dtype, SMOLLM2, available_memory, cache, known, refuse_if_too_large, suggestion};
use crate::state::ServedModel;
use crate::template::ChatTemplate;

/// A checkpoint and the predictor that computes it.
#[derive(Debug)]
pub struct Loaded {
    /// The model's name: its folder's or file's, the one on the hub, or the embedded model's.
    pub name: String,
    /// The contents of its files.
    pub checkpoint: Checkpoint,
    /// The settings that serve it best, by kind of request.
    pub defaults: RouteDefaults,
    /// Device and precision.
    pub placement: Placement,
    /// The network.
    pub predictor: CandlePredictor,
    /// The way from messages to a prompt, if there is one.
    pub chat_template: Option<ChatTemplate>,
}

impl Loaded {
    /// Name and shape of the model.
    #[must_use]
    pub fn description(&self) -> String {
        describe(&self.name, &self.checkpoint)
    }

    /// The predictor, the description of the model under `id`, and its metrics; `loading` is the time that
    /// loading took.
    #[must_use]
    pub fn served_as(
        self,
        id: Option<String>,
        loading: Duration,
    ) -> (CandlePredictor, ServedModel, (Metrics, EngineMetrics)) {
        let Self { name, checkpoint, defaults, placement, predictor, chat_template } = self;
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
            kv_cache: (predictor.memos().budget, predictor.memo_bytes(PAGE) / PAGE as u64),
            defaults,
            chat_template,
            parameters: checkpoint.weights.size().0,
            tokenizer: checkpoint.tokenizer,
            limits: predictor.limits(),
        };
        let id = served.id.clone();
        let dtype = precision.to_owned();
        let device = device.to_owned();
        let metrics = Metrics::new(ModelLabels { id, dtype, device }, loading);
        (predictor, served, metrics)
    }
}

/// Loads a model, the embedded one when none is named.
///
/// # Errors
/// As `Checkpoint::read` and `CandlePredictor::load`, the hub's, and a chat template that does not work.
pub fn load(model: Option<&str>, args: &LoadArgs) -> anyhow::Result<Loaded> {
    let Located { files, name, adapted } = match model {
        Some(model) => located(model, args).with_context(|| format!("cannot load model {model}"))?,
        None if args.base.is_some() => bail!("--base goes with --model {SMOLLM2}, and no model is named"),
        None => embedded()?,
    };
    let adapter = match &args.adapter {
        Some(adapter) => {
            let found = locate(adapter, args, Kind::Adapter);
            let (path, _) = found.with_context(|| format!("cannot load adapter {adapter}"))?;
            Some(ModelFiles::Folder(path))
        }
        None if adapted => Some(own_adapter()?),
        None => None,
    };
    let failed = || format!("cannot load model {name}");
    let options = ReadOptions {
        adapter: adapter.as_ref(),
        family: args.family.map(|family| family.0),
        mask_token: args.mask_token.as_deref(),
    };
    let hint = if adapter.is_none() { base_hint(&files) } else { None };
    let read = Checkpoint::read_with(files, options);
    let read = match (read, hint) {
        (Err(error), Some(hint)) => Err(anyhow::anyhow!("{error}; {hint}")),
        (read, _) => read.map_err(anyhow::Error::new),
    };
    let checkpoint = read.with_context(failed)?;
    // Before the weights, which may take minutes.
    let given = args.chat_template.as_deref();
    let chat_template = ChatTemplate::choose(given, &checkpoint.profile, &checkpoint.tokenizer)?;
    let own = adapter.as_ref().map(RouteDefaults::read).transpose();
    let own = own.with_context(failed)?.filter(|own| *own != RouteDefaults::default());
    let read = || RouteDefaults::read(&checkpoint.files).with_context(failed);
    let defaults = own.map_or_else(read, Ok)?;
    let described = describe(&name, &checkpoint);
    let placed = panics::as_error(&described, || place(&checkpoint, args));
    let (placement, predictor) = placed.with_context(failed)?;
    Ok(Loaded { name, checkpoint, defaults, placement, predictor, chat_template })
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
    let predictor = predictor.with_memos(memo_budget(args, &placement));
    Ok((placement, predictor))
}

/// Positions over which the bytes of one are measured: memory is taken for several at a time.
const PAGE: usize = 256;

/// Bytes of keys and values on a GPU, whose free memory is not known here.
const GPU_MEMOS: u64 = 4 << 30;

/// Bytes of keys and values that are kept between evaluations, once the weights are loaded: what was asked for, or a
/// quarter of what is free.
fn memo_budget(args: &LoadArgs, placement: &Placement) -> u64 {
    let free = || if placement.device.is_cpu() { available_memory() } else { None };
    args.kv_cache_memory.unwrap_or_else(|| free().map_or(GPU_MEMOS, |bytes| bytes as u64 / 4))
}

#[cfg(feature = "embedded")]
fn embedded() -> anyhow::Result<Located> {
    use unmask_model::checkpoint::embedded::{FILES, NAME};

    Ok(Located { files: FILES.clone(), name: NAME.to_owned(), adapted: false })
}

#[cfg(not(feature = "embedded"))]
fn embedded() -> anyhow::Result<Located> {
    bail!(
        "no model was named, and this build carries none (it lacks the feature `embedded`): name a folder, or a \
         model that `unmask models` lists, such as diffusionfamily/diffugpt-s (`serve` takes --model, `verify` an \
         argument, both UNMASK_MODEL)"
    );
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Adapter,
}

/// The files of a model.
struct Located {
    files: ModelFiles,
    name: String,
    /// True if the adapter in this program belongs to it.
    adapted: bool,
}

/// The files of a model: on disk, or of a known model (which may have to be downloaded), or on the hub.
fn located(name: &str, args: &LoadArgs) -> anyhow::Result<Located> {
    let Some(model) = known(name).filter(|_| !Path::new(name).exists()) else {
        if args.base.is_some() {
            bail!("--base goes with --model {SMOLLM2}, and the model is {name}");
        }
        let (path, name) = locate(name, args, Kind::Model)?;
        return Ok(Located { files: ModelFiles::open(&path)?, name, adapted: false });
    };
    if let Some(base) = &args.base {
        if !model.adapted {
            bail!("--base goes with --model {SMOLLM2}, and the model is {name}");
        }
        return Ok(Located { files: ModelFiles::open(base)?, name: model.name.to_owned(), adapted: true });
    }
    let on_gpu = matches!(args.device.0, DeviceChoice::Cuda(_)) || cfg!(feature = "cuda");
    if !args.force && !on_gpu && !cache::is_complete(model.hub, &args.hub).unwrap_or(false) {
        let cpu = args.cpu.unwrap_or_else(CpuFeatures::detect);
        refuse_if_too_large(model, Dtype::of(args.dtype), cpu)?;
    }
    let files = ModelFiles::open(&fetch(model.hub, args, Kind::Model)?)?;
    let name = if name.contains('/') { model.hub } else { model.name }.to_owned();
    Ok(Located { files, name, adapted: model.adapted })
}

/// The adapter in this program.
#[cfg(feature = "smollm2")]
fn own_adapter() -> anyhow::Result<ModelFiles> {
    Ok(unmask_model::checkpoint::smollm2::ADAPTER.clone())
}

#[cfg(not(feature = "smollm2"))]
fn own_adapter() -> anyhow::Result<ModelFiles> {
    bail!("this build lacks the adapter of {SMOLLM2} (the feature `smollm2`); name one with --adapter");
}

/// Advice for a GGUF file of the base of the adapter in this program.
fn base_hint(files: &ModelFiles) -> Option<String> {
    let ModelFiles::Gguf(file) = files else { return None };
    let name = file.model_name()?.to_ascii_lowercase();
    let base = name.contains("smollm2") && name.contains("135m");
    base.then(|| format!("serve this base with the adapter in this program by --model {SMOLLM2} --base FILE"))
}

/// A folder or file on disk wins; what does not exist and looks like `owner/name` is a name on the hub.
fn locate(name: &str, args: &LoadArgs, kind: Kind) -> anyhow::Result<(PathBuf, String)> {
    let path = Path::new(name);
    if kind == Kind::Adapter && path.is_file() {
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        bail!("an adapter is a folder with adapter_config.json: give {}", folder.display());
    }
    if path.exists() {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let own = if path.is_dir() { path.file_name() } else { path.file_stem() };
        let name = own.map_or_else(|| name.to_owned(), |own| own.to_string_lossy().into_owned());
        return Ok((path, name));
    }
    // A revision may have slashes of its own.
    let repository = name.split('@').next().filter(|_| kind == Kind::Adapter).unwrap_or(name);
    let parts: Vec<&str> = repository.split('/').collect();
    let plain = |part: &&str| !part.is_empty() && !part.starts_with('.');
    if parts.len() == 2 && parts.iter().all(plain) {
        return Ok((fetch(name, args, kind)?, name.to_owned()));
    }
    if kind == Kind::Adapter {
        bail!("there is no folder {name}, and a name on the hub is owner/name or owner/name@revision");
    }
    match suggestion(name) {
        Some(near) => bail!("there is no model, folder or GGUF file {name}; did you mean {near}?"),
        None => bail!(
            "there is no folder or GGUF file {name}; `unmask models` lists short names, and a name on the hub is owner/name"
        ),
    }
}

#[cfg(feature = "hub")]
fn fetch(name: &str, args: &LoadArgs, kind: Kind) -> anyhow::Result<PathBuf> {
    use unmask_model::checkpoint::hub::{Wanted, fetch};

    let mut options = args.hub.options();
    let (name, revision) = match name.split_once('@') {
        Some((name, revision)) if kind == Kind::Adapter => (name, Some(revision)),
        _ => (name, None),
    };
    if let Some(revision) = revision {
        revision.clone_into(&mut options.revision);
    }
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
