//! Finding arrays: opening by name, listing a container, saying what is there instead.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::format::{self, Node};
use super::{ZarrArray, files};
use crate::{ArrayAddress, ArrayRead, Error, Result};

/// Folders below a container are looked into so deep.
const MOST_LEVELS: usize = 32;

/// Opens an array by its name. The name of an OME-NGFF group stands for its first, finest level.
///
/// # Errors
/// As [`ZarrArray::open`].
pub fn open_array(address: &ArrayAddress) -> Result<Arc<dyn ArrayRead>> {
    let level = match format::node(&address.path()) {
        Ok(Node::Group) => first_level(&address.path()),
        _ => None,
    };
    let address = match level {
        Some(level) => ArrayAddress {
            dataset: format!("{}/{level}", address.dataset),
            ..address.clone()
        },
        None => address.clone(),
    };
    Ok(Arc::new(ZarrArray::open(&address)?))
}

/// The first level of a group's multiscales, if it has just one image.
fn first_level(group: &Path) -> Option<String> {
    let attributes = format::group_attributes(group);
    let scales = attributes
        .get("multiscales")
        .or_else(|| attributes.get("ome")?.get("multiscales"))?;
    match scales.as_array()?.as_slice() {
        [image] => Some(
            image
                .get("datasets")?
                .get(0)?
                .get("path")
                .and_then(Value::as_str)?
                .to_owned(),
        ),
        _ => None,
    }
}

/// The arrays of a container, by their paths in it, sorted.
///
/// # Errors
/// [`Error::NoContainer`] if there is none, [`Error::Io`] if it cannot be looked into.
pub fn list_arrays(container: &Path) -> Result<Vec<String>> {
    if !container.is_dir() {
        return Err(no_container(container));
    }
    let mut found = Vec::new();
    list(container, "", 0, &mut found)?;
    found.sort();
    Ok(found)
}

fn list(dir: &Path, prefix: &str, level: usize, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // Links are not followed: they could lead in circles.
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_dir || files::is_unfinished(&name) {
            continue;
        }
        let path = format!("{prefix}{name}");
        // Broken metadata is an array's too: opening it says what is wrong.
        if matches!(format::node(&entry.path()), Ok(Node::Array(..)) | Err(_)) {
            found.push(path);
        } else if level < MOST_LEVELS {
            list(&entry.path(), &format!("{path}/"), level + 1, found)?;
        }
    }
    Ok(())
}

/// The error for an array that is not there, with what is.
pub(super) fn missing(address: &ArrayAddress) -> Error {
    if !address.container.is_dir() {
        return no_container(&address.container);
    }
    let there = list_arrays(&address.container).unwrap_or_default();
    Error::NoArray {
        address: address.clone(),
        there,
    }
}

fn no_container(path: &Path) -> Error {
    let parent = path
        .parent()
        .filter(|parent| *parent != Path::new(""))
        .unwrap_or(Path::new("."));
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut there: Vec<String> = names.filter(|name| name.ends_with(".zarr")).collect();
    there.sort();
    Error::NoContainer {
        path: path.to_owned(),
        there,
    }
}
