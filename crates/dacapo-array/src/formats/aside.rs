//! Files and folders of other formats that are made aside and put in their place when they are whole: in one step,
//! durably, and through no symbolic link, as everything in a directory is.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::storage::{LocalStorage, Moved, Storage, unfinished};
use crate::{Error, Result};

/// Something that becomes `path` when it is whole, and goes away otherwise.
#[derive(Debug)]
pub(super) struct Aside {
    /// Where it is until then.
    pub(super) temporary: PathBuf,
    path: PathBuf,
    overwrite: bool,
    /// The folder that both are in, and what they are called there.
    dir: LocalStorage,
    unfinished: String,
    name: String,
}

impl Aside {
    /// Begins something in a folder that is there.
    ///
    /// # Errors
    /// [`Error::Taken`] if something is there that is not to be replaced, or that is of the other kind;
    /// [`Error::File`] for a path without a name.
    fn new(path: &Path, overwrite: bool, folder: bool) -> Result<Self> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(Error::file(path, "it has no name, or one that is no text"));
        };
        match fs::symlink_metadata(path) {
            Ok(there) if !overwrite || there.is_dir() != folder => {
                return Err(Error::Taken {
                    path: path.to_owned(),
                });
            }
            _ => {}
        }
        let unfinished = unfinished();
        Ok(Self {
            temporary: path.with_file_name(&unfinished),
            path: path.to_owned(),
            overwrite,
            dir: LocalStorage::new(match path.parent() {
                Some(dir) if dir != Path::new("") => dir,
                _ => Path::new("."),
            }),
            unfinished,
            name: name.to_owned(),
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
    /// [`Error::Taken`] if something came there meanwhile that is not to be replaced; [`Error::Key`] for a symbolic
    /// link in its place; [`Error::Io`].
    pub(super) fn finish(self) -> Result<()> {
        self.dir.sync_tree(&self.unfinished)?;
        match self.dir.move_tree(&self.unfinished, &self.name, self.overwrite)? {
            Moved::Moved => Ok(()),
            Moved::Occupied => Err(Error::Taken {
                path: self.path.clone(),
            }),
            Moved::Missing => Err(Error::io("create", &self.path)(io::ErrorKind::NotFound.into())),
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Nothing is there if it was moved.
        if let Err(error) = self.dir.remove_tree(&self.unfinished) {
            tracing::debug!(%error, "cannot remove what is not finished");
        }
    }
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
        let (third, file) = Aside::file(&path, true).unwrap();
        io::Write::write_all(&mut &file, b"new").unwrap();
        third.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        // A folder is never replaced by a file, nor a file by a folder.
        assert!(matches!(Aside::folder(&path, true), Err(Error::Taken { .. })));
        assert!(matches!(Aside::file(dir.path(), true), Err(Error::Taken { .. })));
        assert_eq!(names(dir.path()), ["a.npy"]);
    }
}
