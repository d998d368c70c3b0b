//! The file of a task below `--data`.

use std::path::{Path, PathBuf};

use super::record::DataError;
use super::task::Task;

/// Endings of files that can be read.
const ENDINGS: [&str; 9] =
    [".jsonl", ".json", ".csv", ".txt", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz", ".txt.gz"];

/// The path of a task's file: `data` itself if it is a file, one of the task's names in it, or the only file in the
/// folder of the task's name.
///
/// # Errors
/// There is none; the error says what the file is called and where it comes from. Or there are several.
pub(super) fn find(task: Task, data: &Path) -> Result<PathBuf, DataError> {
    if data.is_file() {
        return Ok(data.to_owned());
    }
    if !data.exists() {
        let reason = "there is no such file or folder".to_owned();
        return Err(DataError::Unreadable { file: data.display().to_string(), reason });
    }
    let source = task.source();
    let named = source.files.iter().map(|name| data.join(name)).find(|path| path.is_file());
    let found = match named {
        Some(named) => Some(named),
        None => only_file(&data.join(task.name()))?,
    };
    found.ok_or_else(|| DataError::NoFile {
        task: task.name(),
        files: source.files.join(", "),
        folder: data.display().to_string(),
        origin: source.origin,
    })
}

/// The file of a folder, if it holds one. Of several, one would be a part of the task, or another split of it.
fn only_file(folder: &Path) -> Result<Option<PathBuf>, DataError> {
    let readable = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        path.is_file() && ENDINGS.iter().any(|ending| name.ends_with(ending))
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(None) };
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(readable).collect();
    files.sort_unstable();
    match &files[..] {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        several => Err(DataError::SeveralFiles {
            folder: folder.display().to_string(),
            files: several
                .iter()
                .filter_map(|file| Some(file.file_name()?.to_string_lossy()))
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// The file beside a data file that holds its labels, one a line: `valid-labels.lst` beside `valid.jsonl`.
pub(super) fn labels_beside(file: &Path) -> Option<PathBuf> {
    let stem = file.file_stem()?.to_str()?;
    let path = file.with_file_name(format!("{stem}-labels.lst"));
    path.is_file().then_some(path)
}
