//! Changing ids: numbering them without gaps, replacing them, removing those that are too small; and which
//! there are.

use ndarray::{Array3, ArrayView3, ArrayViewMut3};
use rayon::prelude::*;

use crate::error::countable;
use crate::hash::IdMap;
use crate::{Error, Id, Result, UnionFind};

/// Voxels that are changed as one piece.
const PIECE: usize = 1 << 16;

/// Numbers labels from 1 in the order of their first voxels (z, y, x); 0 stays 0. Also returns the label that each
/// number stands for; that of 0 is 0.
pub fn relabel_sequential<T: Id>(labels: ArrayView3<T>) -> (Array3<T>, Vec<T>) {
    let mut numbers = labels.as_standard_layout().into_owned();
    let originals = relabel_in_place(numbers.view_mut());
    (numbers, originals)
}

/// The same as [`relabel_sequential`], in the volume itself. Returns the label that each number stands for.
pub fn relabel_in_place<T: Id>(labels: ArrayViewMut3<T>) -> Vec<T> {
    let mut originals = vec![T::BACKGROUND];
    on_slice(labels, |labels| {
        // Each piece numbers its own labels, which are then numbered through, piece after piece.
        let pieces = labels.par_chunks_mut(PIECE);
        let firsts: Vec<Vec<T>> = pieces
            .map_init(Vec::new, |known, piece| number(piece, known))
            .collect();
        let mut numbers: IdMap<u64, T> = IdMap::default();
        let tables: Vec<Vec<T>> = firsts
            .into_iter()
            .map(|firsts| {
                let global = firsts.into_iter().map(|label| {
                    *numbers.entry(label.into()).or_insert_with(|| {
                        originals.push(label);
                        numeric(originals.len() as u64 - 1)
                    })
                });
                std::iter::once(T::BACKGROUND).chain(global).collect()
            })
            .collect();
        labels
            .par_chunks_mut(PIECE)
            .zip(&tables)
            .for_each(|(labels, table)| {
                if (0u64..).zip(table).any(|(local, &global)| local != global.into()) {
                    labels.iter_mut().for_each(|local| *local = table[index(*local)]);
                }
            });
    });
    originals
}

/// Numbers the labels of a piece from 1, and returns them in the order of their numbers. `known` is a table of zeros.
fn number<T: Id>(labels: &mut [T], known: &mut Vec<u32>) -> Vec<T> {
    let mut firsts = Vec::new();
    let bits = bits(labels);
    if bits >= SMALL {
        let mut numbers: IdMap<u64, T> = IdMap::default();
        replace_runs(labels, |label| {
            if label == T::BACKGROUND {
                return label;
            }
            *numbers.entry(label.into()).or_insert_with(|| {
                firsts.push(label);
                numeric(firsts.len() as u64)
            })
        });
        return firsts;
    }
    known.resize(known.len().max(bits as usize + 1), 0);
    for label in labels {
        let number = &mut known[index(*label)];
        if *number == 0 && *label != T::BACKGROUND {
            firsts.push(*label);
            *number = firsts.len() as u32;
        }
        *label = numeric(u64::from(*number));
    }
    for &first in &firsts {
        known[index(first)] = 0;
    }
    firsts
}

/// The bits that any of some ids has: none is above them.
fn bits<T: Id>(labels: &[T]) -> u64 {
    labels.iter().fold(0, |bits, &label| {
        let id: u64 = label.into();
        bits | id
    })
}

/// The labels of a volume with their voxels, ordered by label; 0 too, if it is there.
pub fn unique<T: Id>(labels: ArrayView3<T>) -> Vec<(T, u64)> {
    let standard = labels.as_standard_layout();
    let values = standard.as_slice().unwrap_or_default();
    let tally = values
        .par_chunks(PIECE)
        .fold(Tally::default, |mut tally, piece| {
            tally.count(piece);
            tally
        })
        .reduce(Tally::default, Tally::joined);
    let mut counts: Vec<(T, u64)> = tally.counts().map(|(id, voxels)| (numeric(id), voxels)).collect();
    counts.sort_unstable();
    counts
}

/// Voxels by id.
#[derive(Default)]
struct Tally {
    /// Of small ids, in four parts: a count does not wait for the one before it.
    small: Vec<[u64; 4]>,
    /// Of those that were met beside larger ones.
    others: IdMap<u64, u64>,
}

/// Ids below are small.
const SMALL: u64 = 1 << 16;

impl Tally {
    fn count<T: Id>(&mut self, piece: &[T]) {
        let mut rest = piece;
        loop {
            rest = &rest[count_below(&mut self.small, rest)..];
            match rest.first() {
                None => return,
                Some(&label) if label.into() < SMALL => {
                    self.small.resize((index(label) + 1).next_power_of_two(), [0; 4]);
                }
                // Where one label is large, those behind it mostly are.
                Some(_) => return self.count_runs(rest),
            }
        }
    }

    fn count_runs<T: Id>(&mut self, labels: &[T]) {
        for_runs(labels, |label, voxels| {
            *self.others.entry(label.into()).or_default() += voxels as u64;
        });
    }

    fn joined(mut self, other: Self) -> Self {
        for (id, voxels) in other.counts() {
            *self.others.entry(id).or_default() += voxels;
        }
        self
    }

    fn counts(self) -> impl Iterator<Item = (u64, u64)> {
        let mut counts = self.others;
        for (id, voxels) in (0..).zip(self.small).filter(|(_, voxels)| *voxels != [0; 4]) {
            *counts.entry(id).or_default() += voxels.iter().sum::<u64>();
        }
        counts.into_iter()
    }
}

/// Counts labels until one is beyond the table; returns how many.
fn count_below<T: Id>(table: &mut [[u64; 4]], labels: &[T]) -> usize {
    let (fours, rest) = labels.as_chunks::<4>();
    for (done, four) in fours.iter().enumerate() {
        for (part, &label) in four.iter().enumerate() {
            match table.get_mut(index(label)) {
                Some(parts) => parts[part] += 1,
                None => return 4 * done + part,
            }
        }
    }
    for (done, &label) in rest.iter().enumerate() {
        match table.get_mut(index(label)) {
            Some(parts) => parts[0] += 1,
            None => return 4 * fours.len() + done,
        }
    }
    labels.len()
}

/// Makes background of all labels that have fewer than `least` or more than `most` voxels, and returns how many
/// labels that were.
pub fn size_filter<T: Id>(labels: ArrayViewMut3<T>, least: u64, most: u64) -> usize {
    let sizes = unique(labels.view());
    let refused = |&&(label, voxels): &&(T, u64)| label != T::BACKGROUND && !(least..=most).contains(&voxels);
    let gone: Vec<(u64, u64)> = sizes
        .iter()
        .filter(refused)
        .map(|&(label, _)| (label.into(), 0))
        .collect();
    if !gone.is_empty() {
        let map: IdMap<u64, u64> = gone.iter().copied().collect();
        replace(labels, |label: T| {
            if map.contains_key(&label.into()) {
                T::BACKGROUND
            } else {
                label
            }
        });
    }
    gone.len()
}

/// Replaces each label by the entry of the table that it is the index of.
///
/// # Errors
/// [`Error::UnknownLabel`] for a label beyond the table; the labels are then as they were.
pub fn remap_by_table<T: Id>(labels: ArrayViewMut3<T>, table: &[T]) -> Result<()> {
    let view = labels.view();
    let standard = view.as_standard_layout();
    let pieces = standard.as_slice().unwrap_or_default().par_chunks(PIECE);
    let most = pieces.filter_map(|piece| piece.iter().copied().max()).max();
    if let Some(most) = most.filter(|&most| most.into() >= table.len() as u64) {
        return Err(Error::UnknownLabel { label: most.into() });
    }
    drop(standard);
    replace_each(labels, |label| table[index(label)]);
    Ok(())
}

/// What becomes of a label that is not in a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unlisted {
    /// It stays as it is.
    #[default]
    Keep,
    /// It becomes background.
    Zero,
    /// It is an error.
    Refuse,
}

/// Which labels become which.
#[derive(Debug, Clone, Default)]
pub struct Remap {
    map: IdMap<u64, u64>,
    unlisted: Unlisted,
}

impl Remap {
    /// From pairs of old and new ids. Of pairs with the same old id the last one counts. Background is as any label.
    pub fn new(pairs: impl IntoIterator<Item = (u64, u64)>, unlisted: Unlisted) -> Self {
        Self {
            map: pairs.into_iter().collect(),
            unlisted,
        }
    }

    /// Makes one label of all that pairs link, over any number of pairs: the smallest of them. Other labels stay.
    ///
    /// # Errors
    /// [`Error::TooLarge`] from 2³² labels on.
    pub fn joining(pairs: &[(u64, u64)]) -> Result<Self> {
        let mut ids: Vec<u64> = pairs.iter().flat_map(|&(a, b)| [a, b]).collect();
        ids.sort_unstable();
        ids.dedup();
        countable("labels to join", ids.len())?;
        let numbers: IdMap<u64, u32> = ids.iter().copied().zip(0..).collect();
        let mut sets = UnionFind::new(ids.len() as u32);
        for (a, b) in pairs {
            sets.union(numbers[a], numbers[b]);
        }
        // Numbers are in the order of ids, and a set has the name of its smallest number.
        let map = ids
            .iter()
            .zip(0..)
            .map(|(&id, number)| (id, ids[sets.find(number) as usize]));
        Ok(Self::new(map, Unlisted::Keep))
    }

    /// This map and then another one. What neither lists becomes what the other one says.
    pub fn then(&self, other: &Self) -> Self {
        let mut map = other.map.clone();
        let both = self
            .map
            .iter()
            .filter_map(|(&from, &to)| Some((from, other.get(to)?)));
        map.extend(both);
        Self {
            map,
            unlisted: other.unlisted,
        }
    }

    /// What becomes of a label; nothing if that is an error.
    pub fn get(&self, label: u64) -> Option<u64> {
        self.map.get(&label).copied().or(match self.unlisted {
            Unlisted::Keep => Some(label),
            Unlisted::Zero => Some(0),
            Unlisted::Refuse => None,
        })
    }

    /// Replaces the labels of a volume.
    ///
    /// # Errors
    /// [`Error::UnknownLabel`] for one that is not listed, if these are refused; [`Error::LabelRange`] if a new
    /// id does not fit the type. The labels are then as they were.
    pub fn apply<T: Id>(&self, labels: ArrayViewMut3<T>) -> Result<()> {
        let new = |label: T| -> Result<T> {
            let label = label.into();
            let new = self.get(label).ok_or(Error::UnknownLabel { label })?;
            T::try_from(new).map_err(|_| Error::LabelRange { label: new })
        };
        let length = self.table_length().filter(|&length| length < labels.len());
        // Nothing is changed before it is known that all can be.
        let is_wide = T::try_from(u64::MAX).is_ok();
        if self.unlisted == Unlisted::Refuse || !is_wide {
            let becomes_one = |label| new(label).is_ok();
            let all_do = length.is_some_and(|length| all(labels.view(), tabled(length, becomes_one)));
            if !all_do {
                unique(labels.view())
                    .into_iter()
                    .try_for_each(|(label, _)| new(label).map(drop))?;
            }
        }
        // What there is becomes something: what would not, is not there.
        let become_of = |label: T| new(label).unwrap_or(label);
        match length {
            Some(length) => replace_each(labels, tabled(length, become_of)),
            None => replace(labels, become_of),
        }
        Ok(())
    }

    /// How long a table of all that is listed is, if it is mostly full or short.
    fn table_length(&self) -> Option<usize> {
        let most = self.map.keys().copied().max()?;
        let length = usize::try_from(most).ok()?.checked_add(1)?;
        (length <= (SMALL as usize).max(4 * self.map.len())).then_some(length)
    }
}

/// A function of labels whose values below `length` are looked up.
fn tabled<T: Id, R: Copy>(length: usize, of: impl Fn(T) -> R) -> impl Fn(T) -> R {
    let table: Vec<R> = (0..length as u64).map(|id| of(numeric(id))).collect();
    move |label| table.get(index(label)).copied().unwrap_or_else(|| of(label))
}

/// Whether something is true of all labels.
fn all<T: Id>(labels: ArrayView3<T>, is: impl Fn(T) -> bool + Sync) -> bool {
    let standard = labels.as_standard_layout();
    let pieces = standard.as_slice().unwrap_or_default().par_chunks(PIECE);
    pieces.all(|piece| piece.iter().all(|&label| is(label)))
}

/// Replaces every label by `change` of it, which is quicker than to look for runs.
fn replace_each<T: Id>(labels: ArrayViewMut3<T>, change: impl Fn(T) -> T + Sync) {
    on_slice(labels, |labels| {
        labels
            .par_chunks_mut(PIECE)
            .for_each(|piece| piece.iter_mut().for_each(|label| *label = change(*label)));
    });
}

/// Replaces every label by `change` of it, which is asked once a run.
fn replace<T: Id>(labels: ArrayViewMut3<T>, change: impl Fn(T) -> T + Sync) {
    on_slice(labels, |labels| {
        labels
            .par_chunks_mut(PIECE)
            .for_each(|piece| replace_runs(piece, &change));
    });
}

fn replace_runs<T: Id>(labels: &mut [T], mut change: impl FnMut(T) -> T) {
    let Some(&first) = labels.first() else {
        return;
    };
    let mut last = (first, change(first));
    for label in labels {
        if *label != last.0 {
            last = (*label, change(*label));
        }
        *label = last.1;
    }
}

fn for_runs<T: Id>(labels: &[T], mut each: impl FnMut(T, usize)) {
    let mut start = 0;
    while start < labels.len() {
        let end = end_of_run(labels, start);
        each(labels[start], end - start);
        start = end;
    }
}

/// Where the run of equal labels ends that begins at `start`.
#[inline]
fn end_of_run<T: Id>(labels: &[T], start: usize) -> usize {
    const STRIDE: usize = 4;
    let label = labels[start];
    let mut end = start + 1;
    // No branch a voxel: the compiler compares several at once.
    while end + STRIDE <= labels.len()
        && labels[end..end + STRIDE]
            .iter()
            .fold(true, |same, &other| same & (other == label))
    {
        end += STRIDE;
    }
    while end < labels.len() && labels[end] == label {
        end += 1;
    }
    end
}

/// Hands over the voxels in their order (z, y, x), whatever their order in memory.
fn on_slice<T: Id>(mut labels: ArrayViewMut3<T>, change: impl FnOnce(&mut [T])) {
    if let Some(slice) = labels.as_slice_mut() {
        return change(slice);
    }
    let mut copy = labels.as_standard_layout().into_owned();
    if let Some(slice) = copy.as_slice_mut() {
        change(slice);
    }
    labels.assign(&copy);
}

/// A count of labels as a label. A type has more values than a volume of it has labels beside background.
fn numeric<T: Id>(number: u64) -> T {
    T::try_from(number).unwrap_or(T::BACKGROUND)
}

fn index<T: Id>(label: T) -> usize {
    let label: u64 = label.into();
    label as usize
}
