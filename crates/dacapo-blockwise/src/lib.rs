//! Work on volumes of any size, block by block: the grid of blocks, and running a closure over it. It knows
//! regions, never voxels; reading and writing them is the closure's affair.

mod error;
mod grid;
mod run;

pub use error::{Error, Result};
pub use grid::{Block, BlockGrid, Fit};
pub use run::{BlockObserver, Failed, Outcome, run_blocks};
