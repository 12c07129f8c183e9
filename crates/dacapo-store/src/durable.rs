//! Files that are there whole or not at all, after a kill, a crash of the machine and a full disk. Chunks of
//! arrays are written by `dacapo-array`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{Error, Result};

/// How the name of what is not finished yet begins, here and in `dacapo-array`; other names never begin with a
/// dot.
const PREFIX: &str = ".unfinished-";

/// A name that no other call of any process on this machine gives.
pub(crate) fn unique(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_nanos());
    format!("{prefix}{}-{nanos:x}-{count}", process::id())
}

/// Writes `bytes` to `path`, over what is there: a reader finds the old content or the new, and once this has
/// returned, the new survives a crash of the machine.
///
/// # Errors
/// [`Error::Io`]; the old content then stands, and nothing is left beside it.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = parent(path);
    let temporary = dir.join(unique(PREFIX));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        // Best effort: what stays is swept when the run is next held.
        let _ = fs::remove_file(&temporary);
        return Err(Error::io("write", path)(source));
    }
    sync_dir(dir)
}

/// Makes `dir` and what is missing above it, durably.
///
/// # Errors
/// [`Error::Io`].
pub fn create_dir_all(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = parent(dir);
    create_dir_all(above)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(Error::io("create", dir)(error)),
        Ok(()) => sync_dir(above),
    }
}

/// Makes the entries of `dir` survive a crash of the machine.
///
/// # Errors
/// [`Error::Io`].
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::io("sync", dir))
}

/// Removes the files and directories in `dir` that a killed process left unfinished. Only the one writer of
/// `dir` may ask for this.
pub(crate) fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let begins = |prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
        // Copies are not this run's writer's: they are gone on with, or swept when they are old.
        if begins(PREFIX) && !begins(dacapo_array::storage::COPYING) {
            tracing::debug!(path = %entry.path().display(), "sweeping what was never finished");
            crate::remove::delete(&entry.path());
        }
    }
}

/// The names in `dir` that are text; none if there is no such directory.
pub(crate) fn entries(dir: &Path) -> Result<Vec<String>> {
    let found = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.and_then(Iterator::collect::<io::Result<Vec<_>>>),
    };
    let found = found.map_err(Error::io("list", dir))?;
    Ok(found
        .into_iter()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect())
}

/// The content of `path`; nothing if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(Error::io("read", path)),
    }
}

/// Refuses to make `name` in `dir` where it stands in another case. ASCII names have no other twins.
pub(crate) fn refuse_twin(dir: &Path, name: &str) -> Result<()> {
    let there = entries(dir)?;
    if there.iter().any(|entry| entry == name) {
        return Ok(());
    }
    match there.into_iter().find(|entry| entry.eq_ignore_ascii_case(name)) {
        Some(twin) => Err(Error::Twin {
            dir: dir.to_owned(),
            name: name.to_owned(),
            twin,
        }),
        None => Ok(()),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_a_failure_leaves_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(entries(dir.path()).unwrap(), ["file"]);

        let occupied = dir.path().join("directory");
        fs::create_dir_all(occupied.join("something")).unwrap();
        let error = write_atomic(&occupied, b"new").unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write {}", occupied.display()));
        assert_eq!(entries(dir.path()).unwrap().len(), 2, "nothing is left beside it");
        assert!(write_atomic(&dir.path().join("none/file"), b"new").is_err());
    }

    #[test]
    fn what_a_killed_process_left_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["10.safetensors", ".unfinished-1-2-3", ".lock"] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        sweep(dir.path());
        let mut left = entries(dir.path()).unwrap();
        left.sort();
        assert_eq!(left, [".lock", "10.safetensors"]);
    }
}
