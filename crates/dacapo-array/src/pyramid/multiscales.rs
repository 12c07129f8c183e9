//! The entry of a pyramid in its group's OME-NGFF multiscales. Entries of single arrays are made where arrays
//! are published.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Level, Reduce, last};
use crate::storage::{Access, join};
use crate::{Coordinate, Decimal, Error, Result, ZarrFormat};

/// A group's metadata in version 3.
const V3: &str = "zarr.json";

/// Makes one entry, `name`, of the entries that the levels got when they were published.
///
/// # Errors
/// [`Error::File`] if the group's metadata makes no sense; [`Error::Io`].
pub(super) fn enter(
    levels: &[Level],
    format: ZarrFormat,
    reduce: Reduce,
    name: &str,
    access: &Access,
) -> Result<()> {
    let address = &levels[0].address;
    let storage = access.storage(&address.container)?;
    let group = address.dataset.rsplit_once('/').map_or("", |(group, _)| group);
    // Of a group that has the metadata of both, that of the levels' own version counts.
    let key = join(
        group,
        match format {
            ZarrFormat::V2 => ".zattrs",
            ZarrFormat::V3 => V3,
        },
    );
    // Whoever publishes an array in the group meanwhile is not undone.
    storage.update(&key, &mut |present| {
        let broken = |reason: String| Error::file(Path::new(&storage.describe(&key)), reason);
        let nothing = || broken("it has no multiscales entry of the pyramid's levels".to_owned());
        let mut metadata: Value =
            serde_json::from_slice(present.unwrap_or_default()).map_err(|error| broken(error.to_string()))?;
        let owner = if key.ends_with(V3) {
            metadata.pointer_mut("/attributes/ome").ok_or_else(nothing)?
        } else {
            &mut metadata
        };
        let entries = owner
            .get_mut("multiscales")
            .and_then(Value::as_array_mut)
            .ok_or_else(nothing)?;
        update(entries, levels, reduce, name).ok_or_else(nothing)?;
        Ok(format!("{metadata:#}\n").into_bytes())
    })
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
