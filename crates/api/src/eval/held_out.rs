//! Blocks of text files for the task `infill`.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::args::FileArgs;
use super::draws::Draws;
use super::question::{Item, Question};
use super::record::{DataError, Place};

/// The longest file that is read, in bytes.
const MOST_BYTES: u64 = 4 << 20;
/// Bytes of text for each token of a block: more than any tokenizer needs on average.
const BYTES_A_TOKEN: usize = 8;

/// Blocks that begin at random lines of the files below a folder, each byte as likely as any other.
///
/// # Errors
/// There is no such folder, or no file in it is a text.
pub(super) fn blocks(folder: &Path, args: &FileArgs, seed: i64) -> Result<Vec<Item>, DataError> {
    let files = texts(folder, args)?;
    let total: usize = files.iter().map(|(_, text)| text.len()).sum();
    if total == 0 {
        let kinds: Vec<String> =
            args.extension.iter().map(|one| format!(".{}", one.trim_matches('.'))).collect();
        let of_kind = if kinds.is_empty() {
            String::new()
        } else {
            format!(" whose name ends in {}", kinds.join(" or "))
        };
        let left_out = if args.leave_out.is_empty() { "" } else { ", beside what --leave-out names" };
        let held_out = if args.held_out { " that is held out" } else { "" };
        return Err(DataError::NoText {
            folder: folder.display().to_string(),
            wanted: format!("{of_kind}{held_out}{left_out}"),
        });
    }
    let mut draws = Draws::new(seed.cast_unsigned());
    let mut items = Vec::new();
    for number in 0..args.blocks {
        let mut at = draws.below(total);
        for (name, text) in &files {
            if at < text.len() {
                let start =
                    text.as_bytes()[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                let place =
                    Place { file: name.as_str().into(), line: 1 + text[..start].matches('\n').count() };
                let text = window(&text[start..], args.block as usize * BYTES_A_TOKEN);
                let seed = (seed.cast_unsigned() << 20) + u64::from(number);
                let question = Question::Block { text: text.to_owned(), seed };
                items.push(Item { id: place.to_string(), question });
                break;
            }
            at -= text.len();
        }
    }
    Ok(items)
}

/// The beginning of a text, up to a border of characters.
fn window(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The files that count, by their paths below the folder.
fn texts(folder: &Path, args: &FileArgs) -> Result<Vec<(String, String)>, DataError> {
    let mut paths = Vec::new();
    if folder.is_file() {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        paths.push((name, folder.to_owned()));
    } else {
        let unreadable = |error: std::io::Error| DataError::Unreadable {
            file: folder.display().to_string(),
            reason: error.to_string(),
        };
        collect(folder, "", &mut paths).map_err(unreadable)?;
    }
    paths.sort();
    let text = |(name, path): (String, PathBuf)| {
        let short = std::fs::metadata(&path).is_ok_and(|found| found.len() <= MOST_BYTES);
        let text = std::fs::read_to_string(&path).ok().filter(|_| short)?;
        (!text.trim().is_empty() && !text.contains('\0')).then_some((name, text))
    };
    Ok(paths.into_iter().filter(|(name, _)| counts(name, args)).filter_map(text).collect())
}

/// All files below a folder. Links to folders are not followed, and what cannot be read below it is left out.
fn collect(folder: &Path, name: &str, paths: &mut Vec<(String, PathBuf)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        let own = entry.file_name().to_string_lossy().into_owned();
        let name = if name.is_empty() { own } else { format!("{name}/{own}") };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => drop(collect(&entry.path(), &name, paths)),
            Ok(_) if entry.path().is_file() => paths.push((name, entry.path())),
            _ => {}
        }
    }
    Ok(())
}

fn counts(name: &str, args: &FileArgs) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let kind =
        args.extension.is_empty() || args.extension.iter().any(|one| one.trim_matches('.') == extension);
    let hidden = name.split('/').any(|part| part.starts_with('.'));
    let within = |part: &String| format!("/{name}/").contains(&format!("/{}/", part.trim_matches('/')));
    let held_out = || Sha256::digest(name.as_bytes())[0].is_multiple_of(20);
    kind && !hidden && !args.leave_out.iter().any(within) && (!args.held_out || held_out())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> FileArgs {
        FileArgs { extension: Vec::new(), leave_out: Vec::new(), held_out: false, block: 32, blocks: 40 }
    }

    #[test]
    fn files_are_chosen_by_name() {
        assert!(counts("a/b.py", &args()) && !counts("a/.git/b.py", &args()));
        let python = FileArgs { extension: vec!["py".to_owned()], ..args() };
        assert!(counts("b.py", &python) && !counts("b.rs", &python) && !counts("py", &python));
        let without = FileArgs { leave_out: vec!["test/".to_owned(), "x.py".to_owned()], ..args() };
        assert!(!counts("a/test/b.py", &without) && !counts("x.py", &without) && counts("test.py", &without));
        let held_out = FileArgs { held_out: true, ..args() };
        let names: Vec<String> = (0..1000).map(|i| format!("file{i}.py")).collect();
        let chosen = names.iter().filter(|name| counts(name, &held_out)).count();
        assert!((20..100).contains(&chosen), "{chosen} of 1000");
    }

    #[test]
    fn blocks_begin_at_lines_and_repeat() {
        let folder = tempfile::TempDir::new().unwrap();
        let text: String = (0..500).map(|i| format!("line {i} é\n")).collect();
        std::fs::write(folder.path().join("a.txt"), &text).unwrap();
        std::fs::write(folder.path().join("b.bin"), b"\0\xff").unwrap();
        let items = blocks(folder.path(), &args(), 3).unwrap();
        let ids: Vec<_> = items.iter().map(|item| item.id.clone()).collect();
        assert_eq!(
            ids,
            blocks(folder.path(), &args(), 3).unwrap().iter().map(|item| item.id.clone()).collect::<Vec<_>>()
        );
        for item in &items {
            let Question::Block { text: block, .. } = &item.question else { panic!("{item:?}") };
            let line: usize = item.id.strip_prefix("a.txt line ").unwrap().parse().unwrap();
            assert!(block.starts_with(&format!("line {} ", line - 1)), "{}: {block}", item.id);
            assert!(block.len() <= 32 * BYTES_A_TOKEN && text.contains(block.as_str()));
        }
        let empty = tempfile::TempDir::new().unwrap();
        assert!(matches!(blocks(empty.path(), &args(), 3), Err(DataError::NoText { .. })));
        assert!(matches!(blocks(&empty.path().join("none"), &args(), 3), Err(DataError::Unreadable { .. })));
    }
}
