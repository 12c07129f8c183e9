//! Snapshots: a training batch as the network saw it, with what it predicted, as arrays that viewers open.

use dacapo_array::storage::Location;
use dacapo_array::{ArraySpec, ArrayWrite, Coordinate, CreateOptions, NdData, Roi};
use dacapo_nn::Tensor;
use dacapo_store::{ArrayStore, LocalStore, Provenance};
use ndarray::{ArrayD, IxDyn};

use crate::plan::Plan;
use crate::sampler::TrainingBatch;
use crate::{Error, Result};

/// Writes `<run>/snapshot.zarr/<iteration>/volumes/{raw,gt,target,weight,prediction}` and returns where the group
/// is. The arrays lie where the first sample was cut out; a turned crop is shown turned. In a batch of more
/// than one, an axis `b^` stands in front. Where there is no prediction, that array is left out.
///
/// # Errors
/// [`Error::Array`] or [`Error::Store`] if it cannot be written.
pub(crate) fn write(
    store: &LocalStore,
    plan: &Plan,
    iteration: u64,
    batch: &TrainingBatch,
    prediction: &Tensor,
) -> Result<Location> {
    let config = &plan.config;
    let container = store.arrays.snapshot_container(&config.name)?;
    let Some((crop, dataset)) = batch.crops.first().and_then(|crop| {
        let dataset = plan.train.iter().find(|dataset| dataset.name == crop.dataset)?;
        Some((crop, dataset))
    }) else {
        return Ok(container.container().clone());
    };
    let raw_size = dataset.raw.spec().voxel_size.clone();
    let size = plan.shapes.output_voxel_size(&raw_size);
    let units = &dataset.raw.spec().units;
    let mut provenance = Provenance::new(&config.name);
    provenance.iteration = Some(iteration);
    provenance.config_hash = Some(config.hash()?);

    let write =
        |name: &str, roi: &Roi, size: &Coordinate, channels: Vec<usize>, data: NdData| -> Result<()> {
            let identifier = container.array_identifier(&format!("{iteration}/volumes/{name}"))?;
            let spec = ArraySpec::new(roi.clone(), size.clone(), data.dtype())
                .with_channels(channels)
                .with_units(units.clone());
            let options = CreateOptions {
                overwrite: true,
                attributes: provenance.attributes(),
                ..CreateOptions::default()
            };
            let array = store.arrays.draft(&identifier, &spec, &options)?;
            array.write(roi, &data)?;
            array.publish()?;
            Ok(())
        };
    let samples: Vec<usize> = Some(batch.crops.len()).filter(|&n| n > 1).into_iter().collect();
    let tensor = |name: &str, roi: &Roi, size: &Coordinate, tensor: &Tensor| -> Result<()> {
        // An axis of one sample is not shown, nor is the single channel of raw.
        let single = name == "raw" && tensor.shape[1] == 1;
        let mut channels = samples.clone();
        channels.extend((!single).then_some(tensor.shape[1]));
        let shape: Vec<usize> = channels.iter().chain(&tensor.shape[2..]).copied().collect();
        write(
            name,
            roi,
            size,
            channels,
            NdData::F32(shaped(&shape, tensor.data.clone())?),
        )
    };
    tensor("raw", &crop.input_roi, &raw_size, &batch.tensors.input)?;
    tensor("target", &crop.roi, &size, &batch.tensors.target)?;
    tensor("weight", &crop.roi, &size, &batch.tensors.weight)?;
    if prediction.shape == batch.tensors.target.shape {
        let prediction = plan.network().activation.apply(prediction);
        tensor("prediction", &crop.roi, &size, &prediction)?;
    }
    let shape: Vec<usize> = samples.iter().chain(&plan.shapes.output).copied().collect();
    let labels = batch.labels.iter().flatten().copied().collect();
    write(
        "gt",
        &crop.roi,
        &size,
        samples.clone(),
        NdData::U64(shaped(&shape, labels)?),
    )?;
    Ok(container.container().join(&format!("{iteration}/volumes")))
}

fn shaped<T>(shape: &[usize], values: Vec<T>) -> Result<ArrayD<T>> {
    ArrayD::from_shape_vec(IxDyn(shape), values).map_err(|error| Error::Shape {
        what: "snapshot".to_owned(),
        reason: error.to_string(),
    })
}
