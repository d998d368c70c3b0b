//! Spellings of bytes in a vocabulary.

use tokenizers::DecoderWrapper;

/// The spelling of bytes in a vocabulary's entries.
#[derive(Clone, Copy, Debug)]
pub(super) enum ByteStyle {
    /// One printable character per byte (GPT-2).
    ByteLevel,
    /// Text with `▁` for a space, and `<0x0A>` for bytes that are no text (LLaMA).
    SentencePiece,
}

impl ByteStyle {
    pub(super) fn of(decoder: Option<&DecoderWrapper>) -> Result<Self, String> {
        let steps = match decoder {
            Some(DecoderWrapper::ByteLevel(_)) => return Ok(Self::ByteLevel),
            Some(DecoderWrapper::Metaspace(_)) => return Ok(Self::SentencePiece),
            Some(DecoderWrapper::Sequence(steps)) => steps.get_decoders(),
            _ => &[],
        };
        if steps.iter().any(|step| matches!(step, DecoderWrapper::ByteFallback(_))) {
            return Ok(Self::SentencePiece);
        }
        Err("its decoder is neither byte-level nor SentencePiece with byte fallback".to_owned())
    }

    pub(super) fn bytes(self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => token.chars().flat_map(byte_of).collect(),
            Self::SentencePiece => {
                let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    Some(byte) => vec![byte],
                    None => token.replace('▁', " ").into_bytes(),
                }
            }
        }
    }
}

/// GPT-2 writes a printable byte as the character of that code, and the others as the characters from
/// 256 on, in order. A character outside the scheme (of an added token) stands for itself.
fn byte_of(character: char) -> Vec<u8> {
    let printable = |code: u32| matches!(code, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(character);
    if printable(code) {
        return vec![code as u8];
    }
    let hidden =
        code.checked_sub(256).and_then(|n| (0..256).filter(|&byte| !printable(byte)).nth(n as usize));
    match hidden {
        Some(byte) => vec![byte as u8],
        None => character.to_string().into_bytes(),
    }
}
