//! What identifies an array of a store: a container and a path in it. Identifiers are values: making,
//! comparing and printing them touches no disk. Which array is where is [`crate::ArrayStore`]'s to say.

use std::{fmt, str::FromStr};

use dacapo_array::{ArrayAddress, storage::Location};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, Result, names::is_container_suffix};

/// A Zarr container: a directory, or what is below a key of an object store, whose name ends in `.zarr`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalContainerIdentifier {
    container: Location,
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
    /// [`Error::Identifier`] for a path or URL that does not end in `.zarr`, or is not UTF-8.
    pub fn new(container: impl Into<Location>) -> Result<Self> {
        let container = container.into();
        if container.path().is_some_and(|path| path.to_str().is_none()) {
            return refuse(container, "the path is not UTF-8");
        }
        let text = container.to_string();
        if text.contains('\0') {
            return refuse(text.escape_debug(), "a NUL stands in the path");
        }
        let is_container = |name: &str| name.len() > ".zarr".len() && name.ends_with(".zarr");
        if !container.name().is_some_and(is_container) {
            return refuse(text, "the name of its container does not end in `.zarr`");
        }
        Ok(Self { container })
    }

    /// Where it is.
    pub fn container(&self) -> &Location {
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
    /// Where the container is.
    pub fn container(&self) -> &Location {
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
            container: self.container().clone(),
            dataset: self.dataset.clone(),
        }
    }

    /// Where the array is.
    pub fn location(&self) -> Location {
        self.container().join(&self.dataset)
    }
}

impl fmt::Display for LocalContainerIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.container.fmt(f)
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
        match text.parse::<Location>() {
            Ok(location) => Self::new(location),
            Err(error) => refuse(text.escape_debug(), error.to_string()),
        }
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
        "base/run/validation.zarr".parse().unwrap()
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
            "a\0.zarr",
            "s3://bucket/a",
            "s3://bucket.zarr",
            "s3://bucket/../a.zarr",
            "gs://bucket/a.zarr",
        ] {
            let parsed = path.parse::<LocalContainerIdentifier>();
            assert!(matches!(parsed, Err(Error::Identifier { .. })), "{path}");
        }
        for (text, printed) in [
            ("a.zarr/", "a.zarr"),
            ("s3://bucket/x/a.zarr", "s3://bucket/x/a.zarr"),
        ] {
            let parsed: LocalContainerIdentifier = text.parse().unwrap();
            assert_eq!(parsed.to_string(), printed);
        }
        let array: LocalArrayIdentifier = "s3://bucket/base/run/validation.zarr/10/raw".parse().unwrap();
        assert_eq!(array.dataset(), "10/raw");
        assert_eq!(
            array.container().to_string(),
            "s3://bucket/base/run/validation.zarr"
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
            identifier.container().to_string(),
            "/data/old.zarr/run/validation.zarr"
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
            base in "(/|s3://bucket/)?[a-zA-Z0-9. _=%-]{1,8}(/[a-z.()]{1,6}){0,2}",
            dataset in "[ -~]{1,12}(/[ -~]{1,12}){0,3}",
        ) {
            let Ok(container) = format!("{base}/validation.zarr").parse::<LocalContainerIdentifier>() else {
                return Ok(());
            };
            if let Ok(identifier) = container.array_identifier(&dataset) {
                let inside = identifier.container().key_of(&identifier.location());
                prop_assert_eq!(inside.as_deref(), Some(identifier.dataset()));
                prop_assert_eq!(&identifier.to_string().parse::<LocalArrayIdentifier>().unwrap(), &identifier);
            }
        }
    }
}
