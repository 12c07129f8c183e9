//! A prediction as hills: what of it is connected at any threshold, without looking at each threshold.

use ndarray::ArrayView3;

use crate::error::countable;
use crate::hash::IdMap;
use crate::offsets::volume;
use crate::runs::{for_each_place, push_ends, words};
use crate::{Connectivity, Id, Result, UnionFind};

/// Voxels by the hills that they are on.
///
/// A hill is a part of a row whose levels rise and then fall, so that what is above any threshold is connected. Two
/// hills that touch at the height of the lower one are one hill for the same reason: they are put into one set at once, and
/// only what touches further down, at a saddle, is left to be joined level by level.
#[derive(Default)]
pub(crate) struct Hills {
    /// Which hills are one. Sets are named by the first of their hills.
    pub sets: UnionFind,
    /// The highest level of each hill; of a set that of its name.
    pub peaks: Vec<u8>,
    /// By level: the voxels of that level.
    pub voxels: Vec<Vec<Voxels>>,
    /// By level: the hills that touch at that level, and no higher.
    pub saddles: Vec<Vec<[u32; 2]>>,
    /// The voxels of each object, by number; 0 is truth 0.
    pub objects: Vec<u64>,
}

/// Voxels of one level, hill and object.
#[derive(Clone, Copy)]
pub(crate) struct Voxels {
    pub hill: u32,
    pub object: u32,
    pub count: u32,
}

/// A row: its levels, where its hills end as bits, and the number of the first of them.
struct Row<'a> {
    levels: &'a [u8],
    ends: &'a [u64],
    first: u32,
}

impl Hills {
    /// The level of a value is given by `level_of`, which rises with it; voxels of level 0 are nowhere. Volumes are of the
    /// same shape.
    ///
    /// # Errors
    /// [`crate::Error::TooLarge`] from 2³² hills on.
    pub fn new<T: Id>(
        prediction: ArrayView3<u8>,
        truth: ArrayView3<T>,
        level_of: &[u8; 256],
        connectivity: Connectivity,
    ) -> Result<Self> {
        let [_, rows, columns] = volume(prediction.shape());
        countable("voxels of a row", columns)?;
        let (prediction, truth) = (prediction.as_standard_layout(), truth.as_standard_layout());
        let ids = truth.as_slice().unwrap_or_default().chunks_exact(columns.max(1));
        let values = prediction.as_slice().unwrap_or_default();
        let levels: Vec<u8> = values.iter().map(|&value| level_of[usize::from(value)]).collect();
        let kinds = usize::from(level_of[255]) + 1;
        let mut hills = Self {
            voxels: vec![Vec::new(); kinds],
            saddles: vec![Vec::new(); kinds],
            objects: vec![0],
            ..Self::default()
        };
        let mut numbers = Numbers::default();
        let mut lines = vec![0];
        let (mut ends, mut runs, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let (mut lower, mut shifted) = (Vec::new(), Vec::new());
        let words = words(columns);
        for (line, (levels_here, ids)) in levels.chunks_exact(columns.max(1)).zip(ids).enumerate() {
            runs.clear();
            others.clear();
            push_ends(levels_here, &mut runs);
            push_ends(ids, &mut others);
            let changes = runs.iter().zip(&others).map(|(a, b)| a | b);
            hills.climb(levels_here, ids, changes, &mut numbers, &mut ends);
            countable("hills of a prediction", hills.peaks.len())?;
            lines.push(hills.peaks.len() as u32);
            let row = |line: usize| Row {
                levels: &levels[line * columns..][..columns],
                ends: &ends[line * words..][..words],
                first: lines[line],
            };
            connectivity.for_each_line_before(line, rows, |before, reach| {
                let (here, before) = (row(line), row(before));
                hills.join(&here, &before, &mut lower);
                if reach > 0 {
                    hills.join(&here, &before.behind_first(&mut shifted), &mut lower);
                    hills.join(&before, &here.behind_first(&mut shifted), &mut lower);
                }
            });
        }
        Ok(hills)
    }

    /// Adds the hills of a row, whose level or id changes at the end of each run.
    fn climb<T: Id>(
        &mut self,
        levels: &[u8],
        ids: &[T],
        runs: impl Iterator<Item = u64>,
        numbers: &mut Numbers,
        ends: &mut Vec<u64>,
    ) {
        let begin = ends.len();
        ends.resize(begin + words(levels.len()), 0);
        let mut mark = |last: usize| ends[begin + last / 64] |= 1 << (last % 64);
        let mut hill = self.add(levels[0]);
        let (mut start, mut before, mut falls) = (0, levels[0], false);
        for_each_place(runs, |last| {
            let level = levels[last];
            if level > before {
                if falls {
                    mark(start - 1);
                    self.saddles[usize::from(before)].push([hill, hill + 1]);
                    hill = self.add(level);
                }
                falls = false;
                self.peaks[hill as usize] = level;
            } else if level < before {
                falls = true;
            }
            let object = numbers.of(ids[last].into(), &mut self.objects);
            let count = (last + 1 - start) as u32;
            self.objects[object as usize] += u64::from(count);
            self.voxels[usize::from(level)].push(Voxels { hill, object, count });
            (start, before) = (last + 1, level);
        });
        mark(levels.len() - 1);
    }

    fn add(&mut self, peak: u8) -> u32 {
        let hill = self.sets.len();
        self.sets.push(hill);
        self.peaks.push(peak);
        hill
    }

    /// Joins the hills of two rows, place by place, where they touch. `lower` is for scratch.
    fn join(&mut self, a: &Row, b: &Row, lower: &mut Vec<u8>) {
        lower.clear();
        lower.extend(a.levels.iter().zip(b.levels).map(|(&a, &b)| a.min(b)));
        let (mut hill_a, mut hill_b, mut start) = (a.first, b.first, 0);
        for (word, (&ends_a, &ends_b)) in a.ends.iter().zip(b.ends).enumerate() {
            let mut open = ends_a | ends_b;
            while open != 0 {
                let bit = open.trailing_zeros();
                open &= open - 1;
                let last = word * 64 + bit as usize;
                let Some(both) = lower.get(start..=last) else {
                    return;
                };
                self.touch(hill_a, hill_b, both);
                hill_a += (ends_a >> bit & 1) as u32;
                hill_b += (ends_b >> bit & 1) as u32;
                start = last + 1;
            }
        }
    }

    /// Two hills touch, at the highest of these levels.
    #[inline(always)]
    fn touch(&mut self, a: u32, b: u32, levels: &[u8]) {
        let (a, b) = (self.sets.find(a), self.sets.find(b));
        if a == b {
            return;
        }
        let level = levels.iter().fold(0, |most, &level| level.max(most));
        if level == 0 {
            return;
        }
        let peaks = [a, b].map(|hill| self.peaks[hill as usize]);
        if level == peaks[0].min(peaks[1]) {
            let name = self.sets.union(a, b);
            self.peaks[name as usize] = peaks[0].max(peaks[1]);
        } else {
            self.saddles[usize::from(level)].push([a, b]);
        }
    }
}

impl<'a> Row<'a> {
    /// The row without its first voxel.
    fn behind_first<'b>(&self, ends: &'b mut Vec<u64>) -> Row<'b>
    where
        'a: 'b,
    {
        ends.clear();
        let following = self.ends.iter().skip(1).chain(&[0]);
        ends.extend(
            self.ends
                .iter()
                .zip(following)
                .map(|(word, next)| word >> 1 | next << 63),
        );
        Row {
            levels: &self.levels[1..],
            ends,
            first: self.first + (self.ends[0] & 1) as u32,
        }
    }
}

/// The numbers of objects.
#[derive(Default)]
struct Numbers {
    known: IdMap<u64, u32>,
    last: (u64, u32),
}

impl Numbers {
    /// The number of an id; a new one has a place in the table.
    #[inline]
    fn of(&mut self, id: u64, table: &mut Vec<u64>) -> u32 {
        if id != self.last.0 {
            let number = *self.known.entry(id).or_insert_with(|| {
                if id == 0 {
                    return 0;
                }
                table.push(0);
                table.len() as u32 - 1
            });
            self.last = (id, number);
        }
        self.last.1
    }
}
