//! Fetching checkpoints from a hub, played by a server in this process.
#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "clippy exempts functions marked as tests, and not their helpers")]

mod failing;
mod fetching;
mod offline;
mod server;
mod tokens;

use std::path::{Path, PathBuf};

use unmask_model::error::LoadError;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");

/// The message of a failure, which must be one line.
fn refusal(result: Result<PathBuf, LoadError>) -> String {
    let message = result.expect_err("the fetch must fail").to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Compares every fetched file with its original.
fn assert_identical(fetched: &Path, golden: &str, names: &[&str]) {
    let mut found: Vec<String> = std::fs::read_dir(fetched)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, names);
    for name in names {
        let original = Path::new(GOLDEN).join(golden).join(name);
        assert_eq!(std::fs::read(fetched.join(name)).unwrap(), std::fs::read(original).unwrap(), "{name}");
    }
}

const SINGLE: [&str; 5] = [
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];
