//! The items of a task: found, read, labelled and parsed.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::args::EvalArgs;
use super::find::{find, labels_beside};
use super::question::Item;
use super::read::{read_records, text};
use super::record::{DataError, Place, Record};
use super::task::Task;
use super::{formats, held_out, smoke};

/// A task with its items.
pub(super) struct Asked {
    pub(super) task: Task,
    /// The items, up to `--limit`.
    pub(super) items: Vec<Item>,
    /// A hash of all items of the file.
    pub(super) hash: String,
}

/// Reads a task's items.
///
/// # Errors
/// There is no such file, or an item of it is wrong.
pub(super) fn read(task: Task, args: &EvalArgs) -> Result<Asked, DataError> {
    let mut items = match &args.data {
        Some(data) if task == Task::Infill && !args.smoke => held_out::blocks(data, &args.files, args.seed)?,
        Some(data) if !args.smoke => {
            let path = find(task, data)?;
            parse(task, &labelled(read_records(&path)?, &path)?, args)?
        }
        _ => parse(task, &smoke::records(task)?, args)?,
    };
    let hash = hash(&items);
    items.truncate(args.limit.map_or(usize::MAX, |limit| limit as usize));
    Ok(Asked { task, items, hash })
}

fn parse(task: Task, records: &[Record], args: &EvalArgs) -> Result<Vec<Item>, DataError> {
    records.iter().map(|record| formats::item(task, record, args.protocol)).collect()
}

/// Records with the labels of the file beside them, where there is one and they have none.
fn labelled(mut records: Vec<Record>, path: &Path) -> Result<Vec<Record>, DataError> {
    let Some(labels) = labels_beside(path) else { return Ok(records) };
    if records.iter().any(|record| record.fields.contains_key("label")) {
        return Ok(records);
    }
    let text = text(&labels, false)?;
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() != records.len() {
        let problem = format!("the file has {} labels for {} items", lines.len(), records.len());
        return Err(DataError::Line { place: Place::new(&labels, lines.len()), problem });
    }
    for (record, label) in records.iter_mut().zip(lines) {
        record.fields.insert("label".to_owned(), Value::from(label.trim()));
    }
    Ok(records)
}

fn hash(items: &[Item]) -> String {
    let mut hash = Sha256::new();
    for item in items {
        // Items are strings and numbers, which JSON can always hold.
        hash.update(serde_json::to_vec(item).unwrap_or_default());
        hash.update([0]);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
