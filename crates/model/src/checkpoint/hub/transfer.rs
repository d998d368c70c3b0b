//! One file of the hub on its way into the cache, whose layout is that of Python's libraries.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo};

use super::client::{Client, Facts};
use super::failure::Failure;
use super::is_plain;
use super::watch::Teller;

/// Bytes that are read at a time.
const READ: usize = 64 * 1024;

/// The places of a file in the cache.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The content, by its etag.
    blob: PathBuf,
    /// What has arrived of it.
    part: PathBuf,
    /// The file of the commit, a link to the content.
    file: PathBuf,
}

impl Places {
    /// The places of the file `name` of a commit.
    ///
    /// # Errors
    /// The etag is no part of a path.
    pub(super) fn of(cache: &Cache, repo: &Repo, name: &str, facts: &Facts) -> Result<Self, Failure> {
        let commit = repo.revision();
        if facts.commit != commit || !is_plain(facts.etag.strip_prefix("W/").unwrap_or(&facts.etag)) {
            return Err(Failure::Answer("the file's commit or etag is not what was asked for".to_owned()));
        }
        let repository = cache.repo(repo.clone());
        let blob = repository.blob_path(&facts.etag);
        let part = blob.with_extension("part");
        Ok(Self { blob, part, file: repository.pointer_path(commit).join(name) })
    }

    /// Removes what stands in the way: a link to a blob that was deleted or is not whole, and a part that leaves nothing to
    /// ask for. Returns true if the content is there: another commit may have brought it.
    ///
    /// # Errors
    /// The cache cannot be written to.
    pub(super) fn prepare(&self, size: u64) -> Result<bool, Failure> {
        // None of them is there as a rule.
        let _ = fs::remove_file(&self.file);
        if length(&self.part) >= size {
            let _ = fs::remove_file(&self.part);
        }
        if length(&self.blob) == size && self.blob.exists() {
            self.put_in_place()?;
            return Ok(true);
        }
        let _ = fs::remove_file(&self.blob);
        Ok(false)
    }

    /// Brings the content, from the byte on at which an earlier transfer broke off.
    ///
    /// # Errors
    /// Another process brings it, the connection breaks, or the cache cannot be written to.
    pub(super) fn fetch(
        &self,
        client: &Client,
        repo: &Repo,
        name: &str,
        size: u64,
        teller: &Teller<()>,
    ) -> Result<(), Failure> {
        let folder = self.blob.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        // The name and the lock are those of hf-hub, which other programs use.
        let lock = self.blob.with_extension("lock");
        let locked = File::create(&lock)?;
        if locked.try_lock().is_err() {
            return Err(Failure::Locked(lock));
        }
        let mut part = OpenOptions::new().create(true).append(true).open(&self.part)?;
        let start = part.metadata()?.len();
        let (body, whole) = client.content(repo, name, start)?;
        let start = if whole { 0 } else { start };
        part.set_len(start)?;
        part.rewind()?;
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
        match part.metadata()?.len() {
            found if found == size => {}
            found => {
                // More is no part of the file, and less is no reason to keep what may be of another one.
                let _ = fs::remove_file(&self.part);
                return Err(Failure::Connection(format!("{found} bytes arrived of a file of {size}")));
            }
        }
        fs::rename(&self.part, &self.blob)?;
        self.put_in_place()
    }

    /// Lets the commit's file be the content.
    fn put_in_place(&self) -> Result<(), Failure> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
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
        let depth = below.map_or(0, |below| below.components().count().saturating_sub(1));
        let up: PathBuf = std::iter::repeat_n("..", depth).collect();
        std::os::unix::fs::symlink(
            up.join("blobs").join(self.blob.file_name().unwrap_or_default()),
            &self.file,
        )
    }

    #[cfg(not(unix))]
    fn link(&self) -> std::io::Result<()> {
        fs::hard_link(&self.blob, &self.file)
    }
}

/// Bytes of a file; 0 where there is none.
pub(super) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}
