//! `dacapo arrays`: what is done with arrays, those of runs and those of other programs; one file a subcommand.

mod adopt;
mod export;
mod import;
mod parts;
mod pyramid;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

/// The arrays of runs, and those of other programs.
#[derive(Debug, Subcommand)]
pub enum Arrays {
    /// Copy an array of another program into a Zarr container: TIFF, PNG slices, .npy, N5, HDF5, Zarr.
    Import(import::Import),
    /// Write an array for another program: TIFF, .npy, Zarr, N5.
    Export(export::Export),
    /// Make smaller copies of an array, which viewers show while they load the rest.
    Pyramid(pyramid::Pyramid),
    /// Read a base directory of the Python DaCapo as it is, or make runs of ours out of it.
    Adopt(adopt::Adopt),
}

impl Arrays {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Import(command) => command.run(context),
            Self::Export(command) => command.run(context),
            Self::Pyramid(command) => command.run(context),
            Self::Adopt(command) => command.run(context),
        }
    }
}
