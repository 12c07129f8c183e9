//! Which arrays are meant: globs and ranges over what the layout says of them. Finding them is [`crate::catalog`]'s.

use std::{fmt, str::FromStr};

use globset::{GlobBuilder, GlobMatcher};

use crate::{ArrayEntry, ArrayKind, Error, Result};

/// A glob: `*` and `?` stand for anything, `[ab]` for one of some, `{a,b}` for alternatives. Text that is equal to
/// it matches too, so that names with brackets can be given as they are.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    glob: GlobMatcher,
}

impl Pattern {
    /// Whether a whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        self.text == text || self.glob.is_match(text)
    }

    /// Whether a path, or what it lies in, matches: `run1` stands for all that is in it.
    pub fn matches_path(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(end, _)| end);
        self.matches(path) || ends.into_iter().any(|end| self.matches(&path[..end]))
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let glob = GlobBuilder::new(text).backslash_escape(true).build();
        let glob = glob.map_err(|error| Error::Pattern {
            text: text.to_owned(),
            reason: error.kind().to_string(),
        })?;
        Ok(Self {
            text: text.to_owned(),
            glob: glob.compile_matcher(),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One iteration, or all from one to another, both among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iterations {
    first: u64,
    last: u64,
}

impl Iterations {
    /// Whether an iteration is among them.
    pub fn contains(&self, iteration: u64) -> bool {
        (self.first..=self.last).contains(&iteration)
    }
}

impl FromStr for Iterations {
    type Err = Error;

    /// `1000`, `1000:2000`, `1000:` or `:2000`.
    fn from_str(text: &str) -> Result<Self> {
        let fail = |reason: &str| Error::Pattern {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let number = |part: &str, default| match part {
            "" => Ok(default),
            part => part
                .parse::<u64>()
                .map_err(|_| fail("write an iteration, or a range of them as 1000:2000")),
        };
        let (first, last) = match text.split_once(':') {
            Some((first, last)) => (number(first, 0)?, number(last, u64::MAX)?),
            None if text.is_empty() => return Err(fail("it is empty")),
            None => (number(text, 0)?, number(text, 0)?),
        };
        if first > last {
            return Err(fail("the range is empty"));
        }
        Ok(Self { first, last })
    }
}

/// Which arrays of a base directory are meant. A list that is empty asks for nothing; of a list that is not, one
/// has to match, and arrays to which it does not apply (an input has no iteration) are left out.
#[derive(Clone, Debug, Default)]
pub struct ArrayFilter {
    /// Over the path below the base directory, or what the array lies in.
    pub paths: Vec<Pattern>,
    /// Over the run's name.
    pub runs: Vec<Pattern>,
    /// What the array is.
    pub kinds: Vec<ArrayKind>,
    /// After which iteration it was made.
    pub iterations: Vec<Iterations>,
    /// Of which dataset.
    pub datasets: Vec<Pattern>,
    /// With which post-processing parameters.
    pub parameters: Vec<Pattern>,
    /// By which criterion it is the best.
    pub criteria: Vec<Pattern>,
}

impl ArrayFilter {
    /// All arrays of one run.
    ///
    /// # Errors
    /// [`Error::Pattern`] for a name that is no glob.
    pub fn of_run(run: &str) -> Result<Self> {
        Ok(Self {
            runs: vec![run.parse()?],
            ..Self::default()
        })
    }

    pub(crate) fn has_run(&self, run: &str) -> bool {
        any(&self.runs, Some(run))
    }

    pub(crate) fn has_iteration(&self, iteration: u64) -> bool {
        self.iterations.is_empty() || self.iterations.iter().any(|range| range.contains(iteration))
    }

    /// Whether an array with this path below the base directory is meant.
    pub fn matches(&self, entry: &ArrayEntry, path: &str) -> bool {
        let full = || entry.identifier.to_string();
        (self.paths.is_empty()
            || self
                .paths
                .iter()
                .any(|pattern| pattern.matches_path(path) || pattern.matches_path(&full())))
            && self.has_run(&entry.run)
            && (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
            && (self.iterations.is_empty() || entry.iteration.is_some_and(|at| self.has_iteration(at)))
            && any(&self.datasets, entry.dataset.as_deref())
            && any(&self.parameters, entry.parameters.as_deref())
            && any(&self.criteria, entry.criterion.as_deref())
    }
}

fn any(patterns: &[Pattern], text: Option<&str>) -> bool {
    patterns.is_empty() || text.is_some_and(|text| patterns.iter().any(|pattern| pattern.matches(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts_and_what_lies_in_them() {
        let pattern = |text: &str| text.parse::<Pattern>().unwrap();
        assert!(pattern("crop*").matches("crop2") && !pattern("crop").matches("crop2"));
        assert!(pattern("{a,b}").matches("b"));
        assert!(pattern("run").matches_path("run/validation.zarr/10/b/prediction"));
        assert!(pattern("run/validation.zarr/10/").matches_path("run/validation.zarr/10/b/prediction"));
        assert!(!pattern("run/validation.zarr/1").matches_path("run/validation.zarr/10/b/prediction"));
        assert!(pattern("*/prediction").matches_path("run/validation.zarr/10/b/prediction"));
        let watershed = "Watershed(id=2, context=[32, 32])";
        assert!(pattern(watershed).matches(watershed));
        assert!("a[b".parse::<Pattern>().is_err());
    }

    #[test]
    fn iterations_are_numbers_and_ranges() {
        let range = |text: &str| text.parse::<Iterations>().unwrap();
        assert!(range("10").contains(10) && !range("10").contains(11));
        assert!(range("10:20").contains(20) && !range("10:20").contains(21));
        assert!(range("10:").contains(u64::MAX) && range(":5").contains(0));
        for bad in ["", "x", "5:1", "1-2", "-1"] {
            assert!(bad.parse::<Iterations>().is_err(), "{bad}");
        }
    }
}
