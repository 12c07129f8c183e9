//! Objects in memory: for tests, and for what need not stay.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use super::{Change, Durability, Entry, Hold, Kind, Moved, OpenObject, Stamp, Storage, UNFINISHED, key};
use crate::{Error, Result};

/// Objects that live as long as this value.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    name: String,
    objects: RwLock<BTreeMap<String, Object>>,
    clock: AtomicU64,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Vec<u8>,
    version: u64,
}

impl MemoryStorage {
    /// An empty storage that describes itself as `memory://name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    fn objects(&self) -> RwLockReadGuard<'_, BTreeMap<String, Object>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn objects_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Object>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, bytes: Vec<u8>) -> Object {
        Object {
            bytes,
            version: self.clock.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// The keys below a prefix, with what of them is below it.
fn below<'a>(
    objects: &'a BTreeMap<String, Object>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a String, &'a str, &'a Object)> {
    let start = if prefix.is_empty() {
        String::new()
    } else {
        format!("{prefix}/")
    };
    let length = start.len();
    objects
        .range(start.clone()..)
        .take_while(move |(key, _)| key.starts_with(&start))
        .map(move |(key, object)| (key, &key[length..], object))
}

/// A copy of an object.
struct OpenBytes {
    bytes: Vec<u8>,
    name: String,
}

impl OpenObject for OpenBytes {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let Some(found) = self.bytes.get(start..end) else {
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(Error::io("read", Path::new(&self.name))(error));
        };
        buffer.copy_from_slice(found);
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn describe(&self, key: &str) -> String {
        super::join(&format!("memory://{}", self.name), key)
            .trim_end_matches('/')
            .to_owned()
    }

    fn read_into(&self, key: &str, buffer: &mut Vec<u8>) -> Result<bool> {
        key::check(key)?;
        buffer.clear();
        let objects = self.objects();
        let found = objects.get(key);
        buffer.extend_from_slice(found.map_or(&[], |object| &object.bytes));
        Ok(found.is_some())
    }

    fn open(&self, key: &str) -> Result<Option<Box<dyn OpenObject>>> {
        key::check(key)?;
        let found = self.objects().get(key).map(|object| object.bytes.clone());
        let name = self.describe(key);
        Ok(found.map(|bytes| Box::new(OpenBytes { bytes, name }) as Box<dyn OpenObject>))
    }

    fn read_state(&self, key: &str, most: u64, buffer: &mut Vec<u8>) -> Result<Option<Stamp>> {
        key::check(key)?;
        buffer.clear();
        match self.objects().get(key) {
            Some(object) if object.bytes.len() as u64 > most => {
                let text = format!("it has {} bytes, more than {most}", object.bytes.len());
                let error = io::Error::new(io::ErrorKind::FileTooLarge, text);
                Err(Error::io("read", Path::new(&self.describe(key)))(error))
            }
            Some(object) => {
                buffer.extend_from_slice(&object.bytes);
                Ok(Some(Stamp(object.version.to_string())))
            }
            None => Ok(None),
        }
    }

    fn write(&self, key: &str, bytes: &[u8], _durability: Durability) -> Result<()> {
        key::check(key)?;
        let object = self.object(bytes.to_vec());
        self.objects_mut().insert(key.to_owned(), object);
        Ok(())
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        key::check(key)?;
        let mut objects = self.objects_mut();
        let is_free = !objects.contains_key(key);
        if is_free {
            objects.insert(key.to_owned(), self.object(bytes.to_vec()));
        }
        Ok(is_free)
    }

    fn update_with(&self, key: &str, _durability: Durability, change: Change) -> Result<()> {
        key::check(key)?;
        loop {
            // Not held while it is changed: that may take long, and use this storage.
            let seen = self.objects().get(key).cloned();
            let changed = change(seen.as_ref().map(|object| object.bytes.as_slice()))?;
            let mut objects = self.objects_mut();
            let version = |object: Option<&Object>| object.map(|object| object.version);
            if version(objects.get(key)) == version(seen.as_ref()) {
                objects.insert(key.to_owned(), self.object(changed));
                return Ok(());
            }
        }
    }

    fn delete(&self, key: &str) -> Result<bool> {
        key::check(key)?;
        Ok(self.objects_mut().remove(key).is_some())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        key::check_prefix(prefix)?;
        let mut entries: Vec<Entry> = Vec::new();
        for (_, rest, object) in below(&self.objects(), prefix) {
            let entry = match rest.split_once('/') {
                Some((name, _)) => Entry {
                    name: name.to_owned(),
                    kind: Kind::Prefix,
                    bytes: 0,
                },
                None => Entry {
                    name: rest.to_owned(),
                    kind: Kind::Object,
                    bytes: object.bytes.len() as u64,
                },
            };
            if !entry.name.starts_with(UNFINISHED) && entries.last() != Some(&entry) {
                entries.push(entry);
            }
        }
        // `a.b` comes before `a/c` among the keys.
        entries.sort();
        entries.dedup();
        Ok(entries)
    }

    fn unfinished(&self, prefix: &str) -> Result<Vec<String>> {
        key::check_prefix(prefix)?;
        let objects = self.objects();
        let names = below(&objects, prefix).map(|(_, rest, _)| rest.split('/').next().unwrap_or(rest));
        let mut names: Vec<String> = names
            .filter(|name| name.starts_with(UNFINISHED))
            .map(str::to_owned)
            .collect();
        names.dedup();
        Ok(names)
    }

    fn kind(&self, key: &str) -> Result<Option<Kind>> {
        key::check_prefix(key)?;
        let objects = self.objects();
        Ok(if objects.contains_key(key) {
            Some(Kind::Object)
        } else {
            below(&objects, key).next().map(|_| Kind::Prefix)
        })
    }

    fn stamp(&self, key: &str) -> Result<Option<Stamp>> {
        key::check(key)?;
        Ok(self
            .objects()
            .get(key)
            .map(|object| Stamp(object.version.to_string())))
    }

    fn move_tree(&self, from: &str, to: &str, replace: bool) -> Result<Moved> {
        key::check(from)?;
        key::check(to)?;
        let mut objects = self.objects_mut();
        if below(&objects, from).next().is_none() {
            return Ok(Moved::Missing);
        }
        let there: Vec<String> = below(&objects, to).map(|(key, ..)| key.clone()).collect();
        if objects.contains_key(to) || (!there.is_empty() && !replace) {
            return Ok(Moved::Occupied);
        }
        for key in there {
            objects.remove(&key);
        }
        let moving: Vec<(String, String)> = below(&objects, from)
            .map(|(key, rest, _)| (key.clone(), format!("{to}/{rest}")))
            .collect();
        for (from, to) in moving {
            if let Some(object) = objects.remove(&from) {
                // Another state of the place, even if the bytes were there before.
                objects.insert(to, self.object(object.bytes));
            }
        }
        Ok(Moved::Moved)
    }

    fn remove_tree(&self, prefix: &str) -> Result<bool> {
        key::check(prefix)?;
        let mut objects = self.objects_mut();
        let keys: Vec<String> = below(&objects, prefix).map(|(key, ..)| key.clone()).collect();
        for key in &keys {
            objects.remove(key);
        }
        Ok(!keys.is_empty())
    }

    fn sync(&self, prefix: &str) -> Result<()> {
        key::check_prefix(prefix)
    }

    fn sync_tree(&self, prefix: &str) -> Result<()> {
        key::check_prefix(prefix)
    }

    fn hold(&self, prefix: &str) -> Result<Hold> {
        key::check(prefix).map(|()| Hold::default())
    }

    fn sweep(&self, prefix: &str, _age: Duration) -> Result<()> {
        // What is unfinished here is being made: its maker lives as long as this does.
        key::check_prefix(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::conformance;

    #[test]
    fn conforms() {
        conformance::storage(&MemoryStorage::new("m"));
    }

    #[test]
    fn conforms_below_a_prefix() {
        let memory = std::sync::Arc::new(MemoryStorage::new("m"));
        memory.write("outside", b"1", Durability::Synced).unwrap();
        conformance::storage(&crate::storage::Below::new(memory.clone(), "a/b").unwrap());
        let outside = memory.list("").unwrap();
        assert_eq!(outside.len(), 2, "{outside:?}");
    }
}
