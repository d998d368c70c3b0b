//! A text that takes the place of a file, whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Refuses a path that no text could be written to, before anything is computed.
///
/// # Errors
/// It is a folder, or cannot be written to.
pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    if path.is_dir() {
        bail!("{}: it is a folder; name a file", cannot());
    }
    let target = target(path);
    if target.is_file() {
        OpenOptions::new().append(true).open(target).with_context(cannot)?;
    } else if !target.exists() {
        File::create_new(&target).and_then(|_| fs::remove_file(&target)).with_context(cannot)?;
    }
    Ok(())
}

/// The file that a path leads to, over links: it may not be there yet.
fn target(path: &Path) -> PathBuf {
    let linked = || Some(path.parent()?.join(fs::read_link(path).ok()?));
    fs::canonicalize(path).ok().or_else(linked).unwrap_or_else(|| path.to_owned())
}

/// Puts `text` into the file at `path`. What stands there goes only when all of the text is on the disk: it is written
/// beside it first. Where that is not possible, such as in a folder of others or a pipe, it is written in place.
///
/// # Errors
/// It cannot be written.
pub(super) fn save(path: &Path, text: &str) -> io::Result<()> {
    let path = target(path);
    let old = fs::metadata(&path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return fs::write(&path, text);
    }
    let beside = beside(&path);
    let mut file = match File::create_new(&beside) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            return fs::write(&path, text);
        }
        Err(error) => return Err(error),
    };
    if let Some(old) = old {
        // Before the text, which may be for few eyes. Some file systems have no rights.
        let _ = file.set_permissions(old.permissions());
    }
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    // What failed leaves no half of a text.
    written.and_then(|()| fs::rename(&beside, &path)).inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// A name beside a file that no other process takes.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_the_place_of_a_file_and_of_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.py");
        check(&file).unwrap();
        assert!(!file.exists());
        save(&file, "new").unwrap();
        save(&file, "newer").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "newer");
        // Nothing else is left.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let refused = |path: &Path| format!("{:#}", check(path).unwrap_err());
        assert!(refused(folder.path()).contains("it is a folder"));
        assert!(refused(&folder.path().join("absent/a.py")).contains("cannot write"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_and_the_rights_of_a_file_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};

        let folder = tempfile::tempdir().unwrap();
        let [file, link] = ["a.py", "link.py"].map(|name| folder.path().join(name));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&file, &link).unwrap();
        save(&link, "new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        // A link may lead to a file that is still to come.
        fs::remove_file(&file).unwrap();
        check(&link).unwrap();
        save(&link, "again").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "again");
    }

    /// /dev/full takes no byte.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_no_file_is_written_in_place() {
        assert!(save(Path::new("/dev/full"), "text").is_err());
        save(Path::new("/dev/null"), "text").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
