//! Finding arrays: opening by name, listing a container, saying what is there instead.

use std::sync::Arc;

use rayon::prelude::*;

use super::ZarrArray;
use super::format::{self, Node};
use super::group::images;
use super::place::Place;
use crate::storage::{Access, Durability, Kind, Location, Storage, join};
use crate::{ArrayAddress, ArrayRead, Error, Result};

/// Folders below a container are looked into so deep.
const MOST_LEVELS: usize = 32;

/// Opens an array by its name. The name of an OME-NGFF group stands for its first, finest level.
///
/// # Errors
/// As [`ZarrArray::open`].
pub fn open_array(address: &ArrayAddress, access: &Access) -> Result<Arc<dyn ArrayRead>> {
    let place = Place::of(address, access)?;
    // Nothing is read for an array but its own metadata: what its group says may be long.
    if let Some(array) = ZarrArray::at(&place, place.key(), Durability::Whole)? {
        return Ok(Arc::new(array));
    }
    let levels = levels(address, access)?;
    let finest = levels.first().unwrap_or(address);
    Ok(Arc::new(ZarrArray::open(finest, access)?))
}

/// The arrays that a name stands for, as OME-NGFF multiscales say it, finest first: the levels of a group with one
/// image, or an array with the smaller ones that its group knows of it. Where nothing is said, the name itself.
///
/// # Errors
/// As looking into the storage.
pub(crate) fn levels(address: &ArrayAddress, access: &Access) -> Result<Vec<ArrayAddress>> {
    levels_at(&Place::of(address, access)?)
}

/// As the levels that are opened for a voxel size, finest first, in a storage that has the container at a key.
///
/// # Errors
/// [`Error::Address`], [`Error::Io`].
pub fn levels_within(
    storage: Arc<dyn Storage>,
    container: &str,
    address: &ArrayAddress,
) -> Result<Vec<ArrayAddress>> {
    levels_at(&Place::within(storage, container, address)?)
}

fn levels_at(place: &Place) -> Result<Vec<ArrayAddress>> {
    let (storage, address) = (&*place.storage, &place.address);
    let (group, paths) = match format::node(storage, &place.key())? {
        Ok(Node::Group) => {
            let images = images(&format::group_attributes(storage, &place.key()));
            let paths = match <[_; 1]>::try_from(images) {
                Ok([only]) => only,
                Err(_) => Vec::new(),
            };
            (address.dataset.as_str(), paths)
        }
        Ok(Node::Array) => {
            let images = images(&format::group_attributes(storage, &place.group()));
            let is_this = |paths: &Vec<String>| paths.first().is_some_and(|path| path == place.name());
            let paths = images.into_iter().find(is_this).unwrap_or_default();
            (
                address.dataset.rsplit_once('/').map_or("", |(group, _)| group),
                paths,
            )
        }
        _ => ("", Vec::new()),
    };
    if paths.is_empty() {
        return Ok(vec![address.clone()]);
    }
    let level = |path: &String| ArrayAddress {
        dataset: join(group, path),
        ..address.clone()
    };
    Ok(paths.iter().map(level).collect())
}

/// The arrays of a container, by their paths in it, sorted.
///
/// # Errors
/// [`Error::NoContainer`] if there is none, [`Error::Io`] if it cannot be looked into, and as
/// [`Access::storage`].
pub fn list_arrays(container: &Location, access: &Access) -> Result<Vec<String>> {
    let storage = access.storage(container)?;
    if storage.kind("")? != Some(Kind::Prefix) {
        return Err(no_container(container, access));
    }
    list_within(&*storage, "")
}

/// The arrays below a prefix, by their paths below it, sorted.
fn list_within(storage: &dyn Storage, container: &str) -> Result<Vec<String>> {
    let mut found = list(storage, container, "", 0)?;
    found.sort();
    Ok(found)
}

/// On all threads: what is asked of one prefix is waited for while another is asked.
fn list(storage: &dyn Storage, prefix: &str, path: &str, level: usize) -> Result<Vec<String>> {
    let entries = storage.list(prefix)?.into_par_iter();
    // Links are not followed: they could lead in circles.
    let below = entries.filter(|entry| entry.kind == Kind::Prefix);
    let found = below.map(|entry| {
        let key = join(prefix, &entry.name);
        let path = join(path, &entry.name);
        // Broken metadata is an array's too: opening it says what is wrong.
        if !matches!(format::array_metadata(storage, &key), Ok(Ok(None))) {
            Ok(vec![path])
        } else if level < MOST_LEVELS {
            list(storage, &key, &path, level + 1)
        } else {
            Ok(Vec::new())
        }
    });
    Ok(found.collect::<Result<Vec<_>>>()?.concat())
}

/// The error for an array that is not there, with what is.
pub(super) fn missing(place: &Place) -> Error {
    let Place {
        storage,
        container,
        address,
    } = place;
    if matches!(storage.list(container), Err(Error::Unsupported { .. })) {
        return Error::Address {
            text: address.to_string(),
            reason: "there is no array, and what else there is cannot be listed".into(),
        };
    }
    if !matches!(storage.kind(container), Ok(Some(Kind::Prefix | Kind::Link))) {
        let parent = container.rsplit_once('/').map_or("", |(parent, _)| parent);
        return Error::NoContainer {
            container: address.container.clone(),
            there: if container.is_empty() {
                Vec::new()
            } else {
                containers(&**storage, parent)
            },
        };
    }
    Error::NoArray {
        address: Box::new(address.clone()),
        there: list_within(&**storage, container).unwrap_or_default(),
    }
}

/// The error for a container that is not there, with those that are beside it.
pub(super) fn no_container(container: &Location, access: &Access) -> Error {
    let parent = container.parent().and_then(|parent| access.storage(&parent).ok());
    Error::NoContainer {
        container: container.clone(),
        there: parent.map_or_else(Vec::new, |parent| containers(&*parent, "")),
    }
}

fn containers(storage: &dyn Storage, prefix: &str) -> Vec<String> {
    let entries = storage.list(prefix).unwrap_or_default().into_iter();
    let names = entries.map(|entry| entry.name);
    names.filter(|name| name.ends_with(".zarr")).collect()
}
