use super::*;

#[test]
fn a_character_that_is_not_complete_waits() {
    let euro = "a€".as_bytes();
    assert_eq!(complete_characters(&euro[..2]), 1);
    assert_eq!(complete_characters(euro), 4);
    // A stray continuation byte will never be a character and must not hold the rest back.
    assert_eq!(complete_characters(&[b'a', 0x80, b'b', 0xe2]), 3);
}
