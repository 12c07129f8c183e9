//! Finding the node that an identifier names without ever following a link, and removing it if it is an array.
//! Chunks and their format are `dacapo-array`'s.

use std::{
    ffi::OsStr,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use dacapo_array::storage::{Kind, Storage, StorageExt, join};
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

/// Whether the metadata of an array stands at a key.
pub(crate) fn is_array(storage: &dyn Storage, key: &str) -> Result<bool> {
    if storage.kind(&join(key, ".zarray"))? == Some(Kind::Object) {
        return Ok(true);
    }
    let v3 = storage.read(&join(key, "zarr.json"))?.unwrap_or_default();
    Ok(serde_json::from_slice(&v3).is_ok_and(|v3: NodeType| v3.node_type == "array"))
}

/// Whether a directory is no array. What cannot be looked into is none.
pub(crate) fn is_group(dir: &Path) -> bool {
    fs::File::open(dir).is_ok_and(|dir| matches!(node(&dir.into()), Ok(Node::Group)))
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::{ArrayStore, LocalArrayStore, LocalStore};

    /// Arrays of two formats, a group, a directory and a file, as other programs leave them.
    fn inhabited() -> (tempfile::TempDir, LocalArrayStore) {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join("base/run").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("validation.zarr/.zgroup", "{\"zarr_format\": 2}");
        write("validation.zarr/10/.zgroup", "{\"zarr_format\": 2}");
        write("validation.zarr/10/crop/prediction/.zarray", "{}");
        write("validation.zarr/10/crop/prediction/0/0/0", "chunk");
        write("validation.zarr/10/crop/prediction/0.0.1", "chunk");
        write(
            "validation.zarr/20/crop/prediction/zarr.json",
            "{\"node_type\": \"array\", \"shape\": [1]}",
        );
        write("validation.zarr/20/crop/zarr.json", "{\"node_type\": \"group\"}");
        write("validation.zarr/20/crop/garbled/zarr.json", "{\"node_type");
        write("validation.zarr/20/crop/file", "not a directory");
        write("checkpoints/10.safetensors", "weights");
        write("checkpoints.zarr/weights", "weights");
        fs::create_dir_all(dir.path().join("outside.zarr/array")).unwrap();
        fs::write(dir.path().join("outside.zarr/array/.zarray"), "{}").unwrap();
        let store = LocalArrayStore::new(dir.path().join("base"));
        (dir, store)
    }

    /// Every path below `dir`, links not followed.
    fn tree(dir: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                found.extend(tree(&entry.path()));
            }
            found.push(entry.path());
        }
        found.sort();
        found
    }

    #[test]
    fn removing_takes_the_array_and_nothing_else() {
        let (dir, store) = inhabited();
        let before = tree(dir.path());
        let old = store.validation_prediction_array("run", 10, "crop").unwrap();
        assert_eq!(store.remove(&old).unwrap(), Removed::Removed);
        let trash = dir.path().join("base/run/.trash");
        let mut expected: Vec<_> = before
            .into_iter()
            .filter(|path| !path.starts_with(old.path()))
            .collect();
        expected.push(trash);
        expected.sort();
        assert_eq!(tree(dir.path()), expected);
        assert_eq!(store.remove(&old).unwrap(), Removed::Missing);

        let new = store.validation_prediction_array("run", 20, "crop").unwrap();
        assert_eq!(store.remove(&new).unwrap(), Removed::Removed);
        assert!(!store.exists(&new).unwrap());
    }

    #[test]
    fn what_is_no_array_of_the_store_is_left_alone() {
        let (dir, store) = inhabited();
        let run = dir.path().join("base/run");
        symlink(dir.path().join("outside.zarr"), run.join("linked.zarr")).unwrap();
        symlink(
            dir.path().join("outside.zarr/array"),
            run.join("validation.zarr/link"),
        )
        .unwrap();
        symlink(dir.path().join("base/run"), dir.path().join("base/linked")).unwrap();
        let before = tree(dir.path());
        let base = dir.path().join("base").display().to_string();
        for (array, reason) in [
            (format!("{base}/run/validation.zarr/10"), "a group"),
            (format!("{base}/run/validation.zarr/20/crop"), "a group"),
            (format!("{base}/run/validation.zarr/20/crop/garbled"), "a group"),
            (
                format!("{base}/run/validation.zarr/10/crop/prediction/0/0"),
                "a path inside an array",
            ),
            (
                format!("{base}/run/validation.zarr/10/crop/prediction/1"),
                "a path inside an array",
            ),
            (
                format!("{base}/run/validation.zarr/20/crop/file"),
                "file is a plain file",
            ),
            (
                format!("{base}/run/validation.zarr/20/crop/file/x"),
                "file is a plain file",
            ),
            (
                format!("{base}/run/checkpoints.zarr/weights"),
                "weights is a plain file",
            ),
            (
                format!("{base}/run/linked.zarr/array"),
                "linked.zarr is a symbolic link",
            ),
            (
                format!("{base}/run/validation.zarr/link"),
                "link is a symbolic link",
            ),
            (
                format!("{base}/linked/validation.zarr/10/crop/prediction"),
                "linked is a symbolic link",
            ),
            (format!("{base}/../outside.zarr/array"), "it is in no run of"),
            (
                format!("{base}/run/../../outside.zarr/array"),
                "it is in no run of",
            ),
            (
                format!("{}/outside.zarr/array", dir.path().display()),
                "it is in no run of",
            ),
        ] {
            let array: LocalArrayIdentifier = array.parse().unwrap();
            let Err(error @ Error::Refused { .. }) = store.remove(&array) else {
                panic!("{array} was not refused")
            };
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert_eq!(tree(dir.path()), before);
    }

    #[test]
    fn missing_is_an_answer_at_every_level() {
        let (dir, store) = inhabited();
        for array in [
            "none/validation.zarr/1/a",
            "run/none.zarr/1",
            "run/validation.zarr/1",
            "run/validation.zarr/10/x/y",
        ] {
            let array = dir
                .path()
                .join("base")
                .join(array)
                .display()
                .to_string()
                .parse()
                .unwrap();
            assert_eq!(store.remove(&array).unwrap(), Removed::Missing);
            assert!(!store.exists(&array).unwrap());
        }
        let nowhere = LocalArrayStore::new(dir.path().join("none"));
        let array = nowhere.validation_prediction_array("run", 1, "crop").unwrap();
        assert_eq!(nowhere.remove(&array).unwrap(), Removed::Missing);
    }

    #[test]
    fn a_kill_between_rename_and_deletion_leaves_only_trash() {
        let (dir, _) = inhabited();
        let run = dir.path().join("base/run");
        fs::create_dir(run.join(TRASH)).unwrap();
        fs::rename(
            run.join("validation.zarr/10"),
            run.join(TRASH).join("removed-1-2-3"),
        )
        .unwrap();
        LocalStore::new(dir.path().join("base")).lease("run").unwrap();
        assert!(tree(&run.join(TRASH)).is_empty());
    }
}
