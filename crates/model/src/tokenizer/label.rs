//! Names of bytes that may be no text.

/// A name of some bytes for programs: their text, or where they are none, `bytes:` and each in hexadecimal digits.
#[must_use]
pub fn bytes_label(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes_name(bytes), str::to_owned)
}

/// `bytes:` and each byte in hexadecimal digits.
pub(super) fn bytes_name(bytes: &[u8]) -> String {
    bytes.iter().fold("bytes:".to_owned(), |label, byte| format!("{label}\\x{byte:02x}"))
}
