//! Checkpoints from a hub that speaks Hugging Face's file routes.
//!
//! Files lie in the cache that Python's libraries use too, one folder per commit. The name of a branch
//! points to a commit only once all files are there, so a checkpoint that was fetched whole starts
//! without the hub.

mod client;
mod failure;
mod inventory;
mod options;
mod transfer;
mod wanted;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::RepoInfo;
use hf_hub::{Cache, Repo, RepoType};

use self::client::{Client, Facts};
use self::failure::Failure;
pub use self::inventory::{CachedModel, cached_models, remove_cached};
pub use self::options::{DOWNLOAD_TIMEOUT, HubOptions, LIST_TIMEOUT};
use self::transfer::{Places, length};
pub use self::wanted::Wanted;
use self::watch::watched;
use super::progress::ByteProgress;
use crate::error::LoadError;

/// The most retries of one file, each from the byte at which the last one broke off: the first at once, the
/// others after longer and longer pauses.
const RETRIES: u32 = 5;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Digits of a commit's name.
const COMMIT_LENGTH: usize = 40;

/// The folder with the files of a repository, `owner/name`. Only what is not in the cache is
/// transferred; when the hub cannot be reached, a complete checkpoint in the cache is used. Blocks.
///
/// # Errors
/// The name has another form, the hub refuses or cannot be reached, a file that is needed is not there,
/// or the weights are a pickle.
pub fn fetch(repository: &str, kind: Wanted, options: &HubOptions) -> Result<PathBuf, LoadError> {
    let hub = Hub::new(repository, options)?;
    // There is nothing to ask about a commit of which all is there.
    if (options.offline || !options.check && hub.is_noted())
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

/// One repository at one revision.
struct Hub<'a> {
    repository: &'a str,
    options: &'a HubOptions,
    cache: Cache,
    client: Client,
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
        let client = Client::new(&endpoint, token).map_err(|failure| error(&failure.to_string()))?;
        Ok(Self { repository, options, cache, client })
    }

    /// The files of the repository at the revision, and its commit.
    fn list(&self) -> Result<RepoInfo, Failure> {
        let list = self.client.list(&self.at(&self.options.revision), self.options.list_timeout)?;
        if is_plain(&list.sha) { Ok(list) } else { Err(Failure::Answer("the commit is no hash".to_owned())) }
    }

    /// Brings a commit's files into the cache and lets the revision's name point to it.
    fn download(&self, kind: Wanted, list: &RepoInfo) -> Result<PathBuf, LoadError> {
        let folder = self.snapshot(&list.sha);
        let names: Vec<&str> = list.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        if let Some(other) = kind.mistaken(&names) {
            return Err(self.error("the model", &Failure::Answer(other)));
        }
        let listed = |name: &str| names.contains(&name);
        kind.collect(self.repository, listed, |name, needed| {
            let path = folder.join(name);
            let missing = || Failure::Answer("the repository does not have this file".to_owned());
            let brought = match path.exists() {
                true if !self.options.check || self.is_whole(&list.sha, name, &path) => Ok(()),
                _ if listed(name) => self.transfer(&list.sha, name),
                _ => Err(missing()),
            };
            match brought {
                // A cache that cannot be written to may have been filled before the file was wanted.
                Err(failure @ Failure::Cache(_)) if !needed => {
                    tracing::warn!(file = name, %failure, "going on without a file");
                }
                brought => brought.map_err(|failure| self.error(name, &failure))?,
            }
            Ok(path)
        })?;
        self.name_commit(&list.sha);
        Ok(folder)
    }

    /// Lets the revision's name point to a commit. All files are there by now, so a cache that cannot be written to
    /// is only less useful without the hub.
    fn name_commit(&self, commit: &str) {
        let name = self.reference();
        let note = self.note(commit);
        if std::fs::read_to_string(&name).is_ok_and(|noted| noted == note) {
            return;
        }
        let folder = name.parent().unwrap_or(Path::new("."));
        if let Err(error) = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&name, note)) {
            tracing::warn!(%error, name = %name.display(), "cannot note the commit; a start without the hub needs it");
        }
    }

    /// The contents of [`Self::reference`]. A commit's own name has a line feed behind it: hf-hub writes the same file, without
    /// one, when the first file of the commit is there.
    fn note(&self, commit: &str) -> String {
        if self.is_commit() { format!("{commit}\n") } else { commit.to_owned() }
    }

    /// Returns true if the revision is a commit, which never changes.
    fn is_commit(&self) -> bool {
        let revision = &self.options.revision;
        revision.len() == COMMIT_LENGTH && revision.chars().all(|c| c.is_ascii_hexdigit())
    }

    /// Returns true if all files of the commit that the revision is have been fetched.
    fn is_noted(&self) -> bool {
        self.is_commit()
            && std::fs::read_to_string(self.reference())
                .is_ok_and(|noted| noted == self.note(&self.options.revision))
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
            |name, _| match folder.join(name) {
                path if path.exists() => Ok(path),
                path => Err(LoadError::FileMissing { path, hint: String::new() }),
            },
        );
        complete.is_ok().then_some(folder)
    }

    /// Fetches one file, taking it up again when the connection breaks.
    fn transfer(&self, commit: &str, name: &str) -> Result<(), Failure> {
        let mut progress = ByteProgress::new(["fetching", "fetched"], name, 0);
        for attempt in 0..RETRIES {
            match self.attempt(commit, name, &mut progress) {
                Err(failure) if failure.is_passing() => {
                    tracing::warn!(file = name, %failure, "the transfer broke off, taking it up again");
                    std::thread::sleep(RETRY_PAUSE * attempt);
                }
                done => return done,
            }
        }
        self.attempt(commit, name, &mut progress)
    }

    fn attempt(&self, commit: &str, name: &str, progress: &mut ByteProgress) -> Result<(), Failure> {
        let facts = self.facts(commit, name, progress)?;
        let repo = self.at(commit);
        let places = Places::of(&self.cache, &repo, name, &facts)?;
        let client = self.client.clone();
        let file = name.to_owned();
        let bring = move |teller: &_| places.bring(&client, &repo, &file, facts.size, teller);
        watched(self.options.download_timeout, progress, bring)?;
        progress.finish();
        Ok(())
    }

    /// The hub's facts about a file of a commit.
    fn facts(&self, commit: &str, name: &str, progress: &mut ByteProgress) -> Result<Facts, Failure> {
        let client = self.client.clone();
        let repo = self.at(commit);
        let file = name.to_owned();
        watched(self.options.download_timeout, progress, move |_| client.facts(&repo, &file))
    }

    /// Returns false if a file of the commit is known to be shorter or longer than the hub's. Where the hub does not say,
    /// the file is taken as it is.
    fn is_whole(&self, commit: &str, name: &str, path: &Path) -> bool {
        let mut progress = ByteProgress::new(["fetching", "fetched"], name, 0);
        match self.facts(commit, name, &mut progress) {
            Ok(facts) => facts.size == length(path),
            Err(failure) => {
                tracing::warn!(file = name, %failure, "cannot check the length of a file in the cache");
                true
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
