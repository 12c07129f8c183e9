//! `dacapo arrays`: what can be done with arrays one by one, one file each.

mod export;
mod import;
mod parts;
mod pyramid;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

/// Bring arrays in from other programs, take them out, make pyramids of them.
#[derive(Debug, Subcommand)]
pub enum Arrays {
    /// Copy an array of another program into a Zarr container: TIFF, PNG slices, .npy, N5, HDF5, Zarr.
    Import(import::Import),
    /// Write an array for another program: TIFF, .npy, Zarr, N5.
    Export(export::Export),
    /// Make smaller copies of an array, which viewers show while they load the rest.
    Pyramid(pyramid::Pyramid),
}

impl Arrays {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Import(command) => command.run(context),
            Self::Export(command) => command.run(context),
            Self::Pyramid(command) => command.run(context),
        }
    }
}
