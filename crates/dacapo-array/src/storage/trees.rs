//! Directories with all that is in them, synced and deleted on many threads. Which, and when, `local` knows.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, unlinkat};
use rustix::io::Errno;
use rustix::path::Arg;

use super::local::DIRECTORY;

/// Threads for what waits for the disk, or for a server, far more than it computes.
const WAITING: usize = 8;

/// Has a file, or a directory with all that is in it, on the disk.
pub(super) fn sync(tree: &Path) -> io::Result<()> {
    on_waiting_threads(|| sync_all(tree))
}

fn sync_all(tree: &Path) -> io::Result<()> {
    let file = File::open(tree)?;
    if !file.metadata()?.is_dir() {
        return file.sync_data();
    }
    let entries = fs::read_dir(tree)?.collect::<io::Result<Vec<_>>>()?;
    entries.par_iter().try_for_each(|entry| {
        let kind = entry.file_type()?;
        if kind.is_dir() || kind.is_file() {
            sync_all(&entry.path())
        } else {
            Ok(())
        }
    })?;
    file.sync_all()
}

/// Runs on more threads than there are cores what goes through a tree and waits at each file.
fn on_waiting_threads<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    match ThreadPoolBuilder::new().num_threads(WAITING).build() {
        Ok(threads) => threads.install(f),
        Err(_) => f(),
    }
}

/// Deletes a tree that nobody can find any more. What cannot be deleted now is left to a sweep.
pub(super) fn delete(tree: &Path) {
    let (Some(above), Some(name)) = (tree.parent(), tree.file_name()) else {
        return;
    };
    let delete = || open(above, DIRECTORY, Mode::empty()).and_then(|above| delete_in(&above, name));
    let deleted = on_waiting_threads(delete);
    if let Err(error) = deleted {
        tracing::warn!(path = %tree.display(), %error, "cannot delete what was removed");
    }
}

/// Deletes what a directory has under a name, a directory with all that is in it. By handles, so that no path is
/// looked up for every file; directories beside each other at a time, since the files of one take turns anyway.
fn delete_in<P: Arg + Copy>(dir: &OwnedFd, name: P) -> rustix::io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        // A directory: Linux says the one, POSIX the other.
        Err(Errno::ISDIR | Errno::PERM) => {}
        // Who else deletes the tree was faster.
        Err(Errno::NOENT) => return Ok(()),
        deleted => return deleted,
    }
    let tree = match openat(dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let entries = Dir::read_from(&tree)?.collect::<rustix::io::Result<Vec<_>>>()?;
    let mut inner = Vec::new();
    for entry in &entries {
        match entry.file_name() {
            name if name == c"." || name == c".." => {}
            name if entry.file_type() == FileType::Directory => inner.push(name),
            name => delete_in(&tree, name)?,
        }
    }
    inner.par_iter().try_for_each(|name| delete_in(&tree, *name))?;
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        deleted => deleted,
    }
}
