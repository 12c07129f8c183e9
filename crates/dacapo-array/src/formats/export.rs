//! Writing any array as a file of another format, by the ending of its name.

use std::path::Path;

use super::parts::OnPart;
use super::{copy_array, n5, npy, tiff};
use crate::storage::Access;
use crate::{ArrayAddress, ArrayRead, Coordinate, CreateOptions, Decimal, Error, Result};

/// What the names of targets end in, for messages.
const TARGETS: &str = ".tif, .npy, container.zarr/dataset or container.n5/dataset";

/// How an array is exported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExportOptions {
    /// Replace what is there, in one step.
    pub overwrite: bool,
    /// How a Zarr array is created.
    pub zarr: CreateOptions,
}

/// What an exported file cannot say, for the user to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Sentences about what of the array the target does not have.
    pub lost: Vec<String>,
}

/// Writes an array to `target`, part by part: a multi-page TIFF that ImageJ reads (`.tif`, `.tiff`), a NumPy
/// file (`.npy`), a Zarr array (`container.zarr/dataset`) or an N5 dataset (`container.n5/dataset`). The target
/// is there whole or not at all.
///
/// # Errors
/// [`Error::Unsupported`] for another target, for a URL of anything but Zarr, and for values or axes that it does not
/// have; [`Error::Taken`] or [`Error::Exists`] if something is there that is not to be replaced;
/// [`Error::Interrupted`]; whatever reading and writing meet.
pub fn export(
    array: &dyn ArrayRead,
    target: &Path,
    access: &Access,
    options: &ExportOptions,
    on_part: OnPart<'_>,
) -> Result<Exported> {
    let spec = array.spec();
    let mut lost = Vec::new();
    let has_ending = |ending: &str| {
        target
            .to_string_lossy()
            .split('/')
            .any(|part| part.ends_with(ending))
    };
    if has_ending(".zarr") {
        let address: ArrayAddress = target.to_string_lossy().parse()?;
        let zarr = CreateOptions {
            overwrite: options.overwrite,
            ..options.zarr.clone()
        };
        copy_array(array, &address, access, &zarr, on_part)?;
    } else if target.to_string_lossy().contains("://") {
        return Err(Error::Unsupported {
            what: format!("writing {}", target.display()),
            hint:
                "only Zarr arrays are written to a URL; name a container.zarr/dataset there, or a file here"
                    .into(),
        });
    } else if has_ending(".n5") {
        n5::write(array, target, options.overwrite, on_part)?;
    } else {
        let extension = target.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("tif" | "tiff") => {
                tiff::write(array, target, options.overwrite, on_part)?;
                if matches!(spec.dtype, crate::DType::U64 | crate::DType::I64) {
                    lost.push("its values are stored with 32 bits, which all of them fit".into());
                }
            }
            Some("npy") => {
                npy::write(array, target, options.overwrite, on_part)?;
                let size = &spec.voxel_size;
                let plain = size.iter().all(|&n| n == Decimal::ONE)
                    && *spec.roi.begin() == Coordinate::splat(size.dims(), 0);
                if !plain {
                    lost.push(format!(
                        ".npy has no place for the voxel size {size} and the offset {}",
                        spec.roi.begin()
                    ));
                }
            }
            _ => {
                return Err(Error::Unsupported {
                    what: format!("writing {}", target.display()),
                    hint: format!("targets are {TARGETS}"),
                });
            }
        }
    }
    Ok(Exported { lost })
}
