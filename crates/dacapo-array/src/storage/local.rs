//! Objects as files below a directory.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, flock, fsync, mkdirat, open, openat,
    renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::{
    COPY_AGE, COPYING, Change, Durability, Entry, Hold, Kind, Moved, OpenObject, Stamp, Storage, UNFINISHED,
    key, trees, unfinished, whole_lines,
};
use crate::{Error, Result};

/// A directory and what is below it.
///
/// Each object is a file, written aside and renamed. Writers of one object take turns by `flock(2)` on its
/// directory, for the instant of the renaming; on NFS that binds all machines whose server keeps locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalStorage {
    root: PathBuf,
}

/// How directories are opened.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Files that are synced later and have so many bytes are on their way to the disk at once, so that there is less to
/// wait for then.
const EAGER: usize = 1 << 16;

/// How the name of the file ends that is locked while something unfinished is being made.
const HOLDING: &str = "hold";

fn holding(unfinished: &Path) -> PathBuf {
    let mut path = unfinished.as_os_str().to_owned();
    path.push(".");
    path.push(HOLDING);
    path.into()
}

/// Whether there is simply nothing of that name.
fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
}

fn has_no_links(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, Unsupported};
    matches!(error.kind(), PermissionDenied | Unsupported)
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
    fn parent(&self, key: &str, durability: Durability) -> Result<PathBuf> {
        let dir = self.path(key::split(key).0);
        let made = match durability {
            Durability::Synced | Durability::Whole => make_dirs(&dir),
            Durability::Later => fs::create_dir_all(&dir),
        };
        made.map_err(Error::io("create", &dir))?;
        Ok(dir)
    }

    /// Writes a file aside; the name it has until it is renamed, and the directory of both.
    fn aside(&self, key: &str, bytes: &[u8], durability: Durability) -> Result<(PathBuf, PathBuf)> {
        let made = self.make_file(key, &unfinished(), bytes, durability)?;
        made.ok_or_else(|| Error::io("write", &self.path(key))(io::ErrorKind::AlreadyExists.into()))
    }

    /// Makes a file of this name where an object is to be, and gives it with its directory; nothing, with nothing
    /// done, if something has that name.
    fn make_file(
        &self,
        key: &str,
        name: &str,
        bytes: &[u8],
        durability: Durability,
    ) -> Result<Option<(PathBuf, PathBuf)>> {
        let mut dir = self.path(key::split(key).0);
        let mut path = dir.join(name);
        let create = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
        let created = match create(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                dir = self.parent(key, durability)?;
                path = dir.join(name);
                create(&path)
            }
            created => created,
        };
        let mut file = match created {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            created => created.map_err(Error::io("write", &self.path(key)))?,
        };
        let written = file.write_all(bytes).and_then(|()| match durability {
            Durability::Synced | Durability::Whole => file.sync_data(),
            Durability::Later => {
                if bytes.len() >= EAGER {
                    begin_to_sync(&file);
                }
                Ok(())
            }
        });
        written.map_err(|source| {
            // Best effort: what is aside has a name that says so, what is not nobody finds before it is synced.
            let _ = fs::remove_file(&path);
            Error::io("write", &self.path(key))(source)
        })?;
        Ok(Some((path, dir)))
    }

    /// Runs `f` while nobody else does so for the same directory.
    fn locked<T>(dir: &Path, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let file = File::open(dir)?;
        flock(&file, FlockOperation::LockExclusive)?;
        f()
    }

    /// Opens the directory above a key and gives the key's name in it, going down from the root through no
    /// symbolic link. What is missing is made if it is to be.
    fn descend<'a>(&self, key: &'a str, make: bool) -> Result<Descent<'a>> {
        key::check(key)?;
        let fail = |error: Errno| Error::io("look into", &self.path(key))(error.into());
        if make {
            make_dirs(&self.root).map_err(Error::io("create", &self.root))?;
        }
        let mut dir = match open(&self.root, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Descent::Nothing),
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
                Err(Errno::NOENT) => return Ok(Descent::Nothing),
                Err(Errno::LOOP | Errno::NOTDIR) if is_link(&dir, part) => return Ok(Descent::Link(part)),
                Err(Errno::NOTDIR) if !make => return Ok(Descent::Nothing),
                opened => opened.map_err(fail)?,
            };
        }
        Ok(if is_link(&dir, name) {
            Descent::Link(name)
        } else {
            Descent::Found(dir, name)
        })
    }

    /// As [`LocalStorage::descend`], where a link is refused.
    fn descend_or_refuse<'a>(&self, key: &'a str, make: bool) -> Result<Option<(OwnedFd, &'a str)>> {
        match self.descend(key, make)? {
            Descent::Found(dir, name) => Ok(Some((dir, name))),
            Descent::Nothing => Ok(None),
            Descent::Link(part) => Err(Error::Key {
                key: key.to_owned(),
                reason: format!("`{part}` is a symbolic link"),
            }),
        }
    }
}

/// Where the way down to a key ends.
enum Descent<'a> {
    /// In a directory, with the key's name there. Something of that name need not be there.
    Found(OwnedFd, &'a str),
    /// Before the last part: something above is missing.
    Nothing,
    /// At a symbolic link of this name.
    Link(&'a str),
}

fn is_link(dir: &OwnedFd, name: &str) -> bool {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
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
        // Who else made it may not have synced it yet.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => sync_dir(above),
        Err(error) => Err(error),
        Ok(()) => sync_dir(above),
    }
}

/// Has a file written to the disk, and does not wait for it. Where that cannot be asked for, it is all done later.
fn begin_to_sync(file: &File) {
    #[cfg(target_os = "linux")]
    // SAFETY: the descriptor is open as long as the file is, and no memory is passed.
    unsafe {
        libc::sync_file_range(
            std::os::fd::AsRawFd::as_raw_fd(file),
            0,
            0,
            libc::SYNC_FILE_RANGE_WRITE,
        );
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    let end = whole_end(&mut file)?;
    if end < file.metadata()?.len() {
        tracing::warn!(path = %path.display(), "a line that was never finished is dropped");
        file.set_len(end)?;
    }
    let written = file.write_all(lines).and_then(|()| file.sync_data());
    if written.is_err() {
        // Half of it may stand there. Best effort: readers and the next append see to it as well.
        let _ = file.set_len(end);
    }
    written
}

/// The end of the last whole line, found from the back.
fn whole_end(file: &mut File) -> io::Result<u64> {
    const STEP: u64 = 4096;
    let mut end = file.metadata()?.len();
    let mut bytes = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        bytes.clear();
        file.take(end - start).read_to_end(&mut bytes)?;
        match whole_lines(&bytes) {
            0 => end = start,
            whole => return Ok(start + whole as u64),
        }
    }
    Ok(0)
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

/// A file that others replace, but never change.
struct OpenFile {
    file: File,
    length: u64,
    path: PathBuf,
}

impl OpenObject for OpenFile {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(Error::io("read", &self.path))
    }
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

    fn open(&self, key: &str) -> Result<Option<Box<dyn OpenObject>>> {
        key::check(key)?;
        let path = self.path(key);
        match File::open(&path).and_then(|file| Ok((file.metadata()?, file))) {
            Ok((metadata, _)) if metadata.is_dir() => Ok(None),
            Ok((metadata, file)) => Ok(Some(Box::new(OpenFile {
                length: metadata.len(),
                file,
                path,
            }))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    fn read_state(&self, key: &str, most: u64, buffer: &mut Vec<u8>) -> Result<Option<Stamp>> {
        key::check(key)?;
        buffer.clear();
        let path = self.path(key);
        let read = File::open(&path).and_then(|file| {
            let metadata = file.metadata()?;
            // More than one byte too many is not read even if the file grows meanwhile.
            file.take(most.saturating_add(1)).read_to_end(buffer)?;
            if metadata.len() > most || buffer.len() as u64 > most {
                let text = format!("it has {} bytes, more than {most}", metadata.len());
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
            }
            Ok(stamp(&metadata))
        });
        match read {
            Ok(stamp) => Ok(Some(stamp)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    fn write(&self, key: &str, bytes: &[u8], durability: Durability) -> Result<()> {
        key::check(key)?;
        // What nobody finds yet need not be whole at any time.
        if durability == Durability::Later
            && self
                .make_file(key, key::split(key).1, bytes, durability)?
                .is_some()
        {
            return Ok(());
        }
        let path = self.path(key);
        let (temporary, dir) = self.aside(key, bytes, durability)?;
        let renamed = Self::locked(&dir, || fs::rename(&temporary, &path));
        let synced = renamed.and_then(|()| match durability {
            Durability::Synced => sync_dir(&dir),
            Durability::Whole | Durability::Later => Ok(()),
        });
        synced.map_err(|source| {
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
        let linked = match linked {
            // Some file systems have no second names. Ours take turns there; others could come between.
            Err(error) if has_no_links(&error) => Self::locked(&dir, || {
                if path.symlink_metadata().is_ok() {
                    Err(io::ErrorKind::AlreadyExists.into())
                } else {
                    fs::rename(&temporary, &path)
                }
            }),
            linked => linked,
        };
        let _ = fs::remove_file(&temporary);
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Error::io("create", &path)(error)),
            Ok(()) => sync_dir(&dir).map(|()| true).map_err(Error::io("create", &path)),
        }
    }

    fn update_with(&self, key: &str, durability: Durability, change: Change) -> Result<()> {
        key::check(key)?;
        let path = self.path(key);
        let mut present = Vec::new();
        loop {
            present.clear();
            // Held open, so that no other file gets its inode before the comparison.
            let seen = match File::open(&path).and_then(|mut file| {
                let seen = stamp(&file.metadata()?);
                file.read_to_end(&mut present)?;
                Ok((seen, file))
            }) {
                Ok(seen) => Some(seen),
                Err(error) if is_missing(&error) => None,
                Err(error) => return Err(Error::io("read", &path)(error)),
            };
            let changed = change(seen.as_ref().map(|_| present.as_slice()))?;
            let (temporary, dir) = self.aside(key, &changed, durability)?;
            let renamed = Self::locked(&dir, || {
                let unchanged = match fs::metadata(&path) {
                    Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
                    Ok(metadata) => seen.as_ref().is_some_and(|(seen, _)| *seen == stamp(&metadata)),
                    Err(error) if is_missing(&error) => seen.is_none(),
                    Err(error) => return Err(error),
                };
                if unchanged {
                    fs::rename(&temporary, &path)?;
                }
                Ok(unchanged)
            });
            match renamed {
                Ok(true) if durability == Durability::Synced => {
                    return sync_dir(&dir).map_err(Error::io("sync", &dir));
                }
                Ok(true) => return Ok(()),
                Ok(false) => drop(fs::remove_file(&temporary)),
                Err(source) => {
                    let _ = fs::remove_file(&temporary);
                    return Err(Error::io("write", &path)(source));
                }
            }
        }
    }

    /// In place: a file of records may be long, and is appended to every second.
    fn append_lines(&self, key: &str, lines: &[u8]) -> Result<()> {
        key::check(key)?;
        let dir = self.parent(key, Durability::Synced)?;
        let path = self.path(key);
        let is_new = !path.exists();
        append(&path, lines)
            .and_then(|()| if is_new { sync_dir(&dir) } else { Ok(()) })
            .map_err(Error::io("append to", &path))
    }

    fn delete(&self, key: &str) -> Result<bool> {
        let Some((dir, name)) = self.descend_or_refuse(key, false)? else {
            return Ok(false);
        };
        match unlinkat(&dir, name, AtFlags::empty()) {
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
        let is_lock = |name: &str| Path::new(name).extension() == Some(OsStr::new(HOLDING));
        let mut names: Vec<String> = names
            .filter(|name| name.starts_with(UNFINISHED) && !is_lock(name))
            .collect();
        names.sort();
        Ok(names)
    }

    fn duplicate(&self, from: &str, to: &str) -> Result<()> {
        key::check(from)?;
        key::check(to)?;
        self.parent(to, Durability::Later)?;
        // A second name of the file: files are replaced, and never changed.
        if fs::hard_link(self.path(from), self.path(to)).is_ok() {
            return Ok(());
        }
        let path = self.path(from);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        self.write(to, &bytes, Durability::Later)
    }

    fn kind(&self, key: &str) -> Result<Option<Kind>> {
        if key.is_empty() {
            return Ok(self.root.is_dir().then_some(Kind::Prefix));
        }
        let (dir, name) = match self.descend(key, false)? {
            Descent::Found(dir, name) => (dir, name),
            Descent::Nothing => return Ok(None),
            Descent::Link(_) => return Ok(Some(Kind::Link)),
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
        let Some((origin, name)) = self.descend_or_refuse(from, false)? else {
            return Ok(Moved::Missing);
        };
        let fail = |error: Errno| Error::io("move", &self.path(from))(error.into());
        let Some((target, new_name)) = self.descend_or_refuse(to, true)? else {
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
                    trees::delete(&self.path(to));
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
        let Some((dir, name)) = self.descend_or_refuse(prefix, false)? else {
            return Ok(false);
        };
        let fail = |error: Errno| Error::io("remove", &self.path(prefix))(error.into());
        // What is unfinished nobody finds as it is.
        let (aside, renamed) = if name.starts_with(UNFINISHED) {
            (
                name.to_owned(),
                statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map(drop),
            )
        } else {
            let aside = unfinished();
            let renamed = renameat(&dir, name, &dir, &aside).and_then(|()| fsync(&dir));
            (aside, renamed)
        };
        match renamed {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            renamed => renamed.map_err(fail)?,
        }
        trees::delete(&self.path(&super::join(key::split(prefix).0, &aside)));
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
        trees::sync(&dir).map_err(Error::io("sync", &dir))
    }

    /// By a locked file beside it: its own lock is for writing in it.
    fn hold(&self, prefix: &str) -> Result<Hold> {
        key::check(prefix)?;
        let dir = self.path(prefix);
        let path = holding(&dir);
        let held = make_dirs(&dir).and_then(|()| {
            loop {
                // What a killed holder left is taken over.
                let file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&path)?;
                flock(&file, FlockOperation::NonBlockingLockExclusive)?;
                // Unless it was cleared away before it was locked.
                let there = fs::metadata(&path);
                if there.is_ok_and(|there| file.metadata().is_ok_and(|held| held.ino() == there.ino())) {
                    return Ok(file);
                }
            }
        });
        held.map(|file| Hold {
            lock: Some((file, path)),
        })
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
            let lock = match entry.path() {
                path if path.extension() == Some(OsStr::new(HOLDING)) => path,
                path => holding(&path),
            };
            let is_held = || {
                File::open(&lock)
                    .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
            };
            if is_old && !is_held() {
                tracing::debug!(path = %entry.path().display(), "clearing away what was never finished");
                trees::delete(&entry.path());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::storage::{StorageExt, conformance};

    #[test]
    fn conforms() {
        let dir = tempfile::tempdir().unwrap();
        conformance::storage(&LocalStorage::new(dir.path().join("root")));
    }

    #[test]
    fn nothing_is_changed_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir_all(outside.join("tree")).unwrap();
        fs::write(outside.join("tree/.zarray"), "kept").unwrap();
        let storage = LocalStorage::new(dir.path().join("root"));
        storage.write("tree/.zarray", b"{}", Durability::Synced).unwrap();
        symlink(&outside, storage.root().join("link")).unwrap();
        symlink(outside.join("tree/.zarray"), storage.root().join("file")).unwrap();

        // Reading follows it, listing tells it.
        assert_eq!(storage.read("link/tree/.zarray").unwrap().unwrap(), b"kept");
        let kinds: Vec<Kind> = storage.list("").unwrap().iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [Kind::Link, Kind::Link, Kind::Prefix]);
        assert_eq!(storage.kind("link").unwrap(), Some(Kind::Link));
        assert_eq!(storage.kind("link/tree").unwrap(), Some(Kind::Link));
        for result in [
            storage.remove_tree("link").map(drop),
            storage.remove_tree("link/tree").map(drop),
            storage.delete("file").map(drop),
            storage.delete("link/tree/.zarray").map(drop),
            storage.move_tree("tree", "link", true).map(drop),
            storage.move_tree("tree", "link/new", true).map(drop),
            storage.move_tree("link/tree", "new", true).map(drop),
            storage.move_tree("link", "new", true).map(drop),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("is a symbolic link"), "{error}");
        }
        assert_eq!(fs::read(outside.join("tree/.zarray")).unwrap(), b"kept");
        assert!(storage.exists("tree/.zarray").unwrap());
        // A tree that has one goes without what it leads to.
        symlink(&outside, storage.root().join("tree/inner")).unwrap();
        assert!(storage.remove_tree("tree").unwrap());
        assert_eq!(fs::read(outside.join("tree/.zarray")).unwrap(), b"kept");
    }

    #[test]
    fn a_failed_write_leaves_the_old_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let storage = LocalStorage::new(dir.path());
        fs::create_dir_all(dir.path().join("directory/something")).unwrap();
        assert!(storage.write("directory", b"new", Durability::Synced).is_err());
        assert!(storage.update("directory", &mut |_| Ok(Vec::new())).is_err());
        storage.write("file", b"", Durability::Synced).unwrap();
        assert!(storage.write("file/below", b"", Durability::Synced).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
