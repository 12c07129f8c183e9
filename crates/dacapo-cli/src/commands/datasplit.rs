//! `dacapo datasplit`: make one from a table, look at one.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use dacapo::array::Coordinate;
use dacapo::config::load_data;
use dacapo::datasplit::{DatasetSummary, Table, TableOptions, Targets, describe, found, pictures};
use serde_json::{Value, json};

use crate::context::Context;
use crate::figures::overlay;
use crate::printer::table;
use crate::typed::voxel_size;

/// What is trained and validated on: make it from a table, look at it.
#[derive(Debug, Subcommand)]
pub enum Datasplit {
    /// Make a datasplit from a table of crops.
    Make(Make),
    /// Show the datasets of a config: how much is annotated, as what, and a picture of each.
    Show(Show),
}

impl Datasplit {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Make(make) => make.run(context),
            Self::Show(show) => show.run(context),
        }
    }
}

/// Make a datasplit from a table of crops.
#[derive(Debug, Args)]
#[command(after_help = "\
Each row of the table (CSV) is a crop:
  train|val, raw container, raw dataset, labels container, labels dataset
  train, liver.zarr, recon/em, liver.zarr, labels/crop3[mito&nucleus]
labels[a&b] are the datasets labels/a and labels/b. Relative containers are looked for beside the table, then in \
the working directory. Of pyramids the level is taken that is nearest to the voxel size and not coarser; what still \
differs is resampled. All problems are listed at once, each with its row and column.

The result is the `data` of a config: put it into one, or name its file there.
  dacapo datasplit make crops.csv --voxel-size 8,8,8 -o split.yaml
  data: split.yaml")]
pub struct Make {
    /// The table, as comma-separated values.
    table: PathBuf,
    /// Size of a voxel of raw that all crops come to, z first.
    #[arg(long, value_name = "Z,Y,X", value_parser = voxel_size)]
    voxel_size: Coordinate,
    /// Size of a voxel of labels [default: that of raw].
    #[arg(long, value_name = "Z,Y,X", value_parser = voxel_size)]
    labels_voxel_size: Option<Coordinate>,
    /// What labels become: single objects, or classes (each dataset is one, wherever it is not 0).
    #[arg(long, value_enum, default_value_t = Kind::Objects)]
    targets: Kind,
    /// Of larger validation crops, use so many voxels in the middle.
    #[arg(long, value_name = "N")]
    most_validation_voxels: Option<u64>,
    /// The file to write [default: standard output].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there.
    #[arg(long)]
    overwrite: bool,
}

/// What labels become.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Single objects.
    Objects,
    /// Classes.
    Classes,
}

impl Make {
    fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let options = TableOptions {
            voxel_size: self.voxel_size,
            labels_voxel_size: self.labels_voxel_size,
            targets: match self.targets {
                Kind::Objects => Targets::Objects,
                Kind::Classes => Targets::Classes,
            },
            most_validation_voxels: self.most_validation_voxels,
        };
        let table = Table::read(&self.table, &std::env::current_dir()?)?;
        let data = table.datasplit(&options, context.store.access())?;
        let mut value = json!({ "data": data });
        prune(&mut value);
        if context.printer.json && self.output.is_none() {
            context.printer.value(&value)?;
            return Ok(ExitCode::SUCCESS);
        }
        let text = dacapo::datasplit::to_yaml(&value)?;
        match &self.output {
            Some(path) => {
                write(path, &text, self.overwrite)?;
                context.printer.note(format!(
                    "{}: {} datasets to train on, {} to validate on",
                    path.display(),
                    data.train.len(),
                    data.validate.len()
                ));
            }
            None => context.printer.line(text.trim_end())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Leaves out what says nothing.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn write(path: &Path, text: &str, overwrite: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if overwrite {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let file = options.open(path);
    let hint = "cannot write the datasplit; --overwrite replaces a file that is there";
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{}: {hint}", path.display()))
}

/// Show the datasets of a config.
#[derive(Debug, Args)]
pub struct Show {
    /// A run config, or a file with `data` alone.
    config: PathBuf,
    /// Directory for a picture of each dataset [default: CONFIG-figures beside the config].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Show {
    fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let access = context.store.access();
        let data = found(&load_data(&self.config, &std::env::current_dir()?)?, access)?;
        let summaries = describe(&data, access)?;
        let out = self.out.unwrap_or_else(|| {
            let stem = self.config.file_stem().unwrap_or_default().to_string_lossy();
            self.config.with_file_name(format!("{stem}-figures"))
        });
        fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
        let mut files = Vec::new();
        for (summary, picture) in summaries.iter().zip(pictures(&data, access)?) {
            let role = role(summary);
            let path = out.join(format!("{role}-{}.png", super::show::file_name(&summary.name)));
            let caption = format!("{} {}", summary.name, picture.roi);
            overlay(&path, &caption, &picture)?;
            files.push(path);
        }
        if context.printer.json {
            context
                .printer
                .value(&json!({ "datasets": summaries, "files": files }))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut rows = table([
            "dataset",
            "for",
            "raw",
            "labels",
            "roi",
            "annotated",
            "labelled",
            "objects",
            "balance",
        ]);
        for summary in &summaries {
            rows.add_row([
                summary.name.clone(),
                role(summary).to_owned(),
                array(&summary.raw),
                array(&summary.labels),
                summary.roi.to_string(),
                format!("{} of {} voxels", summary.annotated, summary.voxels),
                percent(summary.labelled, summary.annotated),
                summary.ids.to_string(),
                balance(summary),
            ]);
        }
        context.printer.line(rows.to_string())?;
        for file in files {
            context.printer.line(file.display().to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn role(summary: &DatasetSummary) -> &'static str {
    if summary.is_training { "train" } else { "validate" }
}

fn array(array: &dacapo::datasplit::ArraySummary) -> String {
    format!(
        "{} {:?}, voxels of {}",
        array.dtype, array.shape, array.voxel_size
    )
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// The most frequent labels, by their part of what is annotated.
fn balance(summary: &DatasetSummary) -> String {
    let each = summary
        .largest
        .iter()
        .map(|&(id, count)| format!("{id}: {}", percent(count, summary.annotated)));
    let mut text = each.collect::<Vec<_>>().join(", ");
    if summary.ids > summary.largest.len() {
        text += ", …";
    }
    text
}
