//! The sources of a model's files: a folder, one GGUF file, or memory.

mod read;

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use candle_core::safetensors::{MmapedSafetensors, SliceSafetensors};
use safetensors::tensor::TensorView;
use serde_json::{Map, Value};

pub(crate) use self::read::no_json;
#[cfg(feature = "hub")]
pub(super) use self::read::read_json;
pub(super) use self::read::{beginning, unreadable};
use self::read::{damaged, is_there, map_safetensors, parse_json, read_file};
use super::gguf::Gguf;
use super::{mistaken, vocabulary};
use crate::error::{LoadError, one_line};

/// The files of a model, which are known by their names.
#[derive(Clone)]
pub enum ModelFiles {
    /// The files of a folder.
    Folder(PathBuf),
    /// One file that holds everything. A tokenizer's files beside it come first.
    Gguf(Gguf),
    /// Files in memory.
    Memory {
        /// Stands where a folder would stand when an error names a file.
        name: &'static str,
        /// Their names and contents.
        files: &'static [(&'static str, &'static [u8])],
    },
}

impl fmt::Display for ModelFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Gguf(file) => file.path().display().fmt(f),
            Self::Memory { name, .. } => write!(f, "{name} (in memory)"),
        }
    }
}

/// The same as its display: bytes of weights in a log would help no reader.
impl fmt::Debug for ModelFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelFiles({self})")
    }
}

impl ModelFiles {
    /// The files at a path: a GGUF file; a folder with a single one; any other folder.
    ///
    /// # Errors
    /// There is nothing, or something else than a model, the GGUF file is damaged, or there are several.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        if path.is_file() {
            return match mistaken::named_file(path) {
                Some(what) => Err(LoadError::NoModel { path: path.to_owned(), what: what.to_owned() }),
                None => Gguf::open(path).map(Self::Gguf),
            };
        }
        if !path.is_dir() {
            let hint = ": --model takes a GGUF file, or a folder with config.json, tokenizer.json and safetensors \
                        files";
            return Err(LoadError::FileMissing { path: path.to_owned(), hint: hint.to_owned() });
        }
        if is_there(&path.join("config.json")) {
            return Ok(Self::Folder(path.to_owned()));
        }
        let entries = std::fs::read_dir(path).map_err(|source| unreadable(path, "", source))?;
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut files: Vec<PathBuf> = files.filter(|file| is_gguf(file)).collect();
        files.sort();
        match files.as_slice() {
            [] => {
                let what = mistaken::folder(path).map_or_else(String::new, |what| format!(": {what}"));
                Err(LoadError::FileMissing { path: path.join("config.json"), hint: what })
            }
            [file] => Gguf::open(file).map(Self::Gguf),
            [first, ..] => {
                let reason =
                    format!("holds {} GGUF files; name one, such as {}", files.len(), first.display());
                Err(LoadError::Malformed { path: path.to_owned(), reason: one_line(&reason) })
            }
        }
    }

    /// The folder, if it is one.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Gguf(_) | Self::Memory { .. } => None,
        }
    }

    /// The name of a file in errors.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.join(name),
            Self::Gguf(file) => {
                let beside = file.path().with_file_name(name);
                if is_there(&beside) { beside } else { file.path().to_owned() }
            }
            Self::Memory { name: model, .. } => Path::new(model).join(name),
        }
    }

    /// Returns true if there is such a file, or a link to one that is not there: a folder without a file is read
    /// otherwise than one that has lost it, and reading the link says so.
    #[must_use]
    pub fn exists(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => is_there(&folder.join(name)),
            Self::Gguf(file) => is_there(&file.path().with_file_name(name)),
            Self::Memory { .. } => self.in_memory(name).is_some(),
        }
    }

    /// A whole file; `hint` is added to the message when it is not there.
    pub(crate) fn read(&self, name: &str, hint: &str) -> Result<Cow<'static, [u8]>, LoadError> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                if name == "tokenizer.json" && !is_there(&path) && vocabulary::exists(self) {
                    return vocabulary::tokenizer(self).map(Cow::Owned);
                }
                read_file(&path, hint).map(Cow::Owned)
            }
            Self::Gguf(file) => {
                let beside = file.path().with_file_name(name);
                if name == "tokenizer.json" && !is_there(&beside) {
                    return file.tokenizer().map(Cow::Owned);
                }
                read_file(&beside, hint).map(Cow::Owned)
            }
            Self::Memory { .. } => self.needed(name, hint).map(Cow::Borrowed),
        }
    }

    /// A JSON file whose top level is an object.
    ///
    /// # Errors
    /// It is missing, or no such file.
    pub fn json(&self, name: &str) -> Result<Map<String, Value>, LoadError> {
        parse_json(&self.path(name), &self.read(name, "")?)
    }

    /// A safetensors file, whose header agrees with its size.
    pub(super) fn safetensors(&self, name: &str) -> Result<TensorFile, LoadError> {
        let path = self.path(name);
        let opened = match self {
            Self::Folder(_) | Self::Gguf(_) => map_safetensors(&path)?.map(TensorFile::Mapped),
            Self::Memory { .. } => SliceSafetensors::new(self.needed(name, "")?).map(TensorFile::Memory),
        };
        opened.map_err(|error| {
            let what = mistaken::other_than_safetensors(&beginning(&path));
            let reason = what.map_or_else(|| damaged(&error), str::to_owned);
            LoadError::Malformed { path, reason }
        })
    }

    fn in_memory(&self, name: &str) -> Option<&'static [u8]> {
        match self {
            Self::Folder(_) | Self::Gguf(_) => None,
            Self::Memory { files, .. } => files.iter().find(|(file, _)| *file == name).map(|file| file.1),
        }
    }

    fn needed(&self, name: &str, hint: &str) -> Result<&'static [u8], LoadError> {
        let missing = || LoadError::FileMissing { path: self.path(name), hint: hint.to_owned() };
        self.in_memory(name).ok_or_else(missing)
    }
}

/// An open safetensors file.
pub(super) enum TensorFile {
    /// Mapped into memory, read from the disk when a tensor is asked for.
    Mapped(MmapedSafetensors),
    /// In memory already.
    Memory(SliceSafetensors<'static>),
}

impl fmt::Debug for TensorFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorFile({} tensors)", self.tensors().len())
    }
}

impl TensorFile {
    /// All tensors with their names.
    pub(super) fn tensors(&self) -> Vec<(String, TensorView<'_>)> {
        match self {
            Self::Mapped(file) => file.tensors(),
            Self::Memory(file) => file.tensors(),
        }
    }

    /// One tensor.
    pub(super) fn get(&self, name: &str) -> candle_core::Result<TensorView<'_>> {
        match self {
            Self::Mapped(file) => file.get(name),
            Self::Memory(file) => file.get(name),
        }
    }
}

fn is_gguf(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|extension| extension == "gguf")
}
