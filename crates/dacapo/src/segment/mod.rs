//! Segmenting an array into another: whole in memory, or by blocks where that would not do.

mod check;
mod objects;

use std::sync::Mutex;

use ndarray::{Array3, Axis, s};

use dacapo_array::storage::Access;
use dacapo_array::{ArrayAddress, ArraySpec, CreateOptions, DType, DraftArray, Roi, ZarrFormat};
use dacapo_kernels::{
    BlockComponents, ComponentFaces, ComponentJoin, Connectivity, ValueRange, argmax, block_components,
    remap_by_table, threshold, watershed,
};
use dacapo_store::Provenance;
use dacapo_tasks::{AffinitiesTaskConfig, PostProcessorParameters, TaskConfig};

use crate::observer::Observer;
use crate::volume::{Blocks, NamedArray, Ranges, Volume, for_each_block, lock, within};
use crate::{Error, Result};

/// Blocks of methods for which blocks change nothing.
const BLOCK: usize = 256;

/// How voxels become segments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SegmentMethod {
    /// 1 where the first channel is above a threshold.
    Threshold(f32),
    /// The channel with the largest value, from 0.
    Argmax,
    /// The connected regions above a threshold; of labels, without one, those of each label.
    Components {
        /// What a value has to be above.
        threshold: Option<f32>,
        /// Which voxels are neighbours.
        connectivity: Connectivity,
    },
    /// Watershed fragments of affinities; where there are seeds, these grow over the first channel, from low to high.
    Watershed,
    /// The mutex watershed of affinities.
    MutexWatershed {
        /// The bias of offsets of at most 3 voxels.
        bias_short: f32,
        /// The bias of longer ones.
        bias_long: f32,
    },
    /// Watershed fragments of affinities, merged by mean affinity.
    Agglomerate(f32),
}

/// What is segmented, and how.
pub struct SegmentRequest<'a> {
    /// The method.
    pub method: SegmentMethod,
    /// Of affinities, the offset of each channel, in voxels.
    pub neighborhood: Vec<Vec<i64>>,
    /// What bytes of the input stand for.
    pub range: ValueRange,
    /// Where voxels are segmented: where this is not 0.
    pub mask: Option<NamedArray<'a>>,
    /// Where a watershed begins.
    pub seeds: Option<NamedArray<'a>>,
    /// The part to segment, in world units; all of the input without one.
    pub roi: Option<Roi>,
    /// Voxels of a block along each axis. Thresholds, classes and components are the same by any blocks; objects of
    /// affinities are nearly so, and are made in memory without.
    pub block: Option<usize>,
    /// Bytes of memory that there are; without, nothing is refused for what it takes.
    pub memory: Option<u64>,
    /// Replace an array that is there.
    pub overwrite: bool,
    /// Version of Zarr to write.
    pub format: ZarrFormat,
}

/// What was segmented.
#[derive(Debug, Clone, PartialEq)]
pub struct Segmented {
    /// In world units.
    pub roi: Roi,
    /// The shape of the array.
    pub shape: Vec<usize>,
    /// Its values.
    pub dtype: DType,
    /// The method with its parameters.
    pub method: String,
    /// The least and the largest value that a threshold was compared with, by methods that do so; none where no value
    /// was a number.
    pub values: Option<(f32, f32)>,
}

/// Segments an array into a new one.
///
/// # Errors
/// Before anything is written: [`Error::RoiApart`], [`Error::Shape`], [`Error::LabelType`], [`Error::Labels`],
/// [`Error::Task`] for what the method cannot take, [`Error::SmallBlock`], [`Error::TooLarge`] for what would not fit in
/// memory. [`Error::Blocks`], [`Error::Interrupted`]: then nothing is there.
pub fn segment(
    input: NamedArray,
    output: &ArrayAddress,
    access: &Access,
    request: &SegmentRequest,
    observer: &dyn Observer,
) -> Result<Segmented> {
    let spec = input.array.spec();
    let roi = request
        .roi
        .as_ref()
        .map_or(spec.roi.clone(), |roi| roi.intersect(&spec.roi));
    if roi.is_empty() {
        return Err(Error::RoiApart {
            input: input.name.to_owned(),
            roi: request.roi.clone().unwrap_or(roi),
            array: Box::new(spec.roi.clone()),
        });
    }
    let scene = Scene::new(input, &roi, request)?;
    scene.check()?;
    let dtype = match request.method {
        SegmentMethod::Threshold(_) | SegmentMethod::Argmax => DType::U8,
        _ => DType::U64,
    };
    let dims = spec.spatial_dims();
    let units = spec.units.clone();
    let output_spec = ArraySpec::new(roi.clone(), spec.voxel_size.clone(), dtype).with_units(units);
    let method = request.method.described(dims);
    let mut provenance = Provenance::of(input.name);
    provenance.parameters = Some(method.clone());
    let block = request.block.unwrap_or(BLOCK);
    let options = CreateOptions {
        block_shape: Some(vec![block; dims]),
        format: request.format,
        overwrite: request.overwrite,
        attributes: provenance.attributes(),
        ..CreateOptions::default()
    };
    let draft = DraftArray::new(output, access, &output_spec, &options)?;
    scene.run(&draft, observer)?;
    draft.publish()?;
    Ok(Segmented {
        roi,
        shape: output_spec.shape(),
        dtype,
        method,
        values: *lock(&scene.seen),
    })
}

impl SegmentMethod {
    /// With its parameters, for data of so many axes: neighbours are counted as they are there.
    fn described(&self, dims: usize) -> String {
        match self {
            Self::Threshold(threshold) => format!("threshold(threshold={threshold})"),
            Self::Argmax => "argmax()".to_owned(),
            Self::Components {
                threshold,
                connectivity,
            } => {
                let threshold = threshold.map_or(String::new(), |level| format!("threshold={level}, "));
                let neighbors = match (connectivity, dims) {
                    (Connectivity::Faces, 2) => 4,
                    (_, 2) => 8,
                    (Connectivity::Faces, _) => 6,
                    (Connectivity::Edges, _) => 18,
                    (Connectivity::Corners, _) => 26,
                };
                format!("components({threshold}connectivity={neighbors})")
            }
            Self::Watershed => "watershed()".to_owned(),
            Self::MutexWatershed {
                bias_short,
                bias_long,
            } => format!("mutex_watershed(short={bias_short}, long={bias_long})"),
            Self::Agglomerate(threshold) => format!("agglomerate(threshold={threshold})"),
        }
    }
}

/// Everything that is segmented, opened.
struct Scene<'a> {
    volume: Volume<'a>,
    mask: Option<Volume<'a>>,
    seeds: Option<Volume<'a>>,
    request: &'a SegmentRequest<'a>,
    dims: usize,
    /// Whether the input has labels, not values.
    is_labels: bool,
    /// The least and the largest value so far of those that the threshold was compared with.
    seen: Mutex<Option<(f32, f32)>>,
}

impl<'a> Scene<'a> {
    fn new(input: NamedArray<'a>, roi: &Roi, request: &'a SegmentRequest) -> Result<Self> {
        let spec = input.array.spec();
        let beside = |named: &Option<NamedArray<'a>>| -> Result<Option<Volume<'a>>> {
            let Some(named) = named else { return Ok(None) };
            let voxel_size = &named.array.spec().voxel_size;
            if *voxel_size != spec.voxel_size {
                return Err(Error::Shape {
                    what: named.name.to_owned(),
                    reason: format!(
                        "voxels of {voxel_size}, and {} has {}",
                        input.name, spec.voxel_size
                    ),
                });
            }
            let volume = Volume::new(*named, roi)?;
            volume.check_labels()?;
            Ok(Some(volume))
        };
        Ok(Self {
            volume: Volume::new(input, roi)?,
            mask: beside(&request.mask)?,
            seeds: beside(&request.seeds)?,
            request,
            dims: spec.spatial_dims(),
            is_labels: !spec.dtype.is_float() && spec.dtype != DType::U8,
            seen: Mutex::default(),
        })
    }

    /// The parameters of a method that makes objects of affinities, and the affinities.
    fn objects(&self) -> Option<(AffinitiesTaskConfig, Option<PostProcessorParameters>)> {
        let parameters = match self.request.method {
            SegmentMethod::Watershed if self.seeds.is_none() => None,
            SegmentMethod::MutexWatershed {
                bias_short,
                bias_long,
            } => Some(PostProcessorParameters::MutexWatershed {
                bias_short,
                bias_long,
            }),
            SegmentMethod::Agglomerate(threshold) => Some(PostProcessorParameters::Agglomerate { threshold }),
            _ => return None,
        };
        let config = AffinitiesTaskConfig {
            neighborhood: self.request.neighborhood.clone(),
            ..AffinitiesTaskConfig::default()
        };
        Some((config, parameters))
    }

    /// Makes all of the output array.
    fn run(&self, output: &DraftArray, observer: &dyn Observer) -> Result<()> {
        match self.request.method {
            SegmentMethod::Threshold(_) | SegmentMethod::Argmax => self.classes(output, observer),
            SegmentMethod::Components { connectivity, .. } => self.components(connectivity, output, observer),
            SegmentMethod::Watershed
            | SegmentMethod::MutexWatershed { .. }
            | SegmentMethod::Agglomerate(_) => match self.objects() {
                Some((config, parameters)) => self.of_affinities(config, parameters, output, observer),
                None => self.grow(output),
            },
        }
    }

    fn blocks(&self) -> Result<Blocks> {
        Blocks::new(self.volume.shape, self.request.block.unwrap_or(BLOCK))
    }

    fn mask(&self, ranges: &Ranges) -> Result<Option<Array3<bool>>> {
        let mask = self.mask.as_ref();
        mask.map(|mask| Ok(mask.labels(ranges)?.mapv(|label| label != 0)))
            .transpose()
    }

    /// 0 outside of the mask.
    fn masked(&self, ranges: &Ranges, labels: &mut Array3<u64>) -> Result<()> {
        if let Some(mask) = self.mask(ranges)? {
            labels.zip_mut_with(&mask, |label, &is_open| *label *= u64::from(is_open));
        }
        Ok(())
    }

    /// Each voxel by itself.
    fn classes(&self, output: &DraftArray, observer: &dyn Observer) -> Result<()> {
        let blocks = self.blocks()?;
        for_each_block(&blocks.grid, 1, observer, |block| {
            let inner = blocks.inner(block);
            let mut labels = match self.request.method {
                SegmentMethod::Threshold(level) => self.above(&inner, level)?,
                _ => argmax(self.volume.values(&inner, self.request.range)?.view())?.mapv(u64::from),
            };
            self.masked(&inner, &mut labels)?;
            self.volume.write(output, &inner, labels)
        })
    }

    /// 1 where the first channel is above a threshold.
    fn above(&self, ranges: &Ranges, level: f32) -> Result<Array3<u64>> {
        let values = self.volume.values(ranges, self.request.range)?;
        let values = values.index_axis(Axis(0), 0);
        // Minima and maxima pass over what is no number.
        let of_block = values.iter().fold((f32::NAN, f32::NAN), |(least, most), &value| {
            (least.min(value), most.max(value))
        });
        if !of_block.0.is_nan() {
            let mut seen = lock(&self.seen);
            let (least, most) = seen.unwrap_or(of_block);
            *seen = Some((least.min(of_block.0), most.max(of_block.1)));
        }
        Ok(threshold(values, level).mapv(u64::from))
    }

    /// What is connected in some voxels: labels, or 1 where a value is above the threshold.
    fn connectable(&self, ranges: &Ranges) -> Result<Array3<u64>> {
        let level = match self.request.method {
            SegmentMethod::Components { threshold, .. } => threshold,
            _ => None,
        };
        let mut labels = match level {
            Some(level) => self.above(ranges, level)?,
            None => self.volume.labels(ranges)?,
        };
        self.masked(ranges, &mut labels)?;
        Ok(labels)
    }

    /// Components by blocks, the same as in memory: each is numbered for itself, then by what it shares with others.
    fn components(
        &self,
        connectivity: Connectivity,
        output: &DraftArray,
        observer: &dyn Observer,
    ) -> Result<()> {
        let blocks = self.blocks()?;
        // What a block has to tell, and where its voxels and those behind it are.
        let told: Mutex<Vec<(usize, Ranges, ComponentFaces)>> = Mutex::default();
        for_each_block(&blocks.grid, 1, observer, |block| {
            let inner = blocks.inner(block);
            let outer = blocks.around(&inner, [0; 3], [1; 3]);
            let origin = inner.each_ref().map(|range| range.start as u64);
            let BlockComponents { numbers, faces } =
                block_components(self.connectable(&outer)?.view(), origin, connectivity)?;
            let [z, y, x] = within(&inner, &outer);
            let own = numbers.slice(s![z, y, x]).mapv(u64::from);
            self.volume.write(output, &inner, own)?;
            lock(&told).push((block.index, outer, faces));
            Ok(())
        })?;
        let mut told = std::mem::take(&mut *lock(&told));
        told.sort_unstable_by_key(|(index, ..)| *index);
        let mut join = ComponentJoin::default();
        let places: Vec<usize> = told
            .iter()
            .map(|(_, _, faces)| join.add(faces))
            .collect::<Result<_, _>>()?;
        for (a, b) in objects::touching(&told.iter().map(|(_, outer, _)| outer).collect::<Vec<_>>()) {
            join.join((places[a], &told[a].2), (places[b], &told[b].2));
        }
        let tables = join.finish();
        drop(told);
        let whole = Volume::new(
            NamedArray {
                name: "the segmentation",
                array: output,
            },
            &self.volume.roi(&self.volume.all()),
        )?;
        for_each_block(&blocks.grid, 1, observer, |block| {
            let inner = blocks.inner(block);
            let mut labels = whole.labels(&inner)?;
            remap_by_table(labels.view_mut(), &tables[places[block.index]])?;
            self.volume.write(output, &inner, labels)
        })
    }

    /// Seeds that grow over the first channel, in memory.
    fn grow(&self, output: &DraftArray) -> Result<()> {
        let all = self.volume.all();
        let values = self.volume.values(&all, self.request.range)?;
        let seeds = self.seeds.as_ref().map(|seeds| seeds.labels(&all)).transpose()?;
        let seeds = seeds.unwrap_or_else(|| Array3::zeros(self.volume.shape));
        let mask = self.mask(&all)?;
        let height = values.index_axis(Axis(0), 0);
        let mask = mask.as_ref().map(|mask| mask.view());
        let grown = watershed(height, seeds.view(), mask, Connectivity::Faces)?;
        self.volume.write(output, &all, grown)
    }

    /// Objects of affinities: in memory, or by blocks if asked for.
    fn of_affinities(
        &self,
        config: AffinitiesTaskConfig,
        parameters: Option<PostProcessorParameters>,
        output: &DraftArray,
        observer: &dyn Observer,
    ) -> Result<()> {
        let by_blocks = config.by_blocks(self.dims, parameters)?;
        let channels = config.neighborhood.len();
        if self.request.block.is_some() {
            return objects::by_blocks(self, &by_blocks, channels, output, observer);
        }
        let all = self.volume.all();
        let values = self.affinities(&all, channels)?;
        let mask = self.mask(&all)?;
        let mask = mask.as_ref().map(|mask| mask.view());
        let segments = match parameters {
            None => by_blocks.fragments(values.view(), mask)?,
            Some(parameters) => {
                let task = TaskConfig::Affinities(config).build(self.dims)?;
                task.segment(values.view(), mask, &parameters)?
            }
        };
        self.volume.write(output, &all, segments)
    }

    /// The channels that offsets are known of: those of shape descriptors stand behind them.
    fn affinities(&self, ranges: &Ranges, channels: usize) -> Result<ndarray::Array4<f32>> {
        let mut values = self.volume.values(ranges, self.request.range)?;
        values.slice_axis_inplace(Axis(0), (..channels).into());
        Ok(values)
    }
}
