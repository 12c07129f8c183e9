//! What was removed and kept: it can be put back, or purged. What is removed for good is gone
//! ([`crate::ArrayStore::remove`]).
//!
//! ```text
//! <base>/<run>/.trash/kept/<id>           an array or a group, as it was
//! <base>/<run>/.trash/kept/<id>.json      where it was, and since when it is here
//! ```
//!
//! The record is written before the array goes, so that whatever a kill leaves can be put back; a record whose
//! array never came means nothing.

use std::hash::{DefaultHasher, Hash, Hasher};

use dacapo_array::storage::{Kind, Moved, StorageExt, join, unique};
use serde::{Deserialize, Serialize};

use crate::{
    ArrayEntry, ArrayFilter, ArrayStore, Error, LocalArrayIdentifier, LocalArrayStore, Pattern, Removed,
    Result,
    arrays::TRASH,
    catalog,
    remove::{self, Node, refuse},
    time,
};

/// What is in the trash and is not to be swept.
pub(crate) const KEPT: &str = "kept";

/// Something in the trash of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrashEntry {
    /// Names it in the trash.
    pub id: String,
    /// The run.
    pub run: String,
    /// Where it was, and where [`LocalArrayStore::restore`] puts it.
    pub identifier: LocalArrayIdentifier,
    /// Whether it is a group with all that was in it.
    pub group: bool,
    /// When it was removed, in UTC.
    pub time: String,
}

/// What stands beside something in the trash.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Below the run's directory.
    path: String,
    #[serde(default)]
    group: bool,
    time: String,
}

fn kept(run: &str) -> String {
    format!("{run}/{TRASH}/{KEPT}")
}

impl LocalArrayStore {
    /// Removes an array as [`crate::ArrayStore::remove`] does, but keeps it in the trash of its run; not the levels
    /// that were made of it, which can be made again. None if it is not there.
    ///
    /// # Errors
    /// As [`crate::ArrayStore::remove`].
    pub fn remove_kept(&self, array: &LocalArrayIdentifier) -> Result<Option<TrashEntry>> {
        match remove::find(&self.base, array)? {
            None => Ok(None),
            Some(Node::Group) => refuse(array, "it is a group or a plain directory, not an array"),
            Some(_) => {
                let levels = remove::levels(&self.base, array);
                let kept = self.keep(array, false)?;
                remove::tidy(&self.base, array, &levels);
                Ok(kept)
            }
        }
    }

    /// The arrays in a group, or none if there is no such group: what [`LocalArrayStore::remove_group`] removes.
    ///
    /// # Errors
    /// [`Error::Refused`] for what is no group inside a container of this store.
    pub fn arrays_in(&self, group: &LocalArrayIdentifier) -> Result<Option<Vec<ArrayEntry>>> {
        match remove::find(&self.base, group)? {
            None => Ok(None),
            Some(Node::Array) => refuse(group, "it is an array, not a group"),
            Some(_) => {
                let path = self.path_of(group)?;
                let run = path.split('/').next().unwrap_or_default();
                let storage = self.storage();
                let mut keys = Vec::new();
                catalog::search(&*storage, &path, 0, &mut keys)?;
                tracing::debug!(run, arrays = keys.len(), "looked into a group");
                let identifiers = keys.iter().map(|key| self.identifier_at(key));
                Ok(Some(
                    identifiers
                        .map(|id| Ok(ArrayEntry::of(id?)))
                        .collect::<Result<_>>()?,
                ))
            }
        }
    }

    /// Removes a group with all that is in it, in one step.
    ///
    /// # Errors
    /// As [`LocalArrayStore::arrays_in`]; [`Error::Array`], [`Error::Io`].
    pub fn remove_group(&self, group: &LocalArrayIdentifier) -> Result<Removed> {
        match self.arrays_in(group)? {
            None => Ok(Removed::Missing),
            Some(_) => remove::discard(&*self.storage(), &self.path_of(group)?),
        }
    }

    /// As [`LocalArrayStore::remove_group`], but keeps it in the trash of its run. None if it is not there.
    ///
    /// # Errors
    /// As [`LocalArrayStore::remove_group`].
    pub fn remove_group_kept(&self, group: &LocalArrayIdentifier) -> Result<Option<TrashEntry>> {
        match self.arrays_in(group)? {
            None => Ok(None),
            Some(_) => self.keep(group, true),
        }
    }

    fn keep(&self, array: &LocalArrayIdentifier, group: bool) -> Result<Option<TrashEntry>> {
        let storage = self.storage();
        let path = self.path_of(array)?;
        let Some((run, inside)) = path.split_once('/') else {
            return refuse(array, "it is in no run");
        };
        let record = Record {
            path: inside.to_owned(),
            group,
            time: time::now(),
        };
        let text = serde_json::to_vec_pretty(&record).unwrap_or_default();
        let (id, key) = loop {
            let id = new_id(&record);
            let key = join(&kept(run), &id);
            if storage.create(&format!("{key}.json"), &text)? {
                break (id, key);
            }
        };
        match storage.move_tree(&path, &key, false) {
            Ok(Moved::Moved) => Ok(Some(TrashEntry {
                id,
                run: run.to_owned(),
                identifier: array.clone(),
                group,
                time: record.time,
            })),
            // It may have been moved all the same: without its record nobody could put it back.
            Err(error) => Err(error.into()),
            Ok(Moved::Missing) => {
                storage.delete(&format!("{key}.json"))?;
                Ok(None)
            }
            Ok(Moved::Occupied) => {
                storage.delete(&format!("{key}.json"))?;
                Err(Error::Occupied {
                    place: storage.describe(&key),
                })
            }
        }
    }

    /// What is in the trash of the runs whose names match one of the patterns (of all, if there is none), the
    /// latest last.
    ///
    /// # Errors
    /// [`Error::Array`] if it cannot be listed.
    pub fn trash(&self, runs: &[Pattern]) -> Result<Vec<TrashEntry>> {
        let storage = self.storage();
        let filter = ArrayFilter {
            runs: runs.to_vec(),
            ..ArrayFilter::default()
        };
        let mut found = Vec::new();
        for run in catalog::prefixes(&*storage, "")? {
            if !filter.has_run(&run) {
                continue;
            }
            for entry in storage.list(&kept(&run))? {
                if entry.kind != Kind::Prefix {
                    continue;
                }
                let record = storage.read(&format!("{}.json", join(&kept(&run), &entry.name)))?;
                let record = record.and_then(|record| serde_json::from_slice::<Record>(&record).ok());
                let placed = record.and_then(|record| {
                    let identifier = self.identifier_at(&join(&run, &record.path)).ok()?;
                    Some((record, identifier))
                });
                // What has no record that makes sense was put there by someone else.
                let Some((record, identifier)) = placed else {
                    tracing::warn!(run, id = entry.name, "something in the trash has no record");
                    continue;
                };
                found.push(TrashEntry {
                    id: entry.name,
                    run: run.clone(),
                    identifier,
                    group: record.group,
                    time: record.time,
                });
            }
        }
        found.sort_by(|a, b| (&a.time, &a.id).cmp(&(&b.time, &b.id)));
        Ok(found)
    }

    /// Puts something back to where it was.
    ///
    /// # Errors
    /// [`Error::Occupied`], with nothing changed, if something is there; [`Error::Missing`] if it is in the trash
    /// no more; [`Error::Refused`] if that is no place for an array.
    pub fn restore(&self, entry: &TrashEntry) -> Result<()> {
        let storage = self.storage();
        if remove::find(&self.base, &entry.identifier)?.is_some() {
            return Err(Error::Occupied {
                place: entry.identifier.to_string(),
            });
        }
        let key = join(&kept(&entry.run), &entry.id);
        let path = self.path_of(&entry.identifier)?;
        match storage.move_tree(&key, &path, false)? {
            Moved::Moved => {}
            Moved::Missing => {
                return Err(Error::Missing {
                    what: format!("{} in the trash of {}", entry.id, entry.run),
                });
            }
            Moved::Occupied => {
                return Err(Error::Occupied {
                    place: entry.identifier.to_string(),
                });
            }
        }
        storage.delete(&format!("{key}.json"))?;
        // The groups above it may have gone meanwhile.
        let first = if entry.group {
            self.arrays_in(&entry.identifier)?
                .and_then(|arrays| arrays.into_iter().next())
                .map(|first| first.identifier)
        } else {
            Some(entry.identifier.clone())
        };
        if let Some(array) = first.and_then(|first| self.open(&first).ok()) {
            array.join_groups()?;
        }
        Ok(())
    }

    /// Deletes something in the trash for good. Whether it was there.
    ///
    /// # Errors
    /// [`Error::Array`], [`Error::Refused`].
    pub fn purge(&self, entry: &TrashEntry) -> Result<Removed> {
        let key = join(&kept(&entry.run), &entry.id);
        // Aside first: what is half deleted must not be put back.
        let removed = remove::discard(&*self.storage(), &key)?;
        self.storage().delete(&format!("{key}.json"))?;
        Ok(removed)
    }

    /// Bytes of something in the trash.
    ///
    /// # Errors
    /// [`Error::Array`].
    pub fn trash_bytes(&self, entry: &TrashEntry) -> Result<u64> {
        let mut bytes = 0;
        self.storage()
            .walk(&join(&kept(&entry.run), &entry.id), &mut |_, size| {
                bytes += size;
                Ok(())
            })?;
        Ok(bytes)
    }
}

/// The moment, and a few digits that tell what was removed in one second apart.
fn new_id(record: &Record) -> String {
    let mut hasher = DefaultHasher::new();
    (&record.path, unique("")).hash(&mut hasher);
    let moment: String = record
        .time
        .chars()
        .filter(|c| c.is_ascii_digit() || *c == 'T')
        .collect();
    format!("{moment}-{:04x}", hasher.finish() & 0xffff)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use dacapo_array::{ArrayReadExt, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, NdData, Roi};
    use ndarray::ArrayD;

    use super::*;
    use crate::{ArrayStore, LocalStore};

    fn written(store: &LocalArrayStore, iteration: u64, value: u8) -> LocalArrayIdentifier {
        let array = store
            .validation_prediction_array("run", iteration, "crop")
            .unwrap();
        let voxel_size = Coordinate::new([4, 4, 4]);
        let roi = Roi::from_voxels(&[0, 0, 0], &[8, 8, 8], &voxel_size);
        let spec = ArraySpec::new(roi.clone(), voxel_size, DType::U8);
        let draft = store.draft(&array, &spec, &CreateOptions::default()).unwrap();
        draft
            .write(&roi, &NdData::U8(ArrayD::from_elem(vec![8, 8, 8], value)))
            .unwrap();
        draft.publish().unwrap();
        array
    }

    fn first(store: &LocalArrayStore, array: &LocalArrayIdentifier) -> u8 {
        let NdData::U8(values) = store.open(array).unwrap().read_all().unwrap() else {
            panic!("another type")
        };
        values[[0, 0, 0]]
    }

    #[test]
    fn what_is_kept_comes_back_where_nothing_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalArrayStore::new(dir.path());
        let array = written(&store, 10, 7);
        let entry = store.remove_kept(&array).unwrap().unwrap();
        assert!(!store.exists(&array).unwrap());
        assert_eq!(store.remove_kept(&array).unwrap(), None);
        assert_eq!(store.trash(&[]).unwrap(), std::slice::from_ref(&entry));
        assert!(store.trash_bytes(&entry).unwrap() > 0);

        // The next writer of the run sweeps what is being removed, and not what is kept.
        drop(LocalStore::new(dir.path()).lease("run").unwrap());
        written(&store, 10, 8);
        let refused = store.restore(&entry).unwrap_err();
        assert!(matches!(refused, Error::Occupied { .. }), "{refused}");
        assert_eq!(first(&store, &array), 8);
        assert_eq!(store.remove(&array).unwrap(), Removed::Removed);
        store.restore(&entry).unwrap();
        assert_eq!(first(&store, &array), 7);
        assert!(store.trash(&[]).unwrap().is_empty());
        assert!(matches!(store.restore(&entry), Err(Error::Occupied { .. })));
    }

    #[test]
    fn a_group_goes_and_comes_back_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalArrayStore::new(dir.path());
        let (a, b) = (written(&store, 10, 1), written(&store, 20, 2));
        let container = store.validation_container("run").unwrap();
        let group = container.array_identifier("10").unwrap();
        assert_eq!(store.arrays_in(&group).unwrap().unwrap().len(), 1);
        assert!(store.remove_kept(&group).is_err(), "a group is no array");
        assert!(store.remove_group(&a).is_err(), "an array is no group");
        let kept = store.remove_group_kept(&group).unwrap().unwrap();
        assert!(!store.exists(&a).unwrap() && store.exists(&b).unwrap());
        // Even where the container went meanwhile.
        fs::remove_dir_all(container.container().path().unwrap()).unwrap();
        let entry = store.trash(&[]).unwrap().remove(0);
        assert_eq!(entry, kept);
        assert!(entry.group);
        store.restore(&entry).unwrap();
        assert_eq!(first(&store, &a), 1);
        assert!(container.container().path().unwrap().join(".zgroup").exists());

        assert_eq!(store.remove_group(&group).unwrap(), Removed::Removed);
        assert_eq!(store.remove_group(&group).unwrap(), Removed::Missing);
        assert!(store.trash(&[]).unwrap().is_empty());
    }

    #[test]
    fn purging_is_for_good_and_only_of_what_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalArrayStore::new(dir.path());
        let kept: Vec<TrashEntry> = [1, 2]
            .map(|at| store.remove_kept(&written(&store, at, 0)).unwrap().unwrap())
            .into();
        assert_ne!(kept[0].id, kept[1].id);
        assert_eq!(store.purge(&kept[0]).unwrap(), Removed::Removed);
        assert_eq!(store.purge(&kept[0]).unwrap(), Removed::Missing);
        assert_eq!(store.trash(&[]).unwrap(), kept[1..]);
        assert_eq!(store.trash(&["other".parse().unwrap()]).unwrap(), []);
    }

    #[test]
    fn records_that_lead_elsewhere_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalArrayStore::new(dir.path().join("base"));
        let trash = dir.path().join("base/run/.trash/kept");
        for (id, path) in [
            ("a", "../../outside.zarr/x"),
            ("b", "validation.zarr/../../../x"),
            ("c", "x.zarr/.hidden"),
            ("d", "run.yaml"),
        ] {
            fs::create_dir_all(trash.join(id)).unwrap();
            let record = format!("{{\"path\": {path:?}, \"time\": \"\"}}");
            fs::write(trash.join(format!("{id}.json")), record).unwrap();
        }
        fs::create_dir_all(trash.join("e")).unwrap();
        for entry in store.trash(&[]).unwrap() {
            assert!(store.restore(&entry).is_err(), "{entry:?}");
        }
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 9, "nothing has moved");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
