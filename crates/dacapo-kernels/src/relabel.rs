//! Ids without gaps.

use std::collections::HashMap;

use ndarray::{Array3, ArrayView3};

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
