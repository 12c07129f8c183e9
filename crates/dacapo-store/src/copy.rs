//! Copying arrays, containers and runs as they are stored, object by object. Another format is another matter.
//!
//! A copy is made beside where it is to be, under an unfinished name that depends on what is copied: nobody finds
//! half of it, and a copy of the same source that begins after an interruption finds what was done and goes on. Each
//! object is read back and compared before it counts, and chunks have to decode: what is damaged is not passed on in
//! silence.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use dacapo_array::{
    ArrayAddress, Stored, ZarrArray, list_arrays,
    storage::{Access, COPYING, Kind, Location, MARKERS, Moved, Stamp, Storage, StorageExt, join},
};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    Error, Result, Tick,
    remove::{self, Node},
};

/// What a copy came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Objects that were copied, all in all.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of the objects an interrupted copy had left, so that they were only compared.
    pub resumed: u64,
    /// Symbolic links in the source, which are not copied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
}

/// An object of the source.
#[derive(Debug, PartialEq)]
struct Object {
    /// Below the source.
    name: String,
    bytes: u64,
    stamp: Option<Stamp>,
}

/// Bytes of all objects below a key that a copy would take, for a bar.
///
/// # Errors
/// [`Error::Array`] if it cannot be listed.
pub fn copy_size(from: &dyn Storage, key: &str) -> Result<u64> {
    let objects = objects(from, key, &mut Vec::new())?;
    Ok(objects.iter().map(|object| object.bytes).sum())
}

/// The arrays in what is copied, by their place below it.
///
/// What of them is damaged – a chunk that does not decode or is gone, metadata that does not read – is no part of a
/// copy.
#[derive(Debug, Default)]
pub struct Sound(BTreeMap<String, ZarrArray>);

impl Sound {
    /// The array that is copied.
    fn of_array(array: ZarrArray) -> Self {
        Self([(String::new(), array)].into())
    }

    /// The arrays of a container, or of all containers that a run has.
    fn of_dir(dir: &Location, access: &Access) -> Result<Self> {
        let is_container = |name: &str| name.ends_with(".zarr");
        let containers = if dir.name().is_some_and(is_container) {
            vec![(String::new(), dir.clone())]
        } else {
            let entries = access.storage(dir)?.list("")?.into_iter();
            let named = entries.filter(|entry| entry.kind == Kind::Prefix && is_container(&entry.name));
            named
                .map(|entry| (entry.name.clone(), dir.join(&entry.name)))
                .collect()
        };
        let mut found = BTreeMap::new();
        for (name, container) in containers {
            for dataset in list_arrays(&container, access)? {
                let place = join_any(&name, &dataset);
                let address = ArrayAddress {
                    container: container.clone(),
                    dataset,
                };
                let damaged = |error: dacapo_array::Error| Error::Damaged {
                    array: address.to_string(),
                    roi: None,
                    reason: error.to_string(),
                };
                let array = ZarrArray::open(&address, access).map_err(damaged)?;
                found.insert(place, array);
            }
        }
        Ok(Self(found))
    }

    /// The array that an object belongs to if it is one of its chunks, and the chunk's place.
    fn chunk(&self, name: &str) -> Option<(&ZarrArray, Vec<u64>)> {
        let mut above = Some(name);
        while let Some(place) = above {
            above = match place.rsplit_once('/') {
                Some((parent, _)) => Some(parent),
                None => Some("").filter(|_| !place.is_empty()),
            };
            if let Some(array) = self.0.get(place) {
                let key = name[place.len()..].trim_start_matches('/');
                return array.chunk_at(key).map(|chunk| (array, chunk));
            }
        }
        None
    }

    fn check(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some((array, chunk)) = self.chunk(name) else {
            return Ok(());
        };
        match array.check_bytes(&chunk, bytes).into_iter().next() {
            None => Ok(()),
            Some(damaged) => Err(Error::Damaged {
                array: array.address().to_string(),
                roi: Some(Box::new(damaged.roi)),
                reason: damaged.reason,
            }),
        }
    }

    /// Refuses arrays that have lost chunks, by the names of what is there.
    fn check_complete(&self, objects: &[Object]) -> Result<()> {
        let mut stored: BTreeMap<String, Stored> = BTreeMap::new();
        for object in objects {
            if let Some((array, chunk)) = self.chunk(&object.name) {
                let chunks = &mut stored.entry(array.address().to_string()).or_default().chunks;
                chunks.push((chunk, object.bytes));
            }
        }
        for array in self.0.values() {
            let address = array.address().to_string();
            let mut stored = stored.remove(&address).unwrap_or_default();
            stored.chunks.sort();
            let missing = array.missing_chunks(&stored)?;
            let first = missing.chunks.first();
            if first.is_some() || missing.others > 0 {
                return Err(Error::Damaged {
                    array: address,
                    roi: first.map(|chunk| Box::new(array.chunk_roi(chunk))),
                    reason: "a chunk was written and is gone".to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// Copies all that is below a key; what is hidden (locks, trash, what is unfinished) is left out. The copy appears
/// in one step when it is whole. What is there already is replaced if `replace`. `tick` is told of bytes.
///
/// # Errors
/// [`Error::Missing`] if nothing is there to be copied; [`Error::Occupied`] with nothing changed;
/// [`Error::Damaged`] for an array of `sound` that is not; [`Error::Changed`] if the source was written meanwhile; [`Error::Unfaithful`]; [`Error::Stopped`]. Then the same
/// call goes on where this one stopped.
pub fn copy_tree(
    (from, source): (&dyn Storage, &str),
    (to, target): (&dyn Storage, &str),
    replace: bool,
    sound: &Sound,
    tick: Tick,
) -> Result<Copied> {
    let occupied = || Error::Occupied {
        place: to.describe(target),
    };
    if !replace && to.kind(target)?.is_some() {
        return Err(occupied());
    }
    let mut copied = Copied::default();
    let before = objects(from, source, &mut copied.links)?;
    if before.is_empty() {
        return Err(Error::Missing {
            what: format!("array, container or run {}", from.describe(source)),
        });
    }
    sound.check_complete(&before)?;
    let (parent, name) = target.rsplit_once('/').unwrap_or(("", target));
    let identity = format!("{}\n{name}", from.describe(source));
    let digest = blake3::hash(identity.as_bytes()).to_hex();
    let aside = join(parent, &format!("{COPYING}{}", &digest[..16]));
    let _hold = to.hold(&aside)?;

    // What the source had when an earlier copy stopped, and has no more.
    let there = objects(to, &aside, &mut Vec::new())?;
    let names: HashMap<&str, u64> = before
        .iter()
        .map(|object| (object.name.as_str(), object.bytes))
        .collect();
    for old in &there {
        if names.get(old.name.as_str()) != Some(&old.bytes) {
            to.delete(&join(&aside, &old.name))?;
        }
    }
    let there: HashMap<&str, u64> = there
        .iter()
        .map(|object| (object.name.as_str(), object.bytes))
        .collect();

    let copy = |object: &Object| -> Result<bool> {
        let (origin, place) = (join(source, &object.name), join(&aside, &object.name));
        let changed = || Error::Changed {
            what: from.describe(&origin),
        };
        let bytes = from.read(&origin)?.ok_or_else(changed)?;
        sound.check(&object.name, &bytes)?;
        let is_there =
            |buffer: &mut Vec<u8>| -> Result<bool> { Ok(to.read_into(&place, buffer)? && *buffer == bytes) };
        let mut buffer = Vec::new();
        let is_resumed = there.get(object.name.as_str()) == Some(&object.bytes) && is_there(&mut buffer)?;
        if !is_resumed {
            to.write(&place, &bytes, dacapo_array::storage::Durability::Later)?;
            if !is_there(&mut buffer)? {
                return Err(Error::Unfaithful {
                    place: to.describe(&place),
                });
            }
        }
        if tick(bytes.len() as u64) {
            Ok(is_resumed)
        } else {
            Err(Error::Stopped)
        }
    };
    // Metadata comes last: what is unfinished is no array to anyone.
    let is_marker = |object: &&Object| MARKERS.contains(&object.name.rsplit('/').next().unwrap_or_default());
    let (last, first): (Vec<&Object>, Vec<&Object>) = before.iter().partition(is_marker);
    for part in [first, last] {
        let resumed: Vec<bool> = part.into_par_iter().map(copy).collect::<Result<_>>()?;
        copied.resumed += resumed.iter().filter(|resumed| **resumed).count() as u64;
    }
    copied.objects = before.len() as u64;
    copied.bytes = before.iter().map(|object| object.bytes).sum();
    if objects(from, source, &mut Vec::new())? != before {
        return Err(Error::Changed {
            what: from.describe(source),
        });
    }
    to.sync_tree(&aside)?;
    match to.move_tree(&aside, target, replace)? {
        Moved::Moved => Ok(copied),
        Moved::Occupied => Err(occupied()),
        Moved::Missing => Err(Error::Missing {
            what: format!(
                "unfinished copy {}; another copy of the same finished",
                to.describe(&aside)
            ),
        }),
    }
}

/// All objects below a key, hidden ones left out, with their states.
fn objects(storage: &dyn Storage, key: &str, links: &mut Vec<String>) -> Result<Vec<Object>> {
    let mut found = Vec::new();
    list(storage, key, "", &mut found, links)?;
    Ok(found)
}

fn list(
    storage: &dyn Storage,
    key: &str,
    below: &str,
    found: &mut Vec<Object>,
    links: &mut Vec<String>,
) -> Result<()> {
    for entry in storage.list(&join_any(key, below))? {
        let name = join(below, &entry.name);
        // Zarr's own are `.zarray`, `.zattrs`, `.zgroup` and `.zmetadata`.
        if entry.name.starts_with('.') && !entry.name.starts_with(".z") {
            continue;
        }
        match entry.kind {
            Kind::Prefix => list(storage, key, &name, found, links)?,
            Kind::Link => links.push(storage.describe(&join(key, &name))),
            Kind::Object => found.push(Object {
                stamp: storage.stamp(&join(key, &name))?,
                bytes: entry.bytes,
                name,
            }),
        }
    }
    Ok(())
}

fn join_any(key: &str, below: &str) -> String {
    if below.is_empty() {
        key.to_owned()
    } else {
        join(key, below)
    }
}

/// How arrays, containers and runs are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// Replace an array that is there.
    pub replace: bool,
    /// Copy what is damaged as it is.
    pub damaged: bool,
}

/// Copies an array, and enters the copy into the groups that it then lies in. `tick` is told of bytes.
///
/// # Errors
/// As [`copy_tree`]; [`Error::Array`] if there is no such array; [`Error::Refused`] if its copy would stand inside
/// another, or in place of a group.
pub fn copy_array(
    from: &ArrayAddress,
    to: &ArrayAddress,
    access: &Access,
    options: CopyOptions,
    tick: Tick,
) -> Result<Copied> {
    let CopyOptions { replace, damaged } = options;
    let array = ZarrArray::open(from, access)?;
    let sound = if damaged {
        Sound::default()
    } else {
        Sound::of_array(array)
    };
    let (source, origin) = placed(&from.location(), access)?;
    // From above the container, so that all of the way down is looked at.
    let (target, container) = placed(&to.container, access)?;
    let place = join(&container, &to.dataset);
    let mut above = place.as_str();
    while let Some((parent, _)) = above.rsplit_once('/') {
        if remove::node(&*target, parent)? == Node::Array {
            return Err(Error::Refused {
                identifier: to.to_string(),
                reason: format!("{} is an array, which holds no others", target.describe(parent)),
            });
        }
        above = parent;
    }
    // Replacing is for arrays: with a group would go all that is in it.
    if replace && target.kind(&place)?.is_some() && remove::node(&*target, &place)? == Node::Group {
        return Err(Error::Refused {
            identifier: to.to_string(),
            reason: "it is a group or a plain directory, which an array does not replace".to_owned(),
        });
    }
    let copied = copy_tree((&*source, &origin), (&*target, &place), replace, &sound, tick)?;
    ZarrArray::open(to, access)?.join_groups()?;
    Ok(copied)
}

/// Copies all that is at a place, as a container or a run is; replaces nothing. `tick` is told of bytes.
///
/// # Errors
/// As [`copy_tree`].
pub fn copy_dir(
    from: &Location,
    to: &Location,
    access: &Access,
    options: CopyOptions,
    tick: Tick,
) -> Result<Copied> {
    let sound = if options.damaged {
        Sound::default()
    } else {
        Sound::of_dir(from, access)?
    };
    let (source, origin) = placed(from, access)?;
    let (target, place) = placed(to, access)?;
    copy_tree((&*source, &origin), (&*target, &place), false, &sound, tick)
}

/// What a place is kept in, and its key there.
///
/// # Errors
/// [`Error::Missing`] for a root, which is no array, container or run; as [`Access::storage`].
pub fn placed(location: &Location, access: &Access) -> Result<(Arc<dyn Storage>, String)> {
    match (location.parent(), location.name()) {
        (Some(parent), Some(name)) => Ok((access.storage(&parent)?, name.to_owned())),
        _ => Err(Error::Missing {
            what: format!("array, container or run {location}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    use dacapo_array::storage::LocalStorage;
    use dacapo_array::{
        ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, DraftArray, NdData, Roi, ZarrFormat,
    };
    use ndarray::ArrayD;

    use super::*;

    fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
        let storage = LocalStorage::new(dir);
        let mut found = Vec::new();
        storage
            .walk("", &mut |key, _| {
                found.push((key.to_owned(), storage.read(key)?.unwrap_or_default()));
                Ok(())
            })
            .unwrap();
        found
    }

    fn copy_at(from: &Path, to: &Path, tick: Tick) -> Result<Copied> {
        // What is copied here looks like arrays only.
        let options = CopyOptions {
            damaged: true,
            ..CopyOptions::default()
        };
        copy_dir(&from.into(), &to.into(), &Access::default(), options, tick)
    }

    /// A run of fifty chunks.
    fn run(dir: &Path) {
        let write = |path: &str, text: &str| {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("run.yaml", "name: run");
        write(".lock", "held");
        write(".trash/kept/x/0", "old");
        write("validation.zarr/.zgroup", "{}");
        write("validation.zarr/10/b/prediction/.zarray", "{}");
        for chunk in 0..50 {
            write(
                &format!("validation.zarr/10/b/prediction/0/{chunk}"),
                &format!("chunk {chunk}"),
            );
        }
    }

    #[test]
    fn an_interrupted_copy_goes_on_and_appears_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("run"), dir.path().join("there/copy"));
        run(&from);
        let left = AtomicU64::new(20);
        let stopped = copy_at(&from, &to, &|_| {
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                Some(left.saturating_sub(1))
            })
            .is_ok_and(|left| left > 0)
        });
        assert!(matches!(stopped, Err(Error::Stopped)));
        assert!(!to.exists());
        // Meanwhile a chunk changes, one goes, and what was copied is damaged.
        fs::write(from.join("validation.zarr/10/b/prediction/0/3"), "chunk !").unwrap();
        fs::remove_file(from.join("validation.zarr/10/b/prediction/0/4")).unwrap();
        let copied = copy_at(&from, &to, &|_| true).unwrap();
        assert_eq!(copied.objects, 52);
        assert!(copied.resumed >= 15 && copied.resumed < 52, "{copied:?}");
        fs::remove_file(from.join(".lock")).unwrap();
        fs::remove_dir_all(from.join(".trash")).unwrap();
        assert_eq!(tree(&to), tree(&from));
        assert_eq!(
            fs::read_dir(dir.path().join("there")).unwrap().count(),
            1,
            "nothing is left beside it"
        );
        assert!(matches!(
            copy_at(&from, &to, &|_| true),
            Err(Error::Occupied { .. })
        ));
        assert!(matches!(
            copy_at(&dir.path().join("none"), &dir.path().join("x"), &|_| true),
            Err(Error::Missing { .. })
        ));
    }

    #[test]
    fn a_copy_into_another_kind_of_storage_goes_on_and_is_compared() {
        use dacapo_array::storage::{MemoryStorage, conformance::Failing};

        let dir = tempfile::tempdir().unwrap();
        run(&dir.path().join("run"));
        let (local, all) = (LocalStorage::new(dir.path()), Sound::default());
        let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::new("m"));
        // It stops answering in the middle.
        let failing = Failing::new(memory.clone(), 60);
        let stopped = copy_tree((&local, "run"), (&failing, "runs/copy"), false, &all, &|_| true);
        assert!(stopped.is_err() && failing.has_failed());
        assert_eq!(memory.kind("runs/copy").unwrap(), None);
        let copied = copy_tree((&local, "run"), (&*memory, "runs/copy"), false, &all, &|_| true).unwrap();
        assert!(copied.resumed > 10 && copied.objects == 53, "{copied:?}");
        // And back.
        copy_tree((&*memory, "runs/copy"), (&local, "back"), false, &all, &|_| true).unwrap();
        for hidden in [".lock", ".trash/kept/x/0"] {
            fs::remove_file(dir.path().join("run").join(hidden)).unwrap();
        }
        assert_eq!(tree(&dir.path().join("back")), tree(&dir.path().join("run")));
    }

    #[test]
    fn a_source_that_changes_meanwhile_is_no_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("run"), dir.path().join("copy"));
        run(&from);
        let chunk = from.join("validation.zarr/10/b/prediction/0/0");
        let count = AtomicU64::new(0);
        let changed = copy_at(&from, &to, &|_| {
            if count.fetch_add(1, Ordering::SeqCst) == 51 {
                fs::write(&chunk, "CHUNK 0").unwrap();
            }
            true
        });
        assert!(matches!(changed, Err(Error::Changed { .. })), "{changed:?}");
        assert!(!to.exists());
        copy_at(&from, &to, &|_| true).unwrap();
        assert_eq!(
            fs::read(to.join("validation.zarr/10/b/prediction/0/0")).unwrap(),
            b"CHUNK 0"
        );
    }

    #[test]
    fn replacing_is_for_arrays_and_never_takes_a_group() {
        let dir = tempfile::tempdir().unwrap();
        let address =
            |name: &str| -> ArrayAddress { format!("{}/{name}", dir.path().display()).parse().unwrap() };
        let voxel_size = Coordinate::new([1, 1, 1]);
        let spec = ArraySpec::new(
            Roi::from_voxels(&[0; 3], &[2; 3], &voxel_size),
            voxel_size,
            DType::U8,
        );
        let access = Access::default();
        for name in ["a.zarr/x", "b.zarr/group/y"] {
            ZarrArray::create(&address(name), &access, &spec, &CreateOptions::default()).unwrap();
        }
        let options = CopyOptions {
            replace: true,
            ..CopyOptions::default()
        };
        let copy = |to: &str| copy_array(&address("a.zarr/x"), &address(to), &access, options, &|_| true);
        let refused = copy("b.zarr/group").unwrap_err();
        assert!(matches!(refused, Error::Refused { .. }), "{refused}");
        ZarrArray::open(&address("b.zarr/group/y"), &access).unwrap();
        copy("b.zarr/group/y").unwrap();
    }

    #[test]
    fn what_is_damaged_is_not_copied_in_silence() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let address = |name: &str| -> ArrayAddress { at(name).display().to_string().parse().unwrap() };
        let access = Access::default();
        let voxel_size = Coordinate::new([4, 4, 4]);
        let roi = Roi::from_voxels(&[0; 3], &[4, 8, 8], &voxel_size);
        let spec = ArraySpec::new(roi.clone(), voxel_size, DType::U8);
        let options = dacapo_array::CreateOptions {
            chunk_shape: Some(vec![4; 3]),
            format: ZarrFormat::V3,
            ..CreateOptions::default()
        };
        let draft = DraftArray::new(&address("run/v.zarr/g/x"), &access, &spec, &options).unwrap();
        let values = NdData::U8(ArrayD::from_elem(vec![4, 8, 8], 7));
        draft.write(&roi, &values).unwrap();
        draft.publish().unwrap();
        let copy = |damaged: bool, number: usize| {
            let options = CopyOptions {
                damaged,
                ..CopyOptions::default()
            };
            let array = copy_array(
                &address("run/v.zarr/g/x"),
                &address(&format!("{number}.zarr/x")),
                &access,
                options,
                &|_| true,
            );
            let container = copy_dir(
                &at("run/v.zarr").as_path().into(),
                &at(&format!("{number}-c.zarr")).as_path().into(),
                &access,
                options,
                &|_| true,
            );
            let run = copy_dir(
                &at("run").as_path().into(),
                &at(&format!("{number}-run")).as_path().into(),
                &access,
                options,
                &|_| true,
            );
            [array, container, run]
        };
        let is_there = |number: usize| {
            ["zarr/x", "-c.zarr", "-run"].map(|rest| {
                at(&format!(
                    "{number}{}{rest}",
                    if rest.starts_with('z') { "." } else { "" }
                ))
                .exists()
            })
        };
        assert!(
            copy(false, 0)
                .iter()
                .all(|done| done.as_ref().unwrap().objects >= 5)
        );
        assert_eq!(is_there(0), [true; 3]);

        let chunk = at("run/v.zarr/g/x/c/0/1/0");
        let sound = fs::read(&chunk).unwrap();
        let mut bytes = sound.clone();
        bytes[3] ^= 1;
        for (number, damage) in [(1, Some(bytes)), (2, None)] {
            match &damage {
                Some(bytes) => fs::write(&chunk, bytes).unwrap(),
                None => fs::remove_file(&chunk).unwrap(),
            }
            for error in copy(false, number).map(Result::unwrap_err) {
                let text = error.to_string();
                assert!(
                    text.contains("v.zarr/g/x is damaged at [0:16, 16:32, 0:16]: "),
                    "{text}"
                );
            }
            assert_eq!(is_there(number), [false; 3]);
            assert!(copy(true, number).iter().all(Result::is_ok));
            assert_eq!(is_there(number), [true; 3]);
        }
        fs::write(&chunk, sound).unwrap();
        assert!(copy(false, 3).iter().all(Result::is_ok));
        // In a container, metadata that does not read is damage.
        fs::write(at("run/v.zarr/g/x/zarr.json"), "{").unwrap();
        for error in copy(false, 4).map(Result::unwrap_err) {
            assert!(error.to_string().contains("v.zarr/g/x"), "{error}");
        }
        assert_eq!(is_there(4), [false; 3]);
    }

    #[test]
    fn unfinished_copies_are_swept_when_they_are_old() {
        let dir = tempfile::tempdir().unwrap();
        let storage = LocalStorage::new(dir.path());
        for name in [".unfinished-copy-1", ".unfinished-1"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        storage.sweep("", std::time::Duration::ZERO).unwrap();
        assert_eq!(storage.unfinished("").unwrap(), [".unfinished-copy-1"]);
    }
}
