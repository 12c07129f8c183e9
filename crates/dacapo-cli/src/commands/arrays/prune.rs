//! `dacapo arrays prune`: remove the arrays of iterations that are not kept.

use std::process::ExitCode;

use clap::Args;
use dacapo::config::KeepPolicy;
use dacapo::store::{ArrayKind, Pattern};
use dacapo::{PruneRequest, plan_prune, prune};
use serde_json::json;

use super::select::{Select, plural};
use crate::context::Context;
use crate::printer::{bytes, table};
use crate::report::misused;

/// Remove predictions and outputs of all but some iterations; shows what would go, without --yes.
#[derive(Debug, Args)]
#[command(after_help = "\
Iterations are ranked on each dataset by their best score. The best by each criterion always stays, and so does what \
has no score yet; inputs, best arrays, checkpoints and scores are not touched.

The same can stand in a run's config, where it is done after each validation:
  validation: {keep: {best: 2, last: 1}}

Examples:
  dacapo arrays prune --keep best:2 --keep last:1                     what would go
  dacapo arrays prune --keep best:2 --keep last:1 --yes
  dacapo arrays prune --keep every:5000 --criterion voi --run 'a-*'   by another criterion, of some runs
  dacapo arrays prune --keep last:1 --kind snapshot --yes             snapshots, which have no scores")]
pub struct Prune {
    /// Arrays, groups or runs, by glob; of them only some may go.
    #[arg(value_name = "PATTERN")]
    patterns: Vec<Pattern>,
    /// What stays: best:N, last:N or every:N; several may be given.
    #[arg(long, value_name = "WHAT:N", required = true, value_parser = KeepPolicy::parse, value_delimiter = ',')]
    keep: Vec<KeepPolicy>,
    /// By which scores iterations are best [default: the criterion of the run].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    criterion: Vec<String>,
    #[command(flatten)]
    select: Select,
    /// Remove, and do not only show what would go.
    #[arg(long)]
    yes: bool,
    /// Keep what is removed in the trash of its run.
    #[arg(long)]
    keep_trash: bool,
}

impl Prune {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let kept = [ArrayKind::Input, ArrayKind::Best, ArrayKind::Other];
        if let Some(kind) = self.select.kind.iter().find(|kind| kept.contains(kind)) {
            misused!("arrays of kind {kind} are never pruned; prediction, output and snapshot can be");
        }
        let request = PruneRequest {
            filter: self.select.filter(&self.patterns),
            keep: self.keep.into_iter().fold(KeepPolicy::default(), KeepPolicy::and),
            criteria: self.criterion,
        };
        let plan = plan_prune(&context.store, &request)?;
        let going = plan.iter().filter(|line| !line.stays).count();
        let freed: u64 = plan.iter().map(|line| line.bytes).sum();
        let removed = if self.yes {
            prune(&context.store, &plan, self.keep_trash)?
        } else {
            0
        };
        if context.printer.json {
            context.printer.value(&json!({
                "pruned": self.yes, "arrays": plan, "removed": removed, "bytes": freed,
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        if plan.is_empty() {
            context
                .printer
                .note(format!("no such arrays in {}", context.store.base()));
            return Ok(ExitCode::SUCCESS);
        }
        let mut rows = table(["array", "", "why", "frees"]);
        for line in &plan {
            let path = context.store.arrays.path_of(&line.array.identifier)?;
            let (what, size) = match (line.stays, self.yes) {
                (true, _) => ("stays", String::new()),
                (false, false) => ("would go", bytes(line.bytes)),
                (false, true) => ("gone", bytes(line.bytes)),
            };
            rows.add_row([path, what.to_owned(), line.why.clone(), size]);
        }
        context.printer.line(rows.to_string())?;
        let stay = plan.len() - going;
        context.printer.line(match (self.yes, self.keep_trash) {
            (false, _) => format!(
                "{} would go, {stay} stay, {} would be freed; nothing is removed without --yes",
                plural(going, "array"),
                bytes(freed)
            ),
            (true, false) => format!(
                "{} went, {stay} stay, {} freed",
                plural(removed, "array"),
                bytes(freed)
            ),
            (true, true) => format!(
                "{} went to the trash, {stay} stay; `dacapo arrays purge` frees their {}",
                plural(removed, "array"),
                bytes(freed)
            ),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
