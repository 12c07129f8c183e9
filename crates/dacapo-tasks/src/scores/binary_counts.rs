//! What the scores of a class follow from: voxels by what truth and test say of them, and how far the wrong ones and
//! the surfaces are from the other object. Counts of the parts of a volume add up to those of the whole.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Range};

use ndarray::{Array3, ArrayView3, Axis, Slice, Zip, s};

use dacapo_kernels::{Agreement, DistanceOptions, distance_transform};

use super::binary::{BinaryEvaluation, BinaryScores};
use crate::task::expect_shape;
use crate::{Error, Result};

/// A part of a volume, with what lies around it.
#[derive(Debug, Clone)]
pub struct BinaryPart<'a> {
    /// Where the class is.
    pub truth: ArrayView3<'a, bool>,
    /// Where it is said to be.
    pub test: ArrayView3<'a, bool>,
    /// Where that is known; everywhere without.
    pub known: Option<ArrayView3<'a, bool>>,
    /// The voxels that count, as places in the arrays.
    pub inner: [Range<usize>; 3],
    /// Whether the volume goes on before and behind the arrays, along each axis.
    pub goes_on: [[bool; 2]; 3],
}

/// What came of counting a part.
#[derive(Debug, Clone, PartialEq)]
pub enum Counted {
    /// Its counts.
    Done(BinaryCounts),
    /// What its voxels are near to may lie outside of what was given.
    LookFurther {
        /// How far around the inner voxels is enough, in world units; infinite if nothing was in sight.
        reach: f64,
    },
}

/// Counts and scores of a class in one volume.
///
/// Distances are measured in the largest length of which all voxel sizes are multiples: their squares are integers, and
/// exact up to 2²⁴. So counts do not depend on the parts that they were added up from: not by a bit while wrong
/// voxels are no further away than 4096 of these lengths, and by 1 part in 10⁶ beyond.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BinaryScorer {
    /// The voxel size in that length.
    spacing: [f64; 3],
    /// That length in world units.
    unit: f64,
}

/// Voxels of a class: the right ones, and by distance the wrong ones and those of surfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BinaryCounts {
    right: u64,
    background: u64,
    /// Of the test only, by their distance to the truth.
    false_positives: Distances,
    /// Of the truth only, by their distance to the test.
    false_negatives: Distances,
    /// The surface of the truth, by the distance to that of the test.
    truth_surface: Distances,
    /// The surface of the test, by the distance to that of the truth.
    test_surface: Distances,
}

impl BinaryScorer {
    /// For a volume of this shape, with voxels of this size in world units.
    ///
    /// # Errors
    /// [`Error::Value`] unless sizes are between 10⁻¹² and 10¹².
    pub fn new(shape: [usize; 3], voxel_size: [f64; 3]) -> Result<Self> {
        let wrong = voxel_size.iter().find(|size| !(1e-12..=1e12).contains(*size));
        if let Some(&value) = wrong {
            let (key, expected) = ("voxel_size", "above 0: between 1e-12 and 1e12");
            return Err(Error::Value { key, value, expected });
        }
        // Nothing is measured along an axis of one voxel.
        let counts = |axis: &usize| shape[*axis] > 1;
        let sizes = (0..3).filter(counts).map(|axis| voxel_size[axis]);
        let least = sizes.fold(f64::INFINITY, f64::min);
        let least = if least.is_finite() { least } else { 1.0 };
        let size = |axis| if counts(&axis) { voxel_size[axis] } else { least };
        let sizes = [size(0), size(1), size(2)];
        let unit = common_length(sizes).unwrap_or(least);
        Ok(Self {
            spacing: sizes.map(|size| {
                let steps = size / unit;
                // A multiple but for rounding.
                if (steps - steps.round()).abs() < 1e-9 * steps {
                    steps.round()
                } else {
                    steps
                }
            }),
            unit,
        })
    }

    /// Counts the inner voxels of a part. `exist` says whether the truth and the test of the whole volume have a
    /// surface: whether each has some voxels and not all. Of a whole volume it may be true anyway.
    ///
    /// # Errors
    /// [`Error::Shape`] if shapes differ, or the inner voxels are not in the arrays.
    pub fn count(&self, part: &BinaryPart, exist: [bool; 2]) -> Result<Counted> {
        let shape = part.truth.shape();
        expect_shape("segmentation", part.test.shape(), shape)?;
        if (0..3)
            .any(|axis| part.inner[axis].start > part.inner[axis].end || part.inner[axis].end > shape[axis])
        {
            return Err(Error::Shape {
                what: "part that counts",
                found: part.inner.iter().map(|range| range.end).collect(),
                expected: format!("at most {shape:?}"),
            });
        }
        let (mut truth, mut test) = (part.truth.to_owned(), part.test.to_owned());
        let [z, y, x] = &part.inner;
        let inner = s![z.clone(), y.clone(), x.clone()];
        let mut counts = BinaryCounts::default();
        if let Some(known) = part.known {
            expect_shape("volume of what is known", known.shape(), shape)?;
            for object in [&mut truth, &mut test] {
                Zip::from(object)
                    .and(known)
                    .par_for_each(|object, &known| *object &= known);
            }
        }
        let is_known = |index| part.known.is_none_or(|known| known[index]);
        let origin = (z.start, y.start, x.start);
        for ((place, &truth), &test) in truth.slice(inner).indexed_iter().zip(test.slice(inner)) {
            match (truth, test) {
                (true, true) => counts.right += 1,
                (false, false) => {
                    let at = (origin.0 + place.0, origin.1 + place.1, origin.2 + place.2);
                    counts.background += u64::from(is_known(at));
                }
                _ => {}
            }
        }
        let sure = self.sure(part);
        let surfaces = [surface(&truth), surface(&test)];
        let mut furthest = 0.0_f32;
        for (near, far) in [(0, 1), (1, 0)] {
            let (object, other) = if near == 0 {
                (&truth, &test)
            } else {
                (&test, &truth)
            };
            let voxels = || {
                let objects = object.slice(inner).into_iter().zip(other.slice(inner));
                objects.zip(surfaces[far].slice(inner))
            };
            let wrong = |object: bool, other: bool| other && !object;
            let any = voxels().any(|((&object, &other), &at_surface)| at_surface || wrong(object, other));
            if !any {
                continue;
            }
            let (mut of_wrong, mut of_surface) = (Vec::new(), Vec::new());
            let squares = exist[near]
                .then(|| self.squares_to(&surfaces[near]))
                .transpose()?;
            let mut squares = squares.as_ref().map(|squares| squares.slice(inner).into_iter());
            for ((&object, &other), &at_surface) in voxels() {
                let square = squares.as_mut().and_then(|squares| squares.next()).copied();
                let square = square.unwrap_or(f32::INFINITY);
                if wrong(object, other) {
                    of_wrong.push(square.to_bits());
                }
                if at_surface {
                    of_surface.push(square.to_bits());
                }
            }
            if exist[near] {
                let most = of_wrong.iter().chain(&of_surface).copied().max();
                furthest = furthest.max(most.map_or(0.0, f32::from_bits));
            }
            let (all_wrong, all_surface) = match near {
                0 => (&mut counts.false_positives, &mut counts.test_surface),
                _ => (&mut counts.false_negatives, &mut counts.truth_surface),
            };
            all_wrong.add(of_wrong);
            all_surface.add(of_surface);
        }
        if f64::from(furthest).sqrt() <= sure {
            return Ok(Counted::Done(counts));
        }
        // Rounded up: as far away as the furthest voxel found, nothing is missed.
        let reach = f64::from(furthest).sqrt() * self.unit * (1.0 + 1e-6);
        Ok(Counted::LookFurther { reach })
    }

    /// Up to which distance, in its own length, all that may be near to an inner voxel is in the arrays. What is at
    /// their outermost voxels is not known to be a surface or not.
    fn sure(&self, part: &BinaryPart) -> f64 {
        let mut sure = f64::INFINITY;
        for axis in 0..3 {
            let around = [
                part.inner[axis].start,
                part.truth.len_of(Axis(axis)) - part.inner[axis].end,
            ];
            for (around, goes_on) in around.into_iter().zip(part.goes_on[axis]) {
                if goes_on {
                    sure = sure.min(around as f64 * self.spacing[axis]);
                }
            }
        }
        sure
    }

    fn squares_to(&self, surface: &Array3<bool>) -> Result<Array3<f32>> {
        let options = DistanceOptions {
            spacing: self.spacing,
            squared: true,
            ..DistanceOptions::default()
        };
        let elsewhere = surface.mapv(|is_surface| !is_surface);
        Ok(distance_transform(elsewhere.view(), &options)?)
    }

    /// The scores that follow from the counts of the whole volume.
    pub fn scores(&self, counts: &BinaryCounts, evaluation: &BinaryEvaluation) -> BinaryScores {
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let finite = |value: f64| value.is_finite().then_some(value);
        let agreement = counts.agreement();
        let (tp, tn) = (agreement.both, agreement.neither);
        let (fp, fn_) = (agreement.only_predicted, agreement.only_true);
        let (of_truth, of_test) = (tp + fn_, tp + fp);
        let far = |wrong: &Distances| wrong.beyond(evaluation.tolerance / self.unit);
        let (far_fp, far_fn) = (far(&counts.false_positives), far(&counts.false_negatives));
        // Wrong ones within the tolerance are right.
        let near = tp + (fp - far_fp) + (fn_ - far_fn);
        let mean = |wrong: &Distances, count: u64, clip: f64| {
            let sum = wrong.sum(self.unit, clip);
            (count > 0).then(|| sum / count as f64).and_then(finite)
        };
        let both = |clip: f64| {
            let positive = mean(&counts.false_positives, of_test, clip);
            let negative = mean(&counts.false_negatives, of_truth, clip);
            let middle = positive.zip(negative).map(|(a, b)| (a + b) / 2.0);
            [middle, negative, positive]
        };
        let [middle, negative, positive] = both(f64::INFINITY);
        let [middle_clipped, negative_clipped, positive_clipped] = both(evaluation.clip);
        let most = counts.false_positives.most().max(counts.false_negatives.most());
        let [surface_95, surface_mean] = self.surface_scores(counts);
        [
            agreement.dice(),
            agreement.jaccard(),
            finite(most * self.unit),
            ratio(fn_, of_truth),
            ratio(far_fn, of_truth),
            ratio(fp, fp + tn),
            ratio(fp, of_test),
            ratio(far_fp, fp + tn),
            voi([tp, fp, fn_, tn]),
            middle,
            negative,
            positive,
            middle_clipped,
            negative_clipped,
            positive_clipped,
            ratio(near, near + far_fp),
            ratio(near, near + far_fn),
            ratio(2 * near, 2 * near + far_fp + far_fn),
            agreement.precision(),
            agreement.recall(),
            agreement.f1(),
            surface_95,
            surface_mean,
        ]
    }

    /// The 95th percentile and the mean of the distances from two surfaces to each other. Nothing where either has no
    /// surface.
    fn surface_scores(&self, counts: &BinaryCounts) -> [Option<f64>; 2] {
        let (a, b) = (&counts.truth_surface, &counts.test_surface);
        let Some((of_a, of_b)) = a.percentile_95().zip(b.percentile_95()) else {
            return [None; 2];
        };
        let sum = a.sum(self.unit, f64::INFINITY) + b.sum(self.unit, f64::INFINITY);
        [of_a.max(of_b) * self.unit, sum / (a.count() + b.count()) as f64].map(Some)
    }
}

impl BinaryCounts {
    /// Voxels by what truth and test say of them.
    pub fn agreement(&self) -> Agreement {
        Agreement {
            both: self.right,
            only_predicted: self.false_positives.count(),
            only_true: self.false_negatives.count(),
            neither: self.background,
        }
    }
}

impl AddAssign<&Self> for BinaryCounts {
    fn add_assign(&mut self, other: &Self) {
        self.right += other.right;
        self.background += other.background;
        for (mine, theirs) in [
            (&mut self.false_positives, &other.false_positives),
            (&mut self.false_negatives, &other.false_negatives),
            (&mut self.truth_surface, &other.truth_surface),
            (&mut self.test_surface, &other.test_surface),
        ] {
            for (&square, &voxels) in &theirs.0 {
                *mine.0.entry(square).or_default() += voxels;
            }
        }
    }
}

/// How many voxels there are at each distance: by the bits of its square, which sort as the squares do. Infinite where
/// there is no object to be near to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Distances(BTreeMap<u32, u64>);

impl Distances {
    fn add(&mut self, mut squares: Vec<u32>) {
        squares.sort_unstable();
        for run in squares.chunk_by(|a, b| a == b) {
            *self.0.entry(run[0]).or_default() += run.len() as u64;
        }
    }

    fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// Squares and voxels, ascending.
    fn squares(&self) -> impl DoubleEndedIterator<Item = (f64, u64)> {
        let squares = self.0.iter();
        squares.map(|(&square, &voxels)| (f64::from(f32::from_bits(square)), voxels))
    }

    fn most(&self) -> f64 {
        self.squares()
            .next_back()
            .map_or(0.0, |(square, _)| square.sqrt())
    }

    /// Voxels that are further away; not those that only are by rounding.
    fn beyond(&self, distance: f64) -> u64 {
        let limit = distance * distance * (1.0 + 1e-12);
        let beyond = self.squares().rev().take_while(|&(square, _)| square > limit);
        beyond.map(|(_, voxels)| voxels).sum()
    }

    /// Of all distances in world units, none counted for more than `clip`.
    fn sum(&self, unit: f64, clip: f64) -> f64 {
        let parts = self
            .squares()
            .map(|(square, voxels)| (square.sqrt() * unit).min(clip) * voxels as f64);
        // Not `sum`, which gives -0 where there is nothing.
        parts.fold(0.0, |sum, part| sum + part)
    }

    /// By nearest rank.
    fn percentile_95(&self) -> Option<f64> {
        let rank = (self.count() * 95).div_ceil(100);
        let mut before = 0;
        let (square, _) = self.squares().find(|&(_, voxels)| {
            before += voxels;
            before >= rank
        })?;
        Some(square.sqrt())
    }
}

/// H(truth, test) and once more, less H(truth) and H(test), of right ones, two kinds of wrong ones, and the others.
fn voi(cells: [u64; 4]) -> Option<f64> {
    let total: u64 = cells.iter().sum();
    let entropy = |counts: &[u64]| -> f64 {
        let parts = counts.iter().filter(|&&count| count > 0);
        parts
            .map(|&count| count as f64 / total as f64)
            .map(|p| -p * p.log2())
            .sum()
    };
    let [tp, fp, fn_, tn] = cells;
    let both = 2.0 * entropy(&cells) - entropy(&[tp + fn_, fp + tn]) - entropy(&[tp + fp, fn_ + tn]);
    (total > 0).then(|| both.max(0.0))
}

/// Voxels of an object beside voxels that are not of it.
fn surface(object: &Array3<bool>) -> Array3<bool> {
    let mut surface = Array3::from_elem(object.raw_dim(), false);
    for axis in 0..3 {
        let ends = [Slice::from(..-1), Slice::from(1..)];
        if object.len_of(Axis(axis)) < 2 {
            continue;
        }
        for (here, there) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            Zip::from(surface.slice_axis_mut(Axis(axis), here))
                .and(object.slice_axis(Axis(axis), here))
                .and(object.slice_axis(Axis(axis), there))
                .par_for_each(|surface, &here, &there| *surface |= here && !there);
        }
    }
    surface
}

/// The largest length of which all of these are multiples, if they are decimals of a few digits.
fn common_length(sizes: [f64; 3]) -> Option<f64> {
    const MOST: f64 = (1 << 20) as f64;
    (0..=6).find_map(|digits| {
        let scale = 10_f64.powi(digits);
        let scaled = sizes.map(|size| size * scale);
        let is_whole =
            |size: &f64| *size < MOST && size.round() >= 1.0 && (size - size.round()).abs() < 1e-9 * size;
        if !scaled.iter().all(is_whole) {
            return None;
        }
        let whole = scaled.map(|size| size.round() as u64);
        let divisor = whole.into_iter().fold(0, greatest_divisor);
        Some(divisor as f64 / scale)
    })
}

fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}
