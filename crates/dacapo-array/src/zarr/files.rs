//! Files and folders that are there whole or not at all. What is in them is decided elsewhere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Writes a file over what is there: readers find the old content or the new, and the new survives a crash of
/// the machine once its directory is synced.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = aside(path);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_data()))
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
pub(super) struct Unfinished {
    /// Where it is until then.
    pub(super) dir: PathBuf,
    path: PathBuf,
}

impl Unfinished {
    pub(super) fn new(path: &Path) -> Result<Self> {
        let dir = aside(path);
        fs::create_dir(&dir).map_err(Error::io("create", path))?;
        Ok(Self {
            dir,
            path: path.to_owned(),
        })
    }

    /// Moves it to its place in one step, in place of what is there if `replace`.
    ///
    /// # Errors
    /// [`Error::Io`] with kind `AlreadyExists` if something is there that is not to be replaced.
    pub(super) fn finish(self, replace: bool) -> Result<()> {
        sync_dir(&self.dir)?;
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
