//! Files and folders that are there whole or not at all. What is in them is decided elsewhere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rayon::prelude::*;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use crate::{Error, Result};

/// How names begin of what is not finished; no chunk, array or group is called so.
const PREFIX: &str = ".unfinished-";
/// Metadata files larger than this are not read.
const MOST_METADATA: u64 = 64 << 20;

/// A path beside `path` that nobody else uses.
fn aside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_nanos());
    path.with_file_name(format!("{PREFIX}{}-{nanos:x}-{count}", std::process::id()))
}

/// Whether a directory entry is something unfinished.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Whether what is written survives a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// At once, when its directory is synced too.
    Synced,
    /// When the whole that it belongs to is finished.
    Later,
}

/// Writes a file over what is there: readers find the old content or the new.
pub(super) fn write(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    let temporary = aside(path);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            match durability {
                Durability::Synced => file.sync_data(),
                Durability::Later => Ok(()),
            }
        })
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        // Best effort: the name says that it is unfinished.
        let _ = fs::remove_file(&temporary);
        Error::io("write", path)(source)
    })
}

/// Reads a file; nothing if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        read => read.map(Some).map_err(Error::io("read", path)),
    }
}

/// Reads a JSON object; nothing if there is no such file.
///
/// # Errors
/// As a text what is wrong with the file.
pub(super) fn read_json(path: &Path) -> std::result::Result<Option<serde_json::Value>, String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
        Ok(metadata) if metadata.len() > MOST_METADATA => {
            return Err(format!("{} has {} bytes", path.display(), metadata.len()));
        }
        _ => {}
    }
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Makes the entries of a directory survive a crash of the machine.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::io("sync", dir))
}

/// Makes a directory with what is missing above it.
pub(super) fn create_dirs(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::io("create", dir))
}

/// A directory that becomes `path` when it is whole, and goes away otherwise.
#[derive(Debug)]
pub(super) struct Unfinished {
    /// Where it is until then.
    pub(super) dir: PathBuf,
    path: PathBuf,
    /// Held while it is being made: that nobody holds it tells what a killed process left.
    _lock: File,
}

/// Directories that are younger than this are not taken for leftovers: their maker may not hold them yet.
const LEFTOVER: Duration = Duration::from_secs(60);

impl Unfinished {
    pub(super) fn new(path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent() {
            clear_leftovers(parent);
        }
        let dir = aside(path);
        let lock = fs::create_dir(&dir)
            .and_then(|()| File::open(&dir))
            .and_then(|file| {
                flock(&file, FlockOperation::NonBlockingLockShared)?;
                Ok(file)
            });
        Ok(Self {
            _lock: lock.map_err(Error::io("create", path))?,
            dir,
            path: path.to_owned(),
        })
    }

    /// Moves it to its place in one step, in place of what is there if `replace`, with all that is in it on
    /// disk.
    ///
    /// # Errors
    /// [`Error::Io`] with kind `AlreadyExists` if something is there that is not to be replaced.
    pub(super) fn finish(self, replace: bool) -> Result<()> {
        sync_tree(&self.dir)?;
        let rename = |flags| renameat_with(CWD, &self.dir, CWD, &self.path, flags);
        let moved = match rename(RenameFlags::NOREPLACE) {
            // After the exchange the old one has the unfinished one's name, and goes with it.
            Err(Errno::EXIST) if replace => rename(RenameFlags::EXCHANGE),
            // A file system that cannot do so in one step.
            Err(Errno::INVAL | Errno::NOSYS) if replace || !self.path.exists() => {
                let _ = fs::remove_dir_all(&self.path);
                rename(RenameFlags::empty())
            }
            moved => moved,
        };
        moved.map_err(|error| Error::io("create", &self.path)(error.into()))?;
        self.path.parent().map_or(Ok(()), sync_dir)
    }
}

/// Removes what killed processes left unfinished in a directory. Best effort: their names say what they are.
fn clear_leftovers(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_copy = |name: &str| name.starts_with(crate::storage::COPYING);
        let is_unfinished = entry
            .file_name()
            .to_str()
            .is_some_and(|name| is_unfinished(name) && !is_copy(name));
        let is_old = || {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > LEFTOVER))
        };
        let is_dir = || entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_unfinished && is_dir() && is_old() {
            let held = File::open(entry.path())
                .is_ok_and(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive).is_err());
            if !held {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Makes a directory with all that is in it survive a crash of the machine.
fn sync_tree(dir: &Path) -> Result<()> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    entries
        .map_err(Error::io("list", dir))?
        .par_iter()
        .try_for_each(|entry| {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => sync_tree(&path),
                _ => File::open(&path)
                    .and_then(|file| file.sync_data())
                    .map_err(Error::io("sync", &path)),
            }
        })?;
    sync_dir(dir)
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone if it was moved; otherwise best effort, its name says that it is unfinished.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs `f` while no other process or thread does so for the same directory.
pub(super) fn locked<T>(dir: &Path, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let file = File::open(dir).map_err(Error::io("open", dir))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|error| Error::io("lock", dir)(error.into()))?;
    f()
}
