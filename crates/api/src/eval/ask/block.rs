//! Held-out infilling: holes of a few tokens in a block of a file, and a line that is cut at a random character.

use serde_json::{Value, json};

use super::super::draws::Draws;
use super::server::Server;
use super::{ItemError, Outcome, Settings, evaluations, truth};

/// Tokens of the holes.
const SIZES: [usize; 3] = [1, 3, 8];
/// Places that are tried for a hole or a cut.
const TRIES: usize = 24;
/// Tokens of the longest rest of a line that becomes a hole.
const LONGEST_CUT: usize = 5;
/// Tokens of the shortest block.
const SHORTEST: usize = 24;

/// A block: its tokens, and where each begins in its text.
struct Block {
    text: String,
    tokens: Vec<u64>,
    starts: Vec<usize>,
}

/// Asks for all holes of a block. The most certain position is filled first, one at a time.
pub(super) async fn ask(
    server: &Server,
    settings: &Settings,
    seed: u64,
    text: &str,
) -> Result<Outcome, ItemError> {
    // One position is the document start's.
    let most = settings.block.min(server.model.context) - 1;
    let Some(block) = Block::of(server.pieces(text).await?, text, most) else {
        return Ok(Outcome::skipped(format!("fewer than {SHORTEST} tokens")));
    };
    let mut draws = Draws::new(seed);
    let mut outcome = Outcome { answer: json!({}), ..Outcome::default() };
    for size in SIZES {
        for _ in 0..TRIES {
            let quarter = block.tokens.len() / 4;
            let first = quarter + draws.below(block.tokens.len() - 2 * quarter);
            if fill(server, &block, (first, size), &mut outcome).await? {
                break;
            }
        }
    }
    for _ in 0..TRIES {
        if cut(server, &block, &mut draws, &mut outcome).await? {
            break;
        }
    }
    Ok(outcome)
}

impl Block {
    /// The first tokens of a text; `None` if there are too few.
    fn of(pieces: Vec<(u64, Vec<u8>)>, text: &str, most: usize) -> Option<Self> {
        let spelled: usize = pieces.iter().map(|(_, bytes)| bytes.len()).sum();
        // SentencePiece puts a blank before the first word.
        let extra = spelled.checked_sub(text.len()).filter(|extra| *extra <= 1)?;
        let (mut tokens, mut starts, mut end) = (Vec::new(), Vec::new(), 0);
        for (at, (token, bytes)) in pieces.into_iter().enumerate().take(most) {
            tokens.push(token);
            starts.push(end);
            end += bytes.len() - if at == 0 { extra.min(bytes.len()) } else { 0 };
        }
        // A character may be cut at the end of the block.
        while !text.is_char_boundary(end) {
            tokens.pop();
            end = starts.pop()?;
        }
        (tokens.len() >= SHORTEST).then(|| Self { text: text[..end].to_owned(), tokens, starts })
    }

    /// The texts before, in and after a hole, if it does not cut a character.
    fn split(&self, (first, size): (usize, usize)) -> Option<[&str; 3]> {
        let start = *self.starts.get(first)?;
        let end = match first + size {
            after if after == self.tokens.len() => self.text.len(),
            after => *self.starts.get(after)?,
        };
        Some([self.text.get(..start)?, self.text.get(start..end)?, self.text.get(end..)?])
    }
}

/// Fills a hole of tokens. False if its place cannot be asked about: the pieces would be tokenized in another way.
async fn fill(
    server: &Server,
    block: &Block,
    (first, size): (usize, usize),
    outcome: &mut Outcome,
) -> Result<bool, ItemError> {
    let Some([prefix, hole, suffix]) = block.split((first, size)) else { return Ok(false) };
    let tokens = &block.tokens;
    for (text, expected) in
        [(prefix, &tokens[..first]), (hole, &tokens[first..first + size]), (suffix, &tokens[first + size..])]
    {
        if server.tokens(text, false).await? != expected {
            return Ok(false);
        }
    }
    let text = answered(server, [prefix, suffix], size, false, outcome).await?;
    let found = server.tokens(&text, false).await?;
    let right = found.iter().zip(&tokens[first..]).filter(|(found, token)| found == token).count().min(size);
    outcome.metrics.insert(format!("hole_{size}"), right as f64 / size as f64);
    if size > 1 {
        outcome.metrics.insert(format!("hole_{size}_exact"), truth(text == hole));
    }
    outcome.answer[format!("hole_{size}")] = json!([hole, text]);
    Ok(true)
}

/// Cuts a line at a random character, and asks for its rest with token healing and without. False if the line is
/// unsuitable.
async fn cut(
    server: &Server,
    block: &Block,
    draws: &mut Draws,
    outcome: &mut Outcome,
) -> Result<bool, ItemError> {
    let ends: Vec<usize> = block.text.match_indices('\n').map(|(at, _)| at).collect();
    let Some(lines) = ends.len().checked_sub(1).filter(|lines| *lines > 0) else { return Ok(false) };
    let number = draws.below(lines);
    let (start, end) = (ends[number] + 1, ends[number + 1]);
    let line = &block.text[start..end];
    let indent = line.len() - line.trim_start().len();
    let comment = line.trim_start().starts_with(['#', '"', '\'']);
    let places: Vec<usize> =
        line[indent..].char_indices().skip(1).map(|(at, _)| start + indent + at).collect();
    if comment || places.len() < 3 {
        return Ok(false);
    }
    let at = places[draws.below(places.len())];
    let (hole, around) = (&block.text[at..end], [&block.text[..at], &block.text[end..]]);
    let length = server.tokens(hole, false).await?.len();
    if length == 0 || length > LONGEST_CUT {
        return Ok(false);
    }
    for (name, healing) in [("cut_healed", true), ("cut_plain", false)] {
        let text = answered(server, around, length, healing, outcome).await?;
        outcome.metrics.insert(name.to_owned(), truth(text == hole));
        outcome.answer[name] = json!([hole, text]);
    }
    Ok(true)
}

/// The text of a hole.
async fn answered(
    server: &Server,
    [prefix, suffix]: [&str; 2],
    length: usize,
    healing: bool,
    outcome: &mut Outcome,
) -> Result<String, ItemError> {
    let body = json!({
        "prefix": prefix, "suffix": suffix, "length": length, "temperature": 0, "seed": 0,
        "token_healing": healing, "diffusion": { "preset": "greedy" },
    });
    let answer = server.post("/fill", &body).await?;
    outcome.evaluations += evaluations(&answer);
    outcome.truncated |= answer["truncated"] == true;
    let text = answer["choices"][0]["holes"][0]["text"].as_str();
    Ok(text.ok_or(ItemError::Foreign { path: "/fill", what: "text" })?.to_owned())
}

/// A token as `/tokenize` spells it.
pub(super) fn piece(entry: &Value) -> Option<(u64, Vec<u8>)> {
    let bytes = match &entry["piece"] {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(list) => list.iter().map(|byte| Some(byte.as_u64()? as u8)).collect::<Option<_>>()?,
        _ => return None,
    };
    Some((entry["id"].as_u64()?, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(texts: &[&[u8]]) -> Vec<(u64, Vec<u8>)> {
        texts.iter().zip(0..).map(|(text, id)| (id, text.to_vec())).collect()
    }

    #[test]
    fn a_block_is_split_at_borders_of_tokens_and_characters() {
        let letters = "abcdefghijklmnopqrstuvwxyz";
        let mut given: Vec<&[u8]> = letters.as_bytes().chunks(1).collect();
        given.extend([&b"\xc3"[..], b"\xa9"]);
        let text = format!("{letters}é");
        let block = Block::of(pieces(&given), &text, 27).unwrap();
        assert_eq!((block.text.as_str(), block.tokens.len()), (letters, 26), "half a character is left out");
        assert_eq!(block.split((1, 3)), Some(["a", "bcd", "efghijklmnopqrstuvwxyz"]));
        assert_eq!(block.split((25, 1)), Some(["abcdefghijklmnopqrstuvwxy", "z", ""]));
        assert_eq!(block.split((25, 2)), None);
        let block = Block::of(pieces(&given), &text, 100).unwrap();
        assert_eq!(block.split((26, 1)), None, "within a character");
        assert!(Block::of(pieces(&given[..23]), &letters[..23], 100).is_none());
    }

    #[test]
    fn a_blank_of_the_tokenizer_s_own_does_not_count() {
        let given: Vec<&[u8]> =
            std::iter::once(&b" a"[..]).chain(std::iter::repeat_n(&b"b"[..], 30)).collect();
        let text = format!("a{}", "b".repeat(30));
        assert_eq!(Block::of(pieces(&given), &text, 100).unwrap().split((1, 1)).unwrap()[0], "a");
        assert!(Block::of(pieces(&given), "something else", 100).is_none());
    }
}
