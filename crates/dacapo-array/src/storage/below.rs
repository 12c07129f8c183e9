//! What is below a prefix of a storage, as a storage of its own.

use std::sync::Arc;
use std::time::Duration;

use super::{Change, Durability, Entry, Hold, Kind, Moved, OpenObject, Stamp, Storage, join, key};
use crate::Result;

/// The keys below a prefix of another storage. None of its keys names anything outside.
#[derive(Clone, Debug)]
pub struct Below {
    storage: Arc<dyn Storage>,
    prefix: String,
}

impl Below {
    /// What of `storage` is below `prefix`; all of it for the empty one.
    ///
    /// # Errors
    /// [`crate::Error::Key`] for a prefix that is none.
    pub fn new(storage: Arc<dyn Storage>, prefix: impl Into<String>) -> Result<Self> {
        let prefix = prefix.into();
        key::check_prefix(&prefix)?;
        Ok(Self { storage, prefix })
    }

    fn key(&self, key: &str) -> Result<String> {
        key::check(key)?;
        Ok(join(&self.prefix, key))
    }

    /// Of the empty key, where that is the root.
    fn prefix(&self, key: &str) -> Result<String> {
        if key.is_empty() {
            Ok(self.prefix.clone())
        } else {
            self.key(key)
        }
    }
}

impl Storage for Below {
    fn describe(&self, key: &str) -> String {
        let key = if key.is_empty() {
            self.prefix.clone()
        } else {
            join(&self.prefix, key)
        };
        self.storage.describe(&key)
    }

    fn read_into(&self, key: &str, buffer: &mut Vec<u8>) -> Result<bool> {
        self.storage.read_into(&self.key(key)?, buffer)
    }

    fn open(&self, key: &str) -> Result<Option<Box<dyn OpenObject>>> {
        self.storage.open(&self.key(key)?)
    }

    fn read_state(&self, key: &str, most: u64, buffer: &mut Vec<u8>) -> Result<Option<Stamp>> {
        self.storage.read_state(&self.key(key)?, most, buffer)
    }

    fn write(&self, key: &str, bytes: &[u8], durability: Durability) -> Result<()> {
        self.storage.write(&self.key(key)?, bytes, durability)
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        self.storage.create(&self.key(key)?, bytes)
    }

    fn update_with(&self, key: &str, durability: Durability, change: Change) -> Result<()> {
        self.storage.update_with(&self.key(key)?, durability, change)
    }

    fn append_lines(&self, key: &str, lines: &[u8]) -> Result<()> {
        self.storage.append_lines(&self.key(key)?, lines)
    }

    fn delete(&self, key: &str) -> Result<bool> {
        self.storage.delete(&self.key(key)?)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        self.storage.list(&self.prefix(prefix)?)
    }

    fn unfinished(&self, prefix: &str) -> Result<Vec<String>> {
        self.storage.unfinished(&self.prefix(prefix)?)
    }

    fn duplicate(&self, from: &str, to: &str) -> Result<()> {
        self.storage.duplicate(&self.key(from)?, &self.key(to)?)
    }

    fn kind(&self, key: &str) -> Result<Option<Kind>> {
        self.storage.kind(&self.prefix(key)?)
    }

    fn stamp(&self, key: &str) -> Result<Option<Stamp>> {
        self.storage.stamp(&self.key(key)?)
    }

    fn move_tree(&self, from: &str, to: &str, replace: bool) -> Result<Moved> {
        self.storage.move_tree(&self.key(from)?, &self.key(to)?, replace)
    }

    fn moves_at_once(&self) -> bool {
        self.storage.moves_at_once()
    }

    fn remove_tree(&self, prefix: &str) -> Result<bool> {
        self.storage.remove_tree(&self.key(prefix)?)
    }

    fn sync(&self, prefix: &str) -> Result<()> {
        self.storage.sync(&self.prefix(prefix)?)
    }

    fn sync_tree(&self, prefix: &str) -> Result<()> {
        self.storage.sync_tree(&self.prefix(prefix)?)
    }

    fn hold(&self, prefix: &str) -> Result<Hold> {
        self.storage.hold(&self.key(prefix)?)
    }

    fn sweep(&self, prefix: &str, age: Duration) -> Result<()> {
        self.storage.sweep(&self.prefix(prefix)?, age)
    }
}
