//! Reading N5 datasets, block by block.

use std::path::Path;
use std::sync::Arc;

use super::attributes::{self, Storage};
use super::block;
use crate::formats::blocks::{BlockArray, Blocks};
use crate::formats::placement::Placement;
use crate::storage::{self, Access, Kind, LocalStorage, Location, StorageExt, join};
use crate::{ArrayRead, Error, NdData, Result};

/// Folders below a container are looked into so deep.
const MOST_LEVELS: usize = 8;

/// Blocks in the folder of a dataset.
struct Dataset {
    folder: Arc<dyn storage::Storage>,
    storage: Storage,
}

impl Blocks for Dataset {
    fn load(&self, index: &[usize]) -> Result<Option<NdData>> {
        let parts: Vec<String> = index.iter().rev().map(ToString::to_string).collect();
        let key = parts.join("/");
        let Some(file) = self.folder.read(&key)? else {
            return Ok(None);
        };
        let fail = |reason: String| Error::file(Path::new(&self.folder.describe(&key)), reason);
        let Storage {
            shape,
            block: most,
            dtype,
            compression,
        } = &self.storage;
        let data = block::decode(&file, most, *dtype, *compression).map_err(fail)?;
        // Blocks at the far borders are cut, or filled up.
        let held = (0..shape.len()).map(|axis| most[axis].min(shape[axis] - index[axis] * most[axis]));
        if data.shape().iter().zip(held).any(|(&n, held)| n < held) {
            return Err(fail(format!(
                "it has {:?} values, too few for its place",
                data.shape()
            )));
        }
        Ok(Some(data))
    }
}

/// Whether a folder is a dataset.
pub(in crate::formats) fn is_dataset(dir: &Path) -> bool {
    is_dataset_in(&LocalStorage::new(dir), "")
}

fn is_dataset_in(storage: &dyn storage::Storage, folder: &str) -> bool {
    let attributes = attributes::load(storage, folder);
    attributes.is_ok_and(|found| found.is_some_and(|found| found.contains_key("dimensions")))
}

/// Opens a dataset of a container.
///
/// # Errors
/// [`Error::File`] if there is none, naming what is there, or if it makes no sense; [`Error::Spec`]; [`Error::Io`].
pub(in crate::formats) fn open(
    location: &Location,
    placement: &Placement,
    access: &Access,
) -> Result<Box<dyn ArrayRead>> {
    let folder = access.storage(location)?;
    let own = attributes::load(&*folder, "")?.unwrap_or_default();
    if !own.contains_key("dimensions") {
        let reason = missing(location, access);
        return Err(Error::file(Path::new(&location.to_string()), reason));
    }
    let fail = |reason: String| Error::file(Path::new(&folder.describe(attributes::FILE)), reason);
    let storage = Storage::parse(&own).map_err(fail)?;
    // What is wrong with the group's is no affair of the dataset.
    let group = location
        .parent()
        .and_then(|group| attributes::load(&*access.storage(&group).ok()?, "").ok()?)
        .unwrap_or_default();
    let found = attributes::spatial(attributes::placement(&own, &group), storage.shape.len());
    let spec = placement.spec(found, &storage.shape, storage.dtype)?;
    let dataset = Dataset { folder, storage };
    Ok(Box::new(BlockArray::new(
        spec,
        dataset.storage.block.clone(),
        dataset,
    )))
}

/// What to say where there is no dataset.
fn missing(location: &Location, access: &Access) -> String {
    let text = location.to_string();
    let container = super::split(Path::new(&text)).map_or(text, |(container, _)| container);
    let there = container
        .parse()
        .and_then(|container: Location| access.storage(&container))
        .and_then(|storage| {
            let mut there = Vec::new();
            list(&*storage, "", 0, &mut there)?;
            Ok(there)
        });
    let mut there = match there {
        Err(Error::Unsupported { .. }) => {
            return "there is no N5 dataset, and what else there is cannot be listed".into();
        }
        there => there.unwrap_or_default(),
    };
    there.sort();
    if there.is_empty() {
        return "there is no N5 dataset".into();
    }
    let more = if there.len() > 8 { ", …" } else { "" };
    there.truncate(8);
    format!(
        "there is no N5 dataset; {container} has: {}{more}",
        there.join(", ")
    )
}

fn list(container: &dyn storage::Storage, prefix: &str, level: usize, found: &mut Vec<String>) -> Result<()> {
    for entry in container.list(prefix)? {
        if entry.kind != Kind::Prefix || entry.name.starts_with('.') {
            continue;
        }
        let path = join(prefix, &entry.name);
        if is_dataset_in(container, &path) {
            found.push(path);
        } else if level < MOST_LEVELS {
            list(container, &path, level + 1, found)?;
        }
    }
    Ok(())
}
