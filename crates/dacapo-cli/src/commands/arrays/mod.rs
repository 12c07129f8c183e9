//! `dacapo arrays`: what is done with the arrays of runs, one file a subcommand.

mod adopt;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

/// The arrays of runs, and those of other programs.
#[derive(Debug, Subcommand)]
pub enum Arrays {
    /// Read a base directory of the Python DaCapo as it is, or make runs of ours out of it.
    Adopt(adopt::Adopt),
}

impl Arrays {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Adopt(command) => command.run(context),
        }
    }
}
