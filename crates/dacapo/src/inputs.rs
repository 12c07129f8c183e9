//! The inputs of a validation in the store, beside what is made of them: kept once, and again when their
//! source has changed. Runs that use the same share them: each has an array of its own, in its own container, and
//! the chunks are the same files, so that a run that is removed takes nothing from another.

use ndarray::Array3;

use dacapo_array::{ArrayRead, ArrayReadExt, ArraySpec, ArrayWrite, Coordinate, DraftArray, Roi};
use dacapo_blockwise::BlockGrid;
use dacapo_store::{
    ArrayFilter, ArrayKind, ArrayStore, InputIdentity, LocalArrayIdentifier, LocalStore, Provenance,
    input_identity,
};

use crate::Result;
use crate::dataset::Dataset;
use crate::validate::{draft, write_volume};

/// Raw is copied in blocks of this many voxels along each axis.
const BLOCK: i64 = 128;

/// Keeps a dataset's raw in `roi`, and its truth as the array `truth_spec` says, as
/// `validation.zarr/inputs/<dataset>/{raw,gt}`. Returns what identifies the raw.
///
/// A copy that is there is compared by its content, not by its date: one that was damaged is written anew, as is
/// one whose source has changed.
pub(crate) fn keep(
    store: &LocalStore,
    run: &str,
    dataset: &Dataset,
    roi: &Roi,
    truth: &Array3<u64>,
    truth_spec: &ArraySpec,
) -> Result<InputIdentity> {
    let (raw, gt) = store.arrays.validation_input_arrays(run, Some(&dataset.name))?;
    let identity = input_identity(&dataset.raw_address, &*dataset.raw, roi)?;
    if !is_copy(store, &raw, &identity)? {
        let spec = ArraySpec {
            roi: roi.clone(),
            ..dataset.raw.spec().clone()
        };
        let mut provenance = Provenance::new(run);
        provenance.dataset = Some(dataset.name.clone());
        provenance.input = Some(identity.clone());
        let kept = draft(store, &raw, &spec, provenance.attributes(), None)?;
        if !share(store, &raw, &identity, &kept)? {
            copy(&*dataset.raw, &kept)?;
        }
        kept.publish()?;
    }
    let is_kept = store.arrays.exists(&gt)?
        && is_readable(&gt, || {
            let kept = store.arrays.open(&gt)?;
            Ok(kept.spec() == truth_spec && kept.read_all()?.cast::<u64>()?.iter().eq(truth.iter()))
        });
    if !is_kept {
        let mut provenance = Provenance::new(run);
        provenance.dataset = Some(dataset.name.clone());
        let of_truth = InputIdentity {
            source: dataset.labels_address.clone(),
            voxel_size: truth_spec.voxel_size.clone(),
            dtype: truth_spec.dtype.to_string(),
            content: hash(truth),
            ..identity.clone()
        };
        provenance.input = Some(of_truth.clone());
        let kept = draft(store, &gt, truth_spec, provenance.attributes(), None)?;
        if share(store, &gt, &of_truth, &kept)? {
            kept.publish()?;
        } else {
            drop(kept);
            write_volume(store, &gt, truth_spec, &provenance, truth)?;
        }
    }
    Ok(identity)
}

fn hash(truth: &Array3<u64>) -> String {
    let bytes: Vec<u8> = truth.iter().flat_map(|label| label.to_le_bytes()).collect();
    dacapo_store::provenance::hash(&bytes)
}

/// Whether `array` is there, says that it is a copy of this, and is one.
fn is_copy(store: &LocalStore, array: &LocalArrayIdentifier, identity: &InputIdentity) -> Result<bool> {
    if !store.arrays.exists(array)? {
        return Ok(false);
    }
    Ok(is_readable(array, || {
        Ok(says_copy_of(store, array, identity)? && {
            let kept = store.arrays.open(array)?;
            input_identity(&identity.source, &kept, &kept.spec().roi)? == *identity
        })
    }))
}

/// What `check` finds; false if an array cannot be read, so that it is written anew.
fn is_readable(array: &LocalArrayIdentifier, check: impl FnOnce() -> Result<bool>) -> bool {
    check().unwrap_or_else(|error| {
        tracing::warn!(%array, %error, "a kept input cannot be read");
        false
    })
}

/// Gives a draft of `array` the chunks of the same input of another run, if there is one whose voxels are still what
/// it says. Whether it did.
fn share(
    store: &LocalStore,
    array: &LocalArrayIdentifier,
    identity: &InputIdentity,
    kept: &DraftArray,
) -> Result<bool> {
    let name = array.dataset().rsplit('/').next();
    let inputs = store.arrays.list(&ArrayFilter {
        kinds: vec![ArrayKind::Input],
        ..ArrayFilter::default()
    })?;
    for other in inputs.iter().map(|entry| &entry.identifier) {
        if other == array || other.dataset().rsplit('/').next() != name {
            continue;
        }
        // One that cannot be read is of no use here, and no reason not to go on: what was shared of it is replaced.
        let is_shared = is_readable(other, || {
            Ok(is_copy(store, other, identity)? && kept.share_chunks(&store.arrays.open(other)?)?)
        });
        if is_shared {
            tracing::debug!(array = %array, of = %other, "shares the chunks of another run's input");
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an array says that it is a copy of this input.
fn says_copy_of(store: &LocalStore, array: &LocalArrayIdentifier, identity: &InputIdentity) -> Result<bool> {
    let kept = store.arrays.open(array)?;
    let said = Provenance::from_attributes(kept.attributes())?.and_then(|provenance| provenance.input);
    Ok(said.as_ref() == Some(identity))
}

/// Copies what `to` covers, block by block.
fn copy(from: &dyn ArrayRead, to: &dyn ArrayWrite) -> Result<()> {
    let spec = to.spec();
    let dims = spec.spatial_dims();
    let zero = Coordinate::splat(dims, 0);
    let block = Coordinate::from_voxels(&vec![BLOCK; dims], &spec.voxel_size);
    // From the array's own first voxel, which need not lie on a multiple of the voxel size.
    let total = Roi::new(zero.clone(), spec.roi.shape.clone());
    let grid = BlockGrid::new(total, block, zero.clone(), zero, spec.voxel_size.clone())?;
    for block in grid.iter() {
        let roi = block.write_roi.shift(spec.roi.begin());
        to.write(&roi, &from.read(&roi)?)?;
    }
    Ok(())
}
