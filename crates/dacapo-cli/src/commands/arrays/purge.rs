//! `dacapo arrays purge`: delete what is in the trash.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use dacapo::store::{Pattern, TrashEntry, age};
use serde_json::json;

use super::restore::find;
use super::select::{duration, plural};
use crate::context::Context;
use crate::printer::{bytes, table};

/// Delete what is in the trash for good; shows what would go, without --yes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dacapo arrays purge                              what would go
  dacapo arrays purge --older-than 7d --yes        what was removed a week ago and longer
  dacapo arrays purge --run 'old-*' --yes          the trash of some runs
  dacapo arrays purge 20261124T175229-3fa2 --yes   one of them")]
pub struct Purge {
    /// What to delete: trash ids, or the arrays that they were [default: all].
    #[arg(value_name = "ARRAY|TRASH-ID")]
    what: Vec<String>,
    /// Only of runs with such a name (a glob).
    #[arg(long, value_name = "GLOB")]
    run: Vec<Pattern>,
    /// Only what was removed so long ago: a number with s, m, h, d or w.
    #[arg(long, value_name = "AGE", value_parser = duration)]
    older_than: Option<Duration>,
    /// Delete, and do not only show what would go.
    #[arg(long)]
    yes: bool,
}

impl Purge {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let arrays = &context.store.arrays;
        let trash = arrays.trash(&self.run)?;
        let mut going: Vec<TrashEntry> = if self.what.is_empty() {
            trash
        } else {
            self.what
                .iter()
                .map(|what| find(context, &trash, what))
                .collect::<anyhow::Result<Vec<_>>>()?
                .concat()
        };
        if let Some(limit) = self.older_than {
            // What has no readable time is not known to be old.
            going.retain(|entry| age(&entry.time).is_some_and(|age| age >= limit));
        }
        let mut total = 0;
        let mut rows = table(["trash id", "was", "size"]);
        for entry in &going {
            let size = arrays.trash_bytes(entry)?;
            total += size;
            rows.add_row([entry.id.clone(), entry.identifier.to_string(), bytes(size)]);
        }
        if self.yes {
            for entry in &going {
                // That another purge was faster is as good.
                let _ = arrays.purge(entry)?;
            }
        }
        if context.printer.json {
            context
                .printer
                .value(&json!({"purged": self.yes, "entries": going, "bytes": total}))?;
        } else if going.is_empty() {
            context.printer.note("nothing in the trash to purge");
        } else if self.yes {
            let count = plural(going.len(), "removal");
            context
                .printer
                .line(format!("purged {count}, {} freed", bytes(total)))?;
        } else {
            context.printer.line(rows.to_string())?;
            let count = plural(going.len(), "removal");
            context.printer.line(format!(
                "would purge {count}, {}; nothing is deleted without --yes",
                bytes(total)
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
