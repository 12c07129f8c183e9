//! `dacapo arrays import`: copy an array of another program into a Zarr container.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dacapo::array::{ArrayAddress, ArrayRead, CreateOptions, ZarrFormat, copy_array, open_source};

use dacapo::store::Provenance;

use super::describe::{line, value};
use super::job::Job;
use crate::bar::Counted;
use crate::context::Context;
use crate::placing::Placing;
use crate::typed;

/// Copy an array of another program into a Zarr container, part by part; its place in the world comes along
/// where the source says it, and can be given where it does not.
#[derive(Debug, Args)]
#[command(after_help = "\
Sources, known by what is there:
  stack.tif           one page or many; ImageJ's and OME-TIFF's voxel sizes are read
  slices/             a folder of .png or .tif, in natural order: slice2 before slice10
  volume.npy          C or Fortran order, any byte order
  data.n5/em/s0       N5 with raw, gzip, zstd or blosc blocks
  data.h5/volumes/raw HDF5, contiguous or in chunks
  other.zarr/raw      Zarr 2 or 3

Examples:
  dacapo arrays import stack.tif data.zarr/raw
  dacapo arrays import slices/ data.zarr/raw --voxel-size 40,4,4 --units nm
  dacapo arrays import probabilities.npy data.zarr/affs --axes c^,z,y,x --voxel-size 8 --offset 0,-80,400 --units nm")]
pub struct Import {
    /// The file, folder or dataset to read.
    source: PathBuf,
    /// The array to make, as container.zarr/dataset.
    #[arg(value_name = "ARRAY")]
    target: ArrayAddress,
    #[command(flatten)]
    placing: Placing,
    /// Version of the Zarr format.
    #[arg(long, value_name = "2|3", default_value = "2", value_parser = typed::format)]
    format: ZarrFormat,
    /// Replace the array if it is there.
    #[arg(long)]
    overwrite: bool,
}

impl Import {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let source = open_source(&self.source, &self.placing.placement(), context.store.access())?;
        let options = CreateOptions {
            format: self.format,
            overwrite: self.overwrite,
            attributes: Provenance::of(self.source.display().to_string()).attributes(),
            ..CreateOptions::default()
        };
        let job = Job::new(context, "importing", Counted::Parts, 0)?;
        let copied = copy_array(
            source.as_ref(),
            &self.target,
            context.store.access(),
            &options,
            &mut |done, total| job.on_part(done, total),
        );
        drop(job);
        let array = copied?;
        let spec = array.spec();
        if self.placing.is_missing_for(&array) {
            context
                .printer
                .note("the source names no voxel size: 1 is taken; --voxel-size and --units say another");
        }
        if self.placing.makes_channels_of(&array) {
            context.printer.note(format!(
                "the first axes are taken for channels, since there are numbers for {} axes; --axes names all of them",
                spec.spatial_dims()
            ));
        }
        if context.printer.json {
            let mut result = value(spec);
            result["array"] = self.target.to_string().into();
            context.printer.value(&result)?;
        } else {
            context.printer.line(format!("{}: {}", self.target, line(spec)))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
