//! `dacapo arrays du`: the space that runs take.

use std::process::ExitCode;

use clap::Args;
use dacapo::store::Pattern;

use crate::context::Context;
use crate::printer::{bytes, table};

/// Show the space that runs take, by kind.
#[derive(Debug, Args)]
#[command(after_help = "\
Bytes are those of files. Kinds are those of arrays, and checkpoints, records (losses and scores), trash, unfinished \
(what is being made, or was left by a killed process) and rest.

Examples:
  dacapo arrays du
  dacapo arrays du 'my-*' --json")]
pub struct Du {
    /// Runs, by glob [default: all].
    #[arg(value_name = "RUN")]
    runs: Vec<Pattern>,
}

impl Du {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let usage = context.store.arrays.usage(&self.runs)?;
        if context.printer.json {
            context.printer.value(&usage)?;
            return Ok(ExitCode::SUCCESS);
        }
        if usage.is_empty() {
            context
                .printer
                .note(format!("no such runs in {}", context.store.base()));
            return Ok(ExitCode::SUCCESS);
        }
        let mut rows = table(["run", "kind", "arrays or files", "size"]);
        let mut total = 0;
        for runs in usage.chunk_by(|a, b| a.run == b.run) {
            let sum: u64 = runs.iter().map(|usage| usage.bytes).sum();
            total += sum;
            for usage in runs {
                let (run, kind) = (usage.run.clone(), usage.kind.clone());
                rows.add_row([run, kind, usage.count.to_string(), bytes(usage.bytes)]);
            }
            rows.add_row([runs[0].run.clone(), "all".to_owned(), String::new(), bytes(sum)]);
        }
        rows.add_row(["all".to_owned(), String::new(), String::new(), bytes(total)]);
        context.printer.line(rows.to_string())?;
        Ok(ExitCode::SUCCESS)
    }
}
