//! Objects as files below a directory.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, flock, fsync, mkdirat, open, openat,
    renameat, renameat_with, statat,
};
use rustix::io::Errno;

use super::{COPY_AGE, COPYING, Durability, Entry, Hold, Kind, Moved, Stamp, Storage, UNFINISHED, key};
use crate::{Error, Result};

/// A directory and what is below it.
///
/// Each object is a file, written aside and renamed. Writers of one object take turns by `flock(2)` on its
/// directory, for the instant of the renaming; on NFS that binds all machines whose server keeps locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalStorage {
    root: PathBuf,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A name that no other call of any process on this machine gives.
fn unfinished() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_nanos());
    format!("{UNFINISHED}{}-{nanos:x}-{count}", std::process::id())
}

/// Whether there is simply nothing of that name.
fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
}

impl LocalStorage {
    /// What is below `root`, which need not be there yet. Touches no disk.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, key: &str) -> PathBuf {
        if key.is_empty() {
            self.root.clone()
        } else {
            self.root.join(key)
        }
    }

    /// The directory of an object, made if there is none.
    fn parent(&self, key: &str) -> Result<PathBuf> {
        let dir = self.path(key::split(key).0);
        make_dirs(&dir).map_err(Error::io("create", &dir))?;
        Ok(dir)
    }

    /// Writes a file aside; the name it has until it is renamed.
    fn aside(&self, key: &str, bytes: &[u8], durability: Durability) -> Result<(PathBuf, PathBuf)> {
        let mut dir = self.path(key::split(key).0);
        let mut temporary = dir.join(unfinished());
        let create = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
        let written = match create(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                dir = self.parent(key)?;
                temporary = dir.join(unfinished());
                create(&temporary)
            }
            opened => opened,
        }
        .and_then(|mut file| {
            file.write_all(bytes)?;
            match durability {
                Durability::Synced | Durability::Whole => file.sync_data(),
                Durability::Later => Ok(()),
            }
        });
        match written {
            Ok(()) => Ok((temporary, dir)),
            Err(source) => {
                // Best effort: its name says what it is.
                let _ = fs::remove_file(&temporary);
                Err(Error::io("write", &self.path(key))(source))
            }
        }
    }

    /// Runs `f` while nobody else does so for the same directory.
    fn locked<T>(dir: &Path, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let file = File::open(dir)?;
        flock(&file, FlockOperation::LockExclusive)?;
        f()
    }

    /// Opens the directory above a key and gives the key's name in it, going down from the root through no
    /// symbolic link. Nothing if there is none, unless it is to be made.
    fn descend<'a>(&self, key: &'a str, make: bool) -> Result<Option<(OwnedFd, &'a str)>> {
        key::check(key)?;
        let fail = |error: Errno| Error::io("look into", &self.path(key))(error.into());
        if make {
            make_dirs(&self.root).map_err(Error::io("create", &self.root))?;
        }
        let mut dir = match open(&self.root, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.map_err(fail)?,
        };
        let (parents, name) = key::split(key);
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            let below = || openat(&dir, part, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
            dir = match below() {
                Err(Errno::NOENT) if make => {
                    match mkdirat(&dir, part, Mode::from_raw_mode(0o777)) {
                        Ok(()) => fsync(&dir).map_err(fail)?,
                        Err(Errno::EXIST) => {}
                        Err(error) => return Err(fail(error)),
                    }
                    below().map_err(fail)?
                }
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::LOOP | Errno::NOTDIR) if is_link(&dir, part) => return Err(linked(key, part)),
                Err(Errno::NOTDIR) if !make => return Ok(None),
                opened => opened.map_err(fail)?,
            };
        }
        if is_link(&dir, name) {
            return Err(linked(key, name));
        }
        Ok(Some((dir, name)))
    }
}

fn is_link(dir: &OwnedFd, name: &str) -> bool {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

fn linked(key: &str, part: &str) -> Error {
    Error::Key {
        key: key.to_owned(),
        reason: format!("`{part}` is a symbolic link"),
    }
}

/// Makes a directory and what is missing above it, durably.
fn make_dirs(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = match dir.parent() {
        Some(above) if above != Path::new("") => above,
        _ => Path::new("."),
    };
    make_dirs(above)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_dir(above),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn sync_all(dir: &Path) -> io::Result<()> {
    let entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    entries.par_iter().try_for_each(|entry| {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_all(&entry.path())
        } else if kind.is_file() {
            File::open(entry.path())?.sync_data()
        } else {
            Ok(())
        }
    })?;
    sync_dir(dir)
}

/// Deletes a tree that nobody can find any more, on all threads. What cannot be deleted now is left to a sweep.
fn delete(tree: &Path) {
    fn delete_all(tree: &Path) -> io::Result<()> {
        if !tree.symlink_metadata()?.is_dir() {
            return fs::remove_file(tree);
        }
        let entries = fs::read_dir(tree)?.collect::<io::Result<Vec<_>>>()?;
        entries
            .par_iter()
            .try_for_each(|entry| delete_all(&entry.path()))?;
        fs::remove_dir(tree)
    }
    if let Err(error) = delete_all(tree) {
        tracing::warn!(path = %tree.display(), %error, "cannot delete what was removed");
    }
}

/// Of an open or listed file. The inode alone would come back: times tell its owners apart.
fn stamp(metadata: &fs::Metadata) -> Stamp {
    Stamp(format!(
        "{}-{}-{}.{:09}-{}.{:09}",
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec()
    ))
}

impl Storage for LocalStorage {
    fn describe(&self, key: &str) -> String {
        self.path(key).display().to_string()
    }

    fn read_into(&self, key: &str, buffer: &mut Vec<u8>) -> Result<bool> {
        key::check(key)?;
        buffer.clear();
        let path = self.path(key);
        match File::open(&path).and_then(|mut file| file.read_to_end(buffer)) {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    fn write(&self, key: &str, bytes: &[u8], durability: Durability) -> Result<()> {
        key::check(key)?;
        let path = self.path(key);
        let (temporary, dir) = self.aside(key, bytes, durability)?;
        let renamed = match durability {
            Durability::Later => fs::rename(&temporary, &path),
            Durability::Whole => Self::locked(&dir, || fs::rename(&temporary, &path)),
            Durability::Synced => {
                Self::locked(&dir, || fs::rename(&temporary, &path)).and_then(|()| sync_dir(&dir))
            }
        };
        renamed.map_err(|source| {
            let _ = fs::remove_file(&temporary);
            Error::io("write", &path)(source)
        })
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        key::check(key)?;
        let path = self.path(key);
        let (temporary, dir) = self.aside(key, bytes, Durability::Synced)?;
        // A second name of the file, which is refused where there is one; then the first goes.
        let linked = Self::locked(&dir, || fs::hard_link(&temporary, &path));
        let _ = fs::remove_file(&temporary);
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Error::io("create", &path)(error)),
            Ok(()) => sync_dir(&dir).map(|()| true).map_err(Error::io("create", &path)),
        }
    }

    fn update(&self, key: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Result<Vec<u8>>) -> Result<()> {
        key::check(key)?;
        let path = self.path(key);
        loop {
            let mut present = Vec::new();
            let seen = match File::open(&path).and_then(|mut file| {
                let seen = stamp(&file.metadata()?);
                file.read_to_end(&mut present)?;
                Ok(seen)
            }) {
                Ok(seen) => Some(seen),
                Err(error) if is_missing(&error) => None,
                Err(error) => return Err(Error::io("read", &path)(error)),
            };
            let changed = change(seen.as_ref().map(|_| present.as_slice()))?;
            let (temporary, dir) = self.aside(key, &changed, Durability::Synced)?;
            let renamed = Self::locked(&dir, || {
                let unchanged = match fs::metadata(&path) {
                    Ok(metadata) => seen == Some(stamp(&metadata)),
                    Err(error) if is_missing(&error) => seen.is_none(),
                    Err(error) => return Err(error),
                };
                if unchanged {
                    fs::rename(&temporary, &path)?;
                }
                Ok(unchanged)
            });
            match renamed {
                Ok(true) => return sync_dir(&dir).map_err(Error::io("sync", &dir)),
                Ok(false) => drop(fs::remove_file(&temporary)),
                Err(source) => {
                    let _ = fs::remove_file(&temporary);
                    return Err(Error::io("write", &path)(source));
                }
            }
        }
    }

    fn delete(&self, key: &str) -> Result<bool> {
        let Some((dir, name)) = self.descend(key, false)? else {
            return Ok(false);
        };
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(false),
            deleted => deleted
                .and_then(|()| fsync(&dir))
                .map(|()| true)
                .map_err(|error| Error::io("remove", &self.path(key))(error.into())),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        key::check_prefix(prefix)?;
        let dir = self.path(prefix);
        let found = match fs::read_dir(&dir) {
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            found => found.map_err(Error::io("list", &dir))?,
        };
        let mut entries = Vec::new();
        for entry in found {
            let entry = entry.map_err(Error::io("list", &dir))?;
            // No key of ours is anything else than text.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with(UNFINISHED) {
                continue;
            }
            // What vanishes meanwhile is not there.
            let Ok(kind) = entry.file_type() else { continue };
            let (kind, bytes) = if kind.is_dir() {
                (Kind::Prefix, 0)
            } else if kind.is_symlink() {
                (Kind::Link, 0)
            } else {
                let Ok(metadata) = entry.metadata() else { continue };
                (Kind::Object, metadata.len())
            };
            entries.push(Entry { name, kind, bytes });
        }
        entries.sort();
        Ok(entries)
    }

    fn unfinished(&self, prefix: &str) -> Result<Vec<String>> {
        key::check_prefix(prefix)?;
        let dir = self.path(prefix);
        let found = match fs::read_dir(&dir) {
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            found => found.map_err(Error::io("list", &dir))?,
        };
        let names = found.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(UNFINISHED)).collect();
        names.sort();
        Ok(names)
    }

    fn kind(&self, key: &str) -> Result<Option<Kind>> {
        if key.is_empty() {
            return Ok(self.root.is_dir().then_some(Kind::Prefix));
        }
        let (dir, name) = match self.descend(key, false) {
            Err(Error::Key { reason, .. }) if reason.ends_with("link") => return Ok(Some(Kind::Link)),
            found => match found? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(Error::io("look into", &self.path(key))(error.into())),
            Ok(stat) => Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Kind::Prefix,
                FileType::Symlink => Kind::Link,
                _ => Kind::Object,
            })),
        }
    }

    fn stamp(&self, key: &str) -> Result<Option<Stamp>> {
        key::check(key)?;
        let path = self.path(key);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file().then(|| stamp(&metadata))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(Error::io("look at", &path)(error)),
        }
    }

    fn move_tree(&self, from: &str, to: &str, replace: bool) -> Result<Moved> {
        let Some((origin, name)) = self.descend(from, false)? else {
            return Ok(Moved::Missing);
        };
        let fail = |error: Errno| Error::io("move", &self.path(from))(error.into());
        let Some((target, new_name)) = self.descend(to, true)? else {
            return Err(fail(Errno::NOENT));
        };
        let rename = |flags| renameat_with(&origin, name, &target, new_name, flags);
        let mut replaced = false;
        let moved = match rename(RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) if replace => {
                // After the exchange the old tree has the new one's old name.
                replaced = true;
                rename(RenameFlags::EXCHANGE)
            }
            // A file system that cannot do so in one step.
            Err(Errno::INVAL | Errno::NOSYS) => {
                if statat(&target, new_name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                    if !replace {
                        return Ok(Moved::Occupied);
                    }
                    delete(&self.path(to));
                }
                renameat(&origin, name, &target, new_name)
            }
            moved => moved,
        };
        match moved {
            Err(Errno::NOENT) => return Ok(Moved::Missing),
            Err(Errno::EXIST | Errno::NOTEMPTY) => return Ok(Moved::Occupied),
            moved => moved
                .and_then(|()| fsync(&target))
                .and_then(|()| fsync(&origin))
                .map_err(fail)?,
        }
        if replaced {
            self.remove_tree(from)?;
        }
        Ok(Moved::Moved)
    }

    fn remove_tree(&self, prefix: &str) -> Result<bool> {
        let Some((dir, name)) = self.descend(prefix, false)? else {
            return Ok(false);
        };
        let fail = |error: Errno| Error::io("remove", &self.path(prefix))(error.into());
        let aside = unfinished();
        match renameat(&dir, name, &dir, &aside) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            renamed => renamed.and_then(|()| fsync(&dir)).map_err(fail)?,
        }
        delete(&self.path(super::join(key::split(prefix).0, &aside).as_str()));
        Ok(true)
    }

    fn sync(&self, prefix: &str) -> Result<()> {
        key::check_prefix(prefix)?;
        let dir = self.path(prefix);
        sync_dir(&dir).map_err(Error::io("sync", &dir))
    }

    fn sync_tree(&self, prefix: &str) -> Result<()> {
        key::check_prefix(prefix)?;
        let dir = self.path(prefix);
        sync_all(&dir).map_err(Error::io("sync", &dir))
    }

    fn hold(&self, prefix: &str) -> Result<Hold> {
        key::check(prefix)?;
        let dir = self.path(prefix);
        let held = make_dirs(&dir).and_then(|()| File::open(&dir)).and_then(|file| {
            flock(&file, FlockOperation::NonBlockingLockShared)?;
            Ok(file)
        });
        held.map(|file| Hold { _lock: Some(file) })
            .map_err(Error::io("create", &dir))
    }

    fn sweep(&self, prefix: &str, age: Duration) -> Result<()> {
        key::check_prefix(prefix)?;
        let dir = self.path(prefix);
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !OsStr::as_encoded_bytes(&name).starts_with(UNFINISHED.as_bytes()) {
                continue;
            }
            let is_copy = OsStr::as_encoded_bytes(&name).starts_with(COPYING.as_bytes());
            let age = if is_copy { age.max(COPY_AGE) } else { age };
            let changed = entry.metadata().and_then(|metadata| metadata.modified());
            let is_old = changed.is_ok_and(|time| time.elapsed().unwrap_or_default() >= age);
            let is_held = || {
                File::open(entry.path())
                    .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
            };
            if is_old && !is_held() {
                tracing::debug!(path = %entry.path().display(), "clearing away what was never finished");
                delete(&entry.path());
            }
        }
        Ok(())
    }
}
