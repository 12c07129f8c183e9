//! How arrays are named: `container.zarr/dataset`.

use std::fmt;
use std::str::FromStr;

use crate::storage::Location;
use crate::{Error, Result};

/// The name of an array: a container and the dataset in it.
///
/// ```
/// use dacapo_array::ArrayAddress;
/// let address: ArrayAddress = "data/fib25.zarr/sample2/raw".parse()?;
/// assert_eq!(address.container, "data/fib25.zarr".parse()?);
/// assert_eq!(address.dataset, "sample2/raw");
/// assert_eq!(address.to_string(), "data/fib25.zarr/sample2/raw");
/// let address: ArrayAddress = "s3://bucket/fib25.zarr/raw".parse()?;
/// assert_eq!(address.container.to_string(), "s3://bucket/fib25.zarr");
/// # Ok::<(), dacapo_array::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArrayAddress {
    /// The container, up to and including the component that ends in `.zarr`.
    pub container: Location,
    /// Path of the array in it, its parts joined by `/`.
    pub dataset: String,
}

impl ArrayAddress {
    /// Where the array is.
    pub fn location(&self) -> Location {
        self.container.join(&self.dataset)
    }

    /// Refuses datasets that are empty, absolute, or leave the container.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
        match self.dataset.split('/').find(|part| bad(part)) {
            Some(part) => Err(Error::Address {
                text: self.to_string(),
                reason: format!("`{part}` cannot be a part of a dataset's path"),
            }),
            None => Ok(()),
        }
    }
}

/// Bytes that a part of a new array's path may have: what file systems take.
const LONGEST: usize = 255;

impl ArrayAddress {
    /// Refuses what cannot be the path of a new array: names that Zarr or this program uses itself, that nobody could type or
    /// tell apart, or that no file system takes. What others have made is read under any name.
    pub(crate) fn check_new(&self) -> Result<()> {
        self.check()?;
        for part in self.dataset.split('/') {
            let reason = if part.starts_with('.') {
                "begins with a dot, as what is hidden or unfinished does"
            } else if part.starts_with("__") {
                "begins with `__`, which Zarr keeps for itself"
            } else if part == "zarr.json" {
                "is what Zarr calls its metadata"
            } else if part.contains(char::is_control) {
                "has characters that do not print"
            } else if part.trim() != part {
                "begins or ends with a space"
            } else if part.len() > LONGEST {
                "is longer than the 255 bytes that file systems take"
            } else {
                continue;
            };
            return Err(Error::Address {
                text: self.to_string(),
                reason: format!("an array cannot be made there: {part:?} {reason}"),
            });
        }
        Ok(())
    }
}

impl fmt::Display for ArrayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.dataset)
    }
}

impl FromStr for ArrayAddress {
    type Err = Error;

    /// Splits a path or URL behind its last component that ends in `.zarr`.
    fn from_str(text: &str) -> Result<Self> {
        let fail = |reason: &str| Error::Address {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        // What stands before the first part of a path or key: nothing, or a scheme and a bucket.
        let start = match text.split_once("://") {
            Some((scheme, rest)) => scheme.len() + 3 + rest.find('/').unwrap_or(rest.len()),
            None => 0,
        };
        let (start, path) = text.split_at(start);
        let path = path.trim_end_matches('/');
        let parts: Vec<&str> = path.split('/').collect();
        let Some(last) = parts
            .iter()
            .rposition(|part| part.ends_with(".zarr") && *part != ".zarr")
        else {
            return Err(fail(
                "no part of it ends in `.zarr`; write container.zarr/dataset",
            ));
        };
        if last + 1 == parts.len() {
            return Err(fail(
                "it is a container; name an array in it, as container.zarr/dataset",
            ));
        }
        let address = Self {
            container: format!("{start}{}", parts[..=last].join("/")).parse()?,
            dataset: parts[last + 1..].join("/"),
        };
        address.check()?;
        if !start.is_empty() {
            // What stands behind the container is a part of the URL too.
            address.location().to_string().parse::<Location>()?;
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_round() {
        for text in [
            "a.zarr/b",
            "/x/y.zarr/c/d e/f(1, 2)",
            "../a.zarr/b",
            "base/run.zarr/x.zarr/10/raw",
            "s3://bucket/x/y.zarr/a/b",
            "memory://m/y.zarr/a",
            "https://host.org:8080/y.zarr/a",
        ] {
            assert_eq!(text.parse::<ArrayAddress>().unwrap().to_string(), text);
        }
        let nested: ArrayAddress = "run.zarr/x.zarr/10/raw/".parse().unwrap();
        assert_eq!(nested.dataset, "10/raw");
        assert_eq!(
            "file:///d/a.zarr/b".parse::<ArrayAddress>().unwrap().to_string(),
            "/d/a.zarr/b"
        );
    }

    #[test]
    fn new_arrays_have_names_that_others_can_use() {
        let long = "x".repeat(256);
        for name in [
            ".unfinished-foo",
            ".zarray",
            ".hid",
            "__c",
            "zarr.json",
            "a\nb",
            "a\u{7f}",
            " a",
            "a ",
            &long,
        ] {
            for dataset in [name.to_owned(), format!("{name}/b"), format!("a/{name}")] {
                let address: ArrayAddress = format!("c.zarr/{dataset}").parse().unwrap();
                let error = address.check_new().unwrap_err().to_string();
                assert!(error.contains("cannot be made there"), "{error}");
            }
        }
        for name in ["a b", "a.b", "(1, 2)", "ä", "configs", "10", &long[1..]] {
            format!("c.zarr/{name}")
                .parse::<ArrayAddress>()
                .unwrap()
                .check_new()
                .unwrap();
        }
    }

    #[test]
    fn what_names_no_array_is_refused() {
        for text in [
            "",
            "raw",
            "a.zarr",
            "a.zarr/",
            "a.zarr//b",
            "a.zarr/../b",
            "a.zarr/./b",
            ".zarr/b",
            "s3://bucket/a.zarr",
            "s3://bucket.zarr/a",
            "s3://bucket/raw",
        ] {
            assert!(
                matches!(text.parse::<ArrayAddress>(), Err(Error::Address { .. })),
                "{text}"
            );
        }
        let error = "https://host/a.zarr/r%61w".parse::<ArrayAddress>().unwrap_err();
        assert!(
            error.to_string().contains("characters are written as they are"),
            "{error}"
        );
        let error = "ftp://host/a.zarr/b".parse::<ArrayAddress>().unwrap_err();
        assert!(error.to_string().contains("ftp://"), "{error}");
    }
}
