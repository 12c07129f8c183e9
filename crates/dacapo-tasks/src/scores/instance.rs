//! Scores of segmentations into single objects, from a contingency table: how objects are split and merged, and
//! how many are found. `docs/scores.md` has the definitions beside each other.

use std::collections::HashMap;
use std::ops::Range;

use ndarray::{ArrayView3, Zip, s};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_kernels::{ContingencyTable, Overlap, boundary_band};

use super::criterion;
use crate::task::{Annotation, Criterion, Scores};
use crate::{Error, Result};

/// Which voxels count. The rules are reported with the scores, for scores by other rules are other scores.
///
/// Id 0 is no object in either volume: nothing has to be found there, and nothing is found wrongly there. The rules
/// only say whether its voxels count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InstanceRules {
    /// What voxels of truth 0 are.
    pub truth_zero: ZeroIs,
    /// What voxels of segmentation 0 are.
    pub segmentation_zero: ZeroIs,
    /// Voxels (z, y, x) to each side of a boundary of the truth that do not count: those that have another true
    /// label in a box of that reach.
    pub boundary_band: [usize; 3],
}

impl Default for InstanceRules {
    /// Truth 0 is unknown; every other voxel counts.
    fn default() -> Self {
        Self {
            truth_zero: ZeroIs::Ignored,
            segmentation_zero: ZeroIs::Region,
            boundary_band: [0; 3],
        }
    }
}

/// What voxels of id 0 are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ZeroIs {
    /// Unknown: they do not count.
    Ignored,
    /// One region like any other.
    Region,
}

impl InstanceRules {
    /// The voxels that count of a whole volume, by object and segment.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn count(&self, truth: ArrayView3<u64>, segmentation: ArrayView3<u64>) -> Result<ContingencyTable> {
        let (depth, height, width) = truth.dim();
        self.count_block(truth, segmentation, [0..depth, 0..height, 0..width], [0; 3])
    }

    /// The voxels that count of a part of a volume: `inner` of the given block, which should reach
    /// [`boundary_band`](Self::boundary_band) voxels further wherever the volume does. `origin` is the first voxel
    /// (z, y, x) of the part, so that places are those of the volume. Tables of parts add up to that of the whole.
    ///
    /// # Errors
    /// If the shapes differ, or the part is not inside the block.
    pub fn count_block(
        &self,
        truth: ArrayView3<u64>,
        segmentation: ArrayView3<u64>,
        inner: [Range<usize>; 3],
        origin: [u64; 3],
    ) -> Result<ContingencyTable> {
        let shape = |what, found: &[usize], expected: String| {
            let found = found.to_vec();
            Error::Shape {
                what,
                found,
                expected,
            }
        };
        if segmentation.shape() != truth.shape() {
            return Err(shape(
                "segmentation",
                segmentation.shape(),
                format!("{:?}", truth.shape()),
            ));
        }
        if (0..3).any(|axis| inner[axis].end > truth.shape()[axis] || inner[axis].start > inner[axis].end) {
            return Err(shape("block", truth.shape(), format!("one that holds {inner:?}")));
        }
        let [z, y, x] = inner;
        let inner = s![z, y, x];
        let counted = (self.boundary_band != [0; 3]).then(|| {
            boundary_band(truth, self.boundary_band)
                .slice(inner)
                .mapv(|band| !band)
        });
        let mut table = ContingencyTable::of_block(
            truth.slice(inner),
            segmentation.slice(inner),
            counted.as_ref().map(|counted| counted.view()),
            origin,
        )?;
        table.retain(|overlap| {
            (overlap.truth != 0 || self.truth_zero == ZeroIs::Region)
                && (overlap.segment != 0 || self.segmentation_zero == ZeroIs::Region)
        });
        Ok(table)
    }
}

/// The thresholds of [`InstanceScores::detections`], in percent: 0.5, 0.55 … 0.95.
const PERCENT: [u64; 10] = [50, 55, 60, 65, 70, 75, 80, 85, 90, 95];

/// The scores that rank segmentations.
pub static INSTANCE_CRITERIA: [Criterion; 11] = [
    criterion(
        "voi",
        false,
        "bits",
        "variation of information: voi_split + voi_merge",
    ),
    criterion(
        "voi_split",
        false,
        "bits",
        "how far true objects are split: H(segmentation | truth)",
    ),
    criterion(
        "voi_merge",
        false,
        "bits",
        "how far true objects are merged: H(truth | segmentation)",
    ),
    criterion(
        "rand_error",
        false,
        "",
        "adapted Rand error: 1 less the F score of pairs of voxels",
    ),
    criterion(
        "rand_precision",
        true,
        "",
        "pairs of voxels in one segment that are in one object",
    ),
    criterion(
        "rand_recall",
        true,
        "",
        "pairs of voxels in one object that are in one segment",
    ),
    criterion(
        "object_precision",
        true,
        "",
        "segments that are an object, at an IoU above 0.5",
    ),
    criterion(
        "object_recall",
        true,
        "",
        "objects that are found, at an IoU above 0.5",
    ),
    criterion(
        "object_f1",
        true,
        "",
        "the harmonic mean of object_precision and object_recall",
    ),
    criterion(
        "average_precision",
        true,
        "",
        "found / (found + missed + wrong), mean over IoU from 0.5 to 0.95",
    ),
    criterion(
        "panoptic_quality",
        true,
        "",
        "IoU of what is found, over the mean number of objects and segments",
    ),
];

/// The scores of a segmentation into objects. Nothing (null) where a score is not defined: each says when.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstanceScores {
    /// Which voxels counted.
    pub rules: InstanceRules,
    /// How many did.
    pub voxels: u64,
    /// The variation of information in bits, `voi_split + voi_merge`. From 0, lower is better; null where no voxel
    /// counts.
    pub voi: Option<f64>,
    /// H(segmentation | truth): the bits that it takes, on average, to say in which segment a voxel is if its
    /// object is known. How far objects are split.
    pub voi_split: Option<f64>,
    /// H(truth | segmentation): the same the other way round. How far objects are merged.
    pub voi_merge: Option<f64>,
    /// 1 less the harmonic mean of `rand_precision` and `rand_recall`. From 0 to 1, lower is better; null where no
    /// two voxels are together in either volume.
    pub rand_error: Option<f64>,
    /// Of all pairs of voxels in one segment, the share that is in one object. From 0 to 1, higher is better; falls
    /// with merges. Null where no segment has two voxels.
    pub rand_precision: Option<f64>,
    /// Of all pairs of voxels in one object, the share that is in one segment. From 0 to 1, higher is better; falls
    /// with splits. Null where no object has two voxels.
    pub rand_recall: Option<f64>,
    /// True objects: ids other than 0 with voxels that count.
    pub objects: u64,
    /// Segments: the same of the segmentation.
    pub segments: u64,
    /// How many objects are found, at thresholds of the intersection over union from 0.5 to 0.95.
    pub detections: Vec<Detection>,
    /// The mean of the average precision over these thresholds. From 0 to 1, higher is better; null where there are
    /// neither objects nor segments.
    pub average_precision: Option<f64>,
    /// Σ IoU of pairs above 0.5, over the mean of the numbers of objects and segments (Kirillov et al. 2019). From 0
    /// to 1, higher is better; null where there are neither.
    pub panoptic_quality: Option<f64>,
    /// The mean IoU of pairs above 0.5: how well what is found is outlined. From 0.5 to 1, higher is better; null
    /// where nothing is found.
    pub segmentation_quality: Option<f64>,
    /// The objects that add most to `voi_split`, first the worst, with the segments that they are split into.
    pub splits: Vec<Mistake>,
    /// The segments that add most to `voi_merge`, first the worst, with the objects that they merge.
    pub merges: Vec<Mistake>,
}

/// What is found at a threshold: a segment is an object if their intersection over union is above it. As thresholds
/// are at least 0.5, no segment can be two objects, nor an object two segments.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Detection {
    /// The intersection over union, from 0.5.
    pub threshold: f64,
    /// Objects that are found.
    pub found: u64,
    /// Found, of the segments. From 0 to 1, higher is better; null where there is no segment.
    pub precision: Option<f64>,
    /// Found, of the objects. From 0 to 1, higher is better; null where there is no object.
    pub recall: Option<f64>,
    /// The harmonic mean of the two: 2 found / (objects + segments). From 0 to 1, higher is better; null where there
    /// are neither.
    pub f1: Option<f64>,
    /// Found / (objects + segments − found). From 0 to 1, higher is better; null where there are neither.
    pub average_precision: Option<f64>,
}

/// An object that is split, or a segment that merges.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mistake {
    /// The id of the object or segment.
    pub id: u64,
    /// What it adds to the variation of information.
    pub bits: f64,
    /// Its voxels that count.
    pub voxels: u64,
    /// How many parts it has.
    pub count: usize,
    /// The largest of them.
    pub parts: Vec<Part>,
}

/// What an object and a segment share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Part {
    /// The id of the segment, or object.
    pub id: u64,
    /// The voxels that they share.
    pub voxels: u64,
    /// The first of these voxels (z, y, x): a place to look at.
    pub place: [u64; 3],
}

impl InstanceScores {
    /// From a table that was counted by `rules`; lists at most `largest` splits and merges, with as many parts.
    pub fn new(table: &ContingencyTable, rules: InstanceRules, largest: usize) -> Self {
        let (objects, segments) = (table.objects(), table.segments());
        let voi = table.voi();
        let count = |sizes: &[(u64, u64)]| sizes.iter().filter(|&&(id, _)| id != 0).count() as u64;
        let (n_objects, n_segments) = (count(&objects), count(&segments));

        let pairs = |voxels: u64| u128::from(voxels) * u128::from(voxels.saturating_sub(1));
        let all = |sizes: &[(u64, u64)]| sizes.iter().map(|&(_, voxels)| pairs(voxels)).sum::<u128>();
        let together = table
            .overlaps()
            .iter()
            .map(|overlap| pairs(overlap.voxels))
            .sum::<u128>();
        let (in_objects, in_segments) = (all(&objects), all(&segments));
        let rand_error = ratio(2 * together, in_objects + in_segments).map(|f| 1.0 - f);

        let matches = matches(table, &objects, &segments);
        let detections = PERCENT.map(|percent| {
            let threshold = |&&(both, either): &&(u64, u64)| {
                100 * u128::from(both) > u128::from(percent) * u128::from(either)
            };
            Detection::new(
                percent,
                matches.iter().filter(threshold).count() as u64,
                n_objects,
                n_segments,
            )
        });
        // From 0.0: the sum of nothing is -0.0.
        let qualities = matches
            .iter()
            .fold(0.0, |sum, &(both, either)| sum + both as f64 / either as f64);
        let per = |n: u64| (n > 0).then(|| qualities / n as f64);
        let precisions: Option<f64> = detections
            .iter()
            .map(|detection| detection.average_precision)
            .sum();
        Self {
            rules,
            voxels: table.total(),
            voi: voi.map(|voi| voi.sum()),
            voi_split: voi.map(|voi| voi.split),
            voi_merge: voi.map(|voi| voi.merge),
            rand_error,
            rand_precision: ratio(together, in_segments),
            rand_recall: ratio(together, in_objects),
            objects: n_objects,
            segments: n_segments,
            average_precision: precisions.map(|sum| sum / PERCENT.len() as f64),
            panoptic_quality: per(n_objects + n_segments).map(|half| 2.0 * half),
            segmentation_quality: per(matches.len() as u64),
            detections: detections.to_vec(),
            splits: mistakes(table, &table.splits(), &objects, largest, |o| {
                (o.truth, o.segment)
            }),
            merges: mistakes(table, &table.merges(), &segments, largest, |o| {
                (o.segment, o.truth)
            }),
        }
    }

    /// The scores by the names of [`INSTANCE_CRITERIA`].
    pub fn scores(&self) -> Scores {
        let half = self.detections.first();
        let by_name = |name: &str| match name {
            "voi" => self.voi,
            "voi_split" => self.voi_split,
            "voi_merge" => self.voi_merge,
            "rand_error" => self.rand_error,
            "rand_precision" => self.rand_precision,
            "rand_recall" => self.rand_recall,
            "object_precision" => half.and_then(|half| half.precision),
            "object_recall" => half.and_then(|half| half.recall),
            "object_f1" => half.and_then(|half| half.f1),
            "average_precision" => self.average_precision,
            "panoptic_quality" => self.panoptic_quality,
            _ => None,
        };
        let names = INSTANCE_CRITERIA.iter().map(|criterion| &*criterion.name);
        Scores(names.map(|name| (name.to_owned(), by_name(name))).collect())
    }
}

/// The scores of a segmentation by the usual rules: what is not annotated is truth 0, and does not count.
pub(crate) fn instance_scores(truth: Annotation, segmentation: ArrayView3<u64>) -> Result<Scores> {
    truth.check()?;
    let known = Zip::from(truth.labels)
        .and(truth.known)
        .map_collect(|&label, &known| if known { label } else { 0 });
    let rules = InstanceRules::default();
    let table = rules.count(known.view(), segmentation)?;
    Ok(InstanceScores::new(&table, rules, 0).scores())
}

impl Detection {
    fn new(percent: u64, found: u64, objects: u64, segments: u64) -> Self {
        let ratio = |a: u64, b: u64| ratio(u128::from(a), u128::from(b));
        Self {
            threshold: percent as f64 / 100.0,
            found,
            precision: ratio(found, segments),
            recall: ratio(found, objects),
            f1: ratio(2 * found, objects + segments),
            average_precision: ratio(found, objects + segments - found),
        }
    }
}

fn ratio(part: u128, whole: u128) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Intersection and union of the objects and segments, 0 aside, that share more than half of their union; ordered by
/// ids.
fn matches(table: &ContingencyTable, objects: &[(u64, u64)], segments: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let size: HashMap<u64, u64> = segments.iter().copied().collect();
    let object: HashMap<u64, u64> = objects.iter().copied().collect();
    let named = table
        .overlaps()
        .iter()
        .filter(|overlap| overlap.truth != 0 && overlap.segment != 0);
    named
        .map(|overlap| {
            let either = object[&overlap.truth] + size[&overlap.segment] - overlap.voxels;
            (overlap.voxels, either)
        })
        .filter(|&(both, either)| 2 * u128::from(both) > u128::from(either))
        .collect()
}

/// The ids that add most bits, with their largest parts. `ids` gives those of the whole and of the part.
fn mistakes(
    table: &ContingencyTable,
    bits: &[(u64, f64)],
    sizes: &[(u64, u64)],
    largest: usize,
    ids: impl Fn(&Overlap) -> (u64, u64),
) -> Vec<Mistake> {
    let mut worst: Vec<(u64, f64, u64)> = bits
        .iter()
        .zip(sizes)
        .map(|(&(id, bits), &(_, voxels))| (id, bits, voxels))
        .collect();
    worst.retain(|&(_, bits, _)| bits > 0.0);
    worst.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    worst.truncate(largest);
    let mut parts: HashMap<u64, Vec<Part>> = worst.iter().map(|&(id, _, _)| (id, Vec::new())).collect();
    for overlap in table.overlaps() {
        let (whole, id) = ids(overlap);
        if let Some(parts) = parts.get_mut(&whole) {
            parts.push(Part {
                id,
                voxels: overlap.voxels,
                place: overlap.first,
            });
        }
    }
    worst
        .into_iter()
        .map(|(id, bits, voxels)| {
            let mut parts = parts.remove(&id).unwrap_or_default();
            let count = parts.len();
            parts.sort_by_key(|part| (std::cmp::Reverse(part.voxels), part.id));
            parts.truncate(largest);
            Mistake {
                id,
                bits,
                voxels,
                count,
                parts,
            }
        })
        .collect()
}
