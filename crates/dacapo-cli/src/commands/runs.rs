//! `dacapo runs`: a line for each run.

use std::process::ExitCode;

use clap::Args;
use dacapo::runs;

use crate::context::Context;
use crate::printer::{bytes, counted_by, table};

/// List the runs of the base directory.
#[derive(Debug, Args)]
pub struct Runs {}

impl Runs {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let found = runs(&context.store)?;
        if context.printer.json {
            context.printer.value(&found)?;
            return Ok(ExitCode::SUCCESS);
        }
        if found.is_empty() {
            context
                .printer
                .note(format!("no runs in {}", context.store.base()));
            return Ok(ExitCode::SUCCESS);
        }
        let mut rows = table(["run", "state", "iterations", "best", "size"]);
        for run in &found {
            let best: Vec<String> = run
                .best
                .iter()
                // The criterion that decides, and what it is made of; --json has all.
                .filter(|best| (run.criterion.as_ref()).is_none_or(|name| best.criterion.starts_with(name)))
                .map(|best| {
                    format!(
                        "{} {} {:.4} at {}{}",
                        best.dataset,
                        best.criterion,
                        best.score,
                        best.iteration,
                        counted_by(best.counted_by.as_deref())
                    )
                })
                .collect();
            let best = run.problem.clone().unwrap_or_else(|| best.join("\n"));
            let iterations = format!("{}/{}", run.iterations, run.total);
            rows.add_row([
                run.name.clone(),
                format!("{}{}", run.state, if run.original { " (Python)" } else { "" }),
                iterations,
                best,
                bytes(run.bytes),
            ]);
        }
        context.printer.line(rows.to_string())?;
        Ok(ExitCode::SUCCESS)
    }
}
