//! Files and folders of other formats that are made aside and put in their place when they are whole.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::{Error, Result};

/// Something that becomes `path` when it is whole, and goes away otherwise.
#[derive(Debug)]
pub(super) struct Aside {
    /// Where it is until then.
    pub(super) temporary: PathBuf,
    path: PathBuf,
    overwrite: bool,
}

impl Aside {
    /// Begins something in a folder that is there.
    ///
    /// # Errors
    /// [`Error::Taken`] if something is there that is not to be replaced, or that is of the other kind;
    /// [`Error::File`] for a path without a name.
    fn new(path: &Path, overwrite: bool, folder: bool) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        if path.file_name().is_none() {
            return Err(Error::file(path, "it has no name"));
        }
        match fs::symlink_metadata(path) {
            Ok(there) if !overwrite || there.is_dir() != folder => {
                return Err(Error::Taken {
                    path: path.to_owned(),
                });
            }
            _ => {}
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_nanos());
        let name = format!(".unfinished-{}-{nanos:x}-{count}", std::process::id());
        Ok(Self {
            temporary: path.with_file_name(name),
            path: path.to_owned(),
            overwrite,
        })
    }

    /// Begins a file.
    ///
    /// # Errors
    /// [`Error::Taken`] if something is there that is not to be replaced, or a folder; [`Error::Io`].
    pub(super) fn file(path: &Path, overwrite: bool) -> Result<(Self, File)> {
        let aside = Self::new(path, overwrite, false)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&aside.temporary);
        Ok((aside, file.map_err(Error::io("create", path))?))
    }

    /// Begins a folder.
    ///
    /// # Errors
    /// [`Error::Taken`] if something is there that is not to be replaced, or a file; [`Error::Io`].
    pub(super) fn folder(path: &Path, overwrite: bool) -> Result<Self> {
        let aside = Self::new(path, overwrite, true)?;
        fs::create_dir(&aside.temporary).map_err(Error::io("create", path))?;
        Ok(aside)
    }

    /// Puts it in its place, in one step and durably.
    ///
    /// # Errors
    /// [`Error::Taken`] if something came there meanwhile that is not to be replaced; [`Error::Io`].
    pub(super) fn finish(self) -> Result<()> {
        sync(&self.temporary)?;
        let rename = |flags| renameat_with(CWD, &self.temporary, CWD, &self.path, flags);
        let moved = match rename(RenameFlags::NOREPLACE) {
            // After the exchange the old one has the unfinished one's name, and goes with it.
            Err(Errno::EXIST) if self.overwrite => rename(RenameFlags::EXCHANGE),
            // A file system that cannot do so in one step.
            Err(Errno::INVAL | Errno::NOSYS) if self.overwrite || !self.path.exists() => {
                let _ = fs::remove_dir_all(&self.path);
                rename(RenameFlags::empty())
            }
            moved => moved,
        };
        match moved {
            Err(Errno::EXIST) => {
                return Err(Error::Taken {
                    path: self.path.clone(),
                });
            }
            moved => moved.map_err(|error| Error::io("create", &self.path)(error.into()))?,
        }
        match self.path.parent() {
            Some(dir) if dir != Path::new("") => sync_one(dir),
            _ => sync_one(Path::new(".")),
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Gone if it was moved; otherwise best effort, its name says that it is unfinished.
        match fs::symlink_metadata(&self.temporary) {
            Ok(there) if there.is_dir() => drop(fs::remove_dir_all(&self.temporary)),
            Ok(_) => drop(fs::remove_file(&self.temporary)),
            Err(_) => {}
        }
    }
}

/// Writes a small file over what is there: readers find the old content or the new.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let (aside, file) = Aside::file(path, true)?;
    io::Write::write_all(&mut &file, bytes).map_err(Error::io("write", path))?;
    aside.finish()
}

fn sync_one(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(Error::io("sync", path))
}

/// Makes a file, or a folder with all that is in it, survive a crash of the machine.
fn sync(path: &Path) -> Result<()> {
    if path.is_dir() {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in entries.map_err(Error::io("list", path))? {
            sync(&entry.path())?;
        }
    }
    sync_one(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        drop(Aside::file(&path, false).unwrap());
        drop(Aside::folder(&path, false).unwrap());
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn what_is_there_is_replaced_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let (first, _) = Aside::file(&path, false).unwrap();
        let (second, _) = Aside::file(&path, false).unwrap();
        first.finish().unwrap();
        assert!(matches!(second.finish(), Err(Error::Taken { .. })));
        assert!(matches!(Aside::file(&path, false), Err(Error::Taken { .. })));
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        // A folder is never replaced by a file, nor a file by a folder.
        assert!(matches!(Aside::folder(&path, true), Err(Error::Taken { .. })));
        assert!(matches!(Aside::file(dir.path(), true), Err(Error::Taken { .. })));
        assert_eq!(names(dir.path()), ["a.npy"]);
    }
}
