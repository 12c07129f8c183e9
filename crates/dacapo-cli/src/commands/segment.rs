//! `dacapo segment`: segments out of predictions.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::{Args, ValueEnum};
use dacapo::array::{ArrayAddress, ArrayRead, Placement, Roi, ZarrArray, ZarrFormat, open_source};
use dacapo::kernels::Connectivity;
use dacapo::tasks::ValueRange;
use dacapo::{NamedArray, SegmentMethod, SegmentRequest, neighborhood_of, segment};
use serde_json::{Value, json};

use crate::context::Context;
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

Which offset each channel of affinities has is read from the prediction, or said: --offsets=-1,0,0/0,-1,0/0,0,-1. Bytes
stand for 0 to 1, or for the range that the prediction says. By blocks (--block 256) memory is that of a layer of them;
thresholds, classes and components are the same by any blocks, objects of affinities nearly so.

Examples:
  dacapo segment out.zarr/affinities out.zarr/segments --method agglomerate --threshold 0.6
  dacapo segment boundary.tif out.zarr/cells --method components --threshold 0.5
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
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    threshold: Option<f32>,
    /// Biases of affinities of at most 3 voxels, and of longer ones.
    #[arg(
        long,
        value_name = "SHORT[,LONG]",
        value_delimiter = ',',
        default_value = "0.5"
    )]
    bias: Vec<f32>,
    /// Offsets of affinities, one a channel, in voxels.
    #[arg(long, value_name = "Z,Y,X/…", value_parser = typed::offset, value_delimiter = '/', allow_hyphen_values = true)]
    offsets: Vec<Offset>,
    /// Neighbours of components: over faces (6), edges (18) or corners (26); in 2D 4 or 8.
    #[arg(long, value_name = "N", default_value = "6", value_parser = neighbours)]
    connectivity: Connectivity,
    /// Where to begin a watershed: labels.
    #[arg(long, value_name = "ARRAY")]
    seeds: Option<PathBuf>,
    /// Where to segment: where this is not 0.
    #[arg(long, value_name = "ARRAY")]
    mask: Option<PathBuf>,
    /// The part to segment, in world units, as begin:end for each axis [default: all].
    #[arg(long, value_name = "Z:Z,Y:Y,X:X", value_parser = typed::roi, allow_hyphen_values = true)]
    roi: Option<Roi>,
    /// Voxels of a block along each axis.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    block: Option<u64>,
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

fn neighbours(text: &str) -> Result<Connectivity, String> {
    let count = text.parse().map_err(|error| format!("{error}"))?;
    Connectivity::from_neighbors(count).map_err(|error| error.to_string())
}

impl Segment {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let open = |path: &PathBuf| -> anyhow::Result<(String, Arc<dyn ArrayRead>)> {
            let array = open_source(path, &Placement::default(), context.store.access())?;
            Ok((path.display().to_string(), array))
        };
        let (name, input) = open(&self.input)?;
        let beside = |path: &Option<PathBuf>| path.as_ref().map(open).transpose();
        let (seeds, mask) = (beside(&self.seeds)?, beside(&self.mask)?);
        let said = self.said(context);
        let method = self.method()?;
        let mut neighborhood = self.offsets.clone();
        let of_affinities = match method {
            SegmentMethod::Watershed => seeds.is_none(),
            SegmentMethod::MutexWatershed { .. } | SegmentMethod::Agglomerate(_) => true,
            _ => false,
        };
        if neighborhood.is_empty() && of_affinities {
            let names = said.get("channel_names").cloned().unwrap_or_default();
            let names: Vec<String> = serde_json::from_value(names).unwrap_or_default();
            let Some(found) = neighborhood_of(&names) else {
                bail!(
                    "{name} does not say which offsets its channels have; say them: --offsets=-1,0,0/0,-1,0/0,0,-1"
                );
            };
            neighborhood = found;
        }
        let request = SegmentRequest {
            method,
            neighborhood,
            range: range(&said)?,
            mask: mask.as_ref().map(named),
            seeds: seeds.as_ref().map(named),
            roi: self.roi,
            block: self
                .block
                .map(|block| usize::try_from(block).unwrap_or(usize::MAX)),
            overwrite: self.overwrite,
            format: self.format,
        };
        let progress = context.progress()?;
        let array = NamedArray {
            name: &name,
            array: &*input,
        };
        let access = context.store.access();
        let done = segment(array, &self.output, access, &request, progress.as_ref());
        progress.finish();
        let done = done?;
        if context.printer.json {
            context.printer.value(&json!({
                "output": self.output.to_string(),
                "method": method.to_string(),
                "roi": done.roi,
                "shape": done.shape,
                "dtype": done.dtype.name(),
            }))?;
        } else {
            context.printer.line(format!(
                "{}: {method}, {} {:?} at {}",
                self.output, done.dtype, done.shape, done.roi
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn method(&self) -> anyhow::Result<SegmentMethod> {
        let threshold = || {
            self.threshold
                .ok_or_else(|| anyhow::anyhow!("--method needs a --threshold"))
        };
        Ok(match self.method {
            Method::Threshold => SegmentMethod::Threshold(threshold()?),
            Method::Argmax => SegmentMethod::Argmax,
            Method::Components => SegmentMethod::Components {
                threshold: self.threshold,
                connectivity: self.connectivity,
            },
            Method::Watershed => SegmentMethod::Watershed,
            Method::MutexWatershed => match self.bias[..] {
                [both] => SegmentMethod::MutexWatershed {
                    bias_short: both,
                    bias_long: both,
                },
                [bias_short, bias_long] => SegmentMethod::MutexWatershed {
                    bias_short,
                    bias_long,
                },
                _ => bail!("--bias takes one or two numbers"),
            },
            Method::Agglomerate => SegmentMethod::Agglomerate(threshold()?),
        })
    }

    /// What the input says of itself, if it is a Zarr array.
    fn said(&self, context: &Context) -> serde_json::Map<String, Value> {
        let address = self.input.to_string_lossy().parse::<ArrayAddress>().ok();
        let array = address.and_then(|address| ZarrArray::open(&address, context.store.access()).ok());
        array.map(|array| array.attributes().clone()).unwrap_or_default()
    }
}

fn named(array: &(String, Arc<dyn ArrayRead>)) -> NamedArray<'_> {
    NamedArray {
        name: &array.0,
        array: &*array.1,
    }
}

/// What bytes stand for.
fn range(said: &serde_json::Map<String, Value>) -> anyhow::Result<ValueRange> {
    match said.get("value_range") {
        None => Ok(ValueRange::UNIT),
        Some(range) => {
            let [min, max]: [f32; 2] = serde_json::from_value(range.clone())?;
            Ok(ValueRange::new(min, max)?)
        }
    }
}
