//! Datasets by a convention of folders: groups to train and to validate on, with raw, labels and masks.

use dacapo_array::storage::{Access, Kind, Location, Storage};

use crate::config::{DatasetConfig, Problem, SimpleConfig};
use crate::{Error, Result};

/// What the arrays of a dataset are called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names<'a> {
    pub raw: &'a str,
    pub labels: &'a str,
    pub mask: &'a str,
}

/// The paths of a dataset's arrays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// That of its folder, without an ending.
    pub name: String,
    pub raw: String,
    pub labels: Option<String>,
    pub mask: Option<String>,
}

/// The datasets to train and to validate on.
///
/// # Errors
/// [`Error::Datasplit`] with everything that is wrong.
pub(super) fn datasets(simple: &SimpleConfig, access: &Access) -> Result<[Vec<DatasetConfig>; 2]> {
    let base: Location = simple.path.parse()?;
    let names = Names {
        raw: &simple.raw,
        labels: &simple.labels,
        mask: &simple.mask,
    };
    let mut problems = Vec::new();
    let mut lists = [Vec::new(), Vec::new()];
    if access.storage(&base)?.kind("")? != Some(Kind::Prefix) {
        problems.push(Problem::new("", "there is no such folder or container"));
    } else {
        for (group, list) in [&simple.train, &simple.validate].into_iter().zip(&mut lists) {
            let found = find(&base, group, names, access)?;
            if found.is_empty() {
                problems.push(Problem::new(
                    group.as_str(),
                    format!(
                        "no `{}` is in it, nor in a folder in it{}",
                        names.raw,
                        there(&base, group, access)?
                    ),
                ));
            }
            for Found {
                name,
                raw,
                labels,
                mask,
            } in found
            {
                match labels {
                    Some(labels) => {
                        list.push(DatasetConfig::new(name, raw, labels, mask.map(Into::into)));
                    }
                    None => problems.push(Problem::new(
                        format!("{group}/{name}"),
                        format!("there is `{}`, but no `{}`", names.raw, names.labels),
                    )),
                }
            }
        }
    }
    if problems.is_empty() {
        return Ok(lists);
    }
    Err(Error::Datasplit {
        path: simple.path.clone().into(),
        problems,
    })
}

/// What there is instead of a group, or in it.
fn there(base: &Location, group: &str, access: &Access) -> Result<String> {
    let storage = access.storage(base)?;
    let names = |prefix: &str| -> Result<Vec<String>> {
        Ok(storage
            .list(prefix)?
            .into_iter()
            .map(|entry| entry.name)
            .collect())
    };
    let (place, there) = match storage.kind(group)? {
        Some(_) => ("it", names(group)?),
        None => ("the folder", names("")?),
    };
    let there: Vec<String> = there
        .into_iter()
        .filter(|name| !name.starts_with('.'))
        .take(8)
        .collect();
    Ok(if there.is_empty() {
        String::new()
    } else {
        format!("; in {place} are {}", there.join(", "))
    })
}

/// The datasets of a group: the group itself if it has raw, else the folders in it that have.
///
/// # Errors
/// From looking into the storage.
pub(crate) fn find(base: &Location, group: &str, names: Names, access: &Access) -> Result<Vec<Found>> {
    let storage = access.storage(base)?;
    if let Some(found) = dataset(&*storage, base, group, names)? {
        return Ok(vec![found]);
    }
    let mut all = Vec::new();
    for entry in storage.list(group)? {
        if entry.kind != Kind::Object {
            all.extend(dataset(&*storage, base, &join(group, &entry.name), names)?);
        }
    }
    Ok(all)
}

/// The dataset whose arrays are right below a prefix; nothing if there is no raw.
fn dataset(storage: &dyn Storage, base: &Location, prefix: &str, names: Names) -> Result<Option<Found>> {
    let entries = storage.list(prefix)?;
    // A folder, an array, or a file of another format.
    let path = |name: &str| {
        let is_it = |entry: &&dacapo_array::storage::Entry| match entry.kind {
            Kind::Object => entry
                .name
                .strip_prefix(name)
                .is_some_and(|end| [".tif", ".tiff", ".npy", ".png"].contains(&end)),
            Kind::Prefix | Kind::Link => entry.name == name,
        };
        let entry = entries.iter().find(is_it)?;
        Some(base.join(&join(prefix, &entry.name)).to_string())
    };
    let Some(raw) = path(names.raw) else {
        return Ok(None);
    };
    let folder = base.join(prefix);
    let name = folder.name().unwrap_or_default();
    Ok(Some(Found {
        name: name.split_once('.').map_or(name, |(stem, _)| stem).to_owned(),
        raw,
        labels: path(names.labels),
        mask: path(names.mask),
    }))
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}/{name}")
    }
}
