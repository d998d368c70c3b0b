//! Any bytes as a key file: it is read, or refused in one line that tells nothing of what the keys are.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use unmask_api::access::Access;
use unmask_fuzz::serve_args;

/// Shorter parts of a line may be part of any message.
const SECRET: usize = 12;

static FILE: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("keys");
    (folder, path)
});

fuzz_target!(|content: &[u8]| {
    let (_, path) = &*FILE;
    std::fs::write(path, content).expect("a writable folder");
    let args = serve_args(&["--api-key-file", path.to_str().expect("a path that is text")]);
    let Err(error) = Access::open(&args.access, args.server.address()) else { return };
    let message = format!("{error:#}");
    assert!(!message.contains(char::is_control), "{message:?}");
    let text = String::from_utf8_lossy(content);
    let parts = text.split([':', ' ', '\n', '\r', '\t']).filter(|part| part.len() >= SECRET);
    for part in parts {
        assert!(
            !message.contains(part) || path.to_string_lossy().contains(part),
            "{message:?} tells {part:?}"
        );
    }
});
