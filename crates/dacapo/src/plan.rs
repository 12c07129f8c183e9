//! What a config comes to: the task built, the network's shapes known, every dataset open. All that can be
//! found wrong before a run begins is found here; nothing is written.

use std::sync::Arc;

use dacapo_array::storage::{Access, Location};
use dacapo_array::{ArrayAddress, ArrayRead, Coordinate, MemoryArray, NdData, Placement};
use dacapo_nn::{Activation, Loss, NetworkSpec, OutputGroup};
use dacapo_tasks::{HeadGroup, LossKind, Task};

use crate::absent::absent;
use crate::config::{DataConfig, DatasetConfig, Outside, RunConfig, suggestion};
use crate::dataset::{Arrays, Dataset};
use crate::sampler::frame;
use crate::sources::Files;
use crate::window::spatial_shape;
use crate::{Error, Result, augment, datasplit, synthetic};

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
    let config = &datasplit::expanded(config, access)?;
    if config.data.synthetic.is_some() {
        // Cheap checks before a volume is made.
        Plan::prepare(config)?;
    }
    Plan::open_with(config, true, &*files(&config.data, access)?)
}

/// Where the arrays of a config come from: a synthetic volume that is not there yet is made in memory.
///
/// # Errors
/// From looking whether it is there.
pub(crate) fn files<'a>(data: &DataConfig, access: &'a Access) -> Result<Box<dyn Files + 'a>> {
    let made = match &data.synthetic {
        Some(made) if !synthetic::is_there(made, access)? => made,
        _ => return Ok(Box::new(access.clone())),
    };
    let volume = synthetic::generate(made);
    let array = |data: NdData| -> Result<Arc<dyn ArrayRead>> {
        Ok(Arc::new(MemoryArray::new(
            synthetic::spec(made, data.dtype())?,
            data,
        )?))
    };
    Ok(Box::new(Synthetic {
        container: made.container.parse()?,
        raw: array(NdData::U8(volume.raw.into_dyn()))?,
        labels: array(NdData::U64(volume.labels.into_dyn()))?,
        classes: array(NdData::U8(volume.classes.into_dyn()))?,
        others: access,
    }))
}

/// A synthetic volume in memory, in the place where it would be.
struct Synthetic<'a> {
    container: Location,
    raw: Arc<dyn ArrayRead>,
    labels: Arc<dyn ArrayRead>,
    classes: Arc<dyn ArrayRead>,
    others: &'a Access,
}

impl Files for Synthetic<'_> {
    fn open(
        &self,
        path: &str,
        placement: &Placement,
        wanted: Option<&Coordinate>,
    ) -> dacapo_array::Result<Arc<dyn ArrayRead>> {
        let address = path.parse::<ArrayAddress>().ok();
        match address.filter(|address| address.container == self.container) {
            Some(address) if address.dataset == "raw" => Ok(self.raw.clone()),
            Some(address) if address.dataset == "labels" => Ok(self.labels.clone()),
            Some(address) if address.dataset == "classes" => Ok(self.classes.clone()),
            _ => self.others.open(path, placement, wanted),
        }
    }
}

impl Plan {
    /// The plan of a config whose data is all there.
    ///
    /// # Errors
    /// As [`check`].
    pub fn open(config: &RunConfig, access: &Access) -> Result<Self> {
        Self::open_with(config, true, access)
    }

    /// The plan of a config of which only the validation data is needed.
    ///
    /// # Errors
    /// As [`check`].
    pub fn for_validation(config: &RunConfig, access: &Access) -> Result<Self> {
        Self::open_with(config, false, access)
    }

    fn open_with(config: &RunConfig, to_train: bool, files: &dyn Files) -> Result<Self> {
        let mut errors = Vec::new();
        let (shapes, task) = match Self::prepare(config) {
            Ok(prepared) => prepared,
            Err(error) => {
                // What is wrong with the data is told as well, as far as that can be said without a network.
                let train = if to_train { &config.data.train[..] } else { &[] };
                let datasets = train.iter().chain(&config.data.validate);
                let opened = datasets.filter_map(|dataset| Arrays::open(dataset, files).err());
                return Err(Error::all(std::iter::once(error).chain(opened).collect()));
            }
        };
        let mut opened = |datasets: &[DatasetConfig]| -> Vec<Dataset> {
            let opened = datasets.iter().map(|dataset| {
                let dataset = Dataset::open(dataset, config.data.intensity, &shapes, files)?;
                dataset.check_labelled().map(|()| dataset)
            });
            opened
                .filter_map(|dataset: Result<Dataset>| dataset.map_err(|error| errors.push(error)).ok())
                .collect()
        };
        let train = if to_train {
            opened(&config.data.train)
        } else {
            Vec::new()
        };
        let all_opened = train.len() == config.data.train.len();
        let validate = opened(&config.data.validate);
        if to_train && all_opened {
            errors.extend(absent(config, &train, files)?);
        }
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
        if !errors.is_empty() {
            return Err(Error::all(errors));
        }
        Ok(Self {
            config: config.clone(),
            shapes,
            task,
            train,
            validate,
        })
    }

    /// Network and task, without data.
    fn prepare(config: &RunConfig) -> Result<(Shapes, Box<dyn Task>)> {
        let mut errors: Vec<Error> = Vec::new();
        errors.extend(dacapo_store::RunName::new(&config.name).err().map(Error::from));
        for dataset in &config.data.validate {
            errors.extend(
                dacapo_store::DatasetName::new(&dataset.name)
                    .err()
                    .map(Error::from),
            );
        }
        let shapes = Shapes::training(config);
        let task = config.task.build(config.architecture.unet().dims());
        let (shapes, task) = match (shapes, task) {
            (Ok(shapes), Ok(task)) => (shapes, task),
            (shapes, task) => {
                errors.extend(shapes.err());
                errors.extend(task.err().map(Error::from));
                return Err(Error::all(errors));
            }
        };
        let stopping = config.trainer.early_stopping.as_ref();
        for (key, name) in [
            ("validation.criterion", config.validation.criterion.as_ref()),
            (
                "trainer.early_stopping.criterion",
                stopping.and_then(|stopping| stopping.criterion.as_ref()),
            ),
        ] {
            let known: Vec<&str> = task.criteria().iter().map(|criterion| &*criterion.name).collect();
            if let Some(name) = name.filter(|name| !known.contains(&name.as_str())) {
                errors.push(Error::Criterion {
                    key,
                    name: name.clone(),
                    suggestion: suggestion(name, &known),
                });
            }
        }
        errors.extend(crate::tiles::Tiling::of(config).err());
        if errors.is_empty() {
            return Ok((shapes, task));
        }
        Err(Error::all(errors))
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

impl RunConfig {
    /// The network that it describes, for which its data need not be there.
    ///
    /// # Errors
    /// What is wrong with it, as [`check`].
    pub fn network(&self) -> Result<NetworkSpec> {
        let (_, task) = Plan::prepare(self)?;
        Ok(network_spec(self, &*task))
    }
}

/// The network that a config describes, with the head that its task asks for.
pub(crate) fn network_spec(config: &RunConfig, task: &dyn Task) -> NetworkSpec {
    let head = task.head();
    NetworkSpec {
        architecture: config.architecture.unet().clone(),
        outputs: head.groups.iter().map(output_group).collect(),
        optimizer: config.trainer.optimizer.clone(),
        clip_gradient_norm: config.trainer.clip_gradient_norm,
        ema: config.trainer.ema,
        recompute: config.trainer.recompute,
        seed: config.seed,
    }
}

/// Channels of a head as an engine takes them.
fn output_group(group: &HeadGroup) -> OutputGroup {
    OutputGroup {
        channels: group.channel_names.len(),
        activation: match group.activation {
            dacapo_tasks::Activation::Sigmoid => Activation::Sigmoid,
            dacapo_tasks::Activation::Softmax => Activation::Softmax,
            dacapo_tasks::Activation::None => Activation::None,
        },
        losses: group
            .losses
            .iter()
            .map(|&(kind, weight)| (loss(kind), weight))
            .collect(),
    }
}

fn loss(kind: LossKind) -> Loss {
    match kind {
        LossKind::BceWithLogits => Loss::BceWithLogits,
        LossKind::Mse => Loss::Mse,
        LossKind::MseOfSigmoid => Loss::MseOfSigmoid,
        LossKind::CrossEntropy => Loss::CrossEntropy,
        LossKind::Dice => Loss::Dice,
    }
}

/// A voxel size as tasks take it: along z, y and x, 1 for the axis that an image does not have.
pub(crate) fn task_voxel_size(voxel_size: &Coordinate) -> [f64; 3] {
    let missing = 3 - voxel_size.dims();
    let sizes = voxel_size.iter().map(|size| size.to_f64());
    let mut all = [1.0; 3];
    all[missing..]
        .iter_mut()
        .zip(sizes)
        .for_each(|(to, size)| *to = size);
    all
}

pub(crate) fn signed(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&n| n as i64).collect()
}
