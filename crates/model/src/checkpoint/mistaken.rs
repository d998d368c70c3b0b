//! Advice for a path that is not a model: the thing found there, and the way to a model.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::one_line;

/// First bytes of files, and the kinds that they reveal.
const BEGINNINGS: [(&[u8], &str); 12] = [
    (
        b"version https://git-lfs.github.com/spec/",
        "it is a Git LFS pointer, not the file itself; fetch the file with `git lfs pull`, or name the model as \
         owner/name to have it downloaded",
    ),
    (b"<!DOCTYPE", WEB_PAGE),
    (b"<!doctype", WEB_PAGE),
    (b"<html", WEB_PAGE),
    (b"<HTML", WEB_PAGE),
    (
        b"<?xml",
        "it is an XML document, probably a server's error message in the file's place; download it again",
    ),
    (b"PK\x03\x04", "it is a zip archive, as PyTorch saves pickles; give the weights as safetensors"),
    (b"\x80\x02", "it is a pickle of Python; give the weights as safetensors"),
    (b"\x1f\x8b", "it is compressed with gzip; unpack it"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd; unpack it"),
    (b"GGUF", "it is a GGUF file; name it as the model, with --model FILE"),
    (
        b"\x89HDF\r\n\x1a\n",
        "it is an HDF5 file, as TensorFlow saves weights; give the weights as safetensors",
    ),
];
const WEB_PAGE: &str =
    "it is a web page, probably an error or login page in the file's place; download it again";

/// First bytes of text files, and the kinds that they reveal.
const TEXT_BEGINNINGS: [(&[u8], &str); 3] = [
    (b"\xef\xbb\xbf", "it begins with a byte order mark (EF BB BF); save it as UTF-8 without one"),
    (b"\xff\xfe", "it is UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "it is UTF-16; save it as UTF-8"),
];

/// The kind of a file that should hold weights, by its first bytes.
pub(super) fn weights(start: &[u8]) -> Option<&'static str> {
    let safetensors = || {
        let header = start.get(8)? == &b'{' && start[..8].iter().skip(4).all(|byte| *byte == 0);
        header.then_some(
            "it is a safetensors file; give its folder, with config.json and tokenizer.json beside it",
        )
    };
    other_than_safetensors(start).or_else(safetensors)
}

/// The kind of a file that should be a safetensors file and is not, by its first bytes.
pub(super) fn other_than_safetensors(start: &[u8]) -> Option<&'static str> {
    let trimmed = start.trim_ascii_start();
    let found =
        BEGINNINGS.iter().find(|(beginning, _)| trimmed.starts_with(beginning)).map(|(_, what)| *what);
    let text = || {
        trimmed.starts_with(b"{").then_some(
            "it is a JSON text, probably a server's error message in the \
                                                       file's place; download it again",
        )
    };
    found.or_else(text)
}

/// The kind of a file that should hold JSON, by its first bytes.
pub(super) fn json(start: &[u8]) -> Option<&'static str> {
    let all = BEGINNINGS.iter().chain(&TEXT_BEGINNINGS);
    let trimmed = start.trim_ascii_start();
    all.clone().find(|(beginning, _)| trimmed.starts_with(beginning)).map(|(_, what)| *what)
}

/// The kind of a file that was named as a model and is no GGUF file, by its name.
pub(super) fn named_file(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()? {
        "safetensors" | "json" => Some(
            "is one file of a model; give its folder, which must hold config.json, tokenizer.json and the \
             safetensors files",
        ),
        "bin" | "pt" | "pth" | "ckpt" => Some(
            "is a pickle, which is not read; give the folder of the model, with its weights as safetensors",
        ),
        _ => None,
    }
}

/// The kind of a folder that was named as a model and has no config.json.
pub(super) fn folder(path: &Path) -> Option<String> {
    let has = |name: &str| path.join(name).exists();
    if has("adapter_config.json") {
        return Some(
            "the folder holds a LoRA adapter; name its base model with --model, and this folder with --adapter"
                .to_owned(),
        );
    }
    let names =
        || std::fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
    let mut names: Vec<String> = names().filter_map(|name| name.into_string().ok()).collect();
    names.sort();
    let cached = |names: &[String]| {
        let name = names.iter().find_map(|name| name.strip_prefix("models--"))?.replacen("--", "/", 1);
        Some(format!(
            "the folder is a cache of hub models; name one of them, such as {name}, and the cache's home with \
             --hub-home or HF_HOME"
        ))
    };
    if has("snapshots") && has("refs") {
        return Some(
            "the folder is one model of a hub cache; give one of the folders in its snapshots/, or its name on \
             the hub"
                .to_owned(),
        );
    }
    if has("hub") {
        let inner = std::fs::read_dir(path.join("hub")).into_iter().flatten();
        names.extend(inner.filter_map(|entry| entry.ok()?.file_name().into_string().ok()));
    }
    if let Some(found) = cached(&names) {
        return Some(found);
    }
    if has("params.json") {
        return Some(
            "the folder holds a model in Meta's own layout; convert it to the one of transformers first"
                .to_owned(),
        );
    }
    let inner = names.iter().find(|name| path.join(name).join("config.json").is_file());
    inner.map(|name| format!("the folder {name} in it has one; give that"))
}

/// The target of a link that leads nowhere, as in a folder that was copied out of a hub cache without its blobs.
pub(super) fn dangling(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    let target = one_line(&target.display());
    Some(format!(
        ": it is a link to {target}, which is not there; copy the files themselves, as `cp -L` does"
    ))
}

/// A safetensors file of a folder that is not among those that were read.
pub(super) fn unlisted_weights(folder: &Path, read: &[&OsStr]) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    let other = |name: &std::ffi::OsString| {
        Path::new(name).extension().is_some_and(|end| end == "safetensors")
            && !read.contains(&name.as_os_str())
    };
    let first = names.filter(other).min()?;
    Some(format!("; {} is in the folder and is not read", one_line(&first.display())))
}

/// Safetensors files of a folder, when none of them is named as they are read.
pub(super) fn other_weights(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".safetensors")).collect();
    names.sort();
    let first = names.first()?;
    Some(if first.contains("-of-") {
        format!("; {first} is a shard, and shards need model.safetensors.index.json beside them")
    } else if first == "adapter_model.safetensors" {
        "; adapter_model.safetensors is a LoRA adapter, whose folder --adapter takes".to_owned()
    } else {
        format!("; {first} would be read under the name model.safetensors")
    })
}
