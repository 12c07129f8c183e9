//! `dacapo arrays ls`: which arrays there are.

use std::collections::HashMap;
use std::process::ExitCode;

use clap::Args;
use dacapo::array::ArrayRead;
use dacapo::store::{ArrayEntry, ArrayStore, Pattern, Provenance};
use dacapo::{ArrayScore, RunScores};
use serde::Serialize;

use super::select::{Select, ago, plural};
use crate::context::Context;
use crate::printer::{bytes, counted_by, table};

/// List arrays of the base directory.
#[derive(Debug, Args)]
#[command(after_help = "\
A PATTERN is a glob over the path below the base directory, or names something that arrays lie in.

Examples:
  dacapo arrays ls                                      all arrays of all runs
  dacapo arrays ls my-run --long                        of one run, with shape, size and age
  dacapo arrays ls --kind output --iteration 1000:2000  segmentations of some iterations
  dacapo arrays ls 'my-*/validation.zarr/*/crop2'       predictions and outputs of one dataset
  dacapo arrays ls --kind best --criterion voi          the best by a criterion
  dacapo arrays ls --trash                              what was removed with --keep-trash")]
pub struct Ls {
    /// Arrays, groups or runs, by glob.
    #[arg(value_name = "PATTERN")]
    patterns: Vec<Pattern>,
    #[command(flatten)]
    select: Select,
    /// The best by such a criterion (a glob).
    #[arg(long, value_name = "GLOB", help_heading = "Which arrays")]
    criterion: Vec<Pattern>,
    /// Open each array: shape, type, size on disk, age.
    #[arg(long, short)]
    long: bool,
    /// List what is in the trash instead.
    #[arg(long)]
    trash: bool,
}

#[derive(Serialize)]
struct Line {
    path: String,
    #[serde(flatten)]
    entry: ArrayEntry,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<ArrayScore>,
    #[serde(flatten)]
    opened: Option<Opened>,
}

#[derive(Serialize)]
struct Opened {
    shape: Option<Vec<usize>>,
    dtype: Option<String>,
    bytes: u64,
    time: Option<String>,
    problem: Option<String>,
}

impl Ls {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        if self.trash {
            return list_trash(context, &self.select.filter(&[]).runs, &self.patterns);
        }
        let mut filter = self.select.filter(&self.patterns);
        filter.criteria.clone_from(&self.criterion);
        let entries = context.store.arrays.list(&filter)?;
        let mut scores: HashMap<String, Option<RunScores>> = HashMap::new();
        let mut lines = Vec::with_capacity(entries.len());
        for entry in entries {
            let scores = scores
                .entry(entry.run.clone())
                // A run that is damaged, or of a program that we do not know, has no scores to show.
                .or_insert_with(|| RunScores::load_any(&context.store, &entry.run).ok());
            lines.push(Line {
                path: context.store.arrays.path_of(&entry.identifier)?,
                score: scores.as_ref().and_then(|scores| scores.of(&entry, None)),
                opened: if self.long {
                    Some(open(context, &entry)?)
                } else {
                    None
                },
                entry,
            });
        }
        if context.printer.json {
            context.printer.value(&lines)?;
            return Ok(ExitCode::SUCCESS);
        }
        if lines.is_empty() {
            let base = context.store.base();
            context.printer.note(format!("no such arrays in {base}"));
            return Ok(ExitCode::SUCCESS);
        }
        let mut head = vec!["array", "kind", "score"];
        if self.long {
            head.extend(["shape", "type", "size", "age"]);
        }
        let mut rows = table(head);
        let count = lines.len();
        for line in lines {
            let score = line.score.map_or_else(String::new, |score| {
                let counted = counted_by(score.counted_by.as_deref());
                format!("{} {:.4}{counted}", score.criterion, score.score)
            });
            let mut row = vec![line.path, line.entry.kind.to_string(), score];
            if let Some(opened) = line.opened {
                let shape = opened.shape.map(|shape| format!("{shape:?}"));
                row.extend([
                    shape.or(opened.problem).unwrap_or_default(),
                    opened.dtype.unwrap_or_default(),
                    bytes(opened.bytes),
                    opened.time.map_or_else(|| "-".to_owned(), |time| ago(&time)),
                ]);
            }
            rows.add_row(row);
        }
        context.printer.line(rows.to_string())?;
        context.printer.note(plural(count, "array"));
        Ok(ExitCode::SUCCESS)
    }
}

fn open(context: &Context, entry: &ArrayEntry) -> anyhow::Result<Opened> {
    let bytes = context.store.arrays.bytes_of(&entry.identifier)?;
    Ok(match context.store.arrays.open(&entry.identifier) {
        Ok(array) => Opened {
            shape: Some(array.spec().shape()),
            dtype: Some(array.spec().dtype.to_string()),
            bytes,
            time: Provenance::from_attributes(array.attributes())
                .ok()
                .flatten()
                .map(|provenance| provenance.time),
            problem: None,
        },
        Err(error) => Opened {
            shape: None,
            dtype: None,
            bytes,
            time: None,
            problem: Some(error.to_string()),
        },
    })
}

/// Shows what is in the trash.
pub fn list_trash(context: &Context, runs: &[Pattern], paths: &[Pattern]) -> anyhow::Result<ExitCode> {
    let arrays = &context.store.arrays;
    let mut found = Vec::new();
    for entry in arrays.trash(runs)? {
        let path = arrays.path_of(&entry.identifier)?;
        if paths.is_empty() || paths.iter().any(|pattern| pattern.matches_path(&path)) {
            found.push((path, arrays.trash_bytes(&entry)?, entry));
        }
    }
    if context.printer.json {
        let value = |(path, bytes, entry): &(String, u64, dacapo::store::TrashEntry)| {
            let mut value = serde_json::to_value(entry)?;
            value["path"] = path.as_str().into();
            value["bytes"] = (*bytes).into();
            Ok(value)
        };
        let values: Vec<serde_json::Value> = found.iter().map(value).collect::<anyhow::Result<_>>()?;
        context.printer.value(&values)?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        context.printer.note("nothing is in the trash");
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = table(["trash id", "was", "removed", "size"]);
    for (path, size, entry) in found {
        let what = if entry.group {
            format!("{path} (a group)")
        } else {
            path
        };
        rows.add_row([entry.id, what, format!("{} ago", ago(&entry.time)), bytes(size)]);
    }
    context.printer.line(rows.to_string())?;
    Ok(ExitCode::SUCCESS)
}
