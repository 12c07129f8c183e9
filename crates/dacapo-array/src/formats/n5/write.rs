//! Writing N5 datasets: gzip blocks, aside, then put in their place.

use std::fs;
use std::path::Path;

use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::attributes::{self, Storage};
use super::block::{self, Compression};
use crate::dtype::with_data;
use crate::formats::aside::Aside;
use crate::formats::blocks::{self, part};
use crate::formats::parts::{OnPart, PART, go_through, parts};
use crate::storage::{Durability, LocalStorage, Storage as _};
use crate::{ArrayRead, DType, Element, Error, Result};

/// Side of a block along spatial axes.
const SIDE: usize = 64;

/// Writes an array as a dataset of a container, which is made where there is none. Booleans are written as
/// `uint8`, N5 has none.
///
/// # Errors
/// [`Error::Taken`] if something is there that is not to be replaced; [`Error::File`] for a dataset inside of
/// another; [`Error::Io`]; [`Error::Interrupted`].
pub(in crate::formats) fn write(
    array: &dyn ArrayRead,
    path: &Path,
    overwrite: bool,
    on_part: OnPart<'_>,
) -> Result<()> {
    let spec = array.spec();
    let shape = spec.shape();
    let leading = spec.channels.len();
    let block: Vec<usize> = (0..shape.len())
        .map(|axis| {
            if axis < leading {
                1
            } else {
                shape[axis].clamp(1, SIDE)
            }
        })
        .collect();
    let storage = Storage {
        shape: shape.clone(),
        block: block.clone(),
        dtype: if spec.dtype == DType::Bool {
            DType::U8
        } else {
            spec.dtype
        },
        compression: Compression::Gzip { level: 1 },
    };
    let Some((container, dataset)) = super::split(path).filter(|(_, dataset)| !dataset.is_empty()) else {
        return Err(Error::file(
            path,
            "it names no dataset of an N5 container, as container.n5/dataset",
        ));
    };
    if dataset.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Error::file(path, "it leads out of its container"));
    }
    make_groups(Path::new(&container), path)?;
    if path.is_dir() && !super::is_dataset(path) {
        // A group, which holds others.
        return Err(Error::Taken {
            path: path.to_owned(),
        });
    }
    let aside = Aside::folder(path, overwrite)?;
    let mut described = storage.describe();
    described.extend(attributes::place(spec));
    put(&aside.temporary, &described)?;
    let parts = parts(spec, &block[leading..], PART);
    go_through(&parts, on_part, |roi| {
        let (begin, size) = blocks::window(spec, roi)?;
        let data = array.read(roi)?;
        let counts: Vec<usize> = size
            .iter()
            .zip(&block)
            .map(|(n, block)| n.div_ceil(*block))
            .collect();
        (0..counts.iter().product::<usize>())
            .into_par_iter()
            .try_for_each(|i| {
                let mut rest = i;
                let mut index = vec![0; counts.len()];
                for axis in (0..counts.len()).rev() {
                    index[axis] = rest % counts[axis];
                    rest /= counts[axis];
                }
                let ranges: Vec<_> = (0..index.len())
                    .map(|axis| {
                        let first = index[axis] * block[axis];
                        first..size[axis].min(first + block[axis])
                    })
                    .collect();
                let values = with_data!(&data, data => Element::wrap(part(data.view(), &ranges).to_owned()));
                let mut file = aside.temporary.clone();
                let place = (0..index.len())
                    .rev()
                    .map(|axis| begin[axis] as usize / block[axis] + index[axis]);
                file.extend(place.map(|n| n.to_string()));
                let bytes = block::encode(&values, storage.compression)
                    .map_err(|reason| Error::file(path, reason))?;
                if let Some(dir) = file.parent() {
                    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
                }
                fs::write(&file, bytes).map_err(Error::io("write", &file))
            })
    })?;
    aside.finish()
}

fn put(dir: &Path, attributes: &Map<String, Value>) -> Result<()> {
    let text = format!("{:#}\n", Value::Object(attributes.clone()));
    LocalStorage::new(dir).write(attributes::FILE, text.as_bytes(), Durability::Synced)
}

/// Makes the container and every folder above the dataset a group.
fn make_groups(container: &Path, path: &Path) -> Result<()> {
    let mut above: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .take_while(|dir| dir.starts_with(container))
        .collect();
    above.reverse();
    for dir in above {
        if super::is_dataset(dir) {
            return Err(Error::file(dir, "it is a dataset, which holds no others"));
        }
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        if attributes::load(&LocalStorage::new(dir), "")?.is_none() {
            let version = if dir == container {
                json!({"n5": "2.0.0"})
            } else {
                json!({})
            };
            put(dir, version.as_object().unwrap_or(&Map::new()))?;
        }
    }
    Ok(())
}
