//! `dacapo arrays rm`: remove arrays.

use std::process::ExitCode;

use clap::Args;
use dacapo::store::{ArrayStore, LocalArrayIdentifier, Removed};
use serde_json::json;

use super::select::{identifier, plural};
use crate::context::Context;
use crate::printer::{bytes, table};
use crate::report::misused;

/// Remove arrays of the base directory.
#[derive(Debug, Args)]
#[command(after_help = "\
Only arrays of runs are removed, each in one step, and never through a symbolic link; with an array go the levels of \
its pyramid. All that is named is looked at before anything goes. That there is none is fine.

Examples:
  dacapo arrays rm my-run/validation.zarr/1000/crop2/prediction
  dacapo arrays rm my-run/validation.zarr/1000/crop2/prediction --keep-trash   can be restored
  dacapo arrays rm my-run/validation.zarr/1000 --recursive                     shows what would go
  dacapo arrays rm my-run/validation.zarr/1000 --recursive --yes               a group with all in it")]
pub struct Rm {
    /// Arrays, as container.zarr/dataset: paths, else such below the base directory.
    #[arg(value_name = "ARRAY", required = true)]
    arrays: Vec<String>,
    /// Groups too, with all that is in them; only shows what would go, without --yes.
    #[arg(long, short)]
    recursive: bool,
    /// Remove groups, and do not only show what would go.
    #[arg(long, requires = "recursive")]
    yes: bool,
    /// Keep what is removed in the trash of its run, for `restore` and `purge`.
    #[arg(long)]
    keep_trash: bool,
}

impl Rm {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let store = &context.store.arrays;
        let mut arrays: Vec<LocalArrayIdentifier> = Vec::new();
        let mut groups = Vec::new();
        // Everything is looked at before anything goes.
        for text in &self.arrays {
            let id = identifier(context, text)?;
            let inside = if store.exists(&id)? {
                None
            } else {
                store.arrays_in(&id)?
            };
            match inside {
                Some(_) if !self.recursive => misused!(
                    "{id} is left alone: it is a group or a plain directory; --recursive removes it with all in it"
                ),
                Some(inside) => groups.push((id, inside)),
                None => arrays.push(id),
            }
        }
        if !groups.is_empty() && !self.yes {
            return self.show(context, &arrays, &groups);
        }
        let mut done = Vec::new();
        for id in arrays {
            let (removed, trash) = if self.keep_trash {
                let kept = store.remove_kept(&id)?;
                (kept.is_some(), kept.map(|kept| kept.id))
            } else {
                (store.remove(&id)? == Removed::Removed, None)
            };
            done.push((id, removed, trash));
        }
        for (id, _) in groups {
            let (removed, trash) = if self.keep_trash {
                let kept = store.remove_group_kept(&id)?;
                (kept.is_some(), kept.map(|kept| kept.id))
            } else {
                (store.remove_group(&id)? == Removed::Removed, None)
            };
            done.push((id, removed, trash));
        }
        if context.printer.json {
            let value = |(id, removed, trash): &(LocalArrayIdentifier, bool, Option<String>)| json!({"array": id, "removed": removed, "trash": trash});
            context
                .printer
                .value(&done.iter().map(value).collect::<Vec<_>>())?;
            return Ok(ExitCode::SUCCESS);
        }
        for (id, removed, trash) in done {
            context.printer.line(match (removed, trash) {
                (false, _) => format!("{id}: was not there"),
                (true, None) => format!("{id}: removed"),
                (true, Some(trash)) => format!("{id}: in the trash as {trash}"),
            })?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn show(
        &self,
        context: &Context,
        arrays: &[LocalArrayIdentifier],
        groups: &[(LocalArrayIdentifier, Vec<dacapo::store::ArrayEntry>)],
    ) -> anyhow::Result<ExitCode> {
        let store = &context.store.arrays;
        let inside = groups
            .iter()
            .flat_map(|(_, inside)| inside.iter().map(|entry| &entry.identifier));
        let going: Vec<&LocalArrayIdentifier> = arrays.iter().chain(inside).collect();
        let mut rows = table(["array", "size"]);
        let mut total = 0;
        for id in &going {
            let size = store.bytes_of(id)?;
            total += size;
            rows.add_row([id.to_string(), bytes(size)]);
        }
        if context.printer.json {
            context
                .printer
                .value(&json!({"would_remove": going, "bytes": total}))?;
            return Ok(ExitCode::SUCCESS);
        }
        if !going.is_empty() {
            context.printer.line(rows.to_string())?;
        }
        context.printer.line(format!(
            "would remove {} and {}, {}; nothing is removed without --yes",
            plural(groups.len(), "group"),
            plural(going.len(), "array"),
            bytes(total)
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
