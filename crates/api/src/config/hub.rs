//! Settings of the hub and of its cache.

#[cfg(feature = "hub")]
use std::path::Path;
use std::path::PathBuf;
#[cfg(feature = "hub")]
use std::time::Duration;

use clap::Args;
#[cfg(feature = "hub")]
use unmask_model::checkpoint::hub::{DOWNLOAD_TIMEOUT, HubOptions, LIST_TIMEOUT};

#[cfg(feature = "hub")]
use crate::values::Truth;
use crate::values::{HubEnvironment, Secret};

/// The hub and its cache.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Hub")]
pub struct HubArgs {
    /// Branch, tag or commit of a model on the hub.
    #[arg(long, env = "UNMASK_REVISION", default_value = "main")]
    pub revision: String,
    /// The hub's address [default: HF_ENDPOINT, or huggingface.co].
    #[arg(long, env = "UNMASK_HUB_ENDPOINT", value_name = "URL")]
    pub hub_endpoint: Option<String>,
    /// Access token for the hub [default: HF_TOKEN].
    #[arg(long, env = "UNMASK_HUB_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub hub_token: Option<Secret>,
    /// Folder of the hub's cache [default: HF_HOME, or ~/.cache/huggingface].
    #[arg(long, env = "UNMASK_HUB_HOME", value_name = "FOLDER")]
    pub hub_home: Option<PathBuf>,
    /// The names that other programs use for the same three.
    #[command(flatten)]
    pub standard: HubEnvironment,
}

#[cfg(feature = "hub")]
impl HubArgs {
    /// The flags, before what huggingface_hub reads of the environment, in its order.
    pub(crate) fn options(&self) -> HubOptions {
        let standard = &self.standard;
        let endpoint = self.hub_endpoint.as_ref().or(standard.hf_endpoint.as_ref());
        let given = [&self.hub_token, &standard.hf_token, &standard.hugging_face_hub_token];
        let token = given.into_iter().flatten().next();
        let is_on = |truth: Option<Truth>| truth.is_some_and(|Truth(on)| on);
        let token_file = if is_on(standard.hf_hub_disable_implicit_token) {
            Some(PathBuf::new())
        } else {
            standard.hf_token_path.as_deref().map(expanded)
        };
        let xdg = standard.xdg_cache_home.as_deref().map(|folder| expanded(folder).join("huggingface"));
        let home = self.hub_home.as_deref().or(standard.hf_home.as_deref()).map(expanded).or(xdg);
        let cache = standard.hf_hub_cache.as_deref().or(standard.huggingface_hub_cache.as_deref());
        let seconds = |given: &Option<String>, otherwise| {
            let whole = given.as_ref().and_then(|seconds| seconds.trim().parse().ok());
            whole.filter(|seconds| *seconds > 0).map_or(otherwise, Duration::from_secs)
        };
        HubOptions {
            endpoint: endpoint
                .map_or("https://huggingface.co", String::as_str)
                .trim_end_matches('/')
                .to_owned(),
            token: token.map(|secret| secret.0.clone()),
            token_file,
            home,
            // A home that was given here says where the cache is, too.
            cache: cache.filter(|_| self.hub_home.is_none()).map(expanded),
            revision: self.revision.clone(),
            check: false,
            offline: is_on(standard.hf_hub_offline.or(standard.transformers_offline)),
            list_timeout: seconds(&standard.hf_hub_etag_timeout, LIST_TIMEOUT),
            download_timeout: seconds(&standard.hf_hub_download_timeout, DOWNLOAD_TIMEOUT),
        }
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

#[cfg(all(test, feature = "hub"))]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::values::Truth;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        hub: HubArgs,
    }

    /// Flags alone: the variables of this process's own environment are not read.
    fn options(change: impl FnOnce(&mut HubArgs)) -> HubOptions {
        let mut hub = Arguments::parse_from(["unmask"]).hub;
        (hub.hub_endpoint, hub.hub_token, hub.hub_home) = (None, None, None);
        hub.standard = HubEnvironment::default();
        change(&mut hub);
        hub.options()
    }

    #[test]
    fn the_environment_of_huggingface_hub_has_its_order() {
        let path = |text: &str| Some(PathBuf::from(text));
        let secret = |text: &str| Some(Secret(text.to_owned()));
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
            let options = options(|args| {
                args.standard.hf_hub_etag_timeout = Some(text.to_owned());
                args.standard.hf_hub_download_timeout = Some(format!("{text}0"));
            });
            (options.list_timeout.as_secs(), options.download_timeout.as_secs())
        };
        assert_eq!((seconds("3"), seconds("0"), seconds("x")), ((3, 30), (10, 10), (10, 10)));
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
