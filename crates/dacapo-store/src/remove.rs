//! Finding the node that an identifier names without ever following a link, and removing it if it is an array.
//! Chunks and their format are `dacapo-array`'s.

use std::{
    ffi::OsStr,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rayon::prelude::*;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, fsync, mkdirat, openat, renameat, statat},
    io::Errno,
};
use serde::Deserialize;

use crate::{Error, LocalArrayIdentifier, Result, arrays::TRASH, durable};

/// What became of something that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Removed {
    /// It was there and is gone.
    Removed,
    /// It was not there.
    Missing,
}

/// What stands at a path of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Array,
    /// A directory that is no array: a Zarr group, or without metadata.
    Group,
}

/// A node, and the open directories that a rename of it needs.
pub(crate) struct Found {
    pub(crate) node: Node,
    run: OwnedFd,
    parent: OwnedFd,
}

/// The components of the identifier below `base`: of its container and of its dataset.
pub(crate) fn below<'a>(base: &Path, id: &'a LocalArrayIdentifier) -> Result<(PathBuf, Vec<&'a str>)> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(Error::io("find", path));
    let container = absolute(id.container())?;
    let inside = container.strip_prefix(absolute(base)?).ok().filter(|inside| {
        inside.components().count() > 1
            && inside
                .components()
                .all(|part| matches!(part, Component::Normal(_)))
    });
    match inside {
        Some(inside) => Ok((inside.to_owned(), id.dataset().split('/').collect())),
        None => refuse(id, format_args!("it is in no run of {}", base.display())),
    }
}

pub(crate) fn refuse<T>(id: &LocalArrayIdentifier, reason: impl ToString) -> Result<T> {
    Err(Error::Refused {
        identifier: id.to_string(),
        reason: reason.to_string(),
    })
}

/// Finds what `id` names, going down from `base` one directory at a time and through no symbolic link.
///
/// # Errors
/// [`Error::Refused`] for a path that no array of the store has, [`Error::Io`].
pub(crate) fn find(base: &Path, id: &LocalArrayIdentifier) -> Result<Option<Found>> {
    let (container, dataset) = below(base, id)?;
    let io = |error: Errno| Error::io("look into", id.path())(error.into());
    let mut dir = match fs::File::open(base) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => OwnedFd::from(opened.map_err(Error::io("open", base))?),
    };
    // The run is what holds the container.
    let mut run = None;
    for part in &container {
        let Some(inner) = descend(id, &dir, part)? else {
            return Ok(None);
        };
        run = Some(std::mem::replace(&mut dir, inner));
    }
    let Some(run) = run else { return Ok(None) };
    let mut node = node(&dir).map_err(io)?;
    let mut parent = None;
    for part in dataset {
        if node == Node::Array {
            return refuse(id, "it is a path inside an array");
        }
        let Some(inner) = descend(id, &dir, OsStr::new(part))? else {
            return Ok(None);
        };
        node = self::node(&inner).map_err(io)?;
        parent = Some(std::mem::replace(&mut dir, inner));
    }
    Ok(parent.map(|parent| Found { node, run, parent }))
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn descend(id: &LocalArrayIdentifier, dir: &OwnedFd, part: &OsStr) -> Result<Option<OwnedFd>> {
    match openat(dir, part, DIRECTORY, Mode::empty()) {
        Ok(inner) => Ok(Some(inner)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP | Errno::NOTDIR) => {
            let stat = statat(dir, part, AtFlags::SYMLINK_NOFOLLOW);
            let is_link = stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
            let what = if is_link {
                "a symbolic link"
            } else {
                "a plain file"
            };
            refuse(id, format_args!("{} is {what}", part.display()))
        }
        Err(error) => Err(Error::io("look into", id.path())(error.into())),
    }
}

/// The one field of Zarr 3 metadata that tells arrays from groups.
#[derive(Deserialize)]
struct NodeType {
    node_type: String,
}

fn node(dir: &OwnedFd) -> Result<Node, Errno> {
    let exists = |name: &str| match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    };
    if exists(".zarray")? {
        return Ok(Node::Array);
    }
    let v3 = match openat(
        dir,
        "zarr.json",
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Err(Errno::NOENT | Errno::LOOP) => return Ok(Node::Group),
        opened => fs::File::from(opened?),
    };
    // Metadata that does not read makes no array, and what is no array is not removed.
    let is_array =
        serde_json::from_reader(io::BufReader::new(v3)).is_ok_and(|v3: NodeType| v3.node_type == "array");
    Ok(if is_array { Node::Array } else { Node::Group })
}

/// Removes the array that `id` names: one rename into the trash of its run, after which it is gone for every
/// reader, then deletion. A kill in between leaves only trash, which the next writer of the run sweeps.
pub(crate) fn remove(base: &Path, id: &LocalArrayIdentifier) -> Result<Removed> {
    let Some(found) = find(base, id)? else {
        return Ok(Removed::Missing);
    };
    if found.node == Node::Group {
        return refuse(id, "it is a group or a plain directory, not an array");
    }
    let io = |error: Errno| Error::io("remove", id.path())(error.into());
    match mkdirat(&found.run, TRASH, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(io(error)),
    }
    let trash = openat(&found.run, TRASH, DIRECTORY, Mode::empty()).map_err(io)?;
    let aside = durable::unique("removed-");
    let name = id.dataset().rsplit('/').next().unwrap_or_default();
    match renameat(&found.parent, name, &trash, &aside) {
        Err(Errno::NOENT) => return Ok(Removed::Missing),
        renamed => renamed.map_err(io)?,
    }
    sync(&trash).and_then(|()| sync(&found.parent)).map_err(io)?;
    if let Some(run) = id.container().parent() {
        delete(&run.join(TRASH).join(aside));
    }
    Ok(Removed::Removed)
}

fn sync(dir: &OwnedFd) -> Result<(), Errno> {
    fsync(dir.as_fd())
}

/// Deletes a tree that nobody can see any more, on all threads. What cannot be deleted now is left for the
/// next sweep.
pub(crate) fn delete(tree: &Path) {
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
