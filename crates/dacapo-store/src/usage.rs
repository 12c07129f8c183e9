//! How much space runs take, by what takes it.

use std::collections::BTreeMap;

use dacapo_array::storage::{Kind, Storage, StorageExt, join};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    ArrayFilter, LocalArrayStore, Pattern, Result,
    arrays::TRASH,
    catalog,
    remove::{self, Node},
    trash::KEPT,
};

/// What one kind of things of one run takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// The run.
    pub run: String,
    /// A kind of arrays ([`crate::ArrayKind`]); `checkpoints`, `records`, `trash`, `unfinished` or `rest`.
    pub kind: String,
    /// How many arrays or files.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl LocalArrayStore {
    /// What the runs whose names match one of the patterns (all, if there is none) take, by run and kind: the
    /// bytes of files, without what a file system adds. A run without arrays counts too.
    ///
    /// # Errors
    /// [`crate::Error::Array`] if something cannot be listed.
    pub fn usage(&self, runs: &[Pattern]) -> Result<Vec<Usage>> {
        let storage = self.storage();
        let filter = ArrayFilter {
            runs: runs.to_vec(),
            ..ArrayFilter::default()
        };
        let names = catalog::prefixes(&*storage, "")?;
        let is_run = |run: &String| -> Result<bool> {
            Ok(filter.has_run(run)
                && !run.ends_with(".zarr")
                && (storage.kind(&join(run, "run.yaml"))?.is_some()
                    || !catalog::containers(&*storage, run)?.is_empty()))
        };
        let of_run = |run: String| -> Result<Vec<Usage>> {
            if is_run(&run)? {
                self.usage_of(&*storage, &run)
            } else {
                Ok(Vec::new())
            }
        };
        let found: Vec<Vec<Usage>> = names.into_par_iter().map(of_run).collect::<Result<_>>()?;
        Ok(found.concat())
    }

    fn usage_of(&self, storage: &dyn Storage, run: &str) -> Result<Vec<Usage>> {
        let mut kinds: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let arrays = self.list(&ArrayFilter {
            runs: vec![run.parse()?],
            ..ArrayFilter::default()
        })?;
        let arrays = arrays.into_iter().filter(|array| array.run == run);
        let sized: Vec<(&str, (u64, u64))> = arrays
            .collect::<Vec<_>>()
            .par_iter()
            .map(|array| {
                Ok((
                    array.kind.name(),
                    tally(storage, &self.path_of(&array.identifier)?)?,
                ))
            })
            .collect::<Result<_>>()?;
        let mut inside = (0, 0);
        for (kind, (files, bytes)) in sized {
            inside = (inside.0 + files, inside.1 + bytes);
            let (count, sum) = kinds.entry(kind.to_owned()).or_default();
            *count += 1;
            *sum += bytes;
        }
        let mut rest = (0, 0);
        for entry in storage.list(run)? {
            let key = join(run, &entry.name);
            let kind = match (entry.kind, entry.name.as_str()) {
                (Kind::Prefix, "checkpoints") => "checkpoints",
                (Kind::Prefix, "stats") => "records",
                (Kind::Prefix, TRASH) => "trash",
                (Kind::Prefix, _) => "rest",
                _ => {
                    rest.0 += 1;
                    rest.1 += entry.bytes;
                    continue;
                }
            };
            // What is being removed is unfinished.
            let key = if kind == "trash" { join(&key, KEPT) } else { key };
            let (files, bytes) = tally(storage, &key)?;
            if kind == "rest" {
                rest.0 += files;
                rest.1 += bytes;
            } else if files > 0 {
                kinds.insert(kind.to_owned(), (files, bytes));
            }
        }
        // Groups' metadata, and what stands in a container and is no array.
        rest = (rest.0 - inside.0.min(rest.0), rest.1 - inside.1.min(rest.1));
        kinds.insert("rest".to_owned(), rest);
        let mut unfinished = (0, 0);
        for key in self.unfinished(run)? {
            let (files, bytes) = tally(storage, &key)?;
            unfinished = (unfinished.0 + files, unfinished.1 + bytes);
        }
        if unfinished.0 > 0 {
            kinds.insert("unfinished".to_owned(), unfinished);
        }
        let usage = |(kind, (count, bytes))| Usage {
            run: run.to_owned(),
            kind,
            count,
            bytes,
        };
        Ok(kinds.into_iter().map(usage).collect())
    }

    /// Bytes of all that is stored of an array.
    ///
    /// # Errors
    /// [`crate::Error::Array`] if it cannot be listed.
    pub fn bytes_of(&self, array: &crate::LocalArrayIdentifier) -> Result<u64> {
        Ok(tally(&*self.storage(), &self.path_of(array)?)?.1)
    }

    /// What killed writers of a run left, and what writers are making now: paths below the base directory.
    ///
    /// # Errors
    /// [`crate::Error::Array`] if something cannot be listed.
    pub fn unfinished(&self, run: &str) -> Result<Vec<String>> {
        let storage = self.storage();
        let mut found = Vec::new();
        let mut look = |prefix: &str| -> Result<()> {
            let names = storage.unfinished(prefix)?;
            found.extend(names.iter().map(|name| join(prefix, name)));
            Ok(())
        };
        for place in ["", "stats", "checkpoints", TRASH] {
            look(join(run, place).trim_end_matches('/'))?;
        }
        let mut groups: Vec<String> = catalog::containers(&*storage, run)?
            .iter()
            .map(|container| join(run, container))
            .collect();
        while let Some(group) = groups.pop() {
            if remove::node(&*storage, &group)? == Node::Array {
                continue;
            }
            look(&group)?;
            if group.split('/').count() < 32 {
                let below = catalog::prefixes(&*storage, &group)?;
                groups.extend(below.iter().map(|name| join(&group, name)));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Objects and bytes below a key, or of the object that it is.
fn tally(storage: &dyn Storage, key: &str) -> Result<(u64, u64)> {
    let (mut count, mut sum) = (0, 0);
    storage.walk(key, &mut |_, bytes| {
        count += 1;
        sum += bytes;
        Ok(())
    })?;
    if count == 0
        && let Some(object) = storage.open(key)?
    {
        return Ok((1, object.len()));
    }
    Ok((count, sum))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_byte_of_a_run_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: usize| {
            let path = dir.path().join("run").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; bytes]).unwrap();
        };
        write("run.yaml", 5);
        write("checkpoints/10.safetensors", 100);
        write("stats/training.jsonl", 30);
        write("validation.zarr/.zgroup", 3);
        write("validation.zarr/10/b/prediction/.zarray", 7);
        write("validation.zarr/10/b/prediction/0/0/0", 1000);
        write("validation.zarr/20/b/prediction/0/0/0", 2000);
        write("validation.zarr/20/b/.unfinished-1-2-3/0/0/0", 4000);
        write(".trash/kept/x/0", 8000);
        write(".trash/.unfinished-1-2-3/0", 16_000);
        fs::create_dir(dir.path().join("no run")).unwrap();
        let store = LocalArrayStore::new(dir.path());
        // An object counts as itself.
        assert_eq!(tally(&*store.storage(), "run/run.yaml").unwrap(), (1, 5));
        assert_eq!(tally(&*store.storage(), "run/none").unwrap(), (0, 0));
        let found = store.usage(&[]).unwrap();
        let found: Vec<(&str, u64, u64)> = found
            .iter()
            .map(|usage| (usage.kind.as_str(), usage.count, usage.bytes))
            .collect();
        assert_eq!(
            found,
            [
                ("checkpoints", 1, 100),
                ("prediction", 2, 3007),
                ("records", 1, 30),
                ("rest", 2, 8),
                ("trash", 1, 8000),
                ("unfinished", 2, 20_000),
            ]
        );
        assert_eq!(
            store.unfinished("run").unwrap(),
            [
                "run/.trash/.unfinished-1-2-3",
                "run/validation.zarr/20/b/.unfinished-1-2-3"
            ]
        );
        assert!(store.usage(&["other".parse().unwrap()]).unwrap().is_empty());
    }
}
