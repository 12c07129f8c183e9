//! `dacapo evaluate`: scores of a segmentation.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dacapo::array::Roi;
use dacapo::tasks::{INSTANCE_CRITERIA, InstanceRules, Mistake, ZeroIs};
use dacapo::{EvaluateRequest, Evaluated, evaluate};
use serde_json::json;

use crate::context::Context;
use crate::placing::Placing;
use crate::prediction::Opened;
use crate::printer::table;
use crate::typed;

/// Score a segmentation by the truth: which objects are split, merged, missed.
///
/// Both are read block by block, where both are, so that volumes may be larger than memory.
#[derive(Debug, Args)]
#[command(after_help = "\
Arrays are Zarr, N5, TIFF, a folder of PNG, NumPy or HDF5; two without a voxel size are compared voxel by voxel. Where one
of them says none, --voxel-size, --offset, --units and --axes say where it lies.

Scores (bits; 0 is best for voi and rand_error, 1 for the others; - where nothing is there to score):
  voi, voi_split, voi_merge          variation of information, and how far objects are split and merged
  rand_error, _precision, _recall    pairs of voxels that are together in one and the other
  object_precision, _recall, _f1     objects found, at an intersection over union above 0.5
  average_precision                  found / (found + missed + wrong), mean over thresholds from 0.5 to 0.95
  panoptic_quality                   how well, of how many

Examples:
  dacapo evaluate truth.zarr/labels out.zarr/segments
  dacapo evaluate truth.tif out.zarr/segments --voxel-size 8
  dacapo evaluate truth.tif test.tif --boundary-band 1,2,2 --json")]
pub struct Evaluate {
    /// True labels.
    #[arg(value_name = "TRUTH")]
    truth: PathBuf,
    /// The segmentation to score.
    #[arg(value_name = "TEST")]
    test: PathBuf,
    #[command(flatten)]
    placing: Placing,
    /// The part to compare, in world units, as begin:end for each axis [default: what both have].
    #[arg(long, value_name = "Z:Z,Y:Y,X:X", value_parser = typed::roi, allow_hyphen_values = true)]
    roi: Option<Roi>,
    /// Let voxels of truth 0 count as a region of their own, instead of as unknown.
    #[arg(long)]
    count_truth_zero: bool,
    /// Let voxels of segmentation 0 not count, instead of as a region of their own.
    #[arg(long)]
    ignore_test_zero: bool,
    /// Voxels to each side of a true boundary that do not count, along z, y and x, or one number for all.
    #[arg(long, value_name = "N|Z,Y,X", value_parser = typed::voxels, default_value = "0")]
    boundary_band: [usize; 3],
    /// How many of the worst splits and merges to name.
    #[arg(long, value_name = "N", default_value_t = 5)]
    largest: usize,
    /// Voxels of a block along each axis: less takes less memory, and changes no score.
    #[arg(long, value_name = "N", default_value_t = 256)]
    block: usize,
}

impl Evaluate {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let truth = Opened::beside(&self.truth, &self.placing, context)?;
        let test = Opened::beside(&self.test, &self.placing, context)?;
        let request = EvaluateRequest {
            rules: InstanceRules {
                truth_zero: if self.count_truth_zero {
                    ZeroIs::Region
                } else {
                    ZeroIs::Ignored
                },
                segmentation_zero: if self.ignore_test_zero {
                    ZeroIs::Ignored
                } else {
                    ZeroIs::Region
                },
                boundary_band: self.boundary_band,
            },
            roi: self.roi,
            largest: self.largest,
            block: self.block,
        };
        let progress = context.progress()?;
        let evaluated = evaluate(truth.named(), test.named(), &request, progress.as_ref());
        progress.finish();
        let evaluated = evaluated?;
        if context.printer.json {
            context.printer.value(&value(&evaluated)?)?;
        } else {
            print(context, &evaluated)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The scores by name, and where they hold.
fn value(evaluated: &Evaluated) -> anyhow::Result<serde_json::Value> {
    let mut value = json!({
        "roi": evaluated.roi,
        "voxel_size": evaluated.voxel_size,
    });
    if let (Some(all), serde_json::Value::Object(scores), serde_json::Value::Object(by_name)) = (
        value.as_object_mut(),
        serde_json::to_value(&evaluated.scores)?,
        serde_json::to_value(evaluated.scores.scores())?,
    ) {
        all.extend(by_name);
        all.extend(scores);
    }
    Ok(value)
}

fn print(context: &Context, evaluated: &Evaluated) -> anyhow::Result<()> {
    let scores = &evaluated.scores;
    let mut rows = table(["score", "value", "meaning"]);
    let by_name = scores.scores().0;
    for criterion in &INSTANCE_CRITERIA {
        let score = by_name.get(&*criterion.name).copied().flatten();
        let score = score.map_or("-".to_owned(), |score| format!("{score:.4}"));
        let unit = if criterion.unit.is_empty() { "" } else { " " };
        rows.add_row([
            criterion.name.to_string(),
            format!("{score}{unit}{}", criterion.unit),
            criterion.meaning.to_owned(),
        ]);
    }
    context.printer.line(rows.to_string())?;
    let mistakes = |what: &str, of: &str, into: &str, mistakes: &[Mistake]| -> anyhow::Result<()> {
        for mistake in mistakes {
            let places: Vec<String> = (mistake.parts.iter().take(3))
                .map(|part| format!("{} at {}", part.id, evaluated.world(part.place)))
                .collect();
            let more = if mistake.count > places.len() { ", …" } else { "" };
            context.printer.line(format!(
                "{what} {of} {}: {:.4} bits, {} {into}: {}{more}",
                mistake.id,
                mistake.bits,
                mistake.count,
                places.join(", ")
            ))?;
        }
        Ok(())
    };
    mistakes("split", "object", "segments", &scores.splits)?;
    mistakes("merge", "segment", "objects", &scores.merges)?;
    context.printer.note(format!(
        "{} voxels of {} counted; {} objects, {} segments",
        scores.voxels, evaluated.roi, scores.objects, scores.segments
    ));
    Ok(())
}
