//! Where the objects of an array are: a storage, and keys in it. What the objects mean is in `format`.

use std::io;
use std::sync::Arc;

use serde_json::Value;

use crate::storage::{Access, Stamp, Storage, join};
use crate::{ArrayAddress, Error, Result};

/// Metadata of more bytes is not read.
const MOST_METADATA: u64 = 64 << 20;

/// An array's place in a storage.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) storage: Arc<dyn Storage>,
    /// Key of the container; empty where the storage is one.
    pub(super) container: String,
    pub(super) address: ArrayAddress,
}

impl Place {
    pub(super) fn of(address: &ArrayAddress, access: &Access) -> Result<Self> {
        address.check()?;
        Ok(Self {
            storage: access.storage(&address.container)?,
            container: String::new(),
            address: address.clone(),
        })
    }

    /// In a storage that has the container at a key.
    pub(super) fn within(storage: Arc<dyn Storage>, container: &str, address: &ArrayAddress) -> Result<Self> {
        address.check()?;
        Ok(Self {
            storage,
            container: container.to_owned(),
            address: address.clone(),
        })
    }

    /// Key of the array.
    pub(super) fn key(&self) -> String {
        join(&self.container, &self.address.dataset)
    }

    /// Key of the group that the array is in.
    pub(super) fn group(&self) -> String {
        match self.address.dataset.rsplit_once('/') {
            Some((group, _)) => join(&self.container, group),
            None => self.container.clone(),
        }
    }

    /// Its name in that group.
    pub(super) fn name(&self) -> &str {
        let dataset = &self.address.dataset;
        dataset.rsplit_once('/').map_or(dataset, |(_, name)| name)
    }

    pub(super) fn broken(&self, reason: impl Into<String>) -> Error {
        Error::Metadata {
            address: self.address.clone(),
            reason: reason.into(),
        }
    }
}

/// What was read, or as a text what is wrong with it: of metadata that is there, and is of no use.
pub(super) type Read<T> = std::result::Result<T, String>;

/// Reads a JSON object, with its state; nothing if there is none.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn read_json(storage: &dyn Storage, key: &str) -> Result<Read<Option<(Value, Stamp)>>> {
    let mut bytes = Vec::new();
    let stamp = match storage.read_state(key, MOST_METADATA, &mut bytes) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::FileTooLarge => {
            return Ok(Err(format!("{}: {source}", storage.describe(key))));
        }
        state => match state? {
            Some(stamp) => stamp,
            None => return Ok(Ok(None)),
        },
    };
    let value = serde_json::from_slice(&bytes);
    Ok(value
        .map(|value| Some((value, stamp)))
        .map_err(|error| format!("{}: {error}", storage.describe(key))))
}
