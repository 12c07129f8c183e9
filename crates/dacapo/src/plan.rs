//! What a config comes to: the task built, the network's shapes known, every dataset open. All that can be
//! found wrong before a run begins is found here; nothing is written.

use std::sync::Arc;

use dacapo_array::storage::{Access, Location};
use dacapo_array::{ArrayRead, Coordinate, MemoryArray, NdData, open_array};
use dacapo_nn::{Activation, Loss, NetworkSpec};
use dacapo_tasks::Task;

use crate::config::{DatasetConfig, Outside, RunConfig, suggestion};
use crate::dataset::{Dataset, Open};
use crate::sampler::frame;
use crate::window::spatial_shape;
use crate::{Error, Result, augment, synthetic};

/// The network's shapes, in voxels along the spatial axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Shapes {
    /// What it is given in training.
    pub input: Vec<usize>,
    /// What it predicts from that.
    pub output: Vec<usize>,
    /// Channels of raw.
    pub input_channels: usize,
    /// Predicted voxels per voxel of input.
    pub upsampling: Vec<usize>,
}

impl Shapes {
    /// Those of a config's network in training.
    ///
    /// # Errors
    /// [`Error::Network`] if the network cannot take its input shape, naming the nearest that it can.
    pub fn training(config: &RunConfig) -> Result<Self> {
        Self::for_input(config, &config.architecture.unet().input_shape)
    }

    /// Those of a config's network for another input.
    ///
    /// # Errors
    /// As [`Shapes::training`].
    pub fn for_input(config: &RunConfig, input: &[usize]) -> Result<Self> {
        let unet = config.architecture.unet();
        let output = unet.output_shape(input)?;
        let upsampling = unet.output_scale();
        // Half of what is lost has to be whole voxels of raw, or predictions would lie between its voxels.
        let centred = (0..input.len()).all(|a| {
            let lost = (input[a] * upsampling[a]).checked_sub(output[a]);
            lost.is_some_and(|lost| lost.is_multiple_of(2 * upsampling[a]))
        });
        if !centred {
            let reason =
                format!("its output of {output:?} voxels does not lie on the grid of its input {input:?}");
            return Err(Error::Shape {
                what: "architecture".to_owned(),
                reason,
            });
        }
        Ok(Self {
            input: input.to_vec(),
            output,
            input_channels: unet.fmaps_in,
            upsampling,
        })
    }

    /// Spatial axes.
    pub fn dims(&self) -> usize {
        self.input.len()
    }

    /// Voxel size of predictions from raw of `voxel_size`, in world units.
    pub fn output_voxel_size(&self, voxel_size: &Coordinate) -> Coordinate {
        let factors = self.upsampling.iter().map(|&f| f as i64);
        voxel_size / &Coordinate::new(factors)
    }

    /// Size of the output in world units, for raw of `voxel_size`.
    pub fn output_size(&self, voxel_size: &Coordinate) -> Coordinate {
        Coordinate::from_voxels(&signed(&self.output), &self.output_voxel_size(voxel_size))
    }

    /// What the input has more than the output on each side, in voxels of raw.
    pub fn context(&self) -> Vec<i64> {
        let along = |a: usize| (self.input[a] - self.output[a] / self.upsampling[a]) as i64 / 2;
        (0..self.dims()).map(along).collect()
    }
}

/// A config with everything that it names, ready to train and validate.
pub struct Plan {
    /// The config.
    pub config: RunConfig,
    /// The network's shapes in training.
    pub shapes: Shapes,
    /// What its predictions mean.
    pub task: Box<dyn Task>,
    /// To train on.
    pub train: Vec<Dataset>,
    /// To validate on.
    pub validate: Vec<Dataset>,
}

/// Everything that can be said of a config before it runs, its data opened. A synthetic volume that is not
/// there yet is made in memory.
///
/// # Errors
/// What is wrong; all of it in [`Error::Several`] if there is more than one thing.
pub fn check(config: &RunConfig, access: &Access) -> Result<Plan> {
    let Some(made) = &config.data.synthetic else {
        return Plan::open(config, access);
    };
    if synthetic::is_there(made, access)? {
        return Plan::open(config, access);
    }
    let container: Location = made.container.parse()?;
    // Cheap checks first.
    Plan::prepare(config)?;
    let volume = synthetic::generate(made);
    let array = |data: NdData| -> Result<Arc<dyn ArrayRead>> {
        Ok(Arc::new(MemoryArray::new(
            synthetic::spec(made, data.dtype())?,
            data,
        )?))
    };
    let raw = array(NdData::U8(volume.raw.into_dyn()))?;
    let labels = array(NdData::U64(volume.labels.into_dyn()))?;
    Plan::open_with(config, true, &|address| match address.dataset.as_str() {
        "raw" if address.container == container => Ok(raw.clone()),
        "labels" if address.container == container => Ok(labels.clone()),
        _ => open_array(address, access),
    })
}

impl Plan {
    /// The plan of a config whose data is all there.
    ///
    /// # Errors
    /// As [`check`].
    pub fn open(config: &RunConfig, access: &Access) -> Result<Self> {
        Self::open_with(config, true, &|address| open_array(address, access))
    }

    /// The plan of a config of which only the validation data is needed.
    ///
    /// # Errors
    /// As [`check`].
    pub fn for_validation(config: &RunConfig, access: &Access) -> Result<Self> {
        Self::open_with(config, false, &|address| open_array(address, access))
    }

    fn open_with(config: &RunConfig, to_train: bool, open: Open) -> Result<Self> {
        let (shapes, task) = Self::prepare(config)?;
        let mut errors = Vec::new();
        let mut opened = |datasets: &[DatasetConfig], check: fn(&Dataset) -> Result<()>| -> Vec<Dataset> {
            let opened = datasets.iter().map(|dataset| {
                let dataset = Dataset::open(dataset, config.data.intensity, &shapes, open)?;
                check(&dataset).map(|()| dataset)
            });
            opened
                .filter_map(|dataset: Result<Dataset>| dataset.map_err(|error| errors.push(error)).ok())
                .collect()
        };
        let train = if to_train {
            opened(&config.data.train, Dataset::check_labelled)
        } else {
            Vec::new()
        };
        let validate = opened(&config.data.validate, |_| Ok(()));
        if let Some(first) = train.first() {
            let expected = first.raw.spec().voxel_size.clone();
            for dataset in train.iter().chain(&validate) {
                let found = dataset.raw.spec().voxel_size.clone();
                if found != expected {
                    let (dataset, first) = (dataset.name.clone(), first.name.clone());
                    errors.push(Error::MixedVoxelSizes {
                        dataset,
                        found,
                        first,
                        expected: expected.clone(),
                    });
                }
            }
        }
        let too_small = train
            .iter()
            .filter_map(|dataset| too_small(config, &shapes, dataset));
        errors.extend(too_small);
        match errors.len() {
            0 => Ok(Self {
                config: config.clone(),
                shapes,
                task,
                train,
                validate,
            }),
            1 => Err(errors.swap_remove(0)),
            _ => Err(Error::Several { errors }),
        }
    }

    /// Network and task, without data.
    fn prepare(config: &RunConfig) -> Result<(Shapes, Box<dyn Task>)> {
        dacapo_store::RunName::new(&config.name)?;
        for dataset in &config.data.validate {
            dacapo_store::DatasetName::new(&dataset.name)?;
        }
        let shapes = Shapes::training(config)?;
        let task = config.task.build(shapes.dims())?;
        let stopping = config.trainer.early_stopping.as_ref();
        for (key, name) in [
            ("validation.criterion", config.validation.criterion.as_ref()),
            (
                "trainer.early_stopping.criterion",
                stopping.and_then(|stopping| stopping.criterion.as_ref()),
            ),
        ] {
            let known: Vec<&str> = task.criteria().iter().map(|criterion| criterion.name).collect();
            if let Some(name) = name.filter(|name| !known.contains(&name.as_str())) {
                return Err(Error::Criterion {
                    key,
                    name: name.clone(),
                    suggestion: suggestion(name, &known),
                });
            }
        }
        crate::tiles::Tiling::of(config)?;
        Ok((shapes, task))
    }

    /// The network to build.
    pub fn network(&self) -> NetworkSpec {
        network_spec(&self.config, &*self.task)
    }
}

/// Says so if crops are deformed so far that the raw of a dataset has no room for them, and may not be made up.
fn too_small(config: &RunConfig, shapes: &Shapes, dataset: &Dataset) -> Option<Error> {
    let elastic = config.trainer.augment.elastic.as_ref()?;
    let needed = augment::needed(elastic, &frame(shapes, &dataset.raw.spec().voxel_size));
    let needed = needed[3 - shapes.dims()..].to_vec();
    let found = spatial_shape(dataset.raw.spec());
    let is_refused = elastic.outside == Outside::Refuse && elastic.probability > 0.0;
    let lacks = found.iter().zip(&needed).any(|(found, needed)| found < needed);
    (is_refused && lacks).then(|| Error::AugmentContext {
        dataset: dataset.name.clone(),
        augmentation: "trainer.augment.elastic",
        found,
        needed,
    })
}

/// The network that a config describes, with the head that its task asks for.
pub(crate) fn network_spec(config: &RunConfig, task: &dyn Task) -> NetworkSpec {
    let head = task.head();
    NetworkSpec {
        architecture: config.architecture.unet().clone(),
        out_channels: head.channels,
        activation: match head.activation {
            dacapo_tasks::Activation::Sigmoid => Activation::Sigmoid,
            dacapo_tasks::Activation::None => Activation::None,
        },
        loss: match task.loss() {
            dacapo_tasks::LossKind::BceWithLogits => Loss::BceWithLogits,
            dacapo_tasks::LossKind::Mse => Loss::Mse,
        },
        optimizer: config.trainer.optimizer.clone(),
        clip_gradient_norm: config.trainer.clip_gradient_norm,
        seed: config.seed,
    }
}

pub(crate) fn signed(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&n| n as i64).collect()
}
