//! Where crops are cut out of a dataset: places drawn from a random sequence, anywhere, by what a mask covers, or around
//! points. Whether a place is labelled enough is the sampler's to say.

use ndarray::ArrayD;

use dacapo_array::{ArrayRead, ArrayReadExt, Coordinate, Roi, SnapMode};

use crate::config::{DatasetConfig, Sampling};
use crate::dataset::Dataset;
use crate::plan::Shapes;
use crate::random::Random;
use crate::{Error, Result};

/// How places are drawn.
#[derive(Debug)]
pub(crate) enum Places {
    /// Anywhere, if enough is labelled.
    Labelled,
    /// Anywhere.
    Uniform,
    /// By the voxels of the mask.
    Mask(MaskIndex),
    /// Around points, in world units.
    Points(Vec<Coordinate>),
}

impl Places {
    /// Those that a config asks for. The voxels of a mask are counted.
    ///
    /// # Errors
    /// [`Error::EmptyMask`]; [`Error::PointOutside`] for a point that is not in the dataset's Roi.
    pub fn of(config: &DatasetConfig, mask: Option<&dyn ArrayRead>, roi: &Roi) -> Result<Self> {
        Ok(match (config.sampling(), mask) {
            (Sampling::Mask, Some(mask)) => {
                let index = MaskIndex::new(mask, roi)?;
                if index.total() == 0 {
                    return Err(Error::EmptyMask {
                        dataset: config.name.clone(),
                        roi: roi.clone(),
                    });
                }
                Self::Mask(index)
            }
            (Sampling::Points, _) => {
                let points = config.sample_points.clone().unwrap_or_default();
                let is_outside =
                    |point: &&Coordinate| point.dims() != roi.dims() || !roi.contains_point(point);
                if let Some(point) = points.iter().find(is_outside) {
                    return Err(Error::PointOutside {
                        dataset: config.name.clone(),
                        point: point.clone(),
                        roi: roi.clone(),
                    });
                }
                Self::Points(points)
            }
            (Sampling::Uniform, _) => Self::Uniform,
            (Sampling::Labelled | Sampling::Mask, _) => Self::Labelled,
        })
    }

    /// Where the raw of a crop begins, in voxels of the raw array, within `ranges`; nothing if what was drawn has no
    /// place there, and is to be drawn again.
    ///
    /// # Errors
    /// From reading the mask.
    pub fn draw(
        &self,
        dataset: &Dataset,
        shapes: &Shapes,
        ranges: &[(i64, i64)],
        random: &mut Random,
    ) -> Result<Option<Vec<i64>>> {
        let spec = dataset.raw.spec();
        let size = &spec.voxel_size;
        // The voxel of raw, from its first, in which a point lies, if that is the first that is predicted.
        let zero = spec.roi.begin() + &Coordinate::from_voxels(&shapes.context(), size);
        let predicted: Vec<i64> = shapes
            .output
            .iter()
            .zip(&shapes.upsampling)
            .map(|(n, f)| (n / f) as i64)
            .collect();
        Ok(match self {
            Self::Labelled | Self::Uniform => {
                let along = |&(low, high): &(i64, i64)| low + random.below((high - low + 1) as u64) as i64;
                Some(ranges.iter().map(along).collect())
            }
            Self::Mask(index) => {
                let Some(mask) = &dataset.mask else {
                    return Ok(None);
                };
                let rank = random.below(index.total());
                let voxel = index.middle(&**mask, rank)?;
                let first = (&voxel - &zero).floor_div(size);
                // Each place that has the voxel in what it predicts is as likely: so the places are drawn by the
                // number of their voxels.
                let begin: Vec<i64> = first
                    .iter()
                    .zip(&predicted)
                    .map(|(first, &n)| first - random.below(n as u64) as i64)
                    .collect();
                let fits = begin
                    .iter()
                    .zip(ranges)
                    .all(|(n, (low, high))| low <= n && n <= high);
                fits.then_some(begin)
            }
            Self::Points(points) => {
                let point = &points[random.below(points.len() as u64) as usize];
                let first = (point - &zero).floor_div(size);
                let begin = first.iter().zip(&predicted).zip(ranges);
                Some(
                    begin
                        .map(|((first, n), &(low, high))| (first - n / 2).clamp(low, high))
                        .collect(),
                )
            }
        })
    }
}

/// A mask is counted in blocks of this many voxels along each axis.
const BLOCK: usize = 64;

/// How many voxels of a mask are set in which of its blocks: any set voxel is found by its number, with one block
/// read. It is the integral of the mask, over blocks instead of voxels.
#[derive(Debug)]
pub(crate) struct MaskIndex {
    /// Blocks with set voxels, each with the number of those in it and the blocks before.
    blocks: Vec<(Roi, u64)>,
}

impl MaskIndex {
    /// Counts a mask's voxels in `roi`: those of which all lies in it.
    ///
    /// # Errors
    /// From reading it.
    pub fn new(mask: &dyn ArrayRead, roi: &Roi) -> Result<Self> {
        let mut blocks = Vec::new();
        let mut total = 0;
        for block in blocks_of(mask, roi, BLOCK) {
            let count = set(&mask.read_as::<u64>(&block)?).count() as u64;
            total += count;
            if count > 0 {
                blocks.push((block, total));
            }
        }
        Ok(Self { blocks })
    }

    /// How many voxels are set.
    pub fn total(&self) -> u64 {
        self.blocks.last().map_or(0, |(_, total)| *total)
    }

    /// The middle of the set voxel of this number, in world units.
    fn middle(&self, mask: &dyn ArrayRead, rank: u64) -> Result<Coordinate> {
        let index = self.blocks.partition_point(|(_, total)| *total <= rank);
        let (block, _) = &self.blocks[index.min(self.blocks.len() - 1)];
        let before = index.checked_sub(1).map_or(0, |before| self.blocks[before].1);
        let values = mask.read_as::<u64>(block)?;
        let place = set(&values).nth((rank - before) as usize).unwrap_or(0);
        let size = &mask.spec().voxel_size;
        let shape = block.voxels(size).unwrap_or_default();
        let mut rest = place;
        let mut voxel = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            voxel[axis] = (rest % shape[axis]) as i64;
            rest /= shape[axis];
        }
        let half = size / &Coordinate::splat(size.dims(), 2);
        Ok(block.begin() + &Coordinate::from_voxels(&voxel, size) + &half)
    }
}

/// The places of what is not 0, in the order of memory.
fn set(values: &ArrayD<u64>) -> impl Iterator<Item = usize> + '_ {
    values
        .iter()
        .enumerate()
        .filter(|(_, value)| **value != 0)
        .map(|(place, _)| place)
}

/// Blocks of at most `most` voxels along each axis that together are the whole voxels of an array in `roi`.
pub(crate) fn blocks_of(array: &dyn ArrayRead, roi: &Roi, most: usize) -> Vec<Roi> {
    let spec = array.spec();
    let origin = spec.roi.begin();
    let back = Coordinate::splat(origin.dims(), 0) - origin;
    let inside = roi
        .intersect(&spec.roi)
        .shift(&back)
        .snap_to_grid(&spec.voxel_size, SnapMode::Shrink)
        .shift(origin);
    let shape = inside
        .voxels(&spec.voxel_size)
        .unwrap_or_else(|| vec![0; spec.spatial_dims()]);
    let begins = shape
        .iter()
        .fold(vec![Vec::new()], |begins: Vec<Vec<usize>>, &length| {
            let along = |begin: Vec<usize>| {
                (0..length)
                    .step_by(most)
                    .map(move |at| begin.iter().copied().chain([at]).collect())
            };
            begins.into_iter().flat_map(along).collect()
        });
    let block = |begin: Vec<usize>| {
        let size: Vec<usize> = begin
            .iter()
            .zip(&shape)
            .map(|(at, n)| (n - at).min(most))
            .collect();
        let begin: Vec<i64> = begin.iter().map(|&at| at as i64).collect();
        Roi::from_voxels(&begin, &size, &spec.voxel_size).shift(inside.begin())
    };
    begins.into_iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::dataset::crop_range;
    use crate::random::Purpose;
    use dacapo_array::{ArraySpec, DType, MemoryArray, NdData};

    #[test]
    fn every_voxel_of_a_mask_is_found_by_its_number() {
        let size = Coordinate::new([4, 8, 8]);
        let spec = ArraySpec::new(
            Roi::from_voxels(&[1, 0, -2], &[3, 70, 130], &size),
            size.clone(),
            DType::U8,
        );
        let values = ArrayD::from_shape_fn(vec![3, 70, 130], |i| {
            u8::from((i[0] * 7 + i[1] * 3 + i[2]) % 11 == 0)
        });
        let mask = MemoryArray::new(spec.clone(), NdData::U8(values.clone())).unwrap();
        // Not its last column, of which half lies outside.
        let roi = Roi::new(spec.roi.offset.clone(), Coordinate::new([12, 560, 1036]));
        let index = MaskIndex::new(&mask, &roi).unwrap();
        let mut expected: Vec<Coordinate> = values
            .indexed_iter()
            .filter(|(i, v)| **v != 0 && i[2] < 129)
            .map(|(i, _)| {
                Coordinate::new([
                    4 + 4 * i[0] as i64 + 2,
                    8 * i[1] as i64 + 4,
                    8 * i[2] as i64 - 16 + 4,
                ])
            })
            .collect();
        assert_eq!(index.total() as usize, expected.len());
        let mut found: Vec<Coordinate> = (0..index.total())
            .map(|rank| index.middle(&mask, rank).unwrap())
            .collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }

    /// A dataset of 12 × 10 pixels with a mask at twice the resolution, and a network that predicts 4 × 4 of 6 × 6.
    fn image(places: impl Fn(&MemoryArray, &Roi) -> Places) -> (Dataset, Shapes) {
        let array = |size: i64, shape: [usize; 2], value: fn(usize, usize) -> u8| {
            let size = Coordinate::splat(2, size);
            let roi = Roi::from_voxels(&[0, 0], &shape, &size).shift(&Coordinate::new([80, -40]));
            let spec = ArraySpec::new(roi, size, DType::U8);
            let values = ArrayD::from_shape_fn(shape.to_vec(), |i| value(i[0], i[1]));
            MemoryArray::new(spec, NdData::U8(values)).unwrap()
        };
        let raw = array(8, [12, 10], |_, _| 1);
        let mask = array(4, [24, 20], |y, x| u8::from((y * y + 3 * x) % 7 == 0 && y > 4));
        let roi = raw.spec().roi.clone();
        let places = places(&mask, &roi);
        let raw = Arc::new(raw);
        let dataset = Dataset {
            name: "image".to_owned(),
            raw_address: String::new(),
            labels: raw.clone(),
            labels_address: String::new(),
            raw,
            mask: Some(Arc::new(mask)),
            roi,
            weight: 1.0,
            intensity: crate::config::IntensityRange { min: 0.0, max: 1.0 },
            places,
        };
        let shapes = Shapes {
            input: vec![6, 6],
            output: vec![4, 4],
            input_channels: 1,
            upsampling: vec![1, 1],
        };
        (dataset, shapes)
    }

    fn drawn(dataset: &Dataset, shapes: &Shapes, count: u64) -> BTreeMap<Vec<i64>, u64> {
        let ranges = crop_range(dataset, shapes, &[(0, 0); 2]);
        assert_eq!(ranges, [(0, 6), (0, 4)]);
        let mut found: BTreeMap<Vec<i64>, u64> = BTreeMap::new();
        for iteration in 0..count {
            let mut random = Random::new(1, iteration, 0, Purpose::Crop);
            let place = dataset
                .places
                .draw(dataset, shapes, &ranges, &mut random)
                .unwrap();
            let again = Random::new(1, iteration, 0, Purpose::Crop);
            assert_eq!(
                dataset
                    .places
                    .draw(dataset, shapes, &ranges, &mut again.clone())
                    .unwrap(),
                place
            );
            if let Some(place) = place {
                *found.entry(place).or_default() += 1;
            }
        }
        found
    }

    /// That places were drawn as often as their weights say.
    fn check_frequencies(found: &BTreeMap<Vec<i64>, u64>, weight: impl Fn(&[i64]) -> f64) {
        let places: Vec<Vec<i64>> = (0..=6).flat_map(|y| (0..=4).map(move |x| vec![y, x])).collect();
        let total: f64 = places.iter().map(|place| weight(place)).sum();
        let count: u64 = found.values().sum();
        for place in &places {
            let expected = count as f64 * weight(place) / total;
            let times = found.get(place).copied().unwrap_or(0) as f64;
            assert!(
                (times - expected).abs() <= 5.0 * expected.sqrt(),
                "{place:?}: {times}, expected {expected}"
            );
        }
    }

    #[test]
    fn places_are_drawn_evenly_or_by_the_integral_of_the_mask() {
        let (dataset, shapes) = image(|_, _| Places::Uniform);
        check_frequencies(&drawn(&dataset, &shapes, 20_000), |_| 1.0);

        let (dataset, shapes) = image(|mask, roi| Places::Mask(MaskIndex::new(mask, roi).unwrap()));
        let mask = dataset.mask.clone().unwrap();
        let integral = |place: &[i64]| {
            // What is predicted begins one pixel behind the input.
            let begin: Vec<i64> = place.iter().map(|n| n + 1).collect();
            let roi = Roi::from_voxels(&begin, &[4, 4], &Coordinate::splat(2, 8)).shift(dataset.roi.begin());
            mask.read_as::<u64>(&roi).unwrap().iter().sum::<u64>() as f64
        };
        check_frequencies(&drawn(&dataset, &shapes, 40_000), integral);
    }

    #[test]
    fn points_are_in_the_middle_or_as_near_as_the_data_goes() {
        // The middle of pixel (5, 4), a corner of the data, and what lies on a border between pixels.
        let points = [[124, -4], [81, 39], [128, 0]].map(Coordinate::new);
        let (dataset, shapes) = image(|_, _| Places::Points(points.to_vec()));
        let found = drawn(&dataset, &shapes, 300);
        assert_eq!(found.keys().collect::<Vec<_>>(), [&[0, 4], &[2, 1], &[3, 2]]);
        assert!(found.values().all(|&times| times > 60), "{found:?}");
    }
}
