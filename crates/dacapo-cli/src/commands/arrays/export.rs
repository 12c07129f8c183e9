//! `dacapo arrays export`: write an array for another program.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use dacapo::array::{CreateOptions, ExportOptions, Roi, ZarrArray, ZarrFormat, export, open_array};
use dacapo::store::Provenance;

use super::describe::{line, value};
use super::job::Job;
use super::select;
use crate::bar::Counted;
use crate::context::Context;
use crate::typed;

/// Write an array for another program, part by part. The target is there whole or not at all.
#[derive(Debug, Args)]
#[command(after_help = "\
Targets, by the ending of the name:
  stack.tif           a page a slice, with spacing, unit and origin for ImageJ; BigTIFF above 4 GB
                      (labels of 64 bits are written with 32 if all fit)
  volume.npy          NumPy
  other.zarr/raw      Zarr 2, or 3 by --format 3
  data.n5/em/s0       N5, gzip blocks

Examples:
  dacapo arrays export data.zarr/raw raw.tif
  dacapo arrays export data.zarr/raw part.npy --roi 0:400,1000:2000,1000:2000")]
pub struct Export {
    /// The array, as container.zarr/dataset: a path, else one below the base directory.
    array: String,
    /// The file or dataset to write.
    target: PathBuf,
    /// The part to write, in world units, as begin:end for each axis [default: all].
    #[arg(long, value_name = "Z:Z,Y:Y,X:X", value_parser = typed::roi, allow_hyphen_values = true)]
    roi: Option<Roi>,
    /// Version of the Zarr format, for Zarr targets.
    #[arg(long, value_name = "2|3", default_value = "2", value_parser = typed::format)]
    format: ZarrFormat,
    /// Replace the target if it is there.
    #[arg(long)]
    overwrite: bool,
}

impl Export {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let address = select::array(context, &self.array)?.address();
        let mut array = open_array(&address, context.store.access())?;
        if let Some(roi) = &self.roi {
            array = Arc::new(dacapo::array::lazy::Crop::new(array, roi)?);
        }
        // What made it made the copy.
        let made = match ZarrArray::open(&address, context.store.access()) {
            Ok(array) => Provenance::from_attributes(array.attributes()).ok().flatten(),
            Err(_) => None,
        };
        let made = made.unwrap_or_else(|| Provenance::of(address.to_string()));
        let options = ExportOptions {
            overwrite: self.overwrite,
            zarr: CreateOptions {
                format: self.format,
                attributes: made.attributes(),
                ..CreateOptions::default()
            },
        };
        let job = Job::new(context, "exporting", Counted::Parts, 0)?;
        let exported = export(
            array.as_ref(),
            &self.target,
            context.store.access(),
            &options,
            &mut |done, total| job.on_part(done, total),
        );
        drop(job);
        let exported = exported?;
        let target = self.target.display().to_string();
        if context.printer.json {
            let mut result = value(array.spec());
            result["target"] = target.into();
            result["lost"] = exported.lost.into();
            context.printer.value(&result)?;
        } else {
            context
                .printer
                .line(format!("{target}: {}", line(array.spec())))?;
            for lost in exported.lost {
                context.printer.note(format!("note: {lost}"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
