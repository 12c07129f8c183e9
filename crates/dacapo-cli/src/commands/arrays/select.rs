//! Which arrays are meant on the command line: by pattern, or by name.

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use dacapo::Result;
use dacapo::array::Error::{NoArray, NoContainer};
use dacapo::array::ZarrArray;
use dacapo::array::storage::Location;
use dacapo::store::copy::placed;
use dacapo::store::{ArrayFilter, ArrayKind, Iterations, LocalArrayIdentifier, Pattern};

use crate::context::Context;

/// Which arrays of the base directory.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which arrays")]
pub struct Select {
    /// Of runs with such a name (a glob).
    #[arg(long, value_name = "GLOB")]
    run: Vec<Pattern>,
    /// Of this kind: input, prediction, output, best, snapshot, other.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub kind: Vec<ArrayKind>,
    /// Made after this iteration, or one of a range: 1000, 1000:5000, 1000:, :5000.
    #[arg(long, value_name = "N|N:M", value_delimiter = ',')]
    iteration: Vec<Iterations>,
    /// Of a dataset with such a name (a glob).
    #[arg(long, value_name = "GLOB")]
    dataset: Vec<Pattern>,
    /// Made with such post-processing parameters (a glob): '*threshold=0.5*'.
    #[arg(long, value_name = "GLOB")]
    parameters: Vec<Pattern>,
}

impl Select {
    /// As a filter, with patterns over paths.
    pub fn filter(&self, paths: &[Pattern]) -> ArrayFilter {
        ArrayFilter {
            paths: paths.to_vec(),
            runs: self.run.clone(),
            kinds: self.kind.clone(),
            iterations: self.iteration.clone(),
            datasets: self.dataset.clone(),
            parameters: self.parameters.clone(),
            criteria: Vec::new(),
        }
    }
}

/// The array, or place for one, that a text names: the path as it is given, if something is there, else what is below
/// the base directory. If neither is, the container decides where it is missed.
///
/// # Errors
/// [`dacapo::store::Error::Array`] for a text that names no array.
pub fn identifier(context: &Context, text: &str) -> Result<LocalArrayIdentifier> {
    Ok(places(context, text)?.0)
}

/// What a text names, and the other place that it could name: a relative path is one below the base directory as well.
fn places(context: &Context, text: &str) -> Result<(LocalArrayIdentifier, Option<LocalArrayIdentifier>)> {
    let arrays = &context.store.arrays;
    let as_given: LocalArrayIdentifier = text.parse()?;
    let is_relative = as_given.container().path().is_some_and(Path::is_relative);
    let below = (is_relative && arrays.path_of(&as_given).is_err())
        .then(|| arrays.identifier_at(text.trim_end_matches('/')).ok())
        .flatten();
    let Some(below) = below else {
        return Ok((as_given, None));
    };
    for (given, based) in [
        (as_given.location(), below.location()),
        (as_given.container().clone(), below.container().clone()),
    ] {
        if is_there(context, &given)? {
            break;
        }
        if is_there(context, &based)? {
            return Ok((below, Some(as_given)));
        }
    }
    Ok((as_given, Some(below)))
}

/// As [`identifier`], of an array that is there.
///
/// # Errors
/// What opening it says, with the places that were looked at.
pub fn array(context: &Context, text: &str) -> anyhow::Result<LocalArrayIdentifier> {
    let (found, other) = places(context, text)?;
    match (ZarrArray::open(&found.address(), context.store.access()), other) {
        (Err(error @ (NoArray { .. } | NoContainer { .. })), Some(other)) => {
            Err(anyhow!("{error}; nor is there one at {other}"))
        }
        (Err(error), _) => Err(error.into()),
        _ => Ok(found),
    }
}

/// Whether anything is at a place.
///
/// # Errors
/// What reaching it meets.
pub fn is_there(context: &Context, location: &Location) -> Result<bool> {
    let (storage, key) = placed(location, context.store.access())?;
    Ok(storage.kind(&key).map_err(dacapo::store::Error::from)?.is_some())
}

/// Reads `7d`, `12h`, `30m`, `90s`, `2w`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no age: write a number with s, m, h, d or w, as 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

/// How long ago, roughly.
pub fn ago(time: &str) -> String {
    let Some(age) = dacapo::store::age(time) else {
        return "-".to_owned();
    };
    let seconds = age.as_secs();
    for (size, unit) in [(604_800 * 2, "w"), (86_400, "d"), (3_600, "h"), (60, "m")] {
        if seconds >= size {
            let size = if unit == "w" { 604_800 } else { size };
            return format!("{}{unit}", seconds / size);
        }
    }
    format!("{seconds}s")
}

/// One thing and several.
pub fn plural(count: usize, one: &str) -> String {
    if count == 1 {
        format!("1 {one}")
    } else {
        format!("{count} {one}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read_and_shown() {
        assert_eq!(duration("7d").unwrap().as_secs(), 604_800);
        assert_eq!(duration("90s").unwrap().as_secs(), 90);
        for bad in ["", "7", "d", "-1d", "7y", "99999999999999999999d", "1\u{e4}"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(ago("no time"), "-");
    }
}
