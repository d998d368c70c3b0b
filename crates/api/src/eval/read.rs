//! Data files to records: JSON lines, JSON, CSV, plain text and parquet, gzipped or not.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

use super::parquet::read_parquet;
use super::record::{DataError, Place, Record};
use crate::input::read_bounded;

/// More bytes than any file of the tasks has.
const MOST_BYTES: usize = 1 << 30;

/// The records of a data file.
///
/// # Errors
/// The file cannot be read, its name has no known ending, or a line is not an item.
pub(super) fn read_records(path: &Path) -> Result<Vec<Record>, DataError> {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    if name.ends_with(".parquet") {
        return some(read_parquet(path)?, path);
    }
    let (plain, zipped) = match name.strip_suffix(".gz") {
        Some(plain) => (plain, true),
        None => (name.as_str(), false),
    };
    let parse = match plain.rsplit_once('.').map(|(_, ending)| ending) {
        Some("jsonl" | "json") => json,
        Some("csv") => csv,
        Some("txt") => lines,
        _ => return Err(DataError::Format { file: path.display().to_string() }),
    };
    some(parse(&text(path, zipped)?, path)?, path)
}

fn some(records: Vec<Record>, path: &Path) -> Result<Vec<Record>, DataError> {
    if records.is_empty() {
        return Err(DataError::Empty { file: path.display().to_string() });
    }
    Ok(records)
}

/// The text of a file.
///
/// # Errors
/// It cannot be read or unpacked, is longer than any data file, or is not UTF-8.
pub(super) fn text(path: &Path, zipped: bool) -> Result<String, DataError> {
    let unreadable = |reason: String| DataError::Unreadable { file: path.display().to_string(), reason };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let source: Box<dyn Read> = if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let bytes = read_bounded(source, MOST_BYTES).map_err(|error| unreadable(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| unreadable(format!("it is longer than {MOST_BYTES} bytes")))?;
    let marked = bytes.starts_with(b"\xef\xbb\xbf");
    let bytes = if marked { bytes[3..].to_vec() } else { bytes };
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = 1 + bytes[..valid].iter().filter(|byte| **byte == b'\n').count();
        let problem = "it is not UTF-8".to_owned();
        DataError::Line { place: Place::new(path, line), problem }
    })
}

/// One object a line; or one document: a list of objects, or an object whose `Data` is one.
fn json(text: &str, path: &Path) -> Result<Vec<Record>, DataError> {
    let document = serde_json::from_str::<Value>(text).ok();
    let list = match document {
        Some(Value::Array(list)) => Some(list),
        Some(Value::Object(mut fields)) => match fields.remove("Data") {
            Some(Value::Array(list)) => Some(list),
            _ => None,
        },
        _ => None,
    };
    if let Some(list) = list {
        return list.into_iter().zip(1..).map(|(value, at)| record(value, Place::new(path, at))).collect();
    }
    let filled = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    filled
        .map(|(line, at)| {
            let place = Place::new(path, at);
            match serde_json::from_str(line) {
                Ok(value) => record(value, place),
                Err(error) => {
                    let problem = format!("it is not JSON: {error}");
                    Err(DataError::Line { place, problem })
                }
            }
        })
        .collect()
}

fn record(value: Value, place: Place) -> Result<Record, DataError> {
    match value {
        Value::Object(fields) => Ok(Record { place, fields }),
        _ => Err(DataError::Line { place, problem: "it is not a JSON object".to_owned() }),
    }
}

/// A table whose first row names the columns.
fn csv(text: &str, path: &Path) -> Result<Vec<Record>, DataError> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let wrong = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line) as usize;
        let problem = format!("it is not a row of the table: {error}");
        DataError::Line { place: Place::new(path, line), problem }
    };
    let names = reader.headers().map_err(wrong)?.clone();
    let mut records = Vec::new();
    for row in reader.records() {
        let row = row.map_err(wrong)?;
        let line = row.position().map_or(0, csv::Position::line) as usize;
        let fields = names.iter().zip(&row).map(|(name, value)| (name.to_owned(), Value::from(value)));
        records.push(Record { place: Place::new(path, line), fields: fields.collect() });
    }
    Ok(records)
}

/// A text a line, as the field `text`.
fn lines(text: &str, path: &Path) -> Result<Vec<Record>, DataError> {
    let filled = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let fields = |line: &str| Map::from_iter([("text".to_owned(), Value::from(line))]);
    Ok(filled.map(|(line, at)| Record { place: Place::new(path, at), fields: fields(line) }).collect())
}
