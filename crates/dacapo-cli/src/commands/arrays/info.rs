//! `dacapo arrays info`: what one array is.

use std::process::ExitCode;

use clap::Args;
use dacapo::array::{Decimal, ZarrArray};
use dacapo::store::{ArrayDetails, ArrayEntry, ArrayKind, Statistics, details, statistics};
use serde_json::Value;

use super::job::Job;
use super::select::{self, ago};
use crate::bar::Counted;
use crate::context::Context;
use crate::printer::{bytes, table};
use crate::report;

/// Describe an array.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dacapo arrays info my-run/validation.zarr/1000/crop2/prediction
  dacapo arrays info data/volume.zarr/raw --quick
  dacapo arrays info data/volume.zarr/raw --json | jq .statistics")]
pub struct Info {
    /// The array, as container.zarr/dataset: a path, else one below the base directory.
    #[arg(value_name = "ARRAY")]
    array: String,
    /// Without statistics, for which every chunk is read.
    #[arg(long)]
    quick: bool,
    /// With its metadata, as other programs find it.
    #[arg(long)]
    metadata: bool,
}

impl Info {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let identifier = select::array(context, &self.array)?;
        let array = ZarrArray::open(&identifier.address(), context.store.access())?;
        let entry = ArrayEntry::of(identifier);
        let found = details(&array)?;
        let statistics = if self.quick {
            None
        } else {
            let are_labels = matches!(entry.kind, ArrayKind::Output | ArrayKind::Best)
                || entry.kind == ArrayKind::Input && entry.identifier.dataset().ends_with("/gt");
            let job = Job::new(context, "reading", Counted::Things, found.chunks_stored)?;
            match statistics(&array, are_labels, &|more| job.tick(more)) {
                Err(dacapo::store::Error::Stopped) => return Err(dacapo::Error::Interrupted.into()),
                found => Some(found.map_err(|error| error.to_string())),
            }
        };
        let code = match &statistics {
            Some(Err(problem)) => {
                if !context.printer.json {
                    context.printer.warn(format!("no statistics: {problem}"));
                }
                ExitCode::FAILURE
            }
            _ => ExitCode::SUCCESS,
        };
        report::found(self.show(context, &found, &entry, statistics.as_ref()), code)
    }

    fn show(
        &self,
        context: &Context,
        found: &ArrayDetails,
        entry: &ArrayEntry,
        statistics: Option<&Result<Statistics, String>>,
    ) -> anyhow::Result<()> {
        if context.printer.json {
            let mut value = serde_json::to_value(found)?;
            value["kind"] = entry.kind.name().into();
            match statistics {
                Some(Ok(statistics)) => value["statistics"] = serde_json::to_value(statistics)?,
                Some(Err(problem)) => value["statistics_problem"] = problem.as_str().into(),
                None => {}
            }
            context.printer.value(&value)?;
        } else {
            context.printer.line(text(found, entry, statistics))?;
            if self.metadata {
                for (name, document) in &found.metadata {
                    context.printer.line(format!("\n{name}\n{document:#}"))?;
                }
            }
        }
        Ok(())
    }
}

fn text(found: &ArrayDetails, entry: &ArrayEntry, statistics: Option<&Result<Statistics, String>>) -> String {
    let mut rows = table(["", found.array.as_str()]);
    let mut row = |name: &str, value: String| {
        rows.add_row([name.to_owned(), value]);
    };
    row("kind", entry.kind.to_string());
    row(
        "shape",
        format!("{:?} of {}", found.shape, found.axis_names.join(", ")),
    );
    row("type", found.dtype.clone());
    row("roi", format!("{} {}", found.roi, same(&found.units)));
    let voxel_size: Vec<String> = found.voxel_size.iter().map(Decimal::to_string).collect();
    row(
        "voxel size",
        format!("{} {}", voxel_size.join(" x "), same(&found.units)),
    );
    row("format", format!("Zarr {}", found.zarr_format));
    let shards = found
        .shard_shape
        .as_ref()
        .map_or_else(String::new, |shape| format!(" in shards of {shape:?}"));
    row(
        "chunks",
        format!(
            "{:?}{shards}, a grid of {:?}",
            found.chunk_shape, found.chunk_grid
        ),
    );
    let codecs: Vec<String> = found.codecs.iter().map(codec).collect();
    let codecs = if codecs.is_empty() {
        "none".to_owned()
    } else {
        codecs.join(", ")
    };
    row("codecs", codecs);
    let missing = if found.chunks_missing > 0 {
        format!(", {} written and gone", found.chunks_missing)
    } else {
        String::new()
    };
    row(
        "stored",
        format!(
            "{} of {} chunks{missing}",
            found.chunks_stored, found.chunks_total
        ),
    );
    let ratio = found.bytes_raw as f64 / found.bytes_stored.max(1) as f64;
    row(
        "size",
        format!(
            "{} of {} ({ratio:.1} to 1)",
            bytes(found.bytes_stored),
            bytes(found.bytes_raw)
        ),
    );
    row("fill value", found.fill.to_string());
    if let Some(Ok(statistics)) = statistics {
        let mean = statistics
            .mean
            .map_or_else(|| "-".to_owned(), |mean| format!("{mean:.6}"));
        let show = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let (min, max) = (show(&statistics.min), show(&statistics.max));
        row("values", format!("{min} to {max}, mean {mean}"));
        if statistics.not_a_number > 0 {
            row("no numbers", statistics.not_a_number.to_string());
        }
        if let Some(labels) = statistics.labels {
            row("labels", format!("{labels}, beside 0"));
        }
    }
    if let Some(made) = &found.provenance {
        if let Some(run) = &made.run {
            let iteration = made.iteration.map(|iteration| format!(", iteration {iteration}"));
            row("made by", format!("run {run}{}", iteration.unwrap_or_default()));
        }
        row(
            "program",
            format!("{}, {} ({} ago)", made.program, made.time, ago(&made.time)),
        );
        let named = [
            ("made from", &made.source),
            ("dataset", &made.dataset),
            ("parameters", &made.parameters),
            ("config", &made.config_hash),
            ("weights", &made.weights_hash),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                row(name, value.clone());
            }
        }
        if let Some(input) = &made.input {
            row("input", format!("{} at {}", input.source, input.roi));
            row("input hash", input.content.clone());
        }
    }
    if let Some(problem) = &found.provenance_problem {
        row("made by", problem.clone());
    }
    rows.to_string()
}

/// Units that are all the same are named once.
fn same(units: &[String]) -> String {
    match units {
        [first, rest @ ..] if rest.iter().all(|unit| unit == first) => first.clone(),
        units => units.join(", "),
    }
}

/// `zstd(level=1)`.
fn codec(codec: &Value) -> String {
    let name = codec
        .get("name")
        .or_else(|| codec.get("id"))
        .and_then(Value::as_str)
        .unwrap_or("?");
    let options = codec.get("configuration").unwrap_or(codec).as_object();
    let options: Vec<String> = options
        .into_iter()
        .flatten()
        .filter(|(key, _)| !matches!(key.as_str(), "id" | "name"))
        .map(|(key, value)| match value {
            Value::String(text) => format!("{key}={text}"),
            Value::Array(codecs) if codecs.iter().any(Value::is_object) => {
                let codecs: Vec<String> = codecs.iter().map(self::codec).collect();
                format!("{key}=[{}]", codecs.join(", "))
            }
            other => format!("{key}={other}"),
        })
        .collect();
    if options.is_empty() {
        name.to_owned()
    } else {
        format!("{name}({})", options.join(", "))
    }
}
