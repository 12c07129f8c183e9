//! The seeded watershed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ndarray::{Array3, ArrayView3};

use crate::Result;
use crate::error::{countable, same_shape};
use crate::offsets::volume;

/// Floods a landscape from seeds over faces: the lowest voxel beside the flood is next, and belongs to the
/// flood that reached it first. Among equal heights the one that was reached earlier is next; seeds are reached
/// in the order of the volume, neighbours in the order -z, -y, -x, +x, +y, +z. Voxels outside `mask`, and those
/// that no seed reaches, stay 0. NaN is higher than everything.
///
/// The priority flood of scikit-image's `watershed` (Beucher and Meyer 1993): equal to it where no two heights
/// are equal.
///
/// # Errors
/// [`crate::Error::Shape`] if shapes differ, [`crate::Error::TooLarge`] from 2³² voxels on.
pub fn watershed(
    height: ArrayView3<f32>,
    seeds: ArrayView3<u64>,
    mask: Option<ArrayView3<bool>>,
) -> Result<Array3<u64>> {
    countable("voxels", height.len())?;
    same_shape("volume of seeds", seeds.shape(), height.shape())?;
    let shape = volume(height.shape());
    let [depth, rows, columns] = shape;
    let plane = rows * columns;
    let height = height.as_standard_layout();
    let order: Vec<u32> = height.iter().map(|&value| sortable(value)).collect();
    let open: Option<Vec<bool>> = match mask {
        Some(mask) => {
            same_shape("mask", mask.shape(), &shape)?;
            Some(mask.iter().copied().collect())
        }
        None => None,
    };
    let is_open = |p: usize| open.as_ref().is_none_or(|open| open[p]);
    let mut labels: Vec<u64> = seeds.iter().copied().collect();

    // Height above, age below: one comparison.
    let mut edge = BinaryHeap::new();
    let mut age = 0;
    for (p, label) in labels.iter_mut().enumerate() {
        if !is_open(p) {
            *label = 0;
        } else if *label != 0 {
            edge.push(Reverse((u64::from(order[p]) << 32 | age, p as u32)));
            age += 1;
        }
    }
    while let Some(Reverse((_, p))) = edge.pop() {
        let p = p as usize;
        let label = labels[p];
        let (z, y, x) = (p / plane, p / columns % rows, p % columns);
        let mut reach = |inside: bool, step: isize| {
            let q = p.wrapping_add_signed(step);
            if inside && labels[q] == 0 && is_open(q) {
                labels[q] = label;
                edge.push(Reverse((u64::from(order[q]) << 32 | age, q as u32)));
                age += 1;
            }
        };
        reach(z > 0, -(plane as isize));
        reach(y > 0, -(columns as isize));
        reach(x > 0, -1);
        reach(x + 1 < columns, 1);
        reach(y + 1 < rows, columns as isize);
        reach(z + 1 < depth, plane as isize);
    }
    let mut labels = labels.into_iter();
    Ok(height.map(|_| labels.next().unwrap_or_default()))
}

/// Bits that sort as the numbers do; NaN last, and -0 with 0.
pub(crate) fn sortable(value: f32) -> u32 {
    if value.is_nan() {
        return u32::MAX;
    }
    let bits = (value + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}
