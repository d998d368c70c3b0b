//! One file of the hub on its way into the cache, whose layout is that of Python's libraries.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{Cache, Repo};

use super::client::{Client, Facts};
use super::failure::Failure;
use super::is_plain;
use super::watch::Teller;

/// Bytes that are read at a time.
const READ: usize = 64 * 1024;

/// Tries of a lock, and the pause after each: other processes bring small files in a moment.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// The places of a file in the cache.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The content, by its etag.
    blob: PathBuf,
    /// The bytes that have arrived of it.
    part: PathBuf,
    /// The file of the commit, a link to the content.
    file: PathBuf,
}

impl Places {
    /// The places of the file `name` of a commit.
    ///
    /// # Errors
    /// The etag is no part of a path, or the commit is another.
    pub(super) fn of(cache: &Cache, repo: &Repo, name: &str, facts: &Facts) -> Result<Self, Failure> {
        let commit = repo.revision();
        if facts.commit != commit || !is_plain(&facts.etag) {
            return Err(Failure::Answer("the file's commit or etag is not what was asked for".to_owned()));
        }
        let repository = cache.repo(repo.clone());
        let blob = repository.blob_path(&facts.etag);
        let part = blob.with_extension("part");
        Ok(Self { blob, part, file: repository.pointer_path(commit).join(name) })
    }

    /// Brings the content, from the byte on at which an earlier transfer broke off. Content that another commit has brought is
    /// not asked for.
    ///
    /// # Errors
    /// Another process brings it, the connection breaks, or the cache cannot be written to.
    pub(super) fn bring(
        &self,
        client: &Client,
        repo: &Repo,
        name: &str,
        size: u64,
        teller: &Teller<()>,
    ) -> Result<(), Failure> {
        fs::create_dir_all(folder_of(&self.blob))?;
        let _lock = self.lock()?;
        if self.blob.exists() && length(&self.blob) != size {
            fs::remove_file(&self.blob)?;
        }
        if !self.blob.exists() {
            self.fetch(client, repo, name, size, teller)?;
        }
        self.put_in_place()
    }

    /// The lock of the content, by the name that hf-hub gives it, for other programs.
    fn lock(&self) -> Result<File, Failure> {
        let path = self.blob.with_extension("lock");
        let file = File::create(&path)?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        Err(Failure::Locked(path))
    }

    fn fetch(
        &self,
        client: &Client,
        repo: &Repo,
        name: &str,
        size: u64,
        teller: &Teller<()>,
    ) -> Result<(), Failure> {
        if length(&self.part) >= size {
            // It leaves nothing to ask for. There is none as a rule.
            let _ = fs::remove_file(&self.part);
        }
        let mut part = OpenOptions::new().create(true).write(true).truncate(false).open(&self.part)?;
        if size > 0 {
            let start = part.metadata()?.len();
            let (body, whole) = client.content(repo, name, start)?;
            let start = if whole { 0 } else { start };
            part.set_len(start)?;
            part.seek(SeekFrom::Start(start))?;
            teller.begun(start, size);
            let mut reader = body.into_reader();
            let mut bytes = vec![0; READ];
            loop {
                let count = reader.read(&mut bytes).map_err(Failure::broken)?;
                if count == 0 {
                    break;
                }
                part.write_all(&bytes[..count])?;
                teller.bytes(count as u64);
            }
        }
        let found = part.metadata()?.len();
        if found != size {
            // More is no part of the file, and less is no reason to keep bytes that may be of another one.
            let _ = fs::remove_file(&self.part);
            return Err(Failure::Connection(format!("{found} bytes arrived of a file of {size}")));
        }
        Ok(fs::rename(&self.part, &self.blob)?)
    }

    /// Lets the commit's file be the content.
    fn put_in_place(&self) -> Result<(), Failure> {
        fs::create_dir_all(folder_of(&self.file))?;
        if self.file.exists() && length(&self.file) == length(&self.blob) {
            return Ok(());
        }
        // A link that leads to nothing, or a file that is not whole. There is none as a rule.
        let _ = fs::remove_file(&self.file);
        if self.link().is_err() {
            // A file system without links holds it once, as the commit's own.
            fs::rename(&self.blob, &self.file)?;
        }
        Ok(())
    }

    #[cfg(unix)]
    fn link(&self) -> std::io::Result<()> {
        // Up from the file's folder to the repository's, in which `blobs` and `snapshots` lie side by side.
        let repository = self.blob.parent().and_then(Path::parent);
        let below = repository.and_then(|repository| self.file.strip_prefix(repository).ok());
        let below = below.ok_or(std::io::ErrorKind::InvalidInput)?;
        let up: PathBuf = std::iter::repeat_n("..", below.components().count().saturating_sub(1)).collect();
        let content = up.join("blobs").join(self.blob.file_name().unwrap_or_default());
        std::os::unix::fs::symlink(content, &self.file)
    }

    #[cfg(windows)]
    fn link(&self) -> std::io::Result<()> {
        std::os::windows::fs::symlink_file(&self.blob, &self.file)
    }

    #[cfg(not(any(unix, windows)))]
    fn link(&self) -> std::io::Result<()> {
        fs::hard_link(&self.blob, &self.file)
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Bytes of a file; 0 where there is none.
pub(super) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}
