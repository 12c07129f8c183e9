//! `dacapo arrays restore`: put back what was removed.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use dacapo::store::{Pattern, TrashEntry};

use super::ls::list_trash;
use super::select::identifier;
use crate::context::Context;

/// Put back what was removed with --keep-trash; shows what is there, if nothing is named.
#[derive(Debug, Args)]
#[command(after_help = "\
What stands in its place meanwhile is never replaced.

Examples:
  dacapo arrays restore                                           what can be restored
  dacapo arrays restore my-run/validation.zarr/1000/crop2/prediction
  dacapo arrays restore my-run                                    all of a run
  dacapo arrays restore 20261124T175229-3fa2")]
pub struct Restore {
    /// What to put back: a trash id; or what it was, by path or glob: an array, a group, all of a run (the latest,
    /// if it was removed several times).
    #[arg(value_name = "ARRAY|TRASH-ID")]
    what: Vec<String>,
    /// Only of runs with such a name (a glob).
    #[arg(long, value_name = "GLOB")]
    run: Vec<Pattern>,
}

impl Restore {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        if self.what.is_empty() {
            return list_trash(context, &self.run, &[]);
        }
        let trash = context.store.arrays.trash(&self.run)?;
        let mut latest = BTreeMap::new();
        for what in &self.what {
            // The latest comes last.
            for entry in find(context, &trash, what)? {
                latest.insert(entry.identifier.clone(), entry);
            }
        }
        let entries: Vec<TrashEntry> = latest.into_values().collect();
        for entry in &entries {
            context.store.arrays.restore(entry)?;
            if !context.printer.json {
                context.printer.line(format!("{}: restored", entry.identifier))?;
            }
        }
        if context.printer.json {
            context.printer.value(&entries)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The entry with this id, or those that were this array, lay in it or match this pattern.
pub fn find(context: &Context, trash: &[TrashEntry], what: &str) -> anyhow::Result<Vec<TrashEntry>> {
    let by_id: Vec<&TrashEntry> = trash.iter().filter(|entry| entry.id == what).collect();
    match by_id.as_slice() {
        [one] => return Ok(vec![(*one).clone()]),
        [] => {}
        _ => bail!("several runs have a {what} in their trash; name one with --run"),
    }
    let arrays = &context.store.arrays;
    let place = identifier(context, what)
        .ok()
        .and_then(|id| arrays.path_of(&id).ok());
    let pattern: Pattern = what.parse()?;
    let mut found = Vec::new();
    for entry in trash {
        let path = arrays.path_of(&entry.identifier)?;
        if place.as_ref() == Some(&path) || pattern.matches_path(&path) {
            found.push(entry.clone());
        }
    }
    if found.is_empty() {
        bail!("there is no {what} in the trash; `dacapo arrays ls --trash` shows what is");
    }
    Ok(found)
}
