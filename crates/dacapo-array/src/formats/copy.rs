//! Copying any array to a Zarr array, part by part.

use super::parts::{OnPart, go_through, parts};
use crate::storage::Access;
use crate::{ArrayAddress, ArrayRead, ArrayWrite, CreateOptions, DraftArray, Result, ZarrArray};

/// Bytes of a part, about: 64 whole slices of 2048 by 2048, as stacks of images decode only as a whole.
const PART: usize = 256 << 20;

/// Copies an array, values and place, to a Zarr array that is there whole or not at all. No more than 256 MiB of
/// it, or one row of chunks (of shards, if it gets such), is in memory.
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
    let draft = DraftArray::new(address, access, spec, options)?;
    let object = draft.object_shape()[spec.channels.len()..].to_vec();
    go_through(&parts(spec, &object, PART), on_part, |roi| {
        draft.write(roi, &source.read(roi)?)
    })?;
    draft.publish()
}
