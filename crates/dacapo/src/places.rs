//! Where crops are cut out of a dataset: places drawn from a random sequence, anywhere, by what a mask covers, or around
//! points. Whether a place is labelled enough is the sampler's to say.

use ndarray::ArrayD;

use dacapo_array::{ArrayRead, ArrayReadExt, ArraySpec, Coordinate, Decimal, Roi, SnapMode};

use crate::config::{DatasetConfig, Sampling};
use crate::plan::Shapes;
use crate::random::Random;
use crate::window::spatial_shape;
use crate::{Error, Result};

/// The places of a dataset's crops.
#[derive(Debug)]
pub(crate) struct Places {
    kind: Kind,
    reach: Reach,
}

/// How places are drawn.
#[derive(Debug)]
enum Kind {
    /// Anywhere; what is labelled too little is drawn again.
    Labelled,
    /// Anywhere.
    Uniform,
    /// By the voxels of the mask.
    Mask(MaskIndex),
    /// Around points, in world units.
    Points(Vec<Coordinate>),
}

impl Places {
    /// Those that a config asks for in `roi`, for a network's shapes. The voxels of a mask are counted.
    ///
    /// # Errors
    /// [`Error::EmptyMask`] if crops are drawn by a mask that none of them meets; [`Error::PointOutside`] for a point
    /// that is not in `roi`; from reading the mask.
    pub fn of(
        config: &DatasetConfig,
        raw: &ArraySpec,
        mask: Option<&dyn ArrayRead>,
        roi: &Roi,
        shapes: &Shapes,
    ) -> Result<Self> {
        let reach = Reach::new(raw, roi, shapes);
        let kind = match (config.sampling(), mask) {
            (Sampling::Mask, Some(mask)) => {
                let index = MaskIndex::new(mask, roi, &reach)?;
                if index.total() == 0 {
                    return Err(Error::EmptyMask {
                        dataset: config.name.clone(),
                        roi: roi.clone(),
                    });
                }
                Kind::Mask(index)
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
                Kind::Points(points)
            }
            (Sampling::Uniform, _) => Kind::Uniform,
            (Sampling::Labelled | Sampling::Mask, _) => Kind::Labelled,
        };
        Ok(Self { kind, reach })
    }

    /// Whether a place with few labels is to be drawn again.
    pub fn need_labels(&self) -> bool {
        matches!(self.kind, Kind::Labelled)
    }

    /// Where the raw of a crop begins, in voxels of the raw array. `mask` is that of the dataset. What lies up to
    /// `room` voxels before and behind the crop's raw along each axis is in the array as well, where that leaves a
    /// place.
    ///
    /// # Errors
    /// From reading the mask.
    pub fn draw(
        &self,
        mask: Option<&dyn ArrayRead>,
        room: &[(i64, i64)],
        random: &mut Random,
    ) -> Result<Vec<i64>> {
        let reach = &self.reach;
        let roomy = |axis: usize, range: (i64, i64)| reach.with_room(axis, room[axis], range);
        Ok(match (&self.kind, mask) {
            (Kind::Mask(index), Some(mask)) => {
                let voxel = index.middle(mask, reach, random)?;
                // Each place that has the voxel in what it predicts is as likely: so places are drawn by the number of
                // their voxels.
                (0..voxel.dims())
                    .map(|axis| {
                        let (low, high) = roomy(axis, reach.around(axis, voxel[axis]));
                        low + random.below((high - low + 1).max(1) as u64) as i64
                    })
                    .collect()
            }
            (Kind::Points(points), _) => {
                let point = &points[random.below(points.len() as u64) as usize];
                let along = |axis: usize| {
                    let (low, high) = roomy(axis, reach.ranges[axis]);
                    let first = reach.voxel(axis, point[axis]) - reach.predicted[axis] / 2;
                    first.clamp(low, high)
                };
                (0..point.dims()).map(along).collect()
            }
            _ => {
                let mut along = |axis: usize| {
                    let (low, high) = roomy(axis, reach.ranges[axis]);
                    low + random.below((high - low + 1) as u64) as i64
                };
                (0..reach.ranges.len()).map(&mut along).collect()
            }
        })
    }
}

/// Which places there are: along each axis, where the raw of a crop may begin, and what it then predicts.
#[derive(Debug)]
struct Reach {
    /// Where what is predicted begins for a crop that begins at raw's first voxel, in world units.
    zero: Coordinate,
    /// Size of a voxel of raw.
    size: Coordinate,
    /// Voxels of raw that are predicted.
    predicted: Vec<i64>,
    /// The first and the last voxel of raw at which a crop may begin.
    ranges: Vec<(i64, i64)>,
    /// The last voxel at which a crop begins that is all in raw; negative if none is.
    ends: Vec<i64>,
}

impl Reach {
    fn new(raw: &ArraySpec, roi: &Roi, shapes: &Shapes) -> Self {
        let size = &raw.voxel_size;
        let output = shapes.output_size(size);
        let zero = raw.roi.begin() + &Coordinate::from_voxels(&shapes.context(), size);
        let first = (roi.begin() - &zero).ceil_div(size);
        let last = (&(&roi.end() - &output) - &zero).floor_div(size);
        let lengths = spatial_shape(raw);
        let ends = lengths.iter().zip(&shapes.input);
        let ends: Vec<i64> = ends
            .map(|(&length, &input)| length as i64 - input as i64)
            .collect();
        let range = |axis: usize| {
            // Where the output is longer than the Roi, it may lie anywhere around it.
            let (low, high) = (first[axis].min(last[axis]), first[axis].max(last[axis]));
            let inside = (low.max(0), high.min(ends[axis]));
            if inside.0 <= inside.1 { inside } else { (low, high) }
        };
        let predicted = shapes.output.iter().zip(&shapes.upsampling);
        Self {
            ranges: (0..first.len()).map(range).collect(),
            predicted: predicted.map(|(n, f)| (n / f) as i64).collect(),
            size: size.clone(),
            zero,
            ends,
        }
    }

    /// The part of a range of places that has so many voxels of raw before and behind its crops; the range if there is
    /// none.
    fn with_room(&self, axis: usize, (before, behind): (i64, i64), (low, high): (i64, i64)) -> (i64, i64) {
        let roomy = (low.max(before), high.min(self.ends[axis] - behind));
        if roomy.0 <= roomy.1 { roomy } else { (low, high) }
    }

    /// The voxel of raw at which a crop begins of which the first predicted voxel has a point in it, along an axis.
    fn voxel(&self, axis: usize, point: Decimal) -> i64 {
        (point - self.zero[axis]).floor_div(self.size[axis])
    }

    /// The first and the last place along an axis of which the prediction has a point in it; the last is before the
    /// first if there is none.
    fn around(&self, axis: usize, point: Decimal) -> (i64, i64) {
        let last = self.voxel(axis, point);
        let (low, high) = self.ranges[axis];
        (low.max(last - self.predicted[axis] + 1), high.min(last))
    }
}

/// A mask is counted in blocks of this many voxels along each axis.
const BLOCK: usize = 64;

/// In how many places each block of a mask has its set voxels: the integral of the mask over all places. A voxel is drawn
/// by how many places it is in, with one block read.
#[derive(Debug)]
struct MaskIndex {
    /// Blocks with set voxels in some place, each with the sum of places over its voxels and those of the blocks
    /// before.
    blocks: Vec<(Roi, u64)>,
}

impl MaskIndex {
    /// Counts a mask's voxels in `roi`: those of which all lies in it.
    ///
    /// # Errors
    /// From reading it.
    fn new(mask: &dyn ArrayRead, roi: &Roi, reach: &Reach) -> Result<Self> {
        let mut blocks = Vec::new();
        let mut total: u64 = 0;
        for block in blocks_of(mask, roi, BLOCK) {
            let values = mask.read_as::<u64>(&block)?;
            let counts = counts(mask, reach, &block);
            let places = places_of(&values, &counts).map(|(_, places)| places);
            let sum = places.fold(0, u64::saturating_add);
            total = total.saturating_add(sum);
            if sum > 0 {
                blocks.push((block, total));
            }
        }
        Ok(Self { blocks })
    }

    /// The sum of places over all set voxels.
    fn total(&self) -> u64 {
        self.blocks.last().map_or(0, |(_, total)| *total)
    }

    /// The middle of a set voxel, in world units, drawn by the number of places that it is in.
    fn middle(&self, mask: &dyn ArrayRead, reach: &Reach, random: &mut Random) -> Result<Coordinate> {
        let mut rank = random.below(self.total());
        let index = self.blocks.partition_point(|(_, total)| *total <= rank);
        let index = index.min(self.blocks.len() - 1);
        let block = &self.blocks[index].0;
        rank -= index.checked_sub(1).map_or(0, |before| self.blocks[before].1);
        let values = mask.read_as::<u64>(block)?;
        let counts = counts(mask, reach, block);
        let mut voxels = places_of(&values, &counts);
        let found = voxels.find(|(_, places)| {
            let is_it = rank < *places;
            rank = rank.saturating_sub(*places);
            is_it
        });
        let voxel: Vec<i64> = found.map_or_else(|| vec![0; block.dims()], |(voxel, _)| voxel);
        let size = &mask.spec().voxel_size;
        let half = size / &Coordinate::splat(size.dims(), 2);
        Ok(block.begin() + &Coordinate::from_voxels(&voxel, size) + &half)
    }
}

/// Along each axis of a block of a mask, in how many places each voxel is.
fn counts(mask: &dyn ArrayRead, reach: &Reach, block: &Roi) -> Vec<Vec<u64>> {
    let size = &mask.spec().voxel_size;
    let shape = block.voxels(size).unwrap_or_default();
    let two = Decimal::from(2);
    let along = |axis: usize| {
        let places = |voxel: usize| {
            let middle = block.begin()[axis] + size[axis] * Decimal::from(2 * voxel as i64 + 1) / two;
            let (first, last) = reach.around(axis, middle);
            (last - first + 1).max(0) as u64
        };
        (0..shape[axis]).map(places).collect()
    };
    (0..shape.len()).map(along).collect()
}

/// The set voxels of a block, in the order of memory, with the number of places that each is in.
fn places_of<'a>(
    values: &'a ArrayD<u64>,
    counts: &'a [Vec<u64>],
) -> impl Iterator<Item = (Vec<i64>, u64)> + 'a {
    // A mask has one channel: axes in front of the spatial ones have one entry.
    let leading = values.ndim() - counts.len();
    values
        .indexed_iter()
        .filter(|(_, value)| **value != 0)
        .map(move |(index, _)| {
            let voxel = &ndarray::Dimension::slice(&index)[leading..];
            let places = voxel
                .iter()
                .zip(counts)
                .map(|(&voxel, counts)| counts[voxel])
                .product();
            (voxel.iter().map(|&n| n as i64).collect(), places)
        })
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

    use dacapo_array::{DType, MemoryArray, NdData};
    use serde_json::json;

    use super::*;
    use crate::random::Purpose;

    /// 12 × 10 pixels of raw with a mask at twice the resolution, and a network that predicts 4 × 4 of 6 × 6.
    fn image(config: serde_json::Value) -> (Places, MemoryArray, Roi) {
        let array = |size: i64, shape: [usize; 2], value: fn(usize, usize) -> u8| {
            let size = Coordinate::splat(2, size);
            let roi = Roi::from_voxels(&[0, 0], &shape, &size).shift(&Coordinate::new([80, -40]));
            let spec = ArraySpec::new(roi, size, DType::U8);
            let values = ArrayD::from_shape_fn(shape.to_vec(), |i| value(i[0], i[1]));
            MemoryArray::new(spec, NdData::U8(values)).unwrap()
        };
        let raw = array(8, [12, 10], |_, _| 1);
        let mask = array(4, [24, 20], |y, x| u8::from((y * y + 3 * x) % 7 == 0 && y > 4));
        let mut dataset = DatasetConfig::new("image", "raw", "labels", Some("mask".into()));
        dataset.sampling = serde_json::from_value(config["sampling"].clone()).unwrap();
        dataset.sample_points = serde_json::from_value(config["sample_points"].clone()).unwrap();
        let shapes = Shapes {
            input: vec![6, 6],
            output: vec![4, 4],
            input_channels: 1,
            upsampling: vec![1, 1],
        };
        let roi = raw.spec().roi.clone();
        let places = Places::of(&dataset, raw.spec(), Some(&mask), &roi, &shapes).unwrap();
        assert_eq!(places.reach.ranges, [(0, 6), (0, 4)]);
        (places, mask, roi)
    }

    fn drawn(places: &Places, mask: &MemoryArray, count: u64) -> BTreeMap<Vec<i64>, u64> {
        let mut found: BTreeMap<Vec<i64>, u64> = BTreeMap::new();
        for iteration in 0..count {
            let draw = || {
                places
                    .draw(
                        Some(mask),
                        &[(0, 0); 2],
                        &mut Random::new(1, iteration, 0, Purpose::Crop),
                    )
                    .unwrap()
            };
            assert_eq!(draw(), draw());
            *found.entry(draw()).or_default() += 1;
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
        let (places, mask, _) = image(json!({ "sampling": "uniform" }));
        check_frequencies(&drawn(&places, &mask, 20_000), |_| 1.0);

        let (places, mask, roi) = image(json!({ "sampling": "mask" }));
        let integral = |place: &[i64]| {
            // What is predicted begins one pixel behind the input.
            let begin: Vec<i64> = place.iter().map(|n| n + 1).collect();
            let roi = Roi::from_voxels(&begin, &[4, 4], &Coordinate::splat(2, 8)).shift(roi.begin());
            mask.read_as::<u64>(&roi).unwrap().iter().sum::<u64>() as f64
        };
        check_frequencies(&drawn(&places, &mask, 40_000), integral);
    }

    #[test]
    fn points_are_in_the_middle_or_as_near_as_the_data_goes() {
        // The middle of pixel (5, 4), a corner of the data, and what lies on a border between pixels.
        let points = [[124, -4], [81, 39], [128, 0]];
        let (places, mask, _) = image(json!({ "sample_points": points }));
        let found = drawn(&places, &mask, 300);
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            [&vec![0, 4], &vec![2, 1], &vec![3, 2]]
        );
        assert!(found.values().all(|&times| times > 60), "{found:?}");
    }

    #[test]
    fn blocks_are_all_whole_voxels_of_a_region() {
        let size = Coordinate::new([4, 8]);
        let spec = ArraySpec::new(Roi::from_voxels(&[1, -2], &[70, 9], &size), size, DType::U8);
        let array = MemoryArray::zeros(spec).unwrap();
        // Half of the first row and of the last column lie outside.
        let roi = Roi::new(Coordinate::new([6, -100]), Coordinate::new([1000, 152]));
        let blocks: Vec<String> = blocks_of(&array, &roi, 64)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(blocks, ["[8:264, -16:48]", "[264:284, -16:48]"]);
        let apart = Roi::new(Coordinate::new([900, 0]), Coordinate::new([8, 8]));
        assert!(blocks_of(&array, &apart, 64).is_empty());
    }
}
