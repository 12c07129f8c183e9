//! `dacapo arrays pyramid`: smaller copies of an array for viewers.

use std::process::ExitCode;

use clap::Args;
use dacapo::array::{PyramidOptions, Reduce, make_pyramid, open_array};

use dacapo::store::Provenance;

use super::describe::value;
use super::job::Job;
use super::select;
use crate::bar::Counted;
use crate::context::Context;
use crate::printer::table;

/// Make smaller and smaller copies of an array (OME-NGFF multiscales), which viewers show while they load the
/// rest.
#[derive(Debug, Args)]
#[command(after_help = "\
The array stays as it is; its levels stand beside it as NAME.s1, NAME.s2, …, and the multiscales of its group \
name them. Viewers that open the first image of a group only (napari, Neuroglancer) want --into, which makes a \
group of the pyramid's own, with a copy of the array as s0.

Sides are halved; where voxels are not cubes, the axes of the shortest sides first.

Examples:
  dacapo arrays pyramid data.zarr/raw
  dacapo arrays pyramid data.zarr/segmentation --labels --levels 3
  dacapo arrays pyramid data.zarr/raw --into raw_pyramid")]
pub struct Pyramid {
    /// The array, as container.zarr/dataset: a path, else one below the base directory.
    array: String,
    /// Voxels become one by the value that most of them have [default for integers of 32 and 64 bits].
    #[arg(long, conflicts_with = "image")]
    labels: bool,
    /// Voxels become one by their mean [default for other values].
    #[arg(long)]
    image: bool,
    /// Number of levels below the array [default: until no side is longer than 64 voxels].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=63))]
    levels: Option<u8>,
    /// Make a group of this path in the container, with a copy of the array and all levels.
    #[arg(long, value_name = "GROUP")]
    into: Option<String>,
    /// Replace levels that are there.
    #[arg(long)]
    overwrite: bool,
}

impl Pyramid {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let address = select::array(context, &self.array)?.address();
        let guess = Reduce::of(open_array(&address, context.store.access())?.spec().dtype);
        let reduce = match (self.labels, self.image) {
            (true, _) => Reduce::Mode,
            (_, true) => Reduce::Mean,
            _ => guess,
        };
        let mut made = Provenance::of(address.to_string());
        made.parameters = Some(format!(
            "pyramid({})",
            match reduce {
                Reduce::Mean => "mean",
                Reduce::Mode => "mode",
            }
        ));
        let options = PyramidOptions {
            reduce: Some(reduce),
            levels: self.levels.map(usize::from),
            group: self.into.map(|group| group.trim_matches('/').to_owned()),
            overwrite: self.overwrite,
            attributes: made.attributes(),
        };
        if !self.labels && !self.image {
            context.printer.note(match reduce {
                Reduce::Mean => {
                    "taken for an image, voxels become one by their mean; --labels says otherwise"
                }
                Reduce::Mode => {
                    "taken for labels, voxels become one by the most frequent; --image says otherwise"
                }
            });
        }
        let job = Job::new(context, "making levels", Counted::Parts, 0)?;
        let made = make_pyramid(&address, context.store.access(), &options, &mut |done, total| {
            job.on_part(done, total)
        });
        drop(job);
        let levels = made?;
        if context.printer.json {
            let levels: Vec<_> = levels
                .iter()
                .map(|level| {
                    let mut result = value(&level.spec);
                    result["array"] = level.address.to_string().into();
                    result
                })
                .collect();
            context.printer.value(&levels)?;
        } else {
            let mut rows = table(["array", "shape", "voxel size"]);
            for level in &levels {
                rows.add_row([
                    level.address.to_string(),
                    format!("{:?}", level.spec.shape()),
                    level.spec.voxel_size.to_string(),
                ]);
            }
            context.printer.line(rows.to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
