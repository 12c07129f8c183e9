//! `dacapo evaluate`: scores of a segmentation.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use dacapo::array::Roi;
use dacapo::tasks::{
    BinaryEvaluation, Criterion, INSTANCE_CRITERIA, InstanceRules, Mistake, Scores, ZeroIs, class_criteria,
};
use dacapo::{EvaluateBinaryRequest, EvaluateRequest, Evaluated, EvaluatedBinary, evaluate, evaluate_binary};
use serde_json::json;

use crate::context::Context;
use crate::placing::Placing;
use crate::prediction::Opened;
use crate::printer::table;
use crate::typed;

/// Score a segmentation by the truth: which objects are split, merged, missed; or which voxels of a class are.
///
/// Both are read block by block, where both are, so that volumes may be larger than memory.
#[derive(Debug, Args)]
#[command(after_help = "\
Arrays are Zarr, N5, TIFF, a folder of PNG, NumPy or HDF5; two without a voxel size are compared voxel by voxel. Where one \
of them says none, --voxel-size, --offset, --units and --axes say where it lies.

Scores of --kind instance (bits; 0 is best for voi and rand_error, 1 for the others; - where nothing is there to score):
  voi, voi_split, voi_merge          variation of information, and how far objects are split and merged
  rand_error, _precision, _recall    pairs of voxels that are together in one and the other
  object_precision, _recall, _f1     objects found, at an intersection over union above 0.5
  average_precision                  found / (found + missed + wrong), mean over thresholds from 0.5 to 0.95
  panoptic_quality                   how well, of how many

Scores of --kind binary: dice, jaccard, precision, recall, rates, distances and 16 more, which the output explains. What \
is not 0 is of the class; of several channels, each is scored, and the means are printed (--json has all). A block is \
read with as much around it as its errors are far away.

Examples:
  dacapo evaluate truth.zarr/labels out.zarr/segments
  dacapo evaluate truth.tif out.zarr/segments --voxel-size 8
  dacapo evaluate truth.tif test.tif --boundary-band 1,2,2 --json
  dacapo evaluate mito.tif predicted.tif --kind binary --tolerance 16")]
pub struct Evaluate {
    /// True labels.
    #[arg(value_name = "TRUTH")]
    truth: PathBuf,
    /// The segmentation to score.
    #[arg(value_name = "TEST")]
    test: PathBuf,
    #[command(flatten)]
    placing: Placing,
    /// What is scored: single objects, or classes voxel by voxel.
    #[arg(long, value_enum, default_value = "instance")]
    kind: Kind,
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
    #[arg(long, value_name = "N|Z,Y,X", value_parser = typed::voxels, allow_hyphen_values = true)]
    boundary_band: Option<[usize; 3]>,
    /// How many of the worst splits and merges to name [default: 5].
    #[arg(long, value_name = "N", value_parser = typed::count, allow_hyphen_values = true)]
    largest: Option<usize>,
    /// Up to this distance in world units a voxel of a class may be wrong and counts as right, in scores with
    /// tolerance [default: 40].
    #[arg(long, value_name = "DISTANCE", allow_negative_numbers = true)]
    tolerance: Option<f64>,
    /// No distance counts as more than this in clipped means, in world units [default: 200].
    #[arg(long, value_name = "DISTANCE", allow_negative_numbers = true)]
    clip: Option<f64>,
    /// Voxels of a block along each axis: less takes less memory, and changes no score.
    #[arg(long, value_name = "N", default_value = "256", value_parser = typed::length, allow_hyphen_values = true)]
    block: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Instance,
    Binary,
}

impl Evaluate {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        self.check()?;
        let truth = Opened::beside(&self.truth, &self.placing, context)?;
        let test = Opened::beside(&self.test, &self.placing, context)?;
        match self.kind {
            Kind::Instance => self.instance(&truth, &test, context)?,
            Kind::Binary => self.binary(&truth, &test, context)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Refuses what is said in vain.
    fn check(&self) -> anyhow::Result<()> {
        let is_binary = self.kind == Kind::Binary;
        let of_instance = |option, is_said: bool| (option, is_said && is_binary, "--kind instance");
        let of_binary = |option, is_said: bool| (option, is_said && !is_binary, "--kind binary");
        typed::check_vain(&[
            of_instance("--count-truth-zero", self.count_truth_zero),
            of_instance("--ignore-test-zero", self.ignore_test_zero),
            of_instance("--boundary-band", self.boundary_band.is_some()),
            of_instance("--largest", self.largest.is_some()),
            of_binary("--tolerance", self.tolerance.is_some()),
            of_binary("--clip", self.clip.is_some()),
        ])
    }

    /// Says what is compared, where one of the two has more than that.
    fn note_part(&self, [truth, test]: [&Opened; 2], compared: &Roi, context: &Context) {
        let asked = self.roi.as_ref();
        if [truth.roi(), test.roi()]
            .iter()
            .any(|&roi| *asked.unwrap_or(roi) != *compared)
        {
            context.printer.note(format!(
                "only {compared} is compared, which both have: {} lies at {}, {} at {}",
                self.truth.display(),
                truth.roi(),
                self.test.display(),
                test.roi()
            ));
        }
    }

    fn instance(&self, truth: &Opened, test: &Opened, context: &Context) -> anyhow::Result<()> {
        let zero = |is_ignored| {
            if is_ignored {
                ZeroIs::Ignored
            } else {
                ZeroIs::Region
            }
        };
        let request = EvaluateRequest {
            rules: InstanceRules {
                truth_zero: zero(!self.count_truth_zero),
                segmentation_zero: zero(self.ignore_test_zero),
                boundary_band: self.boundary_band.unwrap_or_default(),
            },
            roi: self.roi.clone(),
            largest: self.largest.unwrap_or(5),
            block: self.block,
        };
        let progress = context.progress("comparing")?;
        let evaluated = evaluate(truth.named(), test.named(), &request, progress.as_ref());
        progress.finish();
        let evaluated = evaluated?;
        self.note_part([truth, test], &evaluated.roi, context);
        if context.printer.json {
            let value = with_places(value(&evaluated)?, [truth, test])?;
            context.printer.value(&value)?;
            return Ok(());
        }
        print(context, &evaluated)
    }

    fn binary(&self, truth: &Opened, test: &Opened, context: &Context) -> anyhow::Result<()> {
        let usual = BinaryEvaluation::default();
        let names = [test.channel_names(), truth.channel_names()];
        let request = EvaluateBinaryRequest {
            evaluation: BinaryEvaluation {
                tolerance: self.tolerance.unwrap_or(usual.tolerance),
                clip: self.clip.unwrap_or(usual.clip),
            },
            names: names
                .into_iter()
                .find(|names| !names.is_empty())
                .unwrap_or_default(),
            roi: self.roi.clone(),
            block: self.block,
        };
        let progress = context.progress("comparing")?;
        let evaluated = evaluate_binary(truth.named(), test.named(), &request, progress.as_ref());
        progress.finish();
        let evaluated = evaluated?;
        self.note_part([truth, test], &evaluated.roi, context);
        if context.printer.json {
            let value = with_places(serde_json::to_value(&evaluated)?, [truth, test])?;
            context.printer.value(&value)?;
            return Ok(());
        }
        print_binary(context, &evaluated)
    }
}

/// A result with where the arrays lie of which `roi` is what they share.
fn with_places(
    mut value: serde_json::Value,
    [truth, test]: [&Opened; 2],
) -> anyhow::Result<serde_json::Value> {
    value["truth_roi"] = serde_json::to_value(truth.roi())?;
    value["test_roi"] = serde_json::to_value(test.roi())?;
    Ok(value)
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
    print_scores(context, &INSTANCE_CRITERIA, &scores.scores())?;
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

fn print_binary(context: &Context, evaluated: &EvaluatedBinary) -> anyhow::Result<()> {
    // Of several channels there are the means, and then each by itself.
    let criteria = class_criteria(&[]);
    print_scores(context, &criteria, &evaluated.scores)?;
    if evaluated.channels.len() > 1 {
        let mut rows = table(["channel", "dice", "jaccard", "hausdorff_95"]);
        for channel in &evaluated.channels {
            let score = |name: &str| shown(&evaluated.scores, &format!("{channel}.{name}"));
            rows.add_row([
                channel.clone(),
                score("dice"),
                score("jaccard"),
                score("hausdorff_95"),
            ]);
        }
        context.printer.line(rows.to_string())?;
    }
    let BinaryEvaluation { tolerance, clip } = evaluated.evaluation;
    context.printer.note(format!(
        "{} compared; tolerance {tolerance}, clip {clip}, in world units",
        evaluated.roi
    ));
    Ok(())
}

fn print_scores(context: &Context, criteria: &[Criterion], scores: &Scores) -> anyhow::Result<()> {
    let mut rows = table(["score", "value", "unit", "meaning"]);
    for criterion in criteria {
        rows.add_row([
            criterion.name.to_string(),
            shown(scores, &criterion.name),
            criterion.unit.to_owned(),
            criterion.meaning.to_owned(),
        ]);
    }
    context.printer.line(rows.to_string())?;
    Ok(())
}

/// A score; - if it is not defined.
fn shown(scores: &Scores, name: &str) -> String {
    match scores.0.get(name).copied().flatten() {
        Some(score) => format!("{score:.4}"),
        None => "-".to_owned(),
    }
}
