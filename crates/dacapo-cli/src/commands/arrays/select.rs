//! Which arrays are meant on the command line: by pattern, or by name.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use dacapo::Result;
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

/// The array, or place for one, that a text names: as a path, or below the base directory.
///
/// # Errors
/// [`dacapo::store::Error::Array`] for a text that names no array.
pub fn identifier(context: &Context, text: &str) -> Result<LocalArrayIdentifier> {
    let arrays = &context.store.arrays;
    let as_given: LocalArrayIdentifier = text.parse()?;
    if arrays.path_of(&as_given).is_ok() || is_there(context, as_given.container())? {
        return Ok(as_given);
    }
    // The container decides, so that an array that is not there is missed where it would be.
    let is_relative = as_given.container().path().is_some_and(Path::is_relative);
    let below = context.store.base().join(&as_given.container().to_string());
    Ok(if is_relative && is_there(context, &below)? {
        arrays.identifier_at(text.trim_end_matches('/'))?
    } else {
        as_given
    })
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
