//! Labels by what touches: connected components, and ids without gaps.

use std::collections::HashMap;

use ndarray::{Array3, ArrayView3};

use crate::Result;
use crate::error::countable;
use crate::offsets::{Offset, rows, volume};
use crate::union_find::UnionFind;

/// Which voxels touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connectivity {
    /// Those that share a face: 6 neighbours.
    #[default]
    Faces,
    /// Those that share a face or an edge: 18 neighbours.
    Edges,
    /// Those that share a face, an edge or a corner: 26 neighbours.
    Corners,
}

impl Connectivity {
    /// Half of the neighbours, those that come before a voxel: each pair once.
    fn before(self) -> impl Iterator<Item = Offset> {
        let most = match self {
            Self::Faces => 1,
            Self::Edges => 2,
            Self::Corners => 3,
        };
        let all = (0..13).map(|i| [i / 9 - 1, i / 3 % 3 - 1, i % 3 - 1]);
        all.filter(move |offset| offset.iter().map(|n| n * n).sum::<i64>() <= most)
    }
}

/// Numbers the connected regions of equal label from 1, in the order of their first voxels. 0 stays 0.
///
/// # Errors
/// [`crate::Error::TooLarge`] from 2³² voxels on.
pub fn connected_components(labels: ArrayView3<u64>, connectivity: Connectivity) -> Result<Array3<u64>> {
    countable("voxels", labels.len())?;
    let shape = volume(labels.shape());
    let labels = labels.as_standard_layout();
    let values: Vec<u64> = labels.iter().copied().collect();
    let mut regions = UnionFind::new(values.len() as u32);
    for offset in connectivity.before() {
        for (row, other) in rows(shape, &offset, 0..shape[0]) {
            for (q, p) in (other..).zip(row) {
                if values[p] != 0 && values[p] == values[q] {
                    regions.union(p as u32, q as u32);
                }
            }
        }
    }
    // A region's name is its first voxel, so that it is numbered when it is first met.
    let mut numbers = vec![0; values.len()];
    let mut count = 0;
    for p in 0..values.len() {
        if values[p] != 0 {
            let first = regions.find(p as u32) as usize;
            if first == p {
                count += 1;
                numbers[p] = count;
            }
            numbers[p] = numbers[first];
        }
    }
    let mut numbers = numbers.into_iter();
    Ok(labels.map(|_| numbers.next().unwrap_or_default()))
}

/// Numbers labels from 1 in the order of their first voxels; 0 stays 0. Also returns the label that each
/// number stands for; that of 0 is 0.
pub fn relabel_sequential(labels: ArrayView3<u64>) -> (Array3<u64>, Vec<u64>) {
    let mut originals = vec![0];
    let mut numbers = HashMap::from([(0, 0)]);
    let mut run = (0, 0);
    let shape = labels.raw_dim();
    let mut renumbered = Array3::zeros(shape);
    // In logical order, whatever the memory order.
    for (number, &label) in renumbered.iter_mut().zip(labels.iter()) {
        if label != run.0 {
            let next = originals.len() as u64;
            let number = *numbers.entry(label).or_insert(next);
            if number == next {
                originals.push(label);
            }
            run = (label, number);
        }
        *number = run.1;
    }
    (renumbered, originals)
}
