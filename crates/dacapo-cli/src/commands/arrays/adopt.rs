//! `dacapo arrays adopt`: base directories of the Python DaCapo.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dacapo::LocalStore;
use dacapo::original::{AdoptOptions, Adopted, OriginalBase, OriginalRun, adopt};
use serde::Serialize;

use crate::context::{Context, quoted};
use crate::printer::{bytes, table};
use crate::report;

/// Read a base directory of the Python DaCapo.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing in DIR is ever changed, and nothing in its pickles is run. Without --to nothing is written at all: DIR is \
read as it is, and so do `dacapo --base DIR runs` and every command that only reads arrays.

With --to each run becomes a run of ours in another base directory, to show, validate, predict with and train on:
its config in our words (the original stands beside it in original/run.yaml), its losses and scores, its \
checkpoints, and copies of its arrays. A run is there whole or not at all.

Examples:
  dacapo arrays adopt old/runs                      what can be read
  dacapo arrays adopt old/runs --to runs            all its runs, in runs
  dacapo arrays adopt old/runs --to --run a --data old
                                                    one, in the configured base; `data/x.zarr` in its config is
                                                    old/data/x.zarr")]
pub struct Adopt {
    /// The base directory (its `runs_base_dir`), or the directory that holds it.
    dir: PathBuf,
    /// Make runs of ours in this base directory [without a value: the configured one].
    #[arg(long, value_name = "BASE", num_args = 0..=1)]
    to: Option<Option<PathBuf>>,
    /// Only this run; can be repeated.
    #[arg(long = "run", value_name = "NAME")]
    runs: Vec<String>,
    /// The directory that relative paths in its configs begin in [default: DIR, or one of the two above it].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Put this in front of the names of the runs.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        requires = "to"
    )]
    prefix: String,
    /// Do not copy the arrays: they stay in DIR only.
    #[arg(long, requires = "to")]
    without_arrays: bool,
}

#[derive(Serialize)]
struct Failed {
    original: String,
    problem: String,
}

impl Adopt {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let base = OriginalBase::find(&self.dir, self.data.as_deref())?;
        let runs = if self.runs.is_empty() {
            base.runs()?
        } else {
            self.runs.clone()
        };
        match &self.to {
            None => inspect(context, &base, &runs),
            Some(to) => {
                let store = match to {
                    Some(to) => LocalStore::new(to),
                    None => context.store.clone(),
                };
                self.adopt(context, &base, &runs, &store)
            }
        }
    }

    fn adopt(
        &self,
        context: &Context,
        base: &OriginalBase,
        runs: &[String],
        store: &LocalStore,
    ) -> anyhow::Result<ExitCode> {
        let options = AdoptOptions {
            prefix: self.prefix.clone(),
            without_arrays: self.without_arrays,
        };
        let engine = context.engine()?;
        let (mut adopted, mut failed) = (Vec::<Adopted>::new(), Vec::new());
        for run in runs {
            context.printer.note(format!("adopting {run}"));
            match adopt(base, run, store, &*engine, &options) {
                Ok(done) => adopted.push(done),
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    let problem = report::sentence(&error);
                    context.printer.warn(&problem);
                    if let Some(hint) = report::hint(&error) {
                        context.printer.note(format!("hint: {hint}"));
                    }
                    failed.push(Failed {
                        original: run.clone(),
                        problem,
                    });
                }
            }
        }
        let code = if failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
        report::found(show(context, store, &adopted, &failed), code)
    }
}

fn show(context: &Context, store: &LocalStore, adopted: &[Adopted], failed: &[Failed]) -> anyhow::Result<()> {
    if context.printer.json {
        context
            .printer
            .value(&serde_json::json!({ "base": store.base(), "adopted": adopted, "failed": failed }))?;
    } else {
        for run in adopted {
            context.printer.line(format!(
                "{}: checkpoints {:?}, {} files of arrays, in {}",
                run.run,
                run.checkpoints,
                run.files,
                store.base()
            ))?;
            for note in &run.notes {
                context.printer.line(format!("  - {note}"))?;
            }
        }
    }
    if !adopted.is_empty() {
        let base = quoted(&store.base().to_string());
        context.printer.note(format!("\nnext: dacapo --base {base} runs"));
    }
    Ok(())
}

fn inspect(context: &Context, base: &OriginalBase, runs: &[String]) -> anyhow::Result<ExitCode> {
    let engine = context.engine()?;
    let found: Vec<OriginalRun> = runs
        .iter()
        .map(|run| base.inspect(run, &*engine))
        .collect::<Result<_, _>>()?;
    let printer = &context.printer;
    if printer.json {
        printer.value(&serde_json::json!({ "base": base.root(), "runs": found }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = table([
        "run",
        "config",
        "iterations",
        "scores",
        "arrays",
        "checkpoints",
        "size",
    ]);
    for run in &found {
        let of = |part: usize, all: usize, what: &str| match all {
            0 => "none".to_owned(),
            all if part == all => format!("{all} {what}"),
            all => format!("{part} of {all} {what}"),
        };
        let readable = run.arrays.iter().filter(|array| array.problem.is_none()).count();
        let fitting = run
            .checkpoints
            .iter()
            .filter(|checkpoint| checkpoint.fits)
            .count();
        rows.add_row([
            run.name.clone(),
            if run.config { "ours" } else { "not ours" }.to_owned(),
            match run.total {
                Some(total) => format!("{}/{total}", run.iterations),
                None => run.iterations.to_string(),
            },
            format!("{} at {} iterations", run.scores, run.validated.len()),
            of(readable, run.arrays.len(), "readable"),
            of(fitting, run.checkpoints.len(), "fit"),
            bytes(run.bytes),
        ]);
    }
    printer.line(rows.to_string())?;
    for run in &found {
        let arrays = run.arrays.iter().filter_map(|array| array.problem.as_ref());
        let checkpoints = run
            .checkpoints
            .iter()
            .filter_map(|checkpoint| checkpoint.problem.as_ref());
        for problem in run.problems.iter().chain(arrays).chain(checkpoints) {
            printer.line(format!("{}: {problem}", run.name))?;
        }
        for note in &run.notes {
            printer.line(format!("{}: note: {note}", run.name))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
