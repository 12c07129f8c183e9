//! Reading N5 datasets, block by block.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::attributes::{self, Storage};
use super::block;
use crate::formats::blocks::{BlockArray, Blocks};
use crate::formats::placement::Placement;
use crate::{ArrayRead, Error, NdData, Result};

/// Folders below a container are looked into so deep.
const MOST_LEVELS: usize = 8;

/// Blocks in the folder of a dataset.
struct Dataset {
    dir: PathBuf,
    storage: Storage,
}

impl Blocks for Dataset {
    fn load(&self, index: &[usize]) -> Result<Option<NdData>> {
        let mut path = self.dir.clone();
        path.extend(index.iter().rev().map(ToString::to_string));
        let file = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(Error::io("read", &path))?,
        };
        let Storage {
            shape,
            block: most,
            dtype,
            compression,
        } = &self.storage;
        let data =
            block::decode(&file, most, *dtype, *compression).map_err(|reason| Error::file(&path, reason))?;
        // Blocks at the far borders are cut, or filled up.
        let held = (0..shape.len()).map(|axis| most[axis].min(shape[axis] - index[axis] * most[axis]));
        if data.shape().iter().zip(held).any(|(&n, held)| n < held) {
            let reason = format!("it has {:?} values, too few for its place", data.shape());
            return Err(Error::file(&path, reason));
        }
        Ok(Some(data))
    }
}

/// Whether a folder is a dataset.
pub(in crate::formats) fn is_dataset(dir: &Path) -> bool {
    attributes::load(dir).is_ok_and(|found| found.is_some_and(|found| found.contains_key("dimensions")))
}

/// Opens a dataset of a container.
///
/// # Errors
/// [`Error::File`] if there is none, naming what is there, or if it makes no sense; [`Error::Spec`]; [`Error::Io`].
pub(in crate::formats) fn open(dir: &Path, placement: &Placement) -> Result<Box<dyn ArrayRead>> {
    let own = attributes::load(dir)?.unwrap_or_default();
    if !own.contains_key("dimensions") {
        return Err(Error::file(dir, missing(dir)));
    }
    let fail = |reason: String| Error::file(&dir.join(attributes::FILE), reason);
    let storage = Storage::parse(&own).map_err(fail)?;
    let group = match dir.parent() {
        // What is wrong with the group's is no affair of the dataset.
        Some(group) => attributes::load(group).ok().flatten().unwrap_or_default(),
        None => Default::default(),
    };
    let found = attributes::spatial(attributes::placement(&own, &group), storage.shape.len());
    let spec = placement.spec(found, &storage.shape, storage.dtype)?;
    let dataset = Dataset {
        dir: dir.to_owned(),
        storage,
    };
    Ok(Box::new(BlockArray::new(
        spec,
        dataset.storage.block.clone(),
        dataset,
    )))
}

/// What to say where there is no dataset.
fn missing(dir: &Path) -> String {
    let container = super::split(dir).map_or_else(|| dir.to_owned(), |(container, _)| container);
    let mut there = Vec::new();
    list(&container, "", 0, &mut there);
    there.sort();
    if there.is_empty() {
        return "there is no N5 dataset".into();
    }
    let more = if there.len() > 8 { ", …" } else { "" };
    there.truncate(8);
    format!(
        "there is no N5 dataset; {} has: {}{more}",
        container.display(),
        there.join(", ")
    )
}

fn list(dir: &Path, prefix: &str, level: usize, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || name.starts_with('.') {
            continue;
        }
        if is_dataset(&entry.path()) {
            found.push(format!("{prefix}{name}"));
        } else if level < MOST_LEVELS {
            list(&entry.path(), &format!("{prefix}{name}/"), level + 1, found);
        }
    }
}
