//! Finding the node that an identifier names without ever following a link, and removing it if it is an array.
//! Chunks and their format are `dacapo-array`'s.

use dacapo_array::storage::{Kind, Moved, Storage, StorageExt, join, unfinished};
use dacapo_array::{leave_group, levels_within};
use serde::Deserialize;

use crate::{Error, LocalArrayIdentifier, Result, arrays::TRASH, local::Base};

/// What became of something that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Removed {
    /// It was there and is gone.
    Removed,
    /// It was not there.
    Missing,
}

/// What stands at a key of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Array,
    /// A prefix that is no array: a Zarr group, or without metadata.
    Group,
}

/// The key of an identifier's container below the base: in a run, and therefore of two parts at least.
pub(crate) fn container_key(base: &Base, id: &LocalArrayIdentifier) -> Result<String> {
    let inside = base.location.key_of(id.container());
    match inside.filter(|key| key.contains('/')) {
        Some(key) => Ok(key),
        None => refuse(id, format_args!("it is in no run of {}", base.location)),
    }
}

pub(crate) fn refuse<T>(id: &LocalArrayIdentifier, reason: impl ToString) -> Result<T> {
    Err(Error::Refused {
        identifier: id.to_string(),
        reason: reason.to_string(),
    })
}

/// Finds what `id` names, going down from the base one part at a time and through no symbolic link.
///
/// # Errors
/// [`Error::Refused`] for a key that no array of the store has, [`Error::Io`].
pub(crate) fn find(base: &Base, id: &LocalArrayIdentifier) -> Result<Option<Node>> {
    let storage = &*base.storage;
    let container = container_key(base, id)?;
    let mut key = String::new();
    for part in container.split('/') {
        key = join(&key, part);
        if !descend(storage, id, &key)? {
            return Ok(None);
        }
    }
    let mut node = self::node(storage, &key)?;
    for part in id.dataset().split('/') {
        if node == Node::Array {
            return refuse(id, "it is a path inside an array");
        }
        key = join(&key, part);
        if !descend(storage, id, &key)? {
            return Ok(None);
        }
        node = self::node(storage, &key)?;
    }
    Ok(Some(node))
}

/// Whether there is a prefix at `key`.
fn descend(storage: &dyn Storage, id: &LocalArrayIdentifier, key: &str) -> Result<bool> {
    let what = match storage.kind(key)? {
        None => return Ok(false),
        Some(Kind::Prefix) => return Ok(true),
        Some(Kind::Link) => "a symbolic link",
        Some(Kind::Object) => "a plain file",
    };
    let part = key.rsplit('/').next().unwrap_or(key);
    refuse(id, format_args!("{part} is {what}"))
}

/// The one field of Zarr 3 metadata that tells arrays from groups.
#[derive(Deserialize)]
struct NodeType {
    node_type: String,
}

/// Metadata of more bytes is nobody's.
const MOST_METADATA: u64 = 64 << 20;

/// Whether there is an array at `key`, where a prefix is.
pub(crate) fn node(storage: &dyn Storage, key: &str) -> Result<Node> {
    if storage.exists(&join(key, ".zarray"))? {
        return Ok(Node::Array);
    }
    let mut v3 = Vec::new();
    let found = storage.read_state(&join(key, "zarr.json"), MOST_METADATA, &mut v3)?;
    // Metadata that does not read makes no array, and what is no array is not removed.
    let is_array =
        found.is_some() && serde_json::from_slice(&v3).is_ok_and(|v3: NodeType| v3.node_type == "array");
    Ok(if is_array { Node::Array } else { Node::Group })
}

/// Removes the array that `id` names: one rename into the trash of its run, after which it is gone for every
/// reader, then deletion; and what was beside it because of it. A kill in between leaves only trash, which the next
/// writer of the run sweeps. Where a rename would be a copy, it is deleted where it is, in an order that leaves no
/// array.
pub(crate) fn remove(base: &Base, id: &LocalArrayIdentifier) -> Result<Removed> {
    match find(base, id)? {
        None => return Ok(Removed::Missing),
        Some(Node::Group) => return refuse(id, "it is a group or a plain directory, not an array"),
        Some(Node::Array) => {}
    }
    let levels = levels(base, id);
    let removed = discard(&*base.storage, &join(&container_key(base, id)?, id.dataset()))?;
    tidy(base, id, &levels);
    Ok(removed)
}

/// The levels of a pyramid that was made of an array beside it, as its group and their names say: `raw.s1` of `raw`.
pub(crate) fn levels(base: &Base, id: &LocalArrayIdentifier) -> Vec<LocalArrayIdentifier> {
    let is_level = |dataset: &str| {
        let number = dataset
            .strip_prefix(id.dataset())
            .and_then(|rest| rest.strip_prefix(".s"));
        number.is_some_and(|number| number.parse::<u8>().is_ok())
    };
    let found = container_key(base, id)
        .map(|container| levels_within(base.storage.clone(), &container, &id.address()))
        // Of an array of which nothing can be read there is nothing to be known.
        .map_or_else(|_| Vec::new(), |levels| levels.unwrap_or_default());
    let levels = found.into_iter().filter(|level| is_level(&level.dataset));
    levels
        .filter_map(|level| id.container_identifier().array_identifier(&level.dataset).ok())
        .filter(|level| matches!(find(base, level), Ok(Some(Node::Array))))
        .collect()
}

/// Removes what stood beside an array that is gone because of it: the levels made of it, and what its group says
/// of them. That something of it stays is no reason not to go on: it only looks odd.
pub(crate) fn tidy(base: &Base, id: &LocalArrayIdentifier, levels: &[LocalArrayIdentifier]) {
    for gone in levels.iter().chain([id]) {
        let tidied = container_key(base, gone).and_then(|container| {
            if gone != id {
                let _ = discard(&*base.storage, &join(&container, gone.dataset()))?;
            }
            leave_group(&base.storage, &container, &gone.address()).map_err(Error::from)
        });
        if let Err(error) = tidied {
            tracing::warn!(array = %gone, %error, "cannot tidy up after what was removed");
        }
    }
}

/// Moves all that is below a key of a run into the run's trash, under an unfinished name, then deletes it.
pub(crate) fn discard(storage: &dyn Storage, key: &str) -> Result<Removed> {
    if !storage.moves_at_once() {
        return Ok(match storage.remove_tree(key)? {
            true => Removed::Removed,
            false => Removed::Missing,
        });
    }
    let run = key.split('/').next().unwrap_or_default();
    let aside = join(&join(run, TRASH), &unfinished());
    match storage.move_tree(key, &aside, false)? {
        Moved::Moved => {}
        Moved::Missing => return Ok(Removed::Missing),
        Moved::Occupied => {
            return Err(Error::Occupied {
                place: storage.describe(&aside),
            });
        }
    }
    if let Err(error) = storage.remove_tree(&aside) {
        tracing::warn!(key, %error, "cannot delete what was removed; the run's next writer will");
    }
    Ok(Removed::Removed)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

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
            .filter(|path| !path.starts_with(old.location().path().unwrap()))
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
    fn what_was_made_of_an_array_goes_with_it() {
        use dacapo_array::{
            ArraySpec, Coordinate, CreateOptions, DType, PyramidOptions, Roi, ZarrFormat, make_pyramid,
            storage::Access,
        };

        let voxel_size = Coordinate::splat(3, 4);
        let spec = ArraySpec::new(
            Roi::from_voxels(&[0; 3], &[16; 3], &voxel_size),
            voxel_size,
            DType::U8,
        );
        for (format, metadata) in [(ZarrFormat::V2, ".zattrs"), (ZarrFormat::V3, "zarr.json")] {
            let dir = tempfile::tempdir().unwrap();
            let store = LocalArrayStore::new(dir.path());
            let container = store.validation_container("run").unwrap();
            let array = |name: &str| container.array_identifier(&format!("g/{name}")).unwrap();
            let options = CreateOptions {
                format,
                ..CreateOptions::default()
            };
            // The last is no level, whatever it is called.
            for name in ["raw", "raws", "raw.s9"] {
                store.create(&array(name), &spec, &options).unwrap();
            }
            let levels = PyramidOptions {
                levels: Some(2),
                ..PyramidOptions::default()
            };
            make_pyramid(
                &array("raw").address(),
                &Access::default(),
                &levels,
                &mut |_, _| std::ops::ControlFlow::Continue(()),
            )
            .unwrap();
            let group = dir.path().join("run/validation.zarr/g");
            let says = || fs::read_to_string(group.join(metadata)).unwrap();
            assert!(says().contains("\"raw.s2\""));
            assert!(store.remove_kept(&array("raw")).unwrap().is_some());
            for (name, is_there) in [
                ("raw", false),
                ("raw.s1", false),
                ("raw.s2", false),
                ("raws", true),
                ("raw.s9", true),
            ] {
                assert_eq!(store.exists(&array(name)).unwrap(), is_there, "{name}");
                assert_eq!(says().contains(&format!("{name:?}")), is_there, "{name}");
            }
            // What was kept is entered again.
            store.restore(&store.trash(&[]).unwrap()[0]).unwrap();
            assert!(says().contains("\"raw\""));
            assert_eq!(store.remove(&array("raw")).unwrap(), Removed::Removed);
            assert!(!says().contains("\"raw\""));
        }
    }

    #[test]
    fn a_kill_between_rename_and_deletion_leaves_only_trash() {
        let (dir, _) = inhabited();
        let run = dir.path().join("base/run");
        fs::create_dir(run.join(TRASH)).unwrap();
        fs::rename(
            run.join("validation.zarr/10"),
            run.join(TRASH).join(".unfinished-1-2-3"),
        )
        .unwrap();
        LocalStore::new(dir.path().join("base")).lease("run").unwrap();
        assert!(tree(&run.join(TRASH)).is_empty());
    }

    #[test]
    fn a_failure_at_any_call_leaves_the_array_or_nothing() {
        use std::sync::Arc;

        use dacapo_array::storage::{Access, MemoryStorage, conformance::Failing};
        use dacapo_array::{
            ArrayReadExt, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, NdData, Roi,
        };
        use ndarray::ArrayD;

        let voxel_size = Coordinate::splat(3, 4);
        let roi = Roi::from_voxels(&[0; 3], &[4; 3], &voxel_size);
        let spec = ArraySpec::new(roi, voxel_size, DType::U8);
        let ones = NdData::U8(ArrayD::from_elem(spec.shape(), 1));
        let mut failures = 0;
        for calls in 0.. {
            let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::new("m"));
            let at = |storage: Arc<dyn Storage>| {
                let access = Access::default().with_memory("m", storage);
                LocalStore::open(&"memory://m/base".parse().unwrap(), &access).unwrap()
            };
            let healthy = at(memory.clone()).arrays;
            let array = healthy.validation_prediction_array("run", 10, "crop").unwrap();
            let other = healthy.validation_prediction_array("run", 20, "crop").unwrap();
            for array in [&array, &other] {
                let made = healthy.create(array, &spec, &CreateOptions::default()).unwrap();
                made.write(&spec.roi, &ones).unwrap();
            }
            let failing = Arc::new(Failing::new(memory.clone(), calls));
            let removed = at(failing.clone()).arrays.remove(&array);
            if healthy.exists(&array).unwrap() {
                assert!(removed.is_err());
                assert_eq!(healthy.open(&array).unwrap().read_all().unwrap(), ones);
            }
            failures += u32::from(removed.is_err());
            // Whatever was left is cleared by the next writer of the run.
            at(memory.clone()).lease("run").unwrap();
            assert!(memory.list("base/run/.trash").unwrap().is_empty());
            assert_eq!(healthy.open(&other).unwrap().read_all().unwrap(), ones);
            if !failing.has_failed() {
                break;
            }
        }
        assert!(failures > 5, "{failures}");
    }
}
