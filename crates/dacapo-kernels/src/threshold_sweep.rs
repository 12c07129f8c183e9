//! Every threshold of a prediction of bytes for the price of one: against a truth of true and false from two histograms,
//! against objects from one falling pass over the connected components.

use std::ops::{AddAssign, Range};

use ndarray::ArrayView3;
use rayon::prelude::*;

use crate::error::{countable, same_shape};
use crate::hash::IdMap;
use crate::merging::MergingTable;
use crate::offsets::volume;
use crate::{Connectivity, Id, Result, UnionFind, Voi};

/// Voxels that are counted as one piece.
const PIECE: usize = 1 << 16;

/// How many voxels of each value are set in the truth, and how many are not: enough for the scores at every threshold.
/// Counts of parts of a volume add up to those of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThresholdCounts {
    /// By value; first those that are not set.
    counts: [[u64; 256]; 2],
}

impl Default for ThresholdCounts {
    fn default() -> Self {
        Self {
            counts: [[0; 256]; 2],
        }
    }
}

/// Voxels by what prediction and truth say of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Set in both.
    pub both: u64,
    /// Set in the prediction only.
    pub only_predicted: u64,
    /// Set in the truth only.
    pub only_true: u64,
    /// Set in neither.
    pub neither: u64,
}

impl ThresholdCounts {
    /// Of those voxels that `counted` names, or all.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes differ.
    pub fn new(
        prediction: ArrayView3<u8>,
        truth: ArrayView3<bool>,
        counted: Option<ArrayView3<bool>>,
    ) -> Result<Self> {
        same_shape("truth", truth.shape(), prediction.shape())?;
        let prediction = prediction.as_standard_layout();
        let truth = truth.as_standard_layout();
        let (values, set) = (
            prediction.as_slice().unwrap_or_default(),
            truth.as_slice().unwrap_or_default(),
        );
        let standard = match counted {
            Some(counted) => {
                same_shape("volume of voxels that count", counted.shape(), prediction.shape())?;
                Some(counted.as_standard_layout().into_owned())
            }
            None => None,
        };
        let counted = standard.as_ref().and_then(|counted| counted.as_slice());
        let pieces = values.par_chunks(PIECE).zip(set.par_chunks(PIECE)).enumerate();
        Ok(pieces
            .map(|(piece, (values, set))| {
                let counted = counted.map(|counted| &counted[piece * PIECE..][..values.len()]);
                Self::of_piece(values, set, counted)
            })
            .reduce(Self::default, |mut sum, part| {
                sum += &part;
                sum
            }))
    }

    fn of_piece(values: &[u8], set: &[bool], counted: Option<&[bool]>) -> Self {
        // Several tables, in turn: a count does not wait for the one before it.
        const TABLES: usize = 4;
        let mut tables = [[0u32; 512]; TABLES];
        let place = |value: u8, set: bool| usize::from(value) | usize::from(set) << 8;
        match counted {
            None => {
                for (i, (&value, &set)) in values.iter().zip(set).enumerate() {
                    tables[i % TABLES][place(value, set)] += 1;
                }
            }
            Some(counted) => {
                for (i, ((&value, &set), &counted)) in values.iter().zip(set).zip(counted).enumerate() {
                    tables[i % TABLES][place(value, set)] += u32::from(counted);
                }
            }
        }
        let sum = |place: usize| tables.iter().map(|table| u64::from(table[place])).sum();
        Self {
            counts: [0, 1].map(|set| std::array::from_fn(|value| sum(value | set << 8))),
        }
    }

    /// What prediction and truth say, for each threshold from 0 to 255: a voxel is set in the prediction if its value
    /// is above the threshold, so nothing is at 255.
    pub fn curve(&self) -> [Agreement; 256] {
        let [all_unset, all_set] = self.counts.map(|counts| counts.iter().sum::<u64>());
        let (mut above_unset, mut above_set) = (all_unset, all_set);
        std::array::from_fn(|threshold| {
            above_unset -= self.counts[0][threshold];
            above_set -= self.counts[1][threshold];
            Agreement {
                both: above_set,
                only_predicted: above_unset,
                only_true: all_set - above_set,
                neither: all_unset - above_unset,
            }
        })
    }

    /// The threshold with the highest score, and that score; the lowest of several, nothing where no score is defined.
    ///
    /// ```
    /// use dacapo_kernels::{Agreement, ThresholdCounts};
    /// use ndarray::array;
    ///
    /// let (prediction, truth) = (array![[[9u8, 90, 200, 201]]], array![[[false, false, true, true]]]);
    /// let counts = ThresholdCounts::new(prediction.view(), truth.view(), None)?;
    /// assert_eq!(counts.best(Agreement::dice), Some((90, 1.0)));
    /// # Ok::<(), dacapo_kernels::Error>(())
    /// ```
    pub fn best(&self, score: impl Fn(&Agreement) -> Option<f64>) -> Option<(u8, f64)> {
        let scores = (0u8..=255).zip(self.curve());
        let scores = scores.filter_map(|(threshold, agreement)| Some((threshold, score(&agreement)?)));
        scores.reduce(|best, next| if next.1 > best.1 { next } else { best })
    }
}

impl AddAssign<&Self> for ThresholdCounts {
    fn add_assign(&mut self, other: &Self) {
        for (mine, theirs) in self
            .counts
            .as_flattened_mut()
            .iter_mut()
            .zip(other.counts.as_flattened())
        {
            *mine += theirs;
        }
    }
}

impl Agreement {
    /// 2 both / (predicted + true), which is F1 too. From 0 to 1, higher is better; nothing where nothing is set.
    pub fn dice(&self) -> Option<f64> {
        ratio(
            2 * self.both,
            2 * self.both + self.only_predicted + self.only_true,
        )
    }

    /// Both / either. From 0 to 1, higher is better; nothing where nothing is set.
    pub fn jaccard(&self) -> Option<f64> {
        ratio(self.both, self.both + self.only_predicted + self.only_true)
    }

    /// Both / predicted. From 0 to 1, higher is better; nothing where nothing is predicted.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.both, self.both + self.only_predicted)
    }

    /// Both / true. From 0 to 1, higher is better; nothing where nothing is true.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.both, self.both + self.only_true)
    }

    /// The harmonic mean of precision and recall: the same as [`dice`](Self::dice).
    pub fn f1(&self) -> Option<f64> {
        self.dice()
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Which voxels count where components are compared with objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepRules {
    /// Whether voxels of truth 0 count.
    pub truth_zero: bool,
    /// Whether voxels that are in no component count, as one segment.
    pub segment_zero: bool,
}

impl Default for SweepRules {
    /// Truth 0 is unknown; every other voxel counts.
    fn default() -> Self {
        Self {
            truth_zero: false,
            segment_zero: true,
        }
    }
}

/// The components at a threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SweepPoint {
    /// Voxels above it are foreground.
    pub threshold: u8,
    /// How many components they make.
    pub components: u64,
    /// How far these are from the true objects; nothing where no voxel counts.
    pub voi: Option<Voi>,
}

/// The connected components of what is above each threshold, beside the true objects: as if each had been segmented
/// and compared by itself, to the last bit. Points are in the order of the thresholds.
///
/// As the threshold falls, voxels only join and components only merge: runs of equal voxels are joined by one
/// union-find from the highest level to the lowest, and each merge adds up two rows of the table. Sums are made up for
/// the rows that changed, once a level.
///
/// # Errors
/// [`crate::Error::Shape`] if the shapes differ; [`crate::Error::TooLarge`] from 2³² runs on.
pub fn component_sweep<T: Id>(
    prediction: ArrayView3<u8>,
    truth: ArrayView3<T>,
    thresholds: &[u8],
    connectivity: Connectivity,
    rules: SweepRules,
) -> Result<Vec<SweepPoint>> {
    same_shape("truth", truth.shape(), prediction.shape())?;
    let mut ascending = thresholds.to_vec();
    ascending.sort_unstable();
    ascending.dedup();
    let runs = Runs::new(prediction, truth, &ascending)?;
    let joints = runs.joints(connectivity, ascending.len());

    let counts = |object: usize| object != 0 || rules.truth_zero;
    let mut table = MergingTable::new(runs.runs.len());
    let mut sets = UnionFind::new(runs.runs.len() as u32);
    let mut by_level: Vec<Vec<u32>> = vec![Vec::new(); ascending.len() + 1];
    for (number, run) in (0..).zip(&runs.runs) {
        by_level[usize::from(run.level)].push(number);
    }
    let total = &runs.objects;
    // What is in no component yet.
    let mut rest = total.clone();
    let mut components = 0;
    let mut points: IdMap<u64, SweepPoint> = IdMap::default();
    for level in (1..=ascending.len()).rev() {
        for &number in &by_level[level] {
            let run = &runs.runs[number as usize];
            let (object, voxels) = (run.object as usize, u64::from(run.end - run.start));
            rest[object] -= voxels;
            components += 1;
            if counts(object) {
                table.add(number as usize, run.object, voxels);
            }
        }
        for &[a, b] in &joints[level] {
            let (a, b) = (sets.find(a), sets.find(b));
            if a != b {
                let into = sets.union(a, b);
                table.merge((a.max(b)) as usize, into as usize);
                components -= 1;
            }
        }
        let objects = total
            .iter()
            .zip(&rest)
            .enumerate()
            .filter(|&(object, _)| counts(object));
        let sizes = objects.map(|(_, (&all, &rest))| if rules.segment_zero { all } else { all - rest });
        let left = rest
            .iter()
            .enumerate()
            .filter(|&(object, _)| counts(object) && rules.segment_zero);
        let threshold = ascending[level - 1];
        let voi = table.voi(sizes, left.map(|(_, &voxels)| voxels));
        points.insert(
            u64::from(threshold),
            SweepPoint {
                threshold,
                components,
                voi,
            },
        );
    }
    Ok(thresholds
        .iter()
        .map(|&threshold| points[&u64::from(threshold)])
        .collect())
}

/// The point with the least variation of information; the first of several.
pub fn best_point(points: &[SweepPoint]) -> Option<&SweepPoint> {
    let scored = points.iter().filter_map(|point| Some((point, point.voi?.sum())));
    scored
        .reduce(|best, next| if next.1 < best.1 { next } else { best })
        .map(|(point, _)| point)
}

/// Voxels side by side in a row, of one level and one object.
struct Run {
    start: u32,
    end: u32,
    object: u32,
    /// Above how many of the thresholds they are; at least one.
    level: u16,
}

struct Runs {
    shape: [usize; 3],
    runs: Vec<Run>,
    /// Where the runs of each row begin, and where those of the last end.
    lines: Vec<u32>,
    /// The voxels of each object, by number; 0 is truth 0.
    objects: Vec<u64>,
}

impl Runs {
    fn new<T: Id>(prediction: ArrayView3<u8>, truth: ArrayView3<T>, ascending: &[u8]) -> Result<Self> {
        let shape = volume(prediction.shape());
        let (prediction, truth) = (prediction.as_standard_layout(), truth.as_standard_layout());
        let (values, ids) = (
            prediction.as_slice().unwrap_or_default(),
            truth.as_slice().unwrap_or_default(),
        );
        countable("voxels of a row", shape[2])?;
        let levels: Vec<u16> = (0..=255)
            .map(|value| ascending.partition_point(|&threshold| threshold < value) as u16)
            .collect();
        let mut found = Self {
            shape,
            runs: Vec::new(),
            lines: vec![0],
            objects: vec![0],
        };
        let mut numbers: IdMap<u64, u32> = IdMap::from_iter([(0, 0)]);
        let width = shape[2].max(1);
        for (values, ids) in values.chunks_exact(width).zip(ids.chunks_exact(width)) {
            let mut start = 0;
            while start < values.len() {
                let (level, id) = (levels[usize::from(values[start])], ids[start]);
                let same = |at: usize| levels[usize::from(values[at])] == level && ids[at] == id;
                let end = (start + 1..values.len())
                    .find(|&at| !same(at))
                    .unwrap_or(values.len());
                let object = *numbers.entry(id.into()).or_insert_with(|| {
                    found.objects.push(0);
                    found.objects.len() as u32 - 1
                });
                found.objects[object as usize] += (end - start) as u64;
                if level > 0 {
                    found.runs.push(Run {
                        start: start as u32,
                        end: end as u32,
                        object,
                        level,
                    });
                }
                start = end;
            }
            countable("runs of equal voxels", found.runs.len())?;
            found.lines.push(found.runs.len() as u32);
        }
        Ok(found)
    }

    fn line(&self, line: usize) -> Range<usize> {
        self.lines[line] as usize..self.lines[line + 1] as usize
    }

    /// The pairs of runs that touch, by the level from which on both are foreground.
    fn joints(&self, connectivity: Connectivity, levels: usize) -> Vec<Vec<[u32; 2]>> {
        let mut joints: Vec<Vec<[u32; 2]>> = vec![Vec::new(); levels + 1];
        let mut join = |a: usize, b: usize| {
            let level = self.runs[a].level.min(self.runs[b].level);
            joints[usize::from(level)].push([a as u32, b as u32]);
        };
        let rows = self.shape[1];
        for line in 0..self.lines.len() - 1 {
            for number in self.line(line).skip(1) {
                if self.runs[number - 1].end == self.runs[number].start {
                    join(number - 1, number);
                }
            }
            for (before, reach) in connectivity.lines_before(line, rows) {
                let mut others = self.line(before);
                for number in self.line(line) {
                    let run = &self.runs[number];
                    while others.start < others.end && self.runs[others.start].end + reach <= run.start {
                        others.start += 1;
                    }
                    let near = others
                        .clone()
                        .take_while(|&other| self.runs[other].start < run.end + reach);
                    near.for_each(|other| join(other, number));
                }
            }
        }
        joints
    }
}
