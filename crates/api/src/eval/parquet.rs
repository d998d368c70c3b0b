//! Rows of parquet files as records.

use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

use super::record::{DataError, Place, Record};

/// The rows of a parquet file, uncompressed or compressed by Snappy.
///
/// # Errors
/// The file cannot be read, is damaged, or is compressed in another way.
pub(super) fn read_parquet(path: &Path) -> Result<Vec<Record>, DataError> {
    let unreadable = |reason: String| DataError::Unreadable {
        file: path.display().to_string(),
        reason: format!("{reason}; a JSON lines file of the same rows is read as well"),
    };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let reader = SerializedFileReader::new(file).map_err(|error| unreadable(error.to_string()))?;
    let rows = reader.get_row_iter(None).map_err(|error| unreadable(error.to_string()))?;
    rows.zip(1..)
        .map(|(row, line)| {
            let row = row.map_err(|error| unreadable(format!("row {line}: {error}")))?;
            Ok(Record { place: Place::new(path, line), fields: fields(&row) })
        })
        .collect()
}

fn fields(row: &Row) -> Map<String, Value> {
    row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
}

/// A field in JSON. Kinds that no data set of the tasks uses become their text.
fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(truth) => Value::from(*truth),
        Field::Byte(number) => Value::from(*number),
        Field::Short(number) => Value::from(*number),
        Field::Int(number) => Value::from(*number),
        Field::Long(number) => Value::from(*number),
        Field::UByte(number) => Value::from(*number),
        Field::UShort(number) => Value::from(*number),
        Field::UInt(number) => Value::from(*number),
        Field::ULong(number) => Value::from(*number),
        Field::Float(number) => Value::from(*number),
        Field::Double(number) => Value::from(*number),
        Field::Str(text) => Value::from(text.as_str()),
        Field::Bytes(bytes) => Value::from(String::from_utf8_lossy(bytes.data())),
        Field::Group(row) => Value::Object(fields(row)),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        other => Value::from(other.to_string()),
    }
}
