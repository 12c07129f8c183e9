//! Where something is kept, as people write it: a path or a URL. What is there is a [`super::Storage`]'s to say.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, Result};

/// A path, or the URL of something in an object store (`s3://bucket/prefix`), on a web server
/// (`https://host/folder`) or in memory (`memory://name/prefix`).
///
/// It has no slash at its end, and parses back from what it prints. A `file://` URL is the path that it names.
/// Nothing in a URL is percent-decoded: what follows the bucket is the key as it is, and what follows a web server's
/// name is refused with a `%`, `?` or `#` in it.
///
/// ```
/// use dacapo_array::storage::Location;
/// let base: Location = "s3://lab/runs/".parse()?;
/// assert_eq!(base.join("run1").to_string(), "s3://lab/runs/run1");
/// assert_eq!(base.parent().unwrap().to_string(), "s3://lab");
/// let base: Location = "file:///data/runs".parse()?;
/// assert_eq!(base.path(), Some(std::path::Path::new("/data/runs")));
/// # Ok::<(), dacapo_array::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(Inner);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Inner {
    Path(PathBuf),
    Url {
        scheme: &'static str,
        /// The bucket, the server with its port, or the name of a storage in memory.
        authority: String,
        /// The key below it, empty for all of it.
        key: String,
    },
}

/// The schemes of URLs that name a place, beside `file`.
const SCHEMES: [&str; 4] = ["s3", "http", "https", "memory"];

impl Location {
    /// The path, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Inner::Path(path) => Some(path),
            Inner::Url { .. } => None,
        }
    }

    /// Scheme, authority (bucket, or name in memory) and key, where it is a URL.
    pub(super) fn url(&self) -> Option<(&'static str, &str, &str)> {
        match &self.0 {
            Inner::Path(_) => None,
            Inner::Url {
                scheme,
                authority,
                key,
            } => Some((scheme, authority, key)),
        }
    }

    /// What is below it at `rest`, a path of parts joined by `/`.
    #[must_use]
    pub fn join(&self, rest: &str) -> Self {
        let rest = rest.trim_matches('/');
        if rest.is_empty() {
            return self.clone();
        }
        Self(match &self.0 {
            Inner::Path(path) => Inner::Path(path.join(rest)),
            Inner::Url {
                scheme,
                authority,
                key,
            } => Inner::Url {
                scheme,
                authority: authority.clone(),
                key: super::join(key, rest),
            },
        })
    }

    /// What it is in; nothing for a root, a bucket and the like. The working directory is `.`.
    pub fn parent(&self) -> Option<Self> {
        match &self.0 {
            Inner::Path(path) => match path.parent() {
                Some(above) if above.as_os_str().is_empty() => Some(Path::new(".").into()),
                above => above.map(Self::from),
            },
            Inner::Url { key, .. } if key.is_empty() => None,
            Inner::Url {
                scheme,
                authority,
                key,
            } => Some(Self(Inner::Url {
                scheme,
                authority: authority.clone(),
                key: super::key::split(key).0.to_owned(),
            })),
        }
    }

    /// Its last part; nothing for what has no parent, and for names that are no text.
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Inner::Path(path) => path.file_name()?.to_str(),
            Inner::Url { key, .. } => Some(super::key::split(key).1).filter(|name| !name.is_empty()),
        }
    }

    /// What of `inner` is below this, as a key; nothing if it is not. Relative paths are meant from the working
    /// directory; `..` is not resolved, and nothing with one is below anything.
    pub fn key_of(&self, inner: &Self) -> Option<String> {
        match (&self.0, &inner.0) {
            (Inner::Path(outer), Inner::Path(inner)) => {
                let (outer, inner) = (std::path::absolute(outer).ok()?, std::path::absolute(inner).ok()?);
                let inside = inner.strip_prefix(outer).ok()?;
                let parts = inside.components().map(|part| match part {
                    std::path::Component::Normal(part) => part.to_str(),
                    _ => None,
                });
                Some(parts.collect::<Option<Vec<_>>>()?.join("/"))
            }
            (
                Inner::Url {
                    scheme: a,
                    authority: b,
                    key: outer,
                },
                Inner::Url {
                    scheme: c,
                    authority: d,
                    key: inner,
                },
            ) if a == c && b == d => match inner.strip_prefix(outer.as_str())? {
                inside if outer.is_empty() => Some(inside.to_owned()),
                inside => Some(inside.strip_prefix('/').unwrap_or("").to_owned())
                    .filter(|key| inside.is_empty() || !key.is_empty()),
            },
            _ => None,
        }
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        // Without `//`, inner `.` and a `/` at its end.
        Self(Inner::Path(path.components().collect()))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Path(path) => path.display().fmt(f),
            Inner::Url {
                scheme,
                authority,
                key,
            } if key.is_empty() => write!(f, "{scheme}://{authority}"),
            Inner::Url {
                scheme,
                authority,
                key,
            } => write!(f, "{scheme}://{authority}/{key}"),
        }
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fail = |reason: &str| Error::Location {
            text: text.escape_debug().to_string(),
            reason: reason.to_owned(),
        };
        if text.contains('\0') {
            return Err(fail("a NUL stands in it"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.is_empty() {
                return Err(fail("it is empty"));
            }
            return Ok(Path::new(text).into());
        };
        if scheme == "file" {
            return match rest.strip_prefix("localhost").unwrap_or(rest) {
                path if path.starts_with('/') => Ok(Path::new(path).into()),
                _ => Err(fail("a file URL has a path from the root, as file:///data")),
            };
        }
        let Some(scheme) = SCHEMES.into_iter().find(|known| *known == scheme) else {
            return Err(Error::Unsupported {
                what: format!("`{text}`: `{scheme}://`"),
                hint: "paths, s3://, http://, https:// and file:// are".into(),
            });
        };
        let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
        let key = key.trim_end_matches('/');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_name = |name: &str| !name.is_empty() && name.chars().all(is_plain);
        if scheme.starts_with("http") {
            let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
            if !is_name(host) || port.parse::<u16>().is_err() {
                return Err(fail(
                    "a server has a name, and perhaps a port, as example.org:8080",
                ));
            }
            if key.contains(['%', '?', '#']) {
                return Err(fail(
                    "`%`, `?` or `#` stands in it; characters are written as they are, a space as a space",
                ));
            }
        } else if !is_name(authority) {
            return Err(fail("a bucket has a name of letters, digits, `.`, `-` and `_`"));
        }
        super::key::check_prefix(key).map_err(|error| match error {
            Error::Key { reason, .. } => fail(&reason),
            other => other,
        })?;
        if key.contains(|c: char| c.is_control()) {
            return Err(fail("a control character stands in it"));
        }
        Ok(Self(Inner::Url {
            scheme,
            authority: authority.to_owned(),
            key: key.to_owned(),
        }))
    }
}

impl Serialize for Location {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(text: &str) -> Location {
        text.parse().unwrap()
    }

    #[test]
    fn texts_go_round_without_slashes_at_their_end() {
        for (text, printed) in [
            ("a", "a"),
            ("a/b/", "a/b"),
            ("/", "/"),
            ("/x//y/./z/", "/x/y/z"),
            ("../x", "../x"),
            ("file:///d/e/", "/d/e"),
            ("file://localhost/d", "/d"),
            ("s3://bucket", "s3://bucket"),
            ("https://host.org:8080/a b/c/", "https://host.org:8080/a b/c"),
            ("http://127.0.0.1", "http://127.0.0.1"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://b.u-c/%310/a b/", "s3://b.u-c/%310/a b"),
            ("memory://m/x", "memory://m/x"),
        ] {
            assert_eq!(location(text).to_string(), printed);
            assert_eq!(location(printed), location(text));
            let json = serde_json::to_string(&location(text)).unwrap();
            assert_eq!(serde_json::from_str::<Location>(&json).unwrap(), location(text));
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "s3://",
            "s3:///x",
            "s3://b/a//c",
            "s3://b/../c",
            "s3://b/./c",
            "s3://b:9/c",
            "http://",
            "http://a:b/c",
            "http://me:secret@host/c",
            "https://host/a%20b",
            "https://host/a?b=c",
            "s3://b/a\nb",
            "a\0b",
            "file://host/x",
            "memory://",
        ] {
            assert!(
                matches!(text.parse::<Location>(), Err(Error::Location { .. })),
                "{text:?}"
            );
        }
        let error = "gs://bucket/x".parse::<Location>().unwrap_err().to_string();
        assert_eq!(
            error,
            "`gs://bucket/x`: `gs://` is not supported; paths, s3://, http://, https:// and file:// are"
        );
    }

    #[test]
    fn parts_are_joined_and_split() {
        for (text, parent, name) in [
            ("a/b", Some("a"), Some("b")),
            ("a", Some("."), Some("a")),
            ("/", None, None),
            ("s3://b/x/y", Some("s3://b/x"), Some("y")),
            ("s3://b/x", Some("s3://b"), Some("x")),
            ("s3://b", None, None),
        ] {
            let here = location(text);
            assert_eq!(here.parent(), parent.map(location), "{text}");
            assert_eq!(here.name(), name, "{text}");
            assert_eq!(
                here.join("c/d").to_string(),
                format!("{}/c/d", text.trim_end_matches('/'))
            );
            assert_eq!(here.join("/"), here);
        }
    }

    #[test]
    fn what_is_below_has_a_key_and_nothing_else() {
        for (outer, inner, key) in [
            ("a", "a/b/c", Some("b/c")),
            ("a", "a", Some("")),
            ("a", "ab", None),
            ("a", "a/../b", None),
            (".", "a/b", Some("a/b")),
            ("s3://b", "s3://b/x", Some("x")),
            ("s3://b/x", "s3://b/x/y/z", Some("y/z")),
            ("s3://b/x", "s3://b/x", Some("")),
            ("s3://b/x", "s3://b/xy", None),
            ("s3://b/x", "s3://c/x/y", None),
            ("s3://b/x", "memory://b/x/y", None),
            ("b", "s3://b/x", None),
        ] {
            assert_eq!(
                location(outer).key_of(&location(inner)).as_deref(),
                key,
                "{outer} {inner}"
            );
        }
    }
}
