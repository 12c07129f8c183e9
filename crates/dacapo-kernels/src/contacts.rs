//! The graph of fragments: who touches whom, and with which affinities.

use std::ops::{AddAssign, Range};

use ndarray::{ArrayView3, ArrayView4};
use rayon::prelude::*;

use crate::apart::ApartSets;
use crate::error::same_shape;
use crate::hash::IdMap;
use crate::offsets::{Offset, check_offsets, rows, volume};
use crate::{Affinity, Error, Evidence, Remap, Result, Unlisted};

/// Planes that are summed as one piece.
const PLANES: usize = 8;

/// Two fragments that an offset links.
#[derive(Debug, Clone, PartialEq)]
pub struct Contact<E> {
    /// The smaller id.
    pub a: u64,
    /// The larger id.
    pub b: u64,
    /// What is known of their links.
    pub evidence: E,
}

/// The contacts of all pairs of fragments that an offset links, ordered by ids. Graphs of blocks add up to that of the
/// whole, to the last bit.
#[derive(Debug, Clone, PartialEq)]
pub struct ContactGraph<E> {
    contacts: Vec<Contact<E>>,
}

impl<E> Default for ContactGraph<E> {
    fn default() -> Self {
        Self { contacts: Vec::new() }
    }
}

impl<E: Evidence> ContactGraph<E> {
    /// Of a whole volume. Fragment 0 is nothing, and NaN affinities are passed over.
    ///
    /// # Errors
    /// If offsets, channels and shapes do not fit each other.
    pub fn new<A: Affinity>(
        fragments: ArrayView3<u64>,
        affinities: ArrayView4<A>,
        offsets: &[Offset],
    ) -> Result<Self> {
        let (depth, height, width) = fragments.dim();
        Self::of_block(fragments, affinities, offsets, [0..depth, 0..height, 0..width])
    }

    /// Of the part `inner` of a block: the links that begin in it. The block has to reach as far around it as the
    /// offsets do, wherever the volume does: then each link of the volume is counted in one block, and no more.
    ///
    /// # Errors
    /// If offsets, channels and shapes do not fit each other, or the part is not inside the block.
    pub fn of_block<A: Affinity>(
        fragments: ArrayView3<u64>,
        affinities: ArrayView4<A>,
        offsets: &[Offset],
        inner: [Range<usize>; 3],
    ) -> Result<Self> {
        check_offsets(offsets)?;
        let channels = affinities.shape()[0];
        if channels != offsets.len() {
            let (expected, what) = (offsets.len(), "offsets");
            return Err(Error::Channels {
                channels,
                expected,
                what,
            });
        }
        same_shape(
            "volume of affinities",
            &affinities.shape()[1..],
            fragments.shape(),
        )?;
        let shape = volume(fragments.shape());
        if (0..3).any(|axis| inner[axis].end > shape[axis]) {
            let expected = inner.iter().map(|range| range.end).collect();
            let found = shape.to_vec();
            return Err(Error::Shape {
                what: "block",
                found,
                expected,
            });
        }
        let [inner_z, inner_y, inner_x] = inner;
        let (fragments, affinities) = (fragments.as_standard_layout(), affinities.as_standard_layout());
        let (Some(ids), Some(values)) = (fragments.as_slice(), affinities.as_slice()) else {
            unreachable!("standard layout is contiguous")
        };
        let count_piece = |piece: usize| {
            let mut table: IdMap<(u64, u64), E> = IdMap::default();
            let (mut pair, mut run) = ((0, 0), E::default());
            let begin = inner_z.start + piece * PLANES;
            let planes = begin..(begin + PLANES).min(inner_z.end);
            for (channel, offset) in offsets.iter().enumerate() {
                let values = &values[channel * ids.len()..][..ids.len()];
                for (row, other) in rows(shape, offset, planes.clone()) {
                    if !inner_y.contains(&(row.start / shape[2] % shape[1])) {
                        continue;
                    }
                    let line = row.start - row.start % shape[2];
                    let inside = row.start.max(line + inner_x.start)..row.end.min(line + inner_x.end);
                    if inside.is_empty() {
                        continue;
                    }
                    let there = &ids[other + inside.start - row.start..][..inside.len()];
                    for ((&p, &q), &value) in ids[inside.clone()].iter().zip(there).zip(&values[inside]) {
                        if p == q || p == 0 || q == 0 {
                            continue;
                        }
                        let value = value.value();
                        if value.is_nan() {
                            continue;
                        }
                        let key = (p.min(q), p.max(q));
                        if key != pair {
                            join(&mut table, pair, &run);
                            (pair, run) = (key, E::default());
                        }
                        run.add(value);
                    }
                }
            }
            join(&mut table, pair, &run);
            table
        };
        let table = (0..inner_z.len().div_ceil(PLANES))
            .into_par_iter()
            .map(count_piece)
            .reduce(IdMap::default, |a, b| {
                let (mut more, less) = if a.len() < b.len() { (b, a) } else { (a, b) };
                less.iter()
                    .for_each(|(&pair, evidence)| join(&mut more, pair, evidence));
                more
            });
        Ok(Self::of_table(table))
    }

    /// The contacts, ordered by ids.
    pub fn contacts(&self) -> &[Contact<E>] {
        &self.contacts
    }

    /// The ids of all fragments that touch another, ascending.
    pub fn fragments(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self
            .contacts
            .iter()
            .flat_map(|contact| [contact.a, contact.b])
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The mutex watershed of the fragments: contacts whose score is above `bias` join, those below keep apart, the
    /// largest difference first; of equal ones, those that join first, then by ids. Contacts of fewer than
    /// `least_links` links say nothing. A segment has the id of its smallest fragment.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a bias that is not finite; [`Error::TooLarge`] from 2³² fragments on.
    pub fn mutex_watershed(&self, score: impl Fn(&E) -> f64, bias: f64, least_links: u64) -> Result<Remap> {
        if !bias.is_finite() {
            let (name, value, expected) = ("bias", bias, "finite");
            return Err(Error::Parameter {
                name,
                value,
                expected,
            });
        }
        let (ids, numbers) = self.numbers()?;
        let counted = self
            .contacts
            .iter()
            .filter(|contact| contact.evidence.links() >= least_links.max(1));
        let mut edges: Vec<(f64, u64, u64)> = counted
            .map(|contact| (score(&contact.evidence) - bias, contact.a, contact.b))
            .collect();
        edges.retain(|&(weight, _, _)| weight != 0.0 && !weight.is_nan());
        edges.sort_by(|x, y| {
            let joins_first = (x.0 < 0.0).cmp(&(y.0 < 0.0));
            y.0.abs()
                .total_cmp(&x.0.abs())
                .then(joins_first)
                .then((x.1, x.2).cmp(&(y.1, y.2)))
        });
        let mut sets = ApartSets::new(ids.len() as u32);
        for (weight, a, b) in edges {
            let (a, b) = (numbers[&a], numbers[&b]);
            if weight > 0.0 {
                sets.join(a, b)
            } else {
                sets.part(a, b)
            }
        }
        let mut smallest: IdMap<u32, u64> = IdMap::default();
        let pairs: Vec<(u64, u64)> = ids
            .iter()
            .zip(0..)
            .map(|(&id, number)| (id, *smallest.entry(sets.find(number)).or_insert(id)))
            .collect();
        Ok(Remap::new(pairs, Unlisted::Keep))
    }

    /// The graph in which some fragments have become one: their contacts are joined, those within are gone. `same`
    /// gives the new id of each fragment; one that it refuses is gone, and one that it makes 0.
    pub fn joined(&self, same: &Remap) -> Self {
        let mut table: IdMap<(u64, u64), E> = IdMap::default();
        for contact in &self.contacts {
            if let (Some(a), Some(b)) = (same.get(contact.a), same.get(contact.b))
                && a != b
                && a != 0
                && b != 0
            {
                join(&mut table, (a.min(b), a.max(b)), &contact.evidence);
            }
        }
        Self::of_table(table)
    }

    fn of_table(table: IdMap<(u64, u64), E>) -> Self {
        let mut contacts: Vec<_> = table
            .into_iter()
            .map(|((a, b), evidence)| Contact { a, b, evidence })
            .collect();
        contacts.sort_unstable_by_key(ids_of);
        Self { contacts }
    }

    /// The fragments, and the number of each.
    pub(crate) fn numbers(&self) -> Result<(Vec<u64>, IdMap<u64, u32>)> {
        let ids = self.fragments();
        crate::error::countable("fragments", ids.len())?;
        let numbers = ids.iter().copied().zip(0..).collect();
        Ok((ids, numbers))
    }
}

impl<E: Evidence> AddAssign<&Self> for ContactGraph<E> {
    fn add_assign(&mut self, other: &Self) {
        let mine = std::mem::take(&mut self.contacts);
        let mut sum: Vec<Contact<E>> = Vec::with_capacity(mine.len() + other.contacts.len());
        let mut theirs = other.contacts.iter().peekable();
        for mut contact in mine {
            while let Some(before) = theirs.next_if(|their| ids_of(their) < ids_of(&contact)) {
                sum.push(before.clone());
            }
            if let Some(same) = theirs.next_if(|their| ids_of(their) == ids_of(&contact)) {
                contact.evidence.join(&same.evidence);
            }
            sum.push(contact);
        }
        sum.extend(theirs.cloned());
        self.contacts = sum;
    }
}

fn ids_of<E>(contact: &Contact<E>) -> (u64, u64) {
    (contact.a, contact.b)
}

fn join<E: Evidence>(table: &mut IdMap<(u64, u64), E>, pair: (u64, u64), evidence: &E) {
    if evidence.links() > 0 {
        table.entry(pair).or_default().join(evidence);
    }
}
