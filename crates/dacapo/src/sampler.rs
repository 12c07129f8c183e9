//! Random crops that contain labels, varied and turned into batches: each a function of (seed, iteration,
//! sample) alone, prepared on threads of their own.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use ndarray::{Array3, Array4, ArrayView3, Axis, Zip, s};

use dacapo_array::{Coordinate, Roi};
use dacapo_nn::{Batch, Tensor};
use dacapo_tasks::{Annotation, Targets};

use crate::augment::{Augmentation, Draw, Frame, Grid, Lattice};
use crate::dataset::{Dataset, Labelled};
use crate::plan::{Plan, Shapes, task_voxel_size};
use crate::random::{Purpose, Random};
use crate::{Error, Result};

/// Crops that are looked at for one sample before giving up: where one in a hundred is good enough, a run of a
/// million steps never gets here.
const TRIES: u32 = 2000;

/// Where a sample was cut out, before it was turned.
#[derive(Debug, Clone, PartialEq)]
pub struct Crop {
    /// The dataset's name.
    pub dataset: String,
    /// What the network predicts, in world units.
    pub roi: Roi,
    /// What the network is given, in world units.
    pub input_roi: Roi,
}

/// A batch, and what it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingBatch {
    /// What the network gets.
    pub tensors: Batch,
    /// The labels of each sample (z, y, x), turned as it was.
    pub labels: Vec<Array3<u64>>,
    /// Where each sample comes from.
    pub crops: Vec<Crop>,
}

/// Makes batches.
pub struct Sampler<'a> {
    plan: &'a Plan,
}

struct Sample {
    input: Array4<f32>,
    labels: Array3<u64>,
    targets: Targets,
    crop: Crop,
}

impl<'a> Sampler<'a> {
    /// Of the plan's training datasets.
    pub fn new(plan: &'a Plan) -> Self {
        Self { plan }
    }

    /// The batch of a number, from 1: the same for the same config, whenever and wherever it is asked for. A step takes
    /// the next `trainer.accumulate` of them, usually one, so that numbers are those of steps.
    ///
    /// # Errors
    /// [`Error::TooFewLabelled`] if no crop is labelled enough; from reading the data.
    pub fn batch(&self, number: u64) -> Result<TrainingBatch> {
        let count = self.plan.config.trainer.batch_size;
        let samples: Vec<Sample> = (0..count as u32)
            .map(|index| self.sample(number, index))
            .collect::<Result<_>>()?;
        let dims = self.plan.shapes.dims();
        let (mut inputs, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        let (mut labels, mut crops) = (Vec::new(), Vec::new());
        for sample in samples {
            inputs.push(sample.input);
            targets.push(sample.targets.target);
            weights.push(sample.targets.weight);
            labels.push(sample.labels);
            crops.push(sample.crop);
        }
        Ok(TrainingBatch {
            tensors: Batch {
                input: stack(dims, inputs),
                target: stack(dims, targets),
                weight: stack(dims, weights),
            },
            labels,
            crops,
        })
    }

    fn sample(&self, iteration: u64, index: u32) -> Result<Sample> {
        let Plan {
            config, shapes, task, ..
        } = self.plan;
        let draw = Draw {
            seed: config.seed,
            iteration,
            sample: index,
        };
        let mut place = Random::new(config.seed, iteration, index, Purpose::Crop);
        let dataset = self.dataset(&mut place);
        let frame = frame(shapes, &dataset.raw.spec().voxel_size);
        let augmentation = Augmentation::draw(&config.trainer.augment, &frame, draw);
        let symmetry = augmentation.symmetry;
        let lattice = augmentation
            .deformation
            .as_ref()
            .map(|deformation| deformation.lattice(&Grid::of_raw(&frame)));

        let task_size = task_voxel_size(&shapes.output_voxel_size(&dataset.raw.spec().voxel_size));
        let (before, after) = task.label_context(task_size);
        let room = symmetry.source_context(before, after);
        let (begin, labelled) =
            self.labelled_crop(dataset, room, &augmentation, lattice.as_ref(), &mut place)?;

        let flat = 3 - shapes.dims();
        let mut raw = match &lattice {
            None => dataset.raw(&begin, &shapes.input)?,
            Some(lattice) => {
                let begin: Vec<i64> = moved(&begin, &lattice.begin[flat..]);
                lattice.linear(&dataset.raw(&begin, &lattice.window[flat..])?)
            }
        };
        augmentation.expose(&mut raw, dataset.intensity);
        let mut turned: Vec<Array3<f32>> = raw.outer_iter().map(|channel| symmetry.apply(channel)).collect();
        let input = if turned.len() == 1 {
            turned.remove(0).insert_axis(Axis(0))
        } else {
            let views: Vec<_> = turned.iter().map(|channel| channel.view()).collect();
            #[allow(clippy::expect_used, reason = "every channel of one array has the same shape")]
            ndarray::stack(Axis(0), &views).expect("equal shapes")
        };

        let labels = symmetry.apply(labelled.labels.view());
        let known = symmetry.apply(labelled.known.view());
        // Axes that are exchanged have the same voxel size.
        let targets = task.targets(Annotation {
            labels: labels.view(),
            known: known.view(),
            voxel_size: task_size,
        })?;
        let inner = inner(&labels, before, after).to_owned();
        Ok(Sample {
            input,
            labels: inner,
            targets,
            crop: self.crop(dataset, &begin),
        })
    }

    fn dataset(&self, random: &mut Random) -> &'a Dataset {
        let datasets = &self.plan.train;
        let total: f64 = datasets.iter().map(|dataset| dataset.weight).sum();
        let mut left = random.unit() * total;
        let chosen = datasets.iter().find(|dataset| {
            left -= dataset.weight;
            left < 0.0
        });
        chosen.unwrap_or(&datasets[datasets.len() - 1])
    }

    /// A crop that is labelled enough: where its raw begins in voxels of the raw array, and its labels, deformed,
    /// with `room` voxels around what is predicted. `raw` says where the voxels of raw are taken from.
    fn labelled_crop(
        &self,
        dataset: &Dataset,
        room: ([usize; 3], [usize; 3]),
        augmentation: &Augmentation,
        raw: Option<&Lattice>,
        random: &mut Random,
    ) -> Result<(Vec<i64>, Labelled)> {
        let shapes = &self.plan.shapes;
        let (before, after) = room;
        let flat = 3 - shapes.dims();
        let spec = dataset.raw.spec();
        let voxel_size = shapes.output_voxel_size(&spec.voxel_size);
        let grid = label_grid(shapes, before, after);
        let lattice = augmentation
            .deformation
            .as_ref()
            .map(|deformation| deformation.lattice(&grid));
        let back: Vec<i64> = before[flat..].iter().map(|&n| -(n as i64)).collect();
        // Where what is read begins, seen from the output's first voxel, and its shape.
        let (back, shape) = match &lattice {
            None => (back, &grid.shape[flat..]),
            Some(lattice) => (moved(&back, &lattice.begin[flat..]), &lattice.window[flat..]),
        };
        let around = |a: usize| {
            raw.map_or((0, 0), |raw| {
                let end = raw.begin[flat + a] + raw.window[flat + a] as i64;
                (
                    (-raw.begin[flat + a]).max(0),
                    (end - shapes.input[a] as i64).max(0),
                )
            })
        };
        let around: Vec<(i64, i64)> = (0..shapes.dims()).map(around).collect();
        // Where places are drawn by something else, what is labelled there decides nothing.
        let fraction = if dataset.places.need_labels() {
            self.plan.config.trainer.min_labelled
        } else {
            0.0
        };
        for _ in 0..TRIES {
            let begin = (dataset.places).draw(dataset.mask.as_deref(), &around, random)?;
            let from = self.crop(dataset, &begin).roi.begin() + &Coordinate::from_voxels(&back, &voxel_size);
            let mut labelled = dataset.labelled(&from, shape, &voxel_size)?;
            if let Some(lattice) = &lattice {
                labelled.labels = lattice.nearest(labelled.labels.view());
                labelled.known = lattice.nearest(labelled.known.view());
            }
            let (labels, known) = (
                inner(&labelled.labels, before, after),
                inner(&labelled.known, before, after),
            );
            let mut count = 0_usize;
            Zip::from(&labels)
                .and(&known)
                .for_each(|&label, &known| count += usize::from(known && label != 0));
            if count as f64 >= fraction * labels.len() as f64 {
                return Ok((begin, labelled));
            }
        }
        Err(Error::TooFewLabelled {
            dataset: dataset.name.clone(),
            fraction,
            tries: TRIES,
        })
    }

    fn crop(&self, dataset: &Dataset, begin: &[i64]) -> Crop {
        let shapes = &self.plan.shapes;
        let spec = dataset.raw.spec();
        let voxels = |n: &[i64]| Coordinate::from_voxels(n, &spec.voxel_size);
        let begin = spec.roi.begin() + &voxels(begin);
        let output = &begin + &voxels(&shapes.context());
        Crop {
            dataset: dataset.name.clone(),
            roi: Roi::new(output, shapes.output_size(&spec.voxel_size)),
            input_roi: Roi::new(begin, voxels(&crate::plan::signed(&shapes.input))),
        }
    }
}

/// The crop of raw that is varied. Axes that may be exchanged have the same kind: same lengths of input and output,
/// same voxel size.
pub(crate) fn frame(shapes: &Shapes, voxel_size: &Coordinate) -> Frame {
    let dims = shapes.dims();
    let flat = 3 - dims;
    let sizes: Vec<_> = voxel_size.iter().copied().collect();
    let axis = |a: usize| (shapes.input[a], shapes.output[a], sizes[a], shapes.upsampling[a]);
    Frame {
        dims,
        shape: std::array::from_fn(|a| a.checked_sub(flat).map_or(1, |a| shapes.input[a])),
        voxel_size: std::array::from_fn(|a| a.checked_sub(flat).map_or(1.0, |a| sizes[a].to_f64())),
        kinds: std::array::from_fn(|a| match a.checked_sub(flat) {
            Some(a) => (0..dims).position(|other| axis(other) == axis(a)).unwrap_or(a),
            None => usize::MAX,
        }),
    }
}

/// The voxels of labels that targets need: those of the output, and some before and behind.
fn label_grid(shapes: &Shapes, before: [usize; 3], after: [usize; 3]) -> Grid {
    let flat = 3 - shapes.dims();
    let context = shapes.context();
    let along = |a: usize| {
        a.checked_sub(flat).map_or((0, 1, 1), |a| {
            (context[a], shapes.output[a], shapes.upsampling[a])
        })
    };
    Grid {
        first: std::array::from_fn(|a| {
            let (context, _, finer) = along(a);
            context as f64 + (0.5 - before[a] as f64) / finer as f64
        }),
        shape: std::array::from_fn(|a| before[a] + along(a).1 + after[a]),
        finer: std::array::from_fn(|a| along(a).2),
    }
}

/// A place moved by so many voxels.
fn moved(place: &[i64], by: &[i64]) -> Vec<i64> {
    place.iter().zip(by).map(|(place, by)| place + by).collect()
}

/// The batches `start..end` in order, made by `workers` threads while they are used. Each thread is at most one batch ahead of
/// the one that it is asked for.
pub fn with_batches<T>(
    sampler: &Sampler,
    start: u64,
    end: u64,
    workers: usize,
    consume: impl FnOnce(&mut dyn Iterator<Item = Result<TrainingBatch>>) -> Result<T>,
) -> Result<T> {
    let workers = workers.max(1) as u64;
    thread::scope(|scope| {
        let receivers: Vec<Receiver<Result<TrainingBatch>>> = (0..workers)
            .map(|worker| {
                let (send, receive) = sync_channel(1);
                scope.spawn(move || {
                    // Worker w makes every batch whose number is w past the start, modulo the workers: their
                    // order needs no sorting.
                    let mut mine = (start + worker..end).step_by(workers as usize);
                    mine.all(|iteration| send.send(sampler.batch(iteration)).is_ok())
                });
                receive
            })
            .collect();
        let mut batches = (start..end).map(|iteration| {
            let worker = ((iteration - start) % workers) as usize;
            receivers[worker].recv().unwrap_or(Err(Error::WorkerLost))
        });
        let result = consume(&mut batches);
        // Threads that wait to hand over a batch that is not wanted any more end by this.
        drop(receivers);
        result
    })
}

fn inner<T>(array: &Array3<T>, before: [usize; 3], after: [usize; 3]) -> ArrayView3<'_, T> {
    let end: [usize; 3] = std::array::from_fn(|a| array.shape()[a] - after[a]);
    array.slice(s![before[0]..end[0], before[1]..end[1], before[2]..end[2]])
}

/// Arrays of one shape as a tensor (samples, channels, spatial axes). A single one gives its memory away.
fn stack(dims: usize, mut arrays: Vec<Array4<f32>>) -> Tensor {
    let mut shape = vec![arrays.len()];
    if let Some(array) = arrays.first() {
        shape.push(array.shape()[0]);
        shape.extend(&array.shape()[4 - dims..]);
    }
    let data = match arrays.len() {
        1 if arrays[0].is_standard_layout() => arrays.remove(0).into_raw_vec_and_offset().0,
        _ => {
            let mut data = Vec::with_capacity(arrays.iter().map(|array| array.len()).sum());
            for array in &arrays {
                match array.as_slice() {
                    Some(values) => data.extend_from_slice(values),
                    None => data.extend(array),
                }
            }
            data
        }
    };
    Tensor { shape, data }
}
