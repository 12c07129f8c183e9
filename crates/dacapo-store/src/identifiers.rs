//! What identifies an array of a store: a container and a path in it. Identifiers are values: making,
//! comparing and printing them touches no disk. Which array is where is [`crate::ArrayStore`]'s to say.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use dacapo_array::ArrayAddress;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, Result, names::is_container_suffix};

/// A Zarr container: a directory whose name ends in `.zarr`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalContainerIdentifier {
    container: PathBuf,
}

/// An array in a container.
///
/// It prints as the address that is used everywhere, and parses back from that:
///
/// ```
/// use dacapo_store::{ArrayStore, LocalArrayIdentifier, LocalArrayStore};
/// let store = LocalArrayStore::new("runs");
/// let prediction = store.validation_prediction_array("run1", 1000, "crop2")?;
/// assert_eq!(prediction.to_string(), "runs/run1/validation.zarr/1000/crop2/prediction");
/// assert_eq!(prediction.to_string().parse::<LocalArrayIdentifier>()?, prediction);
/// # Ok::<(), dacapo_store::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalArrayIdentifier {
    container: LocalContainerIdentifier,
    dataset: String,
}

fn refuse<T>(text: impl fmt::Display, reason: impl Into<String>) -> Result<T> {
    Err(Error::Identifier {
        text: text.to_string(),
        reason: reason.into(),
    })
}

fn is_container(component: &str) -> bool {
    component
        .rfind('.')
        .is_some_and(|dot| dot > 0 && is_container_suffix(&component[dot..]))
}

impl LocalContainerIdentifier {
    /// The container at `container`, there or not.
    ///
    /// # Errors
    /// [`Error::Identifier`] for a path that does not end in `.zarr`, is not UTF-8, or is a URL.
    pub fn new(container: impl Into<PathBuf>) -> Result<Self> {
        let container = container.into();
        let Some(text) = container.to_str() else {
            return refuse(container.display(), "the path is not UTF-8");
        };
        if text.contains('\0') {
            return refuse(text.escape_debug(), "a NUL stands in the path");
        }
        if text.contains("://") {
            return refuse(text, "a local container has a path and no URL");
        }
        if container.extension().is_none_or(|extension| extension != "zarr") {
            return refuse(text, "the name of its container does not end in `.zarr`");
        }
        Ok(Self { container })
    }

    /// The directory.
    pub fn container(&self) -> &Path {
        &self.container
    }

    /// The array at `dataset`, a path of components separated by `/`, as it stands on disk.
    ///
    /// # Errors
    /// [`Error::Identifier`] for a path that is empty or leaves the container, or that no array can have.
    pub fn array_identifier(&self, dataset: &str) -> Result<LocalArrayIdentifier> {
        let refuse = |reason| refuse(format_args!("{self}/{}", dataset.escape_debug()), reason);
        for component in dataset.split('/') {
            match component {
                "" => return refuse("a part of its path is empty"),
                "." | ".." => return refuse("`.` or `..` stands in its path"),
                _ if component.starts_with('.') => return refuse("a part of its path begins with a dot"),
                _ if component.contains(|character: char| character.is_control()) => {
                    return refuse("a control character stands in its path");
                }
                _ if is_container(component) => return refuse("a part of its path ends like a container"),
                _ => {}
            }
        }
        Ok(LocalArrayIdentifier {
            container: self.clone(),
            dataset: dataset.to_owned(),
        })
    }
}

impl LocalArrayIdentifier {
    /// The directory of the container.
    pub fn container(&self) -> &Path {
        &self.container.container
    }

    /// The path in the container, its components separated by `/`.
    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// The container.
    pub fn container_identifier(&self) -> &LocalContainerIdentifier {
        &self.container
    }

    /// As the address by which arrays are opened anywhere.
    pub fn address(&self) -> ArrayAddress {
        ArrayAddress {
            container: self.container().to_owned(),
            dataset: self.dataset.clone(),
        }
    }

    /// The directory of the array.
    pub fn path(&self) -> PathBuf {
        self.container().join(&self.dataset)
    }
}

impl fmt::Display for LocalContainerIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.container.display().to_string();
        f.write_str(text.trim_end_matches('/'))
    }
}

impl fmt::Display for LocalArrayIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.dataset)
    }
}

impl FromStr for LocalContainerIdentifier {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl FromStr for LocalArrayIdentifier {
    type Err = Error;
    /// As [`ArrayAddress`] does: behind the last component that ends in `.zarr`.
    fn from_str(text: &str) -> Result<Self> {
        let address: ArrayAddress = text.parse()?;
        LocalContainerIdentifier::new(address.container)?.array_identifier(&address.dataset)
    }
}

macro_rules! serialise_as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

serialise_as_text!(LocalContainerIdentifier, LocalArrayIdentifier);

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn container() -> LocalContainerIdentifier {
        LocalContainerIdentifier::new("base/run/validation.zarr").unwrap()
    }

    #[test]
    fn paths_that_leave_the_container_are_refused() {
        for dataset in [
            "",
            ".",
            "..",
            "a/../../b",
            "/a",
            "a/",
            "a//b",
            "../checkpoints",
            "a\0b",
            "a\nb",
            ".zgroup",
        ] {
            assert!(container().array_identifier(dataset).is_err(), "{dataset:?}");
        }
        let error = container()
            .array_identifier("../checkpoints")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "\"base/run/validation.zarr/../checkpoints\" does not identify an array: `.` or `..` stands in its path"
        );
    }

    #[test]
    fn containers_are_zarr_containers() {
        for path in [
            "",
            ".",
            "base/run",
            ".zarr",
            "a.zarr/..",
            "a.n5",
            "a.zarr/b",
            "s3://bucket/a.zarr",
        ] {
            assert!(LocalContainerIdentifier::new(path).is_err(), "{path}");
        }
        assert_eq!(
            LocalContainerIdentifier::new("a.zarr/").unwrap().to_string(),
            "a.zarr"
        );
    }

    #[test]
    fn they_compare_hash_and_serialise() {
        let a = container().array_identifier("10/crop2/prediction").unwrap();
        let b = container().array_identifier("10/crop3/prediction").unwrap();
        assert!(a < b);
        assert_eq!(HashSet::from([a.clone(), b.clone(), a.clone()]).len(), 2);
        assert_eq!(BTreeSet::from([b.clone(), a.clone()]).first(), Some(&a));
        let json = serde_json::to_string(&a).unwrap();
        assert_eq!(json, "\"base/run/validation.zarr/10/crop2/prediction\"");
        assert_eq!(serde_json::from_str::<LocalArrayIdentifier>(&json).unwrap(), a);
        assert!(serde_json::from_str::<LocalArrayIdentifier>("\"base/run/../x\"").is_err());
    }

    #[test]
    fn the_last_container_of_a_path_counts() {
        let identifier: LocalArrayIdentifier =
            "/data/old.zarr/run/validation.zarr/inputs/raw".parse().unwrap();
        assert_eq!(
            identifier.container(),
            Path::new("/data/old.zarr/run/validation.zarr")
        );
        assert_eq!(identifier.dataset(), "inputs/raw");
        assert!(
            "base/run/validation.zarr"
                .parse::<LocalArrayIdentifier>()
                .is_err()
        );
        assert!("a.zarr/x.n5/raw".parse::<LocalArrayIdentifier>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_parsed_back(
            base in "/?[a-zA-Z0-9. _=%-]{1,8}(/[a-z.()]{1,6}){0,2}",
            dataset in "[ -~]{1,12}(/[ -~]{1,12}){0,3}",
        ) {
            let Ok(container) = LocalContainerIdentifier::new(format!("{base}/validation.zarr")) else {
                return Ok(());
            };
            if let Ok(identifier) = container.array_identifier(&dataset) {
                prop_assert!(identifier.path().starts_with(identifier.container()));
                prop_assert!(identifier.path() != identifier.container());
                prop_assert_eq!(&identifier.to_string().parse::<LocalArrayIdentifier>().unwrap(), &identifier);
            }
        }
    }
}
