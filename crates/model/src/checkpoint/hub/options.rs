//! The hub, its cache, and limits on time.

use std::path::PathBuf;
use std::time::Duration;

/// The longest time for listing a repository before the cache is used instead: huggingface_hub's own default.
pub const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time without a byte of a file that is being fetched: huggingface_hub's own default.
pub const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// True to ask the hub how long the files in the cache should be, and to fetch again those that are not.
    pub check: bool,
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
            check: false,
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
