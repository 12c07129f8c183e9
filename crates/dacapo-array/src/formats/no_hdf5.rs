//! What stands for `hdf5` where the program was built without it.

use std::path::Path;

use super::placement::Placement;
use crate::{ArrayRead, Error, Result};

/// Says that there is no HDF5.
///
/// # Errors
/// Always: [`Error::Unsupported`].
pub(super) fn open(path: &Path, _dataset: &str, _placement: &Placement) -> Result<Box<dyn ArrayRead>> {
    Err(Error::Unsupported {
        what: format!("reading HDF5 ({}) in this build", path.display()),
        hint: "build with the feature `hdf5`".into(),
    })
}
