//! Objects of which parts are read.

use std::io;
use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};

use super::failed;
use super::runtime::Asynchrony;
use crate::storage::OpenObject;
use crate::{Error, Result};

/// An object as it was when it was opened: the service refuses to read another state.
pub(super) struct OpenRemote {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) runtime: Arc<Asynchrony>,
    pub(super) path: Path,
    pub(super) name: String,
    pub(super) meta: ObjectMeta,
}

impl OpenObject for OpenRemote {
    fn len(&self) -> u64 {
        self.meta.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        let Some(end) = end.filter(|&end| end <= self.meta.size) else {
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(Error::io("read", FilePath::new(&self.name))(error));
        };
        let (store, path) = (self.store.clone(), self.path.clone());
        let options = GetOptions {
            range: Some(GetRange::Bounded(offset..end)),
            if_match: self.meta.e_tag.clone(),
            ..GetOptions::default()
        };
        let got = self
            .runtime
            .wait(async move { store.get_opts(&path, options).await?.bytes().await })
            .map_err(|error| failed("read", &self.name, error))?;
        if got.len() != buffer.len() {
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(Error::io("read", FilePath::new(&self.name))(error));
        }
        buffer.copy_from_slice(&got);
        Ok(())
    }
}
