//! The cache that holds downloaded models, where this build can download.

use std::path::PathBuf;

use crate::config::HubArgs;

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Its name on the hub.
    pub name: String,
    /// Its folder in the cache.
    pub folder: PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    /// Branches and tags, each with the commit that it names.
    pub revisions: Vec<(String, String)>,
}

/// The models in the cache.
///
/// # Errors
/// The cache cannot be read.
#[cfg(feature = "hub")]
pub fn all(args: &HubArgs) -> anyhow::Result<Vec<Cached>> {
    let models = unmask_model::checkpoint::hub::cached_models(&args.options())?;
    Ok(models.into_iter().map(Cached::from).collect())
}

/// Deletes a model, and returns it as it was.
///
/// # Errors
/// As [`all`], or a file cannot be deleted.
#[cfg(feature = "hub")]
pub fn remove(name: &str, args: &HubArgs) -> anyhow::Result<Option<Cached>> {
    Ok(unmask_model::checkpoint::hub::remove_cached(name, &args.options())?.map(Cached::from))
}

/// True if all files of a model are in the cache.
///
/// # Errors
/// There is no place for a cache.
#[cfg(feature = "hub")]
pub fn is_complete(name: &str, args: &HubArgs) -> anyhow::Result<bool> {
    use unmask_model::checkpoint::hub::{Wanted, cached};

    Ok(cached(name, Wanted::Model, &args.options())?.is_some())
}

/// Brings a model's files into the cache, and returns their folder. Files of another length than the hub's are fetched again.
///
/// # Errors
/// As `unmask_model::checkpoint::hub::fetch`.
#[cfg(feature = "hub")]
pub fn fetch(name: &str, args: &HubArgs) -> anyhow::Result<PathBuf> {
    use unmask_model::checkpoint::hub::{HubOptions, Wanted, fetch};

    Ok(fetch(name, Wanted::Model, &HubOptions { check: true, ..args.options() })?)
}

#[cfg(feature = "hub")]
impl From<unmask_model::checkpoint::hub::CachedModel> for Cached {
    fn from(model: unmask_model::checkpoint::hub::CachedModel) -> Self {
        let unmask_model::checkpoint::hub::CachedModel { name, folder, bytes, revisions } = model;
        Self { name, folder, bytes, revisions }
    }
}

/// Substitutes for a build without downloads.
#[cfg(not(feature = "hub"))]
mod without {
    use anyhow::bail;

    use super::{Cached, HubArgs, PathBuf};

    /// None: this build has no cache.
    ///
    /// # Errors
    /// Never.
    pub fn all(_: &HubArgs) -> anyhow::Result<Vec<Cached>> {
        Ok(Vec::new())
    }

    /// None: this build has no cache.
    ///
    /// # Errors
    /// Never.
    pub fn remove(_: &str, _: &HubArgs) -> anyhow::Result<Option<Cached>> {
        Ok(None)
    }

    /// No.
    ///
    /// # Errors
    /// Never.
    pub fn is_complete(_: &str, _: &HubArgs) -> anyhow::Result<bool> {
        Ok(false)
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn fetch(name: &str, _: &HubArgs) -> anyhow::Result<PathBuf> {
        bail!("cannot download {name}: this build lacks the feature `hub`");
    }
}

#[cfg(not(feature = "hub"))]
pub use self::without::{all, fetch, is_complete, remove};
