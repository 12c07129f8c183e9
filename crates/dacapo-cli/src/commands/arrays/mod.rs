//! `dacapo arrays`: what can be done with the arrays of runs, one file a subcommand.

mod bar;
mod cp;
mod du;
mod info;
mod ls;
mod prune;
mod purge;
mod restore;
mod rm;
mod select;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

/// Find, describe, verify, copy and remove the arrays of runs.
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
        }
    }
}
