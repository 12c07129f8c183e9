//! `dacapo sweep`: the scores of every threshold.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use dacapo::array::Roi;
use dacapo::{SweepMethod, SweepRequest, Swept, sweep};

use crate::context::Context;
use crate::figures::{Panel, Series, check_svg, draw};
use crate::placing::Placing;
use crate::prediction::Opened;
use crate::printer::table;
use crate::typed;

/// Score every threshold or bias of a prediction, for about the price of one.
#[derive(Debug, Args)]
#[command(after_help = "\
Methods, and what is scored:
  threshold         the first channel above each of 256 thresholds: dice, jaccard, precision, recall, f1
  components        connected regions above each of them: variation of information (voi_split + voi_merge, bits)
  agglomerate       fragments merged by mean affinity, from 0.05 to 0.95: the same
  mutex-watershed   biases from 0.05 to 0.95: the same

Every score is that of a segmentation made and scored by itself. In memory; --roi looks at a part. Where one of the two \
does not say where it lies, --voxel-size, --offset, --units and --axes do.

Examples:
  dacapo sweep out.zarr/affinities truth.zarr/labels --method agglomerate --plot curve.svg
  dacapo sweep boundary.tif truth.tif --method components --json")]
pub struct Sweep {
    /// The prediction: Zarr, N5, TIFF, a folder of PNG, NumPy or HDF5.
    #[arg(value_name = "PREDICTION")]
    prediction: PathBuf,
    /// True labels.
    #[arg(value_name = "TRUTH")]
    truth: PathBuf,
    /// What is varied.
    #[arg(long, value_name = "METHOD")]
    method: Method,
    /// Thresholds or biases to try, instead of all.
    #[arg(long, value_name = "N,…", value_parser = typed::finite, value_delimiter = ',', allow_hyphen_values = true)]
    values: Vec<f32>,
    /// Offsets of affinities, one a channel, in voxels [default: as the prediction says].
    #[arg(long, value_name = "Z,Y,X/…", value_parser = typed::offset, value_delimiter = '/', allow_hyphen_values = true)]
    offsets: Vec<Offset>,
    /// Neighbours of components: over faces (6), edges (18) or corners (26); in 2D 4 or 8 [default: over faces].
    #[arg(long, value_name = "N")]
    connectivity: Option<u32>,
    #[command(flatten)]
    placing: Placing,
    /// The part to look at, in world units, as begin:end for each axis [default: what both have].
    #[arg(long, value_name = "Z:Z,Y:Y,X:X", value_parser = typed::roi, allow_hyphen_values = true)]
    roi: Option<Roi>,
    /// Draw the curve as SVG.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

type Offset = Vec<i64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    Threshold,
    Components,
    Agglomerate,
    MutexWatershed,
}

impl Sweep {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        self.check()?;
        let prediction = Opened::beside(&self.prediction, &self.placing, context)?;
        let truth = Opened::beside(&self.truth, &self.placing, context)?;
        let method = match self.method {
            Method::Threshold => SweepMethod::Threshold,
            Method::Components => {
                SweepMethod::Components(typed::connectivity(self.connectivity, prediction.dims())?)
            }
            Method::Agglomerate => SweepMethod::Agglomerate,
            Method::MutexWatershed => SweepMethod::MutexWatershed,
        };
        let neighborhood = match self.method {
            Method::Threshold | Method::Components => Vec::new(),
            Method::Agglomerate | Method::MutexWatershed => {
                prediction.neighborhood(&self.offsets, context)?
            }
        };
        let request = SweepRequest {
            method,
            neighborhood,
            range: prediction.range()?,
            values: self.values,
            roi: self.roi,
            memory: context.free_memory()?,
        };
        let swept = sweep(prediction.named(), truth.named(), &request)?;
        if let Some(path) = &self.plot {
            draw(path, &[panel(&swept, self.method.varied())])?;
        }
        if context.printer.json {
            context.printer.value(&swept)?;
        } else {
            print(context, &swept)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Refuses what is said in vain, and plots that are no SVG.
    fn check(&self) -> anyhow::Result<()> {
        let is_affinities = matches!(self.method, Method::Agglomerate | Method::MutexWatershed);
        typed::check_vain(&[
            (
                "--offsets",
                !self.offsets.is_empty() && !is_affinities,
                "--method agglomerate or mutex-watershed",
            ),
            (
                "--connectivity",
                self.connectivity.is_some() && self.method != Method::Components,
                "--method components",
            ),
        ])?;
        self.plot.as_deref().map_or(Ok(()), check_svg)
    }
}

impl Method {
    /// What is varied.
    fn varied(self) -> &'static str {
        match self {
            Self::MutexWatershed => "bias",
            Self::Threshold | Self::Components | Self::Agglomerate => "threshold",
        }
    }
}

fn panel(swept: &Swept, varied: &'static str) -> Panel {
    let names = swept
        .points
        .first()
        .map(|point| point.scores.keys().copied().collect());
    let names: Vec<&str> = names.unwrap_or_default();
    let series = names.into_iter().map(|name| Series {
        name: name.to_owned(),
        points: (swept.points.iter())
            .filter_map(|point| Some((f64::from(point.value), point.scores.get(name).copied()??)))
            .collect(),
        marked: false,
    });
    Panel {
        title: format!("{} by {varied}", swept.criterion),
        x: varied,
        series: series.collect(),
    }
}

fn print(context: &Context, swept: &Swept) -> anyhow::Result<()> {
    let names: Vec<&str> = (swept.points.first())
        .map(|point| point.scores.keys().copied().collect())
        .unwrap_or_default();
    let mut rows = table(["value"].into_iter().chain(names.iter().copied()));
    // Of hundreds of thresholds a few tell the curve; --json has all.
    let every = swept.points.len().div_ceil(20).max(1);
    for (place, point) in swept.points.iter().enumerate() {
        let is_best = swept.best == Some(place);
        if !is_best && place % every != 0 {
            continue;
        }
        let mark = if is_best { " best" } else { "" };
        let score = |name: &&str| match point.scores.get(name).copied().flatten() {
            Some(score) => format!("{score:.4}"),
            None => "-".to_owned(),
        };
        let value = format!("{:.4}{mark}", point.value);
        rows.add_row([value].into_iter().chain(names.iter().map(score)));
    }
    context.printer.line(rows.to_string())?;
    match swept.best.and_then(|best| swept.points.get(best)) {
        Some(best) => context.printer.note(format!(
            "best {} at {} of {} values, in {}",
            swept.criterion,
            best.value,
            swept.points.len(),
            swept.roi
        )),
        None => context
            .printer
            .note(format!("no {} is defined in {}", swept.criterion, swept.roi)),
    }
    Ok(())
}
