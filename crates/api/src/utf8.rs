//! Characters at the end of bytes.

/// The number of bytes without a last character that is incomplete.
pub(crate) fn complete_characters(bytes: &[u8]) -> usize {
    let mut done = 0;
    loop {
        match std::str::from_utf8(&bytes[done..]) {
            Ok(_) => return bytes.len(),
            Err(error) => {
                done += error.valid_up_to();
                match error.error_len() {
                    // Bytes that can never become a character; they are shown as U+FFFD.
                    Some(bad) => done += bad,
                    None => return done,
                }
            }
        }
    }
}
