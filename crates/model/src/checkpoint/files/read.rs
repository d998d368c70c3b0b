//! Reading single files, and what is told of those that cannot be read.

use std::io::Read;
use std::path::Path;

use candle_core::safetensors::MmapedSafetensors;
use serde_json::{Map, Value};

use super::super::mistaken;
use crate::error::{LoadError, one_line};

/// Maps a safetensors file into memory; the inner result is about its header.
pub(super) fn map_safetensors(path: &Path) -> Result<candle_core::Result<MmapedSafetensors>, LoadError> {
    // Opening it first gives the file system's own message for a file that is not there or locked.
    let file = std::fs::File::open(path).map_err(|source| unreadable(path, "", source))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(LoadError::Folder { path: path.to_owned() });
    }
    if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        let reason = "the file is empty".to_owned();
        return Err(LoadError::Malformed { path: path.to_owned(), reason });
    }
    // SAFETY: the map is only read. A process that shortens the file meanwhile would end this one with
    // a bus error; checkpoints are written once and replaced by renaming, and the whole file is read
    // during start-up, before a port is bound.
    #[expect(unsafe_code, reason = "memory-maps the weights")]
    let mapped = unsafe { MmapedSafetensors::new(path) };
    Ok(mapped)
}

/// A JSON file of a folder whose top level is an object.
#[cfg(feature = "hub")]
pub(in crate::checkpoint) fn read_json(path: &Path) -> Result<Map<String, Value>, LoadError> {
    parse_json(path, &read_file(path, "")?)
}

pub(super) fn parse_json(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>, LoadError> {
    let malformed = |reason| LoadError::Malformed { path: path.to_owned(), reason };
    let value = serde_json::from_slice(bytes).or_else(|error| {
        // Python writes numbers that JSON does not have.
        pythons_constants(bytes).and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or(error)
    });
    match value {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(malformed("expected a JSON object".to_owned())),
        Err(error) => Err(malformed(no_json(bytes, &error))),
    }
}

/// A JSON text with Python's `NaN`, `Infinity` and `-Infinity` as strings, which no number is read from; `None` if it has
/// none.
pub(super) fn pythons_constants(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut quoted = Vec::with_capacity(bytes.len() + 16);
    let mut rest = bytes;
    let mut in_string = false;
    while let Some(&byte) = rest.first() {
        let constant =
            [&b"NaN"[..], b"Infinity", b"-Infinity"].into_iter().find(|name| rest.starts_with(name));
        let taken = match constant.filter(|_| !in_string) {
            Some(name) => {
                quoted.extend([b"\"", name, b"\""].concat());
                name.len()
            }
            None => {
                let taken = if in_string && byte == b'\\' { rest.len().min(2) } else { 1 };
                in_string ^= byte == b'"';
                quoted.extend(&rest[..taken]);
                taken
            }
        };
        rest = &rest[taken..];
    }
    (quoted.len() > bytes.len()).then_some(quoted)
}

/// Why bytes are no JSON: what they are instead, or else what the parser said.
pub(crate) fn no_json(bytes: &[u8], error: &impl ToString) -> String {
    mistaken::json(bytes).map_or_else(|| one_line(error), str::to_owned)
}

/// The damage of a safetensors file whose header does not fit it.
pub(super) fn damaged(error: &impl ToString) -> String {
    let told = one_line(error);
    // Of the reasons only this one is about the bytes behind the header.
    let what = if told.contains("ncomplete") {
        "it is shorter or longer than its header says"
    } else {
        "its header is not valid"
    };
    format!("{what} ({told}); download it again")
}

/// The first bytes of a file.
pub(in crate::checkpoint) fn beginning(path: &Path) -> Vec<u8> {
    let mut start = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // A file that cannot be read is one that nothing can be told of.
        let _ = file.take(128).read_to_end(&mut start);
    }
    start
}

pub(super) fn read_file(path: &Path, hint: &str) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|source| unreadable(path, hint, source))
}

/// Returns true if a folder has an entry of this name, be it a link to nothing.
pub(super) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

pub(in crate::checkpoint) fn unreadable(path: &Path, hint: &str, source: std::io::Error) -> LoadError {
    match source.kind() {
        std::io::ErrorKind::NotFound => {
            let hint = mistaken::dangling(path).unwrap_or_else(|| hint.to_owned());
            LoadError::FileMissing { path: path.to_owned(), hint }
        }
        std::io::ErrorKind::IsADirectory => LoadError::Folder { path: path.to_owned() },
        _ => LoadError::Read { path: path.to_owned(), reason: source },
    }
}
