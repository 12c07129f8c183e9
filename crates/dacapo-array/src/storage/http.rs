//! What a web server gives out, to read it. Nothing is listed, nothing written: plain HTTP has neither.

use std::time::Duration;

use object_store::ClientOptions;
use object_store::http::HttpBuilder;

use super::{
    Change, Durability, Entry, Hold, Kind, MARKERS, Moved, ObjectStorage, OpenObject, Stamp, Storage, join,
    key,
};
use crate::{Error, Result};

/// What makes a prefix one, where nothing can be listed: metadata of Zarr and of N5.
const METADATA: [&str; 2] = [".zattrs", "attributes.json"];

/// The objects below a server's root, by GET and HEAD. Requests that fail are tried again, as those to object stores.
#[derive(Clone, Debug)]
pub(super) struct HttpStorage(ObjectStorage);

impl HttpStorage {
    /// What reaches a server, `http://host`.
    pub(super) fn connect(server: &str) -> object_store::Result<impl object_store::ObjectStore> {
        HttpBuilder::new()
            .with_url(server)
            // Who writes `http://` means it.
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .build()
    }

    pub(super) fn new(objects: ObjectStorage) -> Self {
        Self(objects)
    }

    fn refused<T>(&self, what: &str, key: &str) -> Result<T> {
        key::check_prefix(key)?;
        Err(Error::Unsupported {
            what: format!("{what} {}", self.describe(key)),
            hint: "web servers only give out what is asked for by its full name".into(),
        })
    }
}

impl Storage for HttpStorage {
    fn describe(&self, key: &str) -> String {
        self.0.describe(key)
    }

    fn read_into(&self, key: &str, buffer: &mut Vec<u8>) -> Result<bool> {
        self.0.read_into(key, buffer)
    }

    fn read_state(&self, key: &str, most: u64, buffer: &mut Vec<u8>) -> Result<Option<Stamp>> {
        self.0.read_state(key, most, buffer)
    }

    fn open(&self, key: &str) -> Result<Option<Box<dyn OpenObject>>> {
        self.0.open(key)
    }

    fn write(&self, key: &str, _: &[u8], _: Durability) -> Result<()> {
        self.refused("writing", key)
    }

    fn create(&self, key: &str, _: &[u8]) -> Result<bool> {
        self.refused("writing", key)
    }

    fn update_with(&self, key: &str, _: Durability, _: Change) -> Result<()> {
        self.refused("writing", key)
    }

    fn delete(&self, key: &str) -> Result<bool> {
        self.refused("deleting", key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        self.refused("listing", prefix)
    }

    /// A prefix is known by the metadata in it, for nothing else is known of one. Many servers answer for a folder
    /// as for a file, so that this is looked for first.
    fn kind(&self, key: &str) -> Result<Option<Kind>> {
        key::check_prefix(key)?;
        for name in MARKERS.iter().chain(&METADATA) {
            if self.0.stamp(&join(key, name))?.is_some() {
                return Ok(Some(Kind::Prefix));
            }
        }
        let is_object = !key.is_empty() && self.0.stamp(key)?.is_some();
        Ok(is_object.then_some(Kind::Object))
    }

    fn stamp(&self, key: &str) -> Result<Option<Stamp>> {
        self.0.stamp(key)
    }

    fn move_tree(&self, from: &str, _: &str, _: bool) -> Result<Moved> {
        self.refused("moving", from)
    }

    fn remove_tree(&self, prefix: &str) -> Result<bool> {
        self.refused("deleting", prefix)
    }

    fn sync(&self, prefix: &str) -> Result<()> {
        key::check_prefix(prefix)
    }

    fn sync_tree(&self, prefix: &str) -> Result<()> {
        key::check_prefix(prefix)
    }

    fn moves_at_once(&self) -> bool {
        false
    }

    fn hold(&self, prefix: &str) -> Result<Hold> {
        self.refused("writing", prefix)
    }

    fn sweep(&self, prefix: &str, _: Duration) -> Result<()> {
        self.refused("deleting", prefix)
    }
}
