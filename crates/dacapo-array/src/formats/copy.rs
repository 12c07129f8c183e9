//! Copying any array to a Zarr array, part by part.

use super::parts::{OnPart, go_through, parts};
use crate::storage::Access;
use crate::{ArrayAddress, ArrayRead, ArraySpec, ArrayWrite, CreateOptions, DraftArray, Result, ZarrArray};

/// Bytes of a part, about: 64 whole slices of 2048 by 2048, as stacks of images decode only as a whole.
const PART: usize = 256 << 20;

/// Copies an array, values and place, to a Zarr array that is there whole or not at all. No more than 256 MiB of
/// it, or one row of chunks, is in memory. Without a chunk shape in the options it is a cube of 64, with all
/// channels.
///
/// # Errors
/// As [`DraftArray::new`], [`DraftArray::publish`] and the reading; [`crate::Error::Interrupted`].
pub fn copy_array(
    source: &dyn ArrayRead,
    address: &ArrayAddress,
    access: &Access,
    options: &CreateOptions,
    on_part: OnPart<'_>,
) -> Result<ZarrArray> {
    let spec = source.spec();
    let chunk = options.chunk_shape.clone().unwrap_or_else(|| default_chunk(spec));
    let options = CreateOptions {
        chunk_shape: Some(chunk.clone()),
        ..options.clone()
    };
    let draft = DraftArray::new(address, access, spec, &options)?;
    go_through(
        &parts(spec, &chunk[spec.channels.len()..], PART),
        on_part,
        |roi| draft.write(roi, &source.read(roi)?),
    )?;
    draft.publish()
}

/// Cubes of 64 voxels, in fewer dimensions squares of 512 and lines of 2¹⁸; all channels up to 16 MiB.
pub(crate) fn default_chunk(spec: &ArraySpec) -> Vec<usize> {
    let shape = spec.shape();
    let leading = spec.channels.len();
    let side = match spec.spatial_dims() {
        1 => 1 << 18,
        2 => 512,
        _ => 64,
    };
    let voxels: Vec<usize> = shape[leading..].iter().map(|&n| n.clamp(1, side)).collect();
    let bytes = voxels.iter().product::<usize>() * spec.dtype.size();
    let channels: usize = spec.channels.iter().product();
    let together = channels.saturating_mul(bytes) <= 16 << 20;
    let channels = spec.channels.iter().map(|&n| if together { n.max(1) } else { 1 });
    channels.chain(voxels).collect()
}
