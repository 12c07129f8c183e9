//! Groups: what is above an array in its container, and what it says of the arrays in it: the entries of OME-NGFF
//! multiscales, which name the levels of each. What an entry says of where an array lies is in `placement`.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::format::{self, ZarrFormat};
use super::place::Place;
use super::placement;
use crate::storage::{Storage, StorageExt, join};
use crate::{ArrayAddress, ArraySpec, Error, Result};

pub(super) fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// The object that makes a prefix a group.
fn group_object(version: ZarrFormat) -> (&'static str, Value) {
    match version {
        ZarrFormat::V2 => (".zgroup", serde_json::json!({"zarr_format": 2})),
        ZarrFormat::V3 => (
            "zarr.json",
            serde_json::json!({"zarr_format": 3, "node_type": "group", "attributes": {}}),
        ),
    }
}

/// Makes the container and every prefix between it and the array a group.
pub(super) fn create(place: &Place, version: ZarrFormat) -> Result<()> {
    let storage = &*place.storage;
    let (name, content) = group_object(version);
    let mut key = place.container.clone();
    let parts: Vec<&str> = place.address.dataset.split('/').collect();
    for part in std::iter::once(None).chain(parts[..parts.len() - 1].iter().map(Some)) {
        if let Some(part) = part {
            key = join(&key, part);
        }
        if let Ok(Some(_)) = format::array_metadata(storage, &key)? {
            let reason = format!("{} is an array, which holds no others", storage.describe(&key));
            return Err(Error::Address {
                text: place.address.to_string(),
                reason,
            });
        }
        // Where another makes the same group meanwhile, either's will do.
        let object = join(&key, name);
        if !storage.exists(&object)? {
            storage.create(&object, &pretty(&content))?;
        }
    }
    Ok(())
}

/// Enters an array into the multiscales of its group, in place of an older entry.
pub(super) fn enter(place: &Place, version: ZarrFormat, spec: &ArraySpec) -> Result<()> {
    let group = place.group();
    // What another program wrote there and cannot be read is replaced, as if there were nothing.
    let parse = |present: Option<&[u8]>| match present.map(serde_json::from_slice) {
        Some(Ok(Value::Object(map))) => map,
        _ => serde_json::Map::new(),
    };
    match version {
        ZarrFormat::V2 => place.storage.update(&join(&group, ".zattrs"), &mut |present| {
            let mut attributes = parse(present);
            placement::enter(&mut attributes, version, place.name(), spec);
            Ok(pretty(&Value::Object(attributes)))
        }),
        ZarrFormat::V3 => place.storage.update(&join(&group, "zarr.json"), &mut |present| {
            let mut attributes = parse(present).remove("attributes");
            if !matches!(attributes, Some(Value::Object(_))) {
                attributes = None;
            }
            let (_, mut content) = group_object(version);
            if let Some(attributes) = attributes {
                content["attributes"] = attributes;
            }
            if let Value::Object(attributes) = &mut content["attributes"] {
                placement::enter(attributes, version, place.name(), spec);
            }
            Ok(pretty(&content))
        }),
    }
}

/// The paths of the levels of each image in a group's multiscales.
pub(super) fn images(attributes: &Map<String, Value>) -> Vec<Vec<String>> {
    let scales = attributes
        .get("multiscales")
        .or_else(|| attributes.get("ome")?.get("multiscales"));
    let paths = |image: &Value| -> Vec<String> {
        let levels = image
            .get("datasets")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let paths = levels.filter_map(|level| level.get("path")?.as_str());
        paths.map(str::to_owned).collect()
    };
    let images = scales.and_then(Value::as_array).into_iter().flatten();
    images.map(paths).collect()
}

/// Takes an array that is there no more out of the multiscales of the group that it was in, at a key of a storage:
/// viewers would look for it.
///
/// # Errors
/// [`Error::Address`], [`Error::Io`].
pub fn leave_group(storage: &Arc<dyn Storage>, container: &str, address: &ArrayAddress) -> Result<()> {
    let place = Place::within(storage.clone(), container, address)?;
    for name in [".zattrs", "zarr.json"] {
        let key = join(&place.group(), name);
        // Nothing is written where nothing is said of it.
        let is_named = |bytes: &[u8]| without(bytes, place.name()).is_some();
        if !storage.read(&key)?.as_deref().is_some_and(is_named) {
            continue;
        }
        storage.update(&key, &mut |present| {
            let present = present.unwrap_or_default();
            Ok(without(present, place.name()).unwrap_or_else(|| present.to_vec()))
        })?;
    }
    Ok(())
}

/// A group's metadata without a level, and without the images that have no others. Nothing if it names none of that
/// path.
fn without(metadata: &[u8], path: &str) -> Option<Vec<u8>> {
    let mut metadata: Value = serde_json::from_slice(metadata).ok()?;
    let pointers = ["/multiscales", "/attributes/ome/multiscales"];
    let pointer = pointers.into_iter().find(|at| metadata.pointer(at).is_some())?;
    let images = metadata.pointer_mut(pointer)?.as_array_mut()?;
    let mut is_named = false;
    images.retain_mut(|image| {
        let Some(levels) = image.get_mut("datasets").and_then(Value::as_array_mut) else {
            return true;
        };
        let before = levels.len();
        levels.retain(|level| level.get("path").and_then(Value::as_str) != Some(path));
        is_named |= levels.len() < before;
        levels.len() == before || !levels.is_empty()
    });
    is_named.then(|| pretty(&metadata))
}
