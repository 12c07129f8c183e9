//! The entry of a pyramid in its group's OME-NGFF multiscales. Entries of single arrays are made where arrays
//! are published.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Map, Value, json};

use super::{Level, Reduce, last};
use crate::formats::replace;
use crate::{Coordinate, Decimal, Error, Result};

/// A group's metadata in version 3.
const V3: &str = "zarr.json";

/// Makes one entry, `name`, of the entries that the levels got when they were published.
///
/// # Errors
/// [`Error::File`] if the group's metadata makes no sense; [`Error::Io`].
pub(super) fn enter(levels: &[Level], reduce: Reduce, name: &str) -> Result<()> {
    let Some(group) = levels[0].address.path().parent().map(Path::to_owned) else {
        return Ok(());
    };
    // Whoever publishes an array in the group holds the same lock.
    let lock = File::open(&group).map_err(Error::io("open", &group))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| Error::io("lock", &group)(error.into()))?;
    let (path, mut metadata) = load(&group)?;
    let broken = || Error::file(&path, "it has no multiscales entry of the pyramid's levels");
    let owner = if path.ends_with(V3) {
        metadata.pointer_mut("/attributes/ome").ok_or_else(broken)?
    } else {
        &mut metadata
    };
    let entries = owner
        .get_mut("multiscales")
        .and_then(Value::as_array_mut)
        .ok_or_else(broken)?;
    update(entries, levels, reduce, name).ok_or_else(broken)?;
    replace(&path, format!("{metadata:#}\n").as_bytes())
}

/// The file with a group's attributes, and its content: `.zattrs` in version 2, `zarr.json` in version 3.
fn load(group: &Path) -> Result<(PathBuf, Value)> {
    let v2 = group.join(".zattrs");
    let path = if v2.exists() { v2 } else { group.join(V3) };
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    match serde_json::from_slice(&bytes) {
        Ok(metadata @ Value::Object(_)) => Ok((path, metadata)),
        Ok(_) => Err(Error::file(&path, "it is no JSON object")),
        Err(error) => Err(Error::file(&path, error.to_string())),
    }
}

/// Nothing if there is no entry to begin with.
fn update(entries: &mut Vec<Value>, levels: &[Level], reduce: Reduce, name: &str) -> Option<()> {
    let named = |entry: &Value, name: &str| entry.get("name").and_then(Value::as_str) == Some(name);
    let names: Vec<&str> = levels.iter().map(|level| last(&level.address.dataset)).collect();
    // Any level has the axes of all.
    let mut entry: Map<String, Value> = names
        .iter()
        .rev()
        .find_map(|name| entries.iter().find(|entry| named(entry, name)))?
        .as_object()?
        .clone();
    let datasets: Vec<Value> = levels
        .iter()
        .zip(&names)
        .map(|(level, name)| dataset(level, &levels[0], name))
        .collect();
    entry.insert("name".into(), json!(name));
    entry.insert("datasets".into(), json!(datasets));
    entry.insert(
        "type".into(),
        json!(match reduce {
            Reduce::Mean => "mean",
            Reduce::Mode => "mode",
        }),
    );
    // In place of an older entry; those of the levels by themselves go.
    let is_ours = |entry: &Value| named(entry, name) || names.iter().any(|level| named(entry, level));
    let first = entries
        .iter()
        .position(|entry| named(entry, name))
        .or_else(|| entries.iter().position(is_ours));
    let at = entries[..first.unwrap_or_default()]
        .iter()
        .filter(|entry| !is_ours(entry))
        .count();
    entries.retain(|entry| !is_ours(entry));
    entries.insert(at, Value::Object(entry));
    Some(())
}

fn dataset(level: &Level, first: &Level, path: &str) -> Value {
    let leading = level.spec.channels.len();
    let padded = |front: f64, values: &Coordinate| -> Vec<f64> {
        std::iter::repeat_n(front, leading)
            .chain(values.to_f64())
            .collect()
    };
    let size = &level.spec.voxel_size;
    let half =
        (size.clone() - &first.spec.voxel_size) / &Coordinate::new(size.iter().map(|_| Decimal::from(2)));
    let translation = first.spec.roi.begin().clone() + &half;
    json!({
        "path": path,
        "coordinateTransformations": [
            {"type": "scale", "scale": padded(1.0, size)},
            {"type": "translation", "translation": padded(0.0, &translation)},
        ],
    })
}
