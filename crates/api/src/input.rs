//! Files and standard input that may have no end, such as /dev/zero.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of a file of settings: keys, a template.
const SETTINGS: usize = 16 << 20;

/// All of `source`, or `None` if it is longer than `most` bytes, of which it then reads no more.
///
/// # Errors
/// It cannot be read.
pub fn read_bounded(source: impl Read, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    source.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= most).then_some(bytes))
}

/// The text of a file of settings. A byte order mark at its start is no part of it.
///
/// # Errors
/// It cannot be read, is longer than any file of settings, or is not UTF-8.
pub fn read_settings(path: &Path) -> io::Result<String> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let bytes = read_bounded(File::open(path)?, SETTINGS)?;
    let bytes = bytes.ok_or_else(|| invalid(format!("it is longer than {SETTINGS} bytes")))?;
    let text = String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8".to_owned()))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_without_an_end_is_refused() {
        assert_eq!(read_bounded(io::repeat(0), 100).unwrap(), None);
        assert_eq!(read_bounded(&b"abc"[..], 3).unwrap(), Some(b"abc".to_vec()));
        assert_eq!(read_bounded(&b"abc"[..], 2).unwrap(), None);
    }
}
