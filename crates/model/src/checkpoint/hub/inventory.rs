//! The contents of the cache: one folder for each repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{HubOptions, cache_folder, is_plain};
use crate::error::LoadError;

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedModel {
    /// Its name on the hub, `owner/name`.
    pub name: String,
    /// Its folder in the cache.
    pub folder: PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    /// Branches and tags, each with the commit that it names.
    pub revisions: Vec<(String, String)>,
}

/// The models in the cache, by name.
///
/// # Errors
/// There is no home directory for the cache, or it cannot be read.
pub fn cached_models(options: &HubOptions) -> Result<Vec<CachedModel>, LoadError> {
    let cache = cache_folder("any model", options)?;
    let entries = match std::fs::read_dir(&cache) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(reason) => return Err(LoadError::Read { path: cache, reason }),
    };
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut models: Vec<CachedModel> = folders.filter_map(|folder| described(&folder)).collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(models)
}

/// Deletes a model from the cache. Returns it as it was, or `None` if the cache does not have it.
///
/// # Errors
/// As [`cached_models`], or a file cannot be deleted.
pub fn remove_cached(repository: &str, options: &HubOptions) -> Result<Option<CachedModel>, LoadError> {
    let models = cached_models(options)?;
    let Some(model) = models.into_iter().find(|model| model.name.eq_ignore_ascii_case(repository)) else {
        return Ok(None);
    };
    std::fs::remove_dir_all(&model.folder)
        .map_err(|reason| LoadError::Read { path: model.folder.clone(), reason })?;
    Ok(Some(model))
}

fn described(folder: &Path) -> Option<CachedModel> {
    let (owner, name) = folder.file_name()?.to_str()?.strip_prefix("models--")?.split_once("--")?;
    if !is_plain(owner) || !is_plain(name) || !folder.is_dir() {
        return None;
    }
    let mut revisions = Vec::new();
    revisions_below(&folder.join("refs"), "", &mut revisions);
    revisions.sort();
    let bytes = size(folder, &mut BTreeSet::new());
    Some(CachedModel { name: format!("{owner}/{name}"), folder: folder.to_owned(), bytes, revisions })
}

/// The names below a folder of references; a branch's name may have slashes.
fn revisions_below(folder: &Path, prefix: &str, found: &mut Vec<(String, String)>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match std::fs::read_to_string(entry.path()) {
            // A commit that was fetched by its own name.
            Ok(commit) if commit.trim() == name => {}
            Ok(commit) => found.push((name, commit.trim().to_owned())),
            Err(_) => revisions_below(&entry.path(), &format!("{name}/"), found),
        }
    }
}

/// Bytes of the files in a folder. Several names of one file count once, and links count as nothing.
fn size(folder: &Path, seen: &mut BTreeSet<(u64, u64)>) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path(), seen),
        Ok(metadata) if metadata.is_file() && seen.insert(identity(&metadata)) => metadata.len(),
        _ => 0,
    };
    entries.filter_map(Result::ok).map(of).sum()
}

#[cfg(unix)]
fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;

    (metadata.dev(), metadata.ino())
}

/// A number of its own for each file, on systems without file numbers.
#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> (u64, u64) {
    use std::sync::atomic::{AtomicU64, Ordering};

    static NEXT: AtomicU64 = AtomicU64::new(0);
    (0, NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn models_are_listed_with_their_size_and_removed() {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join("models--owner--a-model");
        fs::create_dir_all(model.join("blobs")).unwrap();
        fs::create_dir_all(model.join("snapshots/c0ffee")).unwrap();
        fs::create_dir_all(model.join("refs/pr")).unwrap();
        fs::write(model.join("blobs/1"), [0; 1000]).unwrap();
        fs::hard_link(model.join("blobs/1"), model.join("snapshots/c0ffee/config.json")).unwrap();
        fs::write(model.join("refs/main"), "c0ffee\n").unwrap();
        fs::write(model.join("refs/pr/1"), "c0ffee").unwrap();
        fs::write(model.join("refs/c0ffee"), "c0ffee").unwrap();
        fs::create_dir_all(cache.path().join("datasets--owner--data")).unwrap();
        fs::create_dir_all(cache.path().join("models--no-owner")).unwrap();
        let options = HubOptions { cache: Some(cache.path().to_owned()), ..HubOptions::default() };
        let found = cached_models(&options).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].name.as_str(), found[0].bytes), ("owner/a-model", 1019));
        let commit = || "c0ffee".to_owned();
        assert_eq!(found[0].revisions, [("main".to_owned(), commit()), ("pr/1".to_owned(), commit())]);
        assert_eq!(remove_cached("owner/other", &options).unwrap(), None);
        assert_eq!(remove_cached("Owner/A-model", &options).unwrap().as_ref(), found.first());
        assert!(!model.exists() && cached_models(&options).unwrap().is_empty());
        let gone = HubOptions { cache: Some(cache.path().join("gone")), ..HubOptions::default() };
        assert!(cached_models(&gone).unwrap().is_empty());
    }
}
