//! Finished items in a file, so that a run can go on where it stopped.
//!
//! The first line says what the run is: task, model, settings and a hash of the items. Every other line is an item. A
//! last line without an end is what a process was writing when it was stopped; it is cut off.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ask::Outcome;

/// A journal that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    /// The file cannot be read or written.
    #[error("cannot use {path}: {error}")]
    File { path: PathBuf, error: std::io::Error },
    /// It belongs to another run.
    #[error(
        "{path} holds the items of a run with other settings (`{field}`); choose another --out, or delete the file"
    )]
    Other { path: PathBuf, field: String },
    /// A line is damaged.
    #[error("{path} line {line} is damaged; delete the file to begin again")]
    Damaged { path: PathBuf, line: usize },
}

/// An item's line.
#[derive(Serialize, Deserialize)]
struct Entry {
    index: usize,
    id: String,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Finished items of one task.
pub(super) struct Journal {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    /// By number.
    pub(super) done: BTreeMap<usize, Outcome>,
}

impl Journal {
    /// Opens the journal of a task in a folder, or one that is kept in memory alone.
    ///
    /// # Errors
    /// The file cannot be used, or belongs to a run with other settings.
    pub(super) fn open(folder: Option<&Path>, task: &str, head: &Value) -> Result<Self, JournalError> {
        let Some(folder) = folder else {
            return Ok(Self { path: PathBuf::new(), file: None, done: BTreeMap::new() });
        };
        let path = folder.join(format!("{task}.jsonl"));
        let failed = |error| JournalError::File { path: path.clone(), error };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(error)),
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let done = read(&text[..whole], &path, head)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        file.set_len(whole as u64).map_err(failed)?;
        drop(file);
        let file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
        let mut journal = Self { path: path.clone(), file: Some(BufWriter::new(file)), done };
        if whole == 0 {
            journal.line(head)?;
        }
        Ok(journal)
    }

    /// Keeps an item.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn add(&mut self, index: usize, id: &str, outcome: Outcome) -> Result<(), JournalError> {
        let entry = Entry { index, id: id.to_owned(), outcome };
        self.line(&entry)?;
        self.done.insert(index, entry.outcome);
        Ok(())
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), JournalError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut write = || {
            let mut text = serde_json::to_string(line)?;
            text.push('\n');
            file.write_all(text.as_bytes())?;
            file.flush()
        };
        write().map_err(|error| JournalError::File { path: self.path.clone(), error })
    }
}

/// The items of a journal's text.
fn read(text: &str, path: &Path, head: &Value) -> Result<BTreeMap<usize, Outcome>, JournalError> {
    let mut done = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let damaged = |_| JournalError::Damaged { path: path.to_owned(), line: number + 1 };
        if number == 0 {
            let found: Value = serde_json::from_str(line).map_err(damaged)?;
            if let Some(field) = difference(&found, head) {
                return Err(JournalError::Other { path: path.to_owned(), field });
            }
            continue;
        }
        let entry: Entry = serde_json::from_str(line).map_err(damaged)?;
        done.insert(entry.index, entry.outcome);
    }
    Ok(done)
}

/// The first field in which two heads differ.
fn difference(found: &Value, expected: &Value) -> Option<String> {
    let names = expected.as_object().into_iter().flatten().map(|(name, _)| name);
    let differs = |name: &&String| found[name.as_str()] != expected[name.as_str()];
    names.into_iter().find(differs).cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(value: f64) -> Outcome {
        Outcome { metrics: [("accuracy".to_owned(), value)].into(), evaluations: 3, ..Outcome::default() }
    }

    #[test]
    fn a_run_goes_on_where_it_was_stopped() {
        let folder = tempfile::TempDir::new().unwrap();
        let (out, head) = (Some(folder.path()), json!({ "task": "piqa", "seed": 1 }));
        let mut journal = Journal::open(out, "piqa", &head).unwrap();
        journal.add(0, "a:1", outcome(1.0)).unwrap();
        journal.add(2, "a:3", outcome(0.25)).unwrap();
        drop(journal);
        let path = folder.path().join("piqa.jsonl");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"index\":3,\"id\":\"a:4\",\"metr");
        std::fs::write(&path, text).unwrap();
        let mut journal = Journal::open(out, "piqa", &head).unwrap();
        assert_eq!(journal.done, [(0, outcome(1.0)), (2, outcome(0.25))].into());
        journal.add(3, "a:4", outcome(0.0)).unwrap();
        drop(journal);
        assert_eq!(Journal::open(out, "piqa", &head).unwrap().done.len(), 3);
    }

    #[test]
    fn a_journal_of_another_run_is_left_alone() {
        let folder = tempfile::TempDir::new().unwrap();
        let out = Some(folder.path());
        drop(Journal::open(out, "piqa", &json!({ "seed": 1 })).unwrap());
        let refused = Journal::open(out, "piqa", &json!({ "seed": 2 })).err().unwrap().to_string();
        assert!(refused.contains("(`seed`)") && refused.contains("--out"), "{refused}");
        let path = folder.path().join("piqa.jsonl");
        std::fs::write(&path, "{\"seed\":1}\nnonsense\n").unwrap();
        let refused = Journal::open(out, "piqa", &json!({ "seed": 1 })).err().unwrap().to_string();
        assert!(refused.contains("line 2 is damaged"), "{refused}");
    }
}
