//! Checkpoints from a hub that speaks Hugging Face's file routes.
//!
//! Files lie in the cache that Python's libraries use too, one folder per commit. The name of a branch
//! points to a commit only once all files are there, so a checkpoint that was fetched whole starts
//! without the hub.

mod failure;
mod inventory;
mod report;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo, RepoType};

use self::failure::{Failure, guarded};
pub use self::inventory::{CachedModel, cached_models, remove_cached};
use self::report::Report;
use self::watch::watched;
use super::files::read_json;
use super::safetensors::shard_names;
use crate::error::LoadError;

const INDEX: &str = "model.safetensors.index.json";
const PICKLES: [&str; 3] = ["pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin"];

/// The most retries of one file, each from the byte at which the last one broke off: the first at once, the
/// others after longer and longer pauses.
const RETRIES: u32 = 5;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The longest time for listing a repository before the cache is used instead: huggingface_hub's own default.
pub const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time without a byte of a file that is being fetched: huggingface_hub's own default.
pub const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Digits of a commit's name.
const COMMIT_LENGTH: usize = 40;

/// The files wanted of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A checkpoint.
    Model,
    /// A LoRA adapter.
    Adapter,
}

/// Addresses, folders and limits of downloads.
#[derive(Clone)]
pub struct HubOptions {
    /// The hub's address (`HF_ENDPOINT`).
    pub endpoint: String,
    /// Access token (`HF_TOKEN`); without it, the one in `token_file`.
    pub token: Option<String>,
    /// The file of the token that `hf auth login` wrote (`HF_TOKEN_PATH`). `None` is `token` in `home`.
    pub token_file: Option<PathBuf>,
    /// `HF_HOME`. `None` is `~/.cache/huggingface`.
    pub home: Option<PathBuf>,
    /// The folder of downloads (`HF_HUB_CACHE`). `None` is `hub` in `home`.
    pub cache: Option<PathBuf>,
    /// Branch, tag or commit.
    pub revision: String,
    /// True to use the cache alone (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// The longest time for listing a repository (`HF_HUB_ETAG_TIMEOUT`).
    pub list_timeout: Duration,
    /// The longest time without a byte of a file that is being fetched (`HF_HUB_DOWNLOAD_TIMEOUT`).
    pub download_timeout: Duration,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            endpoint: "https://huggingface.co".to_owned(),
            token: None,
            token_file: None,
            home: None,
            cache: None,
            revision: "main".to_owned(),
            offline: false,
            list_timeout: LIST_TIMEOUT,
            download_timeout: DOWNLOAD_TIMEOUT,
        }
    }
}

impl std::fmt::Debug for HubOptions {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { endpoint, token: _, home, cache, revision, offline, .. } = self;
        let mut fields = f.debug_struct("HubOptions");
        fields.field("endpoint", endpoint).field("home", home).field("cache", cache);
        fields.field("revision", revision).field("offline", offline);
        fields.finish_non_exhaustive()
    }
}

/// The folder with the files of a repository, `owner/name`. Only what is not in the cache is
/// transferred; when the hub cannot be reached, a complete checkpoint in the cache is used. Blocks.
///
/// # Errors
/// The name has another form, the hub refuses or cannot be reached, a file that is needed is not there,
/// or the weights are a pickle.
pub fn fetch(repository: &str, kind: Wanted, options: &HubOptions) -> Result<PathBuf, LoadError> {
    let hub = Hub::new(repository, options)?;
    let fixed =
        options.revision.len() == COMMIT_LENGTH && options.revision.chars().all(|c| c.is_ascii_hexdigit());
    // A commit never changes, so there is nothing to ask when it is there.
    if (options.offline || fixed)
        && let Some(folder) = hub.cached(kind)
    {
        return Ok(folder);
    }
    if options.offline {
        let reason = format!(
            "HF_HUB_OFFLINE is set, and {} does not hold all files of revision {}: fetch them once without it",
            hub.cache.path().display(),
            options.revision
        );
        return Err(hub_error(repository, "any file", options, reason));
    }
    let seconds = options.list_timeout.as_secs();
    tracing::info!(repository, endpoint = %options.endpoint, timeout_s = seconds, "asking the hub for its files");
    let failure = match hub.list() {
        Ok(list) => return hub.download(kind, &list),
        Err(failure) => failure,
    };
    let error = hub.error("the file list", &failure);
    if failure.is_passing()
        && let Some(folder) = hub.cached(kind)
    {
        tracing::warn!(%error, folder = %folder.display(), "using the checkpoint in the cache");
        return Ok(folder);
    }
    Err(error)
}

impl Wanted {
    /// Asks `get` for each file that is needed, given which files there are.
    fn collect(
        self,
        repository: &str,
        listed: impl Fn(&str) -> bool,
        get: impl Fn(&str) -> Result<PathBuf, LoadError>,
    ) -> Result<(), LoadError> {
        let (needed, optional, weights): (&[_], &[_], &[_]) = match self {
            // Some repositories have the parts of a tokenizer instead.
            Self::Model if !listed("tokenizer.json") && listed("vocab.json") => (
                &["config.json", "vocab.json", "merges.txt", "tokenizer_config.json"],
                &["added_tokens.json", "special_tokens_map.json", "chat_template.jinja"],
                &["model.safetensors", INDEX],
            ),
            Self::Model => (
                &["config.json", "tokenizer.json"],
                &[
                    "tokenizer_config.json",
                    "special_tokens_map.json",
                    "generation_config.json",
                    "chat_template.jinja",
                ],
                &["model.safetensors", INDEX],
            ),
            Self::Adapter => (&["adapter_config.json"], &[], &["adapter_model.safetensors"]),
        };
        let first = |names: &[&'static str]| names.iter().copied().find(|name| listed(name));
        let weights = match (first(weights), first(&PICKLES)) {
            (None, Some(name)) => return Err(LoadError::Pickle { path: Path::new(repository).join(name) }),
            (found, _) => found.unwrap_or(weights[0]),
        };
        for name in needed.iter().chain(optional.iter().filter(|name| listed(name))) {
            get(name)?;
        }
        let path = get(weights)?;
        if weights == INDEX {
            for name in shard_names(&path, &read_json(&path)?)? {
                get(&name)?;
            }
        }
        Ok(())
    }
}

/// One repository at one revision.
struct Hub<'a> {
    repository: &'a str,
    options: &'a HubOptions,
    cache: Cache,
    api: Api,
}

impl<'a> Hub<'a> {
    fn new(repository: &'a str, options: &'a HubOptions) -> Result<Self, LoadError> {
        let error = |reason: &str| hub_error(repository, "any file", options, reason.to_owned());
        // Both become parts of addresses and of paths.
        if !matches!(repository.split_once('/'), Some((owner, name)) if is_plain(owner) && is_plain(name)) {
            return Err(error("a model's name is owner/name, of letters, digits and . _ -"));
        }
        if !options.revision.split('/').all(is_plain) {
            return Err(error("a revision is a branch, tag or commit, of letters, digits and . _ - /"));
        }
        let home = home_folder(repository, options)?;
        let cache = Cache::new(cache_folder(repository, options)?);
        let endpoint = options.endpoint.trim_end_matches('/').to_owned();
        let stored = || {
            let file = options.token_file.clone().unwrap_or_else(|| home.join("token"));
            std::fs::read_to_string(file).ok()
        };
        let plain = |token: &String| Some(token.trim().to_owned()).filter(|token| !token.is_empty());
        let token = options.token.as_ref().and_then(plain).or_else(|| plain(&stored()?));
        let builder = ApiBuilder::from_cache(cache.clone()).with_endpoint(endpoint).with_token(token);
        let api = builder.build().map_err(|failure| error(&Failure::from(failure).to_string()))?;
        Ok(Self { repository, options, cache, api })
    }

    /// The files of the repository at the revision, and its commit.
    fn list(&self) -> Result<RepoInfo, Failure> {
        let repo = self.api.repo(self.at(&self.options.revision));
        let list = guarded(|| {
            let request =
                repo.info_request().config().timeout_global(Some(self.options.list_timeout)).build();
            let mut response = request.call().map_err(Box::new)?;
            Ok(response.body_mut().read_json::<RepoInfo>().map_err(Box::new)?)
        })?;
        if is_plain(&list.sha) { Ok(list) } else { Err(Failure::Answer("the commit is no hash".to_owned())) }
    }

    /// Brings a commit's files into the cache and lets the revision's name point to it.
    fn download(&self, kind: Wanted, list: &RepoInfo) -> Result<PathBuf, LoadError> {
        let folder = self.snapshot(&list.sha);
        let listed = |name: &str| list.siblings.iter().any(|file| file.rfilename == name);
        kind.collect(self.repository, listed, |name| {
            let path = folder.join(name);
            if !path.exists() {
                let missing = || Failure::Answer("the repository does not have this file".to_owned());
                let done = if listed(name) { self.transfer(&list.sha, name) } else { Err(missing()) };
                done.map_err(|failure| self.error(name, &failure))?;
            }
            Ok(path)
        })?;
        self.name_commit(&list.sha);
        Ok(folder)
    }

    /// Lets the revision's name point to a commit. All files are there by now, so a cache that cannot be written to
    /// is only less useful without the hub.
    fn name_commit(&self, commit: &str) {
        if std::fs::read_to_string(self.reference()).is_ok_and(|named| named.trim() == commit) {
            return;
        }
        if let Err(error) = self.cache.repo(self.at(&self.options.revision)).create_ref(commit) {
            let name = self.reference();
            tracing::warn!(%error, name = %name.display(), "cannot note the commit; a start without the hub needs it");
        }
    }

    /// The file that says which commit the revision is.
    fn reference(&self) -> PathBuf {
        let revision = &self.options.revision;
        self.cache.path().join(self.at(revision).folder_name()).join("refs").join(revision)
    }

    /// The revision's folder in the cache, when nothing is missing from it.
    fn cached(&self, kind: Wanted) -> Option<PathBuf> {
        let named = std::fs::read_to_string(self.reference());
        let commit = named.unwrap_or_else(|_| self.options.revision.clone());
        let folder = self.snapshot(Some(commit.trim()).filter(|commit| is_plain(commit))?);
        let complete = kind.collect(
            self.repository,
            |name| folder.join(name).exists(),
            |name| match folder.join(name) {
                path if path.exists() => Ok(path),
                path => Err(LoadError::FileMissing { path, hint: String::new() }),
            },
        );
        complete.is_ok().then_some(folder)
    }

    /// Fetches one file, taking it up again when the connection breaks. Not hf-hub's own retries: they
    /// append the file's start to what an earlier process left when their first request fails.
    fn transfer(&self, commit: &str, name: &str) -> Result<(), Failure> {
        let mut report = Report::new(name);
        for attempt in 0..RETRIES {
            match self.attempt(commit, name, &mut report) {
                Err(failure) if failure.is_passing() => {
                    tracing::warn!(file = name, %failure, "the transfer broke off, taking it up again");
                    std::thread::sleep(RETRY_PAUSE * attempt);
                }
                done => return done,
            }
        }
        self.attempt(commit, name, &mut report)
    }

    fn attempt(&self, commit: &str, name: &str, report: &mut Report) -> Result<(), Failure> {
        let repo = self.api.repo(self.at(commit));
        let limit = self.options.download_timeout;
        let (api, url) = (self.api.clone(), repo.url(name));
        let metadata = watched(limit, report, move |_| api.metadata(&url))?;
        // Both become parts of paths.
        let etag = metadata.etag();
        if metadata.commit_hash() != commit || !is_plain(etag.strip_prefix("W/").unwrap_or(etag)) {
            return Err(Failure::Answer("the file's commit or etag is not what was asked for".to_owned()));
        }
        let blob = self.cache.repo(self.at(commit)).blob_path(etag);
        let part = blob.with_extension("part");
        let link = self.snapshot(commit).join(name);
        let size = metadata.size() as u64;
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
        // Neither is there as a rule: a link to a blob that was deleted, and a part that leaves nothing
        // to ask for.
        let _ = std::fs::remove_file(&link);
        if length(&part) >= size {
            let _ = std::fs::remove_file(&part);
        }
        // Another commit may have brought the same content.
        if length(&blob) == size
            && std::fs::create_dir_all(self.snapshot(commit))
                .and_then(|()| std::fs::hard_link(&blob, &link))
                .is_ok()
        {
            return Ok(());
        }
        let file = name.to_owned();
        let fetch = move |teller| repo.download_with_progress(&file, teller);
        watched(limit, report, fetch)?;
        match length(&link) {
            found if found == size => Ok(()),
            found => {
                let _ = std::fs::remove_file(&link).and_then(|()| std::fs::remove_file(&blob));
                Err(Failure::Connection(format!("{found} bytes arrived of a file of {size}")))
            }
        }
    }

    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.repository.to_owned(), RepoType::Model, revision.to_owned())
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.repo(self.at(commit)).pointer_path(commit)
    }

    fn error(&self, file: &str, failure: &Failure) -> LoadError {
        hub_error(self.repository, file, self.options, failure.to_string())
    }
}

/// The home of cache and token.
fn home_folder(repository: &str, options: &HubOptions) -> Result<PathBuf, LoadError> {
    let standard = || std::env::home_dir().map(|home| home.join(".cache/huggingface"));
    options.home.clone().or_else(standard).ok_or_else(|| {
        let reason = "there is no home directory for the cache: set HF_HOME".to_owned();
        hub_error(repository, "any file", options, reason)
    })
}

/// The folder of the cache.
fn cache_folder(repository: &str, options: &HubOptions) -> Result<PathBuf, LoadError> {
    match &options.cache {
        Some(cache) => Ok(cache.clone()),
        None => Ok(home_folder(repository, options)?.join("hub")),
    }
}

/// The folder of a repository's files in the cache, if none of them is missing. Asks no hub.
///
/// # Errors
/// The name has another form, or there is no home directory for the cache.
pub fn cached(repository: &str, kind: Wanted, options: &HubOptions) -> Result<Option<PathBuf>, LoadError> {
    Ok(Hub::new(repository, options)?.cached(kind))
}

fn hub_error(repository: &str, file: &str, options: &HubOptions, reason: String) -> LoadError {
    let repository = repository.escape_debug().to_string();
    let file = file.escape_debug().to_string();
    LoadError::Hub { repository, file, endpoint: options.endpoint.escape_debug().to_string(), reason }
}

/// Returns true if a text is safe as one part of a path or an address.
fn is_plain(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && !text.starts_with('.') && !text.contains("..") && text.chars().all(allowed)
}
