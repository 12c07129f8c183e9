//! `dacapo arrays`: what is done with arrays, those of runs and those of other programs; one file a subcommand.

mod adopt;
mod cp;
mod describe;
mod du;
mod export;
mod import;
mod info;
mod job;
mod ls;
mod prune;
mod purge;
mod pyramid;
mod restore;
mod rm;
mod select;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

/// The arrays of runs, and those of other programs.
#[derive(Debug, Subcommand)]
pub enum Arrays {
    /// List arrays: what each is, of which run, iteration and dataset, and what it scored.
    Ls(ls::Ls),
    /// Describe an array: where it lies, how it is stored, its statistics, what made it.
    Info(info::Info),
    /// Check that arrays are what was written; exit code 1 if one is not.
    Verify(verify::Verify),
    /// Copy an array, a container or a run as it is; goes on where it was interrupted.
    Cp(cp::Cp),
    /// Remove arrays, or groups of them.
    Rm(rm::Rm),
    /// Put back what was removed with --keep-trash.
    Restore(restore::Restore),
    /// Delete what is in the trash for good.
    Purge(purge::Purge),
    /// Remove the arrays of all but the best, last or every so many iterations.
    Prune(prune::Prune),
    /// Space that runs take, by kind.
    Du(du::Du),
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
            Self::Ls(command) => command.run(context),
            Self::Info(command) => command.run(context),
            Self::Verify(command) => command.run(context),
            Self::Cp(command) => command.run(context),
            Self::Rm(command) => command.run(context),
            Self::Restore(command) => command.run(context),
            Self::Purge(command) => command.run(context),
            Self::Prune(command) => command.run(context),
            Self::Du(command) => command.run(context),
            Self::Import(command) => command.run(context),
            Self::Export(command) => command.run(context),
            Self::Pyramid(command) => command.run(context),
            Self::Adopt(command) => command.run(context),
        }
    }
}
