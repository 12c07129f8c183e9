//! Opening whatever is at a path as an array.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::npy::NpyArray;
use super::placement::Placement;
use super::{hdf5, images, n5, tiff};
use crate::storage::Access;
use crate::{ArrayAddress, ArrayRead, ArraySpec, Error, NdData, Result, Roi, open_array};

/// What sources can be, for messages.
const SOURCES: &str = "container.zarr/dataset, container.n5/dataset (both also of s3:// and https://), \
                       file.h5/dataset, .tif, .png, .npy, or a folder of .tif or .png slices";

/// Opens an array of any supported kind, by what is there: the ending of a container's name, the first bytes
/// of a file, what a folder holds. Nothing but metadata is read before it is asked for.
///
/// What `placement` says beats what the source says of itself.
///
/// # Errors
/// [`Error::Unsupported`] for another kind of file; [`Error::File`], [`Error::Metadata`], [`Error::NoContainer`],
/// [`Error::NoArray`] for what is broken or missing; [`Error::Spec`] for a placement that does not fit;
/// [`Error::Io`].
pub fn open_source(path: &Path, placement: &Placement, access: &Access) -> Result<Arc<dyn ArrayRead>> {
    let text = path.to_string_lossy();
    let is_url = text.contains("://");
    let is_zarr = text.split('/').any(|part| part.ends_with(".zarr"));
    if n5::split(path).is_some() && !is_zarr {
        return n5::open(&text.parse()?, placement, access).map(Arc::from);
    }
    if is_url || is_zarr {
        let address: ArrayAddress = text.parse()?;
        return Placed::over(open_array(&address, access)?, placement);
    }
    if n5::is_dataset(path) {
        return n5::open(&path.into(), placement, access).map(Arc::from);
    }
    if let Some((file, dataset)) = in_file(path) {
        if is_hdf5(&file) {
            return hdf5::open(&file, &dataset, placement).map(Arc::from);
        }
        return Err(Error::file(&file, "it is a file, in which there are no datasets"));
    }
    if path.is_dir() {
        return open_folder(path, placement);
    }
    let mut first = Vec::new();
    File::open(path)
        .and_then(|file| file.take(8).read_to_end(&mut first))
        .map_err(Error::io("open", path))?;
    match first.as_slice() {
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => {
            tiff::open(path, placement).map(Arc::from)
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Ok(Arc::new(NpyArray::open(path, placement)?)),
        [0x89, b'P', b'N', b'G', ..] => images::open_png(path, placement).map(Arc::from),
        _ if is_hdf5(path) => hdf5::open(path, "", placement).map(Arc::from),
        _ => Err(unsupported(path)),
    }
}

fn open_folder(path: &Path, placement: &Placement) -> Result<Arc<dyn ArrayRead>> {
    if !images::list(path)?.is_empty() {
        return images::open_folder(path, placement).map(Arc::from);
    }
    if [".zarray", ".zgroup", "zarr.json"]
        .iter()
        .any(|name| path.join(name).exists())
    {
        return Err(Error::Unsupported {
            what: format!(
                "{}: a Zarr container of which the name does not end in .zarr",
                path.display()
            ),
            hint: "rename it".into(),
        });
    }
    Err(unsupported(path))
}

fn unsupported(path: &Path) -> Error {
    Error::Unsupported {
        what: format!("reading {}", path.display()),
        hint: format!("sources are {SOURCES}"),
    }
}

/// The file that a path leads into, and the rest.
fn in_file(path: &Path) -> Option<(PathBuf, String)> {
    let file = path.ancestors().skip(1).find(|above| above.is_file())?;
    let rest = path.strip_prefix(file).ok()?;
    Some((file.to_owned(), rest.to_str()?.to_owned()))
}

/// Whether a file has HDF5's signature, at its beginning or behind a block of the user's.
fn is_hdf5(path: &Path) -> bool {
    const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
    let Ok(file) = File::open(path) else { return false };
    let at = |offset: u64| {
        let mut bytes = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, offset).is_ok() && bytes == SIGNATURE
    };
    fs::metadata(path).is_ok_and(|there| there.is_file())
        && std::iter::once(0).chain((9..16).map(|n| 1 << n)).any(at)
}

/// An array at another place than it says.
struct Placed {
    array: Arc<dyn ArrayRead>,
    spec: ArraySpec,
}

impl Placed {
    fn over(array: Arc<dyn ArrayRead>, placement: &Placement) -> Result<Arc<dyn ArrayRead>> {
        if *placement == Placement::default() {
            return Ok(array);
        }
        let own = array.spec();
        let found = Placement {
            voxel_size: Some(own.voxel_size.clone()),
            offset: Some(own.roi.offset.clone()),
            units: Some(own.units.clone()),
            axis_names: Some(own.axis_names.clone()),
        };
        let spec = placement.spec(found, &own.shape(), own.dtype)?;
        if spec.spatial_dims() != own.spatial_dims() {
            return Err(Error::Spec {
                reason: format!(
                    "the array has {} spatial axes, {} were given",
                    own.spatial_dims(),
                    spec.spatial_dims()
                ),
            });
        }
        Ok(Arc::new(Self { array, spec }))
    }
}

impl ArrayRead for Placed {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        let (begin, shape) = self.spec.window(roi)?;
        let own = self.array.spec();
        let there = Roi::from_voxels(&begin, &shape, &own.voxel_size).shift(own.roi.begin());
        self.array.read(&there)
    }
}
