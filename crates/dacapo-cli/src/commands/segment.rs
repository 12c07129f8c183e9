//! `dacapo segment`: segments out of predictions.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use dacapo::array::{ArrayAddress, Roi, ZarrFormat};
use dacapo::{SegmentMethod, SegmentRequest, segment};
use serde_json::json;

use crate::context::Context;
use crate::placing::Placing;
use crate::prediction::Opened;
use crate::report::{Usage, misused};
use crate::typed;

/// Make segments of a prediction, in memory or block by block.
#[derive(Debug, Args)]
#[command(after_help = "\
Methods:
  threshold         1 where the first channel is above --threshold
  argmax            the channel with the largest value, from 0
  components        connected regions above --threshold; of labels, of each label
  watershed         fragments of affinities; with --seeds, these grow over the first channel
  mutex-watershed   what affinities above --bias join, and what those below keep apart
  agglomerate       fragments, merged while their mean affinity is at least --threshold

Which offset each channel of affinities has is read from the prediction, or said: --offsets=-1,0,0/0,-1,0/0,0,-1. Bytes \
stand for 0 to 1, or for the range that the prediction says, and thresholds are measured in that. By blocks (--block 256) memory is that of a layer of them; \
thresholds, classes and components are the same by any blocks, objects of affinities nearly so. Where the input's file does \
not say where it lies, --voxel-size, --offset, --units and --axes do, for seeds and mask too where theirs do not.

Examples:
  dacapo segment out.zarr/affinities out.zarr/segments --method agglomerate --threshold 0.6
  dacapo segment boundary.tif out.zarr/cells --method components --threshold 0.5 --voxel-size 40,4,4
  dacapo segment out.zarr/affinities out.zarr/segments --method mutex-watershed --block 256")]
pub struct Segment {
    /// The prediction: Zarr, N5, TIFF, a folder of PNG, NumPy or HDF5.
    #[arg(value_name = "INPUT")]
    input: PathBuf,
    /// The array to make, as container.zarr/dataset.
    #[arg(value_name = "OUTPUT")]
    output: ArrayAddress,
    /// How.
    #[arg(long, value_name = "METHOD")]
    method: Method,
    /// What values have to be above, or mean affinities have to reach.
    #[arg(long, value_name = "N", value_parser = typed::finite, allow_hyphen_values = true)]
    threshold: Option<f32>,
    /// Biases of affinities of at most 3 voxels, and of longer ones [default: 0.5].
    #[arg(
        long,
        value_name = "SHORT[,LONG]",
        value_parser = typed::finite,
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    bias: Vec<f32>,
    /// Offsets of affinities, one a channel, in voxels [default: as the prediction says].
    #[arg(long, value_name = "Z,Y,X/…", value_parser = typed::offset, value_delimiter = '/', allow_hyphen_values = true)]
    offsets: Vec<Offset>,
    /// Neighbours of components: over faces (6), edges (18) or corners (26); in 2D 4 or 8 [default: over faces].
    #[arg(long, value_name = "N")]
    connectivity: Option<u32>,
    /// Where to begin a watershed: labels.
    #[arg(long, value_name = "ARRAY")]
    seeds: Option<PathBuf>,
    /// Where to segment: where this is not 0.
    #[arg(long, value_name = "ARRAY")]
    mask: Option<PathBuf>,
    #[command(flatten)]
    placing: Placing,
    /// The part to segment, in world units, as begin:end for each axis [default: all].
    #[arg(long, value_name = "Z:Z,Y:Y,X:X", value_parser = typed::roi, allow_hyphen_values = true)]
    roi: Option<Roi>,
    /// Voxels of a block along each axis; at least 24 where affinities are segmented.
    #[arg(long, value_name = "N", value_parser = typed::length, allow_hyphen_values = true)]
    block: Option<usize>,
    /// Replace the output if it is there.
    #[arg(long)]
    overwrite: bool,
    /// Version of Zarr to write.
    #[arg(long, value_name = "2|3", default_value = "3", value_parser = typed::format)]
    format: ZarrFormat,
}

type Offset = Vec<i64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    Threshold,
    Argmax,
    Components,
    Watershed,
    MutexWatershed,
    Agglomerate,
}

impl Segment {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        self.check()?;
        let input = Opened::new(&self.input, &self.placing, context)?;
        let beside = |path: &Option<PathBuf>| {
            let path = path.as_ref();
            path.map(|path| Opened::beside(path, &self.placing, context))
                .transpose()
        };
        let (seeds, mask) = (beside(&self.seeds)?, beside(&self.mask)?);
        let beside = [seeds.as_ref(), mask.as_ref()].into_iter().flatten();
        for opened in beside.chain([&input]) {
            opened.check_apart(&self.output)?;
        }
        let method = self.method(input.dims())?;
        let of_affinities = match method {
            SegmentMethod::Watershed => seeds.is_none(),
            SegmentMethod::MutexWatershed { .. } | SegmentMethod::Agglomerate(_) => true,
            _ => false,
        };
        let request = SegmentRequest {
            method,
            neighborhood: if of_affinities {
                input.neighborhood(&self.offsets, context)?
            } else {
                Vec::new()
            },
            range: input.range()?,
            mask: mask.as_ref().map(Opened::named),
            seeds: seeds.as_ref().map(Opened::named),
            roi: self.roi,
            block: self.block,
            memory: context.free_memory()?,
            overwrite: self.overwrite,
            format: self.format,
        };
        let progress = context.progress("segmenting")?;
        let access = context.store.access();
        let done = segment(input.named(), &self.output, access, &request, progress.as_ref());
        progress.finish();
        let done = done?;
        if let (Some(threshold), Some((least, most))) = (self.threshold, done.values) {
            let side = if most <= threshold {
                Some("no value is above")
            } else if least > threshold {
                Some("every value is above")
            } else {
                None
            };
            if let Some(side) = side {
                context.printer.warn(format!(
                    "{side} --threshold {threshold}: those of {} are from {least} to {most}",
                    self.input.display()
                ));
            }
        }
        if context.printer.json {
            context.printer.value(&json!({
                "values": done.values,
                "output": self.output.to_string(),
                "method": done.method,
                "roi": done.roi,
                "shape": done.shape,
                "dtype": done.dtype.name(),
            }))?;
        } else {
            context.printer.line(format!(
                "{}: {}, {} {:?} at {}",
                self.output, done.method, done.dtype, done.shape, done.roi
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Refuses what is said in vain.
    fn check(&self) -> anyhow::Result<()> {
        let is = |methods: &[Method]| methods.contains(&self.method);
        let grows = self.seeds.is_some() && is(&[Method::Watershed]);
        let has_threshold = is(&[Method::Threshold, Method::Components, Method::Agglomerate]);
        let has_offsets = is(&[Method::Watershed, Method::MutexWatershed, Method::Agglomerate]) && !grows;
        typed::check_vain(&[
            (
                "--threshold",
                self.threshold.is_some() && !has_threshold,
                "--method threshold, components or agglomerate",
            ),
            (
                "--bias",
                !self.bias.is_empty() && !is(&[Method::MutexWatershed]),
                "--method mutex-watershed",
            ),
            (
                "--offsets",
                !self.offsets.is_empty() && !has_offsets,
                "--method mutex-watershed, agglomerate, or watershed without --seeds",
            ),
            (
                "--connectivity",
                self.connectivity.is_some() && !is(&[Method::Components]),
                "--method components",
            ),
            (
                "--seeds",
                self.seeds.is_some() && !is(&[Method::Watershed]),
                "--method watershed",
            ),
            (
                "--block",
                self.block.is_some() && grows,
                "methods that go block by block; seeds grow in memory",
            ),
        ])
    }

    fn method(&self, dims: usize) -> anyhow::Result<SegmentMethod> {
        let threshold = || -> anyhow::Result<f32> {
            self.threshold
                .ok_or_else(|| Usage("this method needs a --threshold".to_owned()).into())
        };
        Ok(match self.method {
            Method::Threshold => SegmentMethod::Threshold(threshold()?),
            Method::Argmax => SegmentMethod::Argmax,
            Method::Components => SegmentMethod::Components {
                threshold: self.threshold,
                connectivity: typed::connectivity(self.connectivity, dims)?,
            },
            Method::Watershed => SegmentMethod::Watershed,
            Method::MutexWatershed => match self.bias[..] {
                [] => SegmentMethod::MutexWatershed {
                    bias_short: 0.5,
                    bias_long: 0.5,
                },
                [both] => SegmentMethod::MutexWatershed {
                    bias_short: both,
                    bias_long: both,
                },
                [bias_short, bias_long] => SegmentMethod::MutexWatershed {
                    bias_short,
                    bias_long,
                },
                _ => misused!("--bias takes one or two numbers"),
            },
            Method::Agglomerate => SegmentMethod::Agglomerate(threshold()?),
        })
    }
}
