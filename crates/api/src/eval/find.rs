//! The file of a task below `--data`.

use std::path::{Path, PathBuf};

use super::record::DataError;
use super::task::Task;

/// Endings of files that can be read.
const ENDINGS: [&str; 9] =
    [".jsonl", ".json", ".csv", ".txt", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz", ".txt.gz"];

/// The path of a task's file: `data` itself if it is a file, one of the task's names in it, or the first file in the
/// folder of the task's name.
///
/// # Errors
/// There is none; the error says what the file is called and where it comes from.
pub(super) fn find(task: Task, data: &Path) -> Result<PathBuf, DataError> {
    if data.is_file() {
        return Ok(data.to_owned());
    }
    let source = task.source();
    let named = source.files.iter().map(|name| data.join(name)).find(|path| path.is_file());
    let found = named.or_else(|| only_file(&data.join(task.name())));
    found.ok_or_else(|| DataError::NoFile {
        task: task.name(),
        files: source.files.join(", "),
        folder: data.display().to_string(),
        origin: source.origin,
    })
}

fn only_file(folder: &Path) -> Option<PathBuf> {
    let readable = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        path.is_file() && ENDINGS.iter().any(|ending| name.ends_with(ending))
    };
    std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).filter(readable).min()
}

/// The file beside a data file that holds its labels, one a line: `valid-labels.lst` beside `valid.jsonl`.
pub(super) fn labels_beside(file: &Path) -> Option<PathBuf> {
    let stem = file.file_stem()?.to_str()?;
    let path = file.with_file_name(format!("{stem}-labels.lst"));
    path.is_file().then_some(path)
}
