//! The graph of fragments: who touches whom, and with which affinities.

use std::collections::HashMap;

use ndarray::{ArrayView3, ArrayView4};
use rayon::prelude::*;

use crate::error::same_shape;
use crate::offsets::{Offset, check_offsets, rows, volume};
use crate::{Error, Result};

/// Planes that are summed as one piece: the same pieces, so the same sums, at any number of threads.
const PLANES: usize = 8;

/// The affinities across a pair of fragments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contact {
    /// The smaller id.
    pub a: u64,
    /// The larger id.
    pub b: u64,
    /// The sum of the affinities that link voxels of the two.
    pub sum: f64,
    /// Their number.
    pub count: u64,
}

/// The contacts of all pairs of fragments that an offset links, ordered by ids. Fragment 0 is nothing, and NaN
/// affinities are passed over.
///
/// # Errors
/// If offsets, channels and shapes do not fit each other.
pub fn contacts(
    fragments: ArrayView3<u64>,
    affinities: ArrayView4<f32>,
    offsets: &[Offset],
) -> Result<Vec<Contact>> {
    check_offsets(offsets)?;
    let channels = affinities.shape()[0];
    if channels != offsets.len() {
        return Err(Error::Channels {
            channels,
            expected: offsets.len(),
            what: "offsets",
        });
    }
    same_shape(
        "volume of affinities",
        &affinities.shape()[1..],
        fragments.shape(),
    )?;
    let shape = volume(fragments.shape());
    let fragments = fragments.as_standard_layout();
    let affinities = affinities.as_standard_layout();
    let (Some(ids), Some(values)) = (fragments.as_slice(), affinities.as_slice()) else {
        unreachable!("standard layout is contiguous")
    };
    let pieces: Vec<HashMap<(u64, u64), (f64, u64)>> = (0..shape[0].div_ceil(PLANES))
        .into_par_iter()
        .map(|piece| {
            let mut table = HashMap::new();
            let (mut pair, mut run) = ((0, 0), (0.0, 0));
            for (channel, offset) in offsets.iter().enumerate() {
                let values = &values[channel * ids.len()..][..ids.len()];
                for (row, other) in rows(shape, offset, piece * PLANES..(piece + 1) * PLANES) {
                    let there = &ids[other..other + row.len()];
                    for ((&p, &q), &value) in ids[row.clone()].iter().zip(there).zip(&values[row]) {
                        if p == q || p == 0 || q == 0 || value.is_nan() {
                            continue;
                        }
                        let key = (p.min(q), p.max(q));
                        if key != pair {
                            add(&mut table, pair, run);
                            (pair, run) = (key, (0.0, 0));
                        }
                        run.0 += f64::from(value);
                        run.1 += 1;
                    }
                }
            }
            add(&mut table, pair, run);
            table
        })
        .collect();
    let mut table = HashMap::new();
    for (pair, part) in pieces.into_iter().flatten() {
        add(&mut table, pair, part);
    }
    let mut contacts: Vec<_> = table
        .into_iter()
        .map(|((a, b), (sum, count))| Contact { a, b, sum, count })
        .collect();
    contacts.sort_unstable_by_key(|contact| (contact.a, contact.b));
    Ok(contacts)
}

fn add(table: &mut HashMap<(u64, u64), (f64, u64)>, pair: (u64, u64), (sum, count): (f64, u64)) {
    if count > 0 {
        let entry = table.entry(pair).or_default();
        entry.0 += sum;
        entry.1 += count;
    }
}
