//! Which arrays there are. The layout says what each of them is, so that none is opened to list them; what is in
//! them is for [`crate::details()`] and [`crate::verify()`] to say.

use std::{fmt, str::FromStr, sync::Arc};

use dacapo_array::storage::{Kind, Storage, join};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    ArrayFilter, BestName, DatasetName, Error, IndexName, LocalArrayIdentifier, LocalArrayStore,
    LocalContainerIdentifier, ParametersName, Result,
    remove::{self, Node},
};

/// Groups are looked into so deep.
const MOST_LEVELS: usize = 32;

/// What an array of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArrayKind {
    /// What a run is validated on: raw or ground truth.
    Input,
    /// What the network predicted.
    Prediction,
    /// What post-processing made of a prediction.
    Output,
    /// The best output by a criterion.
    Best,
    /// What the run was trained on at a moment.
    Snapshot,
    /// Something that the layout does not know.
    Other,
}

impl ArrayKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Input,
        Self::Prediction,
        Self::Output,
        Self::Best,
        Self::Snapshot,
        Self::Other,
    ];

    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Prediction => "prediction",
            Self::Output => "output",
            Self::Best => "best",
            Self::Snapshot => "snapshot",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for ArrayKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ArrayKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| Error::Pattern {
            text: text.to_owned(),
            reason: format!("a kind is one of {}", Self::ALL.map(Self::name).join(", ")),
        })
    }
}

/// An array, and what the layout says of it. What does not apply is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArrayEntry {
    /// The array.
    pub identifier: LocalArrayIdentifier,
    /// The run that it belongs to: the directory of its container.
    pub run: String,
    /// What it is.
    pub kind: ArrayKind,
    /// The iteration that it was made after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iteration: Option<u64>,
    /// The validation dataset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The post-processing parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
    /// The criterion by which it is the best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub criterion: Option<String>,
}

impl ArrayEntry {
    /// What the layout says of an array by its path alone. Pure: it need not be there, nor belong to a store.
    pub fn of(identifier: LocalArrayIdentifier) -> Self {
        let container = identifier.container();
        let run = container
            .parent()
            .and_then(|run| run.name().map(str::to_owned))
            .unwrap_or_default();
        let name = container.name().unwrap_or_default().to_owned();
        let parts: Vec<&str> = identifier.dataset().split('/').collect();
        let number = |part: &str| part.parse().ok().filter(|at: &u64| at.to_string() == part);
        let mut entry = Self {
            run,
            kind: ArrayKind::Other,
            iteration: None,
            dataset: None,
            parameters: None,
            criterion: None,
            identifier: identifier.clone(),
        };
        match (name.as_str(), parts.as_slice()) {
            ("snapshot.zarr", parts) => {
                entry.kind = ArrayKind::Snapshot;
                entry.iteration = number(parts[0]);
            }
            ("validation.zarr", ["inputs", "raw" | "gt"]) => entry.kind = ArrayKind::Input,
            ("validation.zarr", ["inputs", index, "raw" | "gt"]) => {
                entry.kind = ArrayKind::Input;
                entry.dataset = Some(decoded(IndexName::from_component(index), index));
            }
            ("validation.zarr", [at, dataset, rest @ ..]) if number(at).is_some() => {
                entry.iteration = number(at);
                entry.dataset = Some(decoded(DatasetName::from_component(dataset), dataset));
                match rest {
                    ["prediction"] => entry.kind = ArrayKind::Prediction,
                    ["output", parameters] => {
                        entry.kind = ArrayKind::Output;
                        entry.parameters =
                            Some(decoded(ParametersName::from_component(parameters), parameters));
                    }
                    _ => {}
                }
            }
            ("validation.zarr", [criterion]) if *criterion != "inputs" && number(criterion).is_none() => {
                entry.kind = ArrayKind::Best;
                entry.criterion = Some(decoded(BestName::from_component(criterion), criterion));
            }
            ("validation.zarr", [index, criterion]) if *index != "inputs" => {
                entry.kind = ArrayKind::Best;
                entry.dataset = Some(decoded(BestName::from_component(index), index));
                entry.criterion = Some(decoded(BestName::from_component(criterion), criterion));
            }
            _ => {}
        }
        entry
    }
}

/// A name as it was given; one that another program wrote stands for itself.
fn decoded<K: crate::names::Kind>(name: Result<crate::names::Name<K>>, component: &str) -> String {
    name.map_or_else(|_| component.to_owned(), |name| name.as_str().to_owned())
}

impl LocalArrayStore {
    /// What the arrays are kept in, its root the base.
    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        self.base.storage.clone()
    }

    /// The path of an array below the base, its parts joined by `/`.
    ///
    /// # Errors
    /// [`Error::Refused`] for an array that is not below it.
    pub fn path_of(&self, array: &LocalArrayIdentifier) -> Result<String> {
        Ok(join(&remove::container_key(&self.base, array)?, array.dataset()))
    }

    /// The array with this path below the base.
    ///
    /// # Errors
    /// [`Error::Identifier`] for a path that no array has.
    pub fn identifier_at(&self, path: &str) -> Result<LocalArrayIdentifier> {
        let parts: Vec<&str> = path.split('/').collect();
        let refuse = |reason: &str| Error::Identifier {
            text: path.to_owned(),
            reason: reason.to_owned(),
        };
        let is_container = |part: &&str| part.len() > ".zarr".len() && part.ends_with(".zarr");
        let last = parts.iter().rposition(is_container);
        let last = last.ok_or_else(|| refuse("no part of it ends in `.zarr`"))?;
        let is_bad = |part: &&str| part.is_empty() || part.starts_with('.') || part.contains('\0');
        if parts[..=last].iter().any(is_bad) {
            return Err(refuse("a part of it is empty or begins with a dot"));
        }
        let container = self.base.location.join(&parts[..=last].join("/"));
        LocalContainerIdentifier::new(container)?.array_identifier(&parts[last + 1..].join("/"))
    }

    /// The runs that have arrays: the directories that hold a container, hidden ones left out.
    ///
    /// # Errors
    /// [`Error::Array`] if the base directory cannot be listed.
    pub fn runs(&self) -> Result<Vec<String>> {
        let storage = self.storage();
        let names = prefixes(&*storage, "")?;
        let with = |run: String| -> Result<Option<String>> {
            let is_run = !containers(&*storage, &run)?.is_empty();
            Ok(is_run.then_some(run))
        };
        let found: Result<Vec<Option<String>>> = names.into_par_iter().map(with).collect();
        Ok(found?.into_iter().flatten().collect())
    }

    /// The arrays of all runs that the filter means, by run, kind, iteration, dataset and name. None is opened:
    /// the layout says what each is.
    ///
    /// # Errors
    /// [`Error::Array`] if something cannot be listed.
    pub fn list(&self, filter: &ArrayFilter) -> Result<Vec<ArrayEntry>> {
        let storage = self.storage();
        let runs = prefixes(&*storage, "")?;
        let runs: Vec<String> = runs.into_iter().filter(|run| filter.has_run(run)).collect();
        let of_run = |run: &String| -> Result<Vec<String>> {
            let mut keys = Vec::new();
            for container in containers(&*storage, run)? {
                keys.extend(keys_of(&*storage, &join(run, &container), filter)?);
            }
            Ok(keys)
        };
        let keys: Vec<Vec<String>> = runs.par_iter().map(of_run).collect::<Result<_>>()?;
        let mut entries: Vec<ArrayEntry> = keys
            .into_iter()
            .flatten()
            .filter_map(|key| {
                // A path that is no identifier's is no array of ours.
                let entry = ArrayEntry::of(self.identifier_at(&key).ok()?);
                filter.matches(&entry, &key).then_some(entry)
            })
            .collect();
        entries.sort_by(|a, b| {
            (&a.run, a.kind, a.iteration, &a.dataset, &a.identifier).cmp(&(
                &b.run,
                b.kind,
                b.iteration,
                &b.dataset,
                &b.identifier,
            ))
        });
        Ok(entries)
    }
}

/// The prefixes one level below another, hidden ones left out. Links are not followed.
pub(crate) fn prefixes(storage: &dyn Storage, prefix: &str) -> Result<Vec<String>> {
    let entries = storage.list(prefix)?;
    Ok(entries
        .into_iter()
        .filter(|entry| entry.kind == Kind::Prefix && !entry.name.starts_with('.'))
        .map(|entry| entry.name)
        .collect())
}

/// The containers of a run.
pub(crate) fn containers(storage: &dyn Storage, run: &str) -> Result<Vec<String>> {
    if run.ends_with(".zarr") {
        return Ok(Vec::new());
    }
    let names = prefixes(storage, run)?;
    Ok(names.into_iter().filter(|name| name.ends_with(".zarr")).collect())
}

/// The keys of the arrays of a container.
fn keys_of(storage: &dyn Storage, container: &str, filter: &ArrayFilter) -> Result<Vec<String>> {
    let is_validation = container.ends_with("/validation.zarr");
    let is_snapshot = container.ends_with("/snapshot.zarr");
    let top = prefixes(storage, container)?;
    let of_group = |name: &String| -> Result<Vec<String>> {
        let key = join(container, name);
        let mut keys = Vec::new();
        let iteration: Option<u64> = name.parse().ok();
        if iteration.is_some_and(|at| !filter.has_iteration(at)) && (is_validation || is_snapshot) {
            return Ok(keys);
        }
        match (iteration, name.as_str()) {
            (Some(_), _) if is_validation => {
                for dataset in prefixes(storage, &key)? {
                    let dataset = join(&key, &dataset);
                    for name in prefixes(storage, &dataset)? {
                        let key = join(&dataset, &name);
                        match name.as_str() {
                            "prediction" => keys.push(key),
                            "output" => {
                                let outputs = prefixes(storage, &key)?;
                                keys.extend(outputs.iter().map(|name| join(&key, name)));
                            }
                            _ => search(storage, &key, 3, &mut keys)?,
                        }
                    }
                }
            }
            (_, "inputs") if is_validation => {
                for index in prefixes(storage, &key)? {
                    let key = join(&key, &index);
                    if matches!(index.as_str(), "raw" | "gt") {
                        keys.push(key);
                        continue;
                    }
                    for name in prefixes(storage, &key)? {
                        let key = join(&key, &name);
                        match name.as_str() {
                            "raw" | "gt" => keys.push(key),
                            _ => search(storage, &key, 3, &mut keys)?,
                        }
                    }
                }
            }
            (Some(_), _) if is_snapshot => {
                for group in prefixes(storage, &key)? {
                    let key = join(&key, &group);
                    if group == "volumes" {
                        let names = prefixes(storage, &key)?;
                        keys.extend(names.iter().map(|name| join(&key, name)));
                    } else {
                        search(storage, &key, 2, &mut keys)?;
                    }
                }
            }
            _ => search(storage, &key, 1, &mut keys)?,
        }
        Ok(keys)
    };
    let keys: Vec<Vec<String>> = top.par_iter().map(of_group).collect::<Result<_>>()?;
    Ok(keys.concat())
}

/// Finds arrays where the layout does not say what is one.
pub(crate) fn search(storage: &dyn Storage, key: &str, level: usize, keys: &mut Vec<String>) -> Result<()> {
    if remove::node(storage, key)? == Node::Array {
        keys.push(key.to_owned());
    } else if level < MOST_LEVELS {
        for name in prefixes(storage, key)? {
            search(storage, &join(key, &name), level + 1, keys)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::ArrayStore;

    fn entry(path: &str) -> ArrayEntry {
        ArrayEntry::of(LocalArrayStore::new("base").identifier_at(path).unwrap())
    }

    #[test]
    fn the_layout_says_what_each_array_is() {
        let store = LocalArrayStore::new("base");
        let parameters = "Watershed(id=2, bias=0.5)";
        let (raw, gt) = store.validation_input_arrays("run", Some("a/b")).unwrap();
        for (identifier, kind, iteration, dataset, by) in [
            (raw, ArrayKind::Input, None, Some("a/b"), None),
            (gt, ArrayKind::Input, None, Some("a/b"), None),
            (
                store.validation_prediction_array("run", 10, "inputs").unwrap(),
                ArrayKind::Prediction,
                Some(10),
                Some("inputs"),
                None,
            ),
            (
                store.validation_output_array("run", 10, parameters, "b").unwrap(),
                ArrayKind::Output,
                Some(10),
                Some("b"),
                Some(parameters),
            ),
            (
                store.best_validation_array("run", "voi", None).unwrap(),
                ArrayKind::Best,
                None,
                None,
                Some("voi"),
            ),
            (
                store.best_validation_array("run", "voi", Some("10")).unwrap(),
                ArrayKind::Best,
                None,
                Some("10"),
                Some("voi"),
            ),
        ] {
            let entry = ArrayEntry::of(identifier);
            assert_eq!((entry.run.as_str(), entry.kind), ("run", kind));
            assert_eq!((entry.iteration, entry.dataset.as_deref()), (iteration, dataset));
            let found = entry.parameters.as_deref().or(entry.criterion.as_deref());
            assert_eq!(found, by);
        }
        let snapshot = entry("run/snapshot.zarr/5/volumes/raw");
        assert_eq!(
            (snapshot.kind, snapshot.iteration),
            (ArrayKind::Snapshot, Some(5))
        );
        assert_eq!(entry("run/mine.zarr/a").kind, ArrayKind::Other);
        assert_eq!(entry("run/validation.zarr/10/b/else").kind, ArrayKind::Other);
        assert_eq!(
            entry("run/validation.zarr/007/b/prediction").kind,
            ArrayKind::Other
        );
    }

    /// Arrays of a run in the layout, by their paths in `validation.zarr`; what makes them arrays is one file.
    fn inhabit(base: &Path, run: &str, arrays: &[&str]) {
        for array in arrays {
            let dir = base.join(run).join("validation.zarr").join(array);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(".zarray"), "{}").unwrap();
        }
    }

    #[test]
    fn arrays_are_listed_by_what_they_are_and_filtered() {
        let dir = tempfile::tempdir().unwrap();
        let arrays = [
            "inputs/b/raw",
            "inputs/b/gt",
            "10/b/prediction",
            "9/b/prediction",
            "10/b/output/x(t=1)",
            "10/c/prediction",
            "b/voi",
            "voi",
            "10/b/mine/deep",
        ];
        inhabit(dir.path(), "run", &arrays);
        inhabit(dir.path(), "other", &["10/b/prediction"]);
        fs::create_dir_all(dir.path().join("run/.trash/.unfinished-1/x.zarr")).unwrap();
        fs::create_dir_all(dir.path().join("run/validation.zarr/.unfinished-1")).unwrap();
        fs::create_dir_all(dir.path().join("lonely.zarr/a")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("run"), dir.path().join("linked")).unwrap();
        let store = LocalArrayStore::new(dir.path());
        assert_eq!(store.runs().unwrap(), ["other", "run"]);
        let list = |filter: ArrayFilter| -> Vec<String> {
            let entries = store.list(&filter).unwrap();
            let paths = entries
                .iter()
                .map(|entry| store.path_of(&entry.identifier).unwrap());
            paths.map(|path| path.replace("/validation.zarr/", ":")).collect()
        };
        let all = [
            "other:10/b/prediction",
            "run:inputs/b/gt",
            "run:inputs/b/raw",
            "run:9/b/prediction",
            "run:10/b/prediction",
            "run:10/c/prediction",
            "run:10/b/output/x(t=1)",
            "run:voi",
            "run:b/voi",
            "run:10/b/mine/deep",
        ];
        assert_eq!(list(ArrayFilter::default()), all);
        let of = |text: &str| vec![text.parse::<crate::Pattern>().unwrap()];
        let run = || ArrayFilter {
            runs: of("ru*"),
            ..ArrayFilter::default()
        };
        assert_eq!(list(run()).len(), 9);
        let mut filter = run();
        filter.kinds = vec![ArrayKind::Prediction];
        filter.iterations = vec!["10:".parse().unwrap()];
        assert_eq!(list(filter), ["run:10/b/prediction", "run:10/c/prediction"]);
        let mut filter = run();
        filter.criteria = of("v*");
        assert_eq!(list(filter), ["run:voi", "run:b/voi"]);
        let filter = ArrayFilter {
            paths: of("*/10/b"),
            ..ArrayFilter::default()
        };
        assert_eq!(list(filter).len(), 4);
        let mut filter = run();
        filter.parameters = of("x(t=1)");
        assert_eq!(list(filter), ["run:10/b/output/x(t=1)"]);
        assert!(
            LocalArrayStore::new(dir.path().join("none"))
                .list(&run())
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn ten_thousand_arrays_list_without_being_opened() {
        let dir = tempfile::tempdir().unwrap();
        let validation = dir.path().join("run/validation.zarr");
        for iteration in 0..100 {
            for set in 0..99 {
                // No metadata at all: nothing to open.
                fs::create_dir_all(validation.join(format!("{iteration}/b/output/threshold={set}"))).unwrap();
            }
            fs::create_dir_all(validation.join(format!("{iteration}/b/prediction"))).unwrap();
        }
        let entries = LocalArrayStore::new(dir.path())
            .list(&ArrayFilter::default())
            .unwrap();
        assert_eq!(entries.len(), 10_000);
        assert!(entries.iter().all(|entry| entry.dataset.as_deref() == Some("b")));
    }
}
