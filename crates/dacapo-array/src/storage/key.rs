//! Which texts are keys.

use crate::{Error, Result};

/// Refuses what could leave the root, or names nothing.
pub(super) fn check(key: &str) -> Result<()> {
    let reason = match key.split('/').find_map(problem) {
        Some(reason) => reason,
        None => return Ok(()),
    };
    Err(Error::Key {
        key: key.escape_debug().to_string(),
        reason: reason.to_owned(),
    })
}

/// As [`check`], but the empty key is the root.
pub(super) fn check_prefix(prefix: &str) -> Result<()> {
    if prefix.is_empty() { Ok(()) } else { check(prefix) }
}

fn problem(part: &str) -> Option<&'static str> {
    match part {
        "" => Some("a part of it is empty"),
        "." | ".." => Some("`.` or `..` stands in it"),
        _ if part.contains('\0') => Some("a NUL stands in it"),
        _ => None,
    }
}

/// The prefix that a key stands under, and its name there.
pub(super) fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('/').unwrap_or(("", key))
}
