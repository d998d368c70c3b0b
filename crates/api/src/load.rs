//! From the model's name to a predictor: folder, file, hub or the embedded model; files; device.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use unmask_model::checkpoint::{Checkpoint, ModelFiles, ReadOptions};
use unmask_model::device::Placement;
use unmask_model::kernel::CpuFeatures;
use unmask_model::predictor::{CandlePredictor, MaskPredictor};
use unmask_scheduler::EngineMetrics;

use crate::config::LoadArgs;
use crate::metrics::{Metrics, ModelLabels};
use crate::panics;
use crate::report::unix_seconds;
use crate::route_defaults::RouteDefaults;
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
    let options = ReadOptions {
        adapter: adapter.as_deref(),
        family: args.family.map(|family| family.0),
        mask_token: args.mask_token.as_deref(),
    };
    let checkpoint = Checkpoint::read_with(files, options).with_context(failed)?;
    // Before the weights, which may take minutes.
    let given = args.chat_template.as_deref();
    let chat_template = ChatTemplate::choose(given, &checkpoint.profile, &checkpoint.tokenizer)?;
    let defaults = RouteDefaults::read(&checkpoint.files).with_context(failed)?;
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
    use unmask_model::checkpoint::hub::{Wanted, fetch};

    let options = hub_options(args);
    let wanted = match kind {
        Kind::Model => Wanted::Model,
        Kind::Adapter => Wanted::Adapter,
    };
    Ok(fetch(name, wanted, &options)?)
}

/// The flags, before what huggingface_hub reads of the environment, in its order.
#[cfg(feature = "hub")]
fn hub_options(args: &LoadArgs) -> unmask_model::checkpoint::hub::HubOptions {
    use crate::config_values::Truth;
    use unmask_model::checkpoint::hub::{HubOptions, LIST_TIMEOUT};

    let standard = &args.standard;
    let endpoint = args.hub_endpoint.as_ref().or(standard.hf_endpoint.as_ref());
    let given = [&args.hub_token, &standard.hf_token, &standard.hugging_face_hub_token];
    let token = given.into_iter().flatten().next();
    let is_on = |truth: Option<Truth>| truth.is_some_and(|Truth(on)| on);
    let token_file = if is_on(standard.hf_hub_disable_implicit_token) {
        Some(PathBuf::new())
    } else {
        standard.hf_token_path.as_deref().map(expanded)
    };
    let xdg = standard.xdg_cache_home.as_deref().map(|folder| expanded(folder).join("huggingface"));
    let home = args.hub_home.as_deref().or(standard.hf_home.as_deref()).map(expanded).or(xdg);
    let cache = standard.hf_hub_cache.as_deref().or(standard.huggingface_hub_cache.as_deref());
    let timeout = standard.hf_hub_etag_timeout.as_ref().and_then(|seconds| seconds.trim().parse().ok());
    HubOptions {
        endpoint: endpoint.map_or("https://huggingface.co", String::as_str).trim_end_matches('/').to_owned(),
        token: token.map(|secret| secret.0.clone()),
        token_file,
        home,
        // A home that was given here says where the cache is, too.
        cache: cache.filter(|_| args.hub_home.is_none()).map(expanded),
        revision: args.revision.clone(),
        offline: is_on(standard.hf_hub_offline.or(standard.transformers_offline)),
        list_timeout: timeout.filter(|seconds| *seconds > 0).map_or(LIST_TIMEOUT, Duration::from_secs),
    }
}

/// A path whose leading `~` is the home directory, as huggingface_hub reads it.
#[cfg(feature = "hub")]
fn expanded(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

#[cfg(not(feature = "hub"))]
fn fetch(name: &str, _: &LoadArgs, _: Kind) -> anyhow::Result<PathBuf> {
    bail!("there is no folder {name}, and this build cannot download (it lacks the feature `hub`)");
}

#[cfg(all(test, feature = "hub"))]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config_values::Truth;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        load: LoadArgs,
    }

    /// Flags alone: the variables of this process's own environment are not read.
    fn options(change: impl FnOnce(&mut LoadArgs)) -> unmask_model::checkpoint::hub::HubOptions {
        let mut load = Arguments::parse_from(["unmask"]).load;
        (load.hub_endpoint, load.hub_token, load.hub_home) = (None, None, None);
        load.standard = crate::config::HubEnvironment::default();
        change(&mut load);
        hub_options(&load)
    }

    #[test]
    fn the_environment_of_huggingface_hub_has_its_order() {
        let path = |text: &str| Some(PathBuf::from(text));
        let secret = |text: &str| Some(crate::config::Secret(text.to_owned()));
        let none = options(|_| {});
        assert_eq!((none.home, none.cache, none.token, none.offline), (None, None, None, false));
        let xdg = options(|args| args.standard.xdg_cache_home = path("/x"));
        assert_eq!((xdg.home, xdg.cache), (path("/x/huggingface"), None));
        let home = options(|args| {
            args.standard.xdg_cache_home = path("/x");
            args.standard.hf_home = path("/h");
        });
        assert_eq!((home.home, home.cache), (path("/h"), None));
        let cache = options(|args| {
            args.standard.hf_home = path("/h");
            args.standard.huggingface_hub_cache = path("/old");
            args.standard.hf_hub_cache = path("/c");
        });
        assert_eq!((cache.home, cache.cache), (path("/h"), path("/c")));
        let flag = options(|args| {
            args.hub_home = path("/f");
            args.standard.hf_hub_cache = path("/c");
        });
        assert_eq!((flag.home, flag.cache), (path("/f"), None));
        let token = options(|args| {
            args.standard.hugging_face_hub_token = secret("old");
            args.standard.hf_token = secret("new");
            args.standard.hf_token_path = path("/t");
        });
        assert_eq!((token.token.as_deref(), token.token_file), (Some("new"), path("/t")));
        let seconds = |text: &str| {
            let options = options(|args| args.standard.hf_hub_etag_timeout = Some(text.to_owned()));
            options.list_timeout.as_secs()
        };
        assert_eq!((seconds("3"), seconds("0"), seconds("x")), (3, 10, 10));
    }

    #[test]
    fn offline_is_what_huggingface_hub_calls_true() {
        let offline = |hub: Option<&str>, transformers: Option<&str>| {
            let truth = |text: &str| text.parse::<Truth>().unwrap();
            options(|args| {
                args.standard.hf_hub_offline = hub.map(truth);
                args.standard.transformers_offline = transformers.map(truth);
            })
            .offline
        };
        for yes in ["1", "ON", "on", "Yes", "TRUE"] {
            assert!(offline(Some(yes), None) && offline(None, Some(yes)), "{yes}");
        }
        for no in ["0", "off", "no", "false", "2", "y"] {
            assert!(!offline(Some(no), Some("1")) && !offline(None, Some(no)), "{no}");
        }
    }
}
