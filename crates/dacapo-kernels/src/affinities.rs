//! Affinities of labels: which voxels belong together, by the neighbourhood's offsets.

use ndarray::parallel::prelude::*;
use ndarray::{Array4, ArrayView3, Axis, Zip};

use crate::Result;
use crate::offsets::{Offset, check_offsets, overlap, volume};

/// What label 0 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Background {
    /// Nothing: its voxels belong to no object, not even to each other.
    #[default]
    Nothing,
    /// An object like any other.
    Object,
}

impl Background {
    /// Whether voxels of these labels belong together.
    #[inline]
    pub fn links(self, a: u64, b: u64) -> bool {
        a == b && (a != 0 || self == Self::Object)
    }
}

/// 1 where voxels `p` and `p + offset` belong together, else 0; 0 too where `p + offset` is outside.
/// The shape is (offsets, z, y, x).
///
/// # Errors
/// If the offsets mean nothing: see [`check_offsets`].
pub fn affinities(labels: ArrayView3<u64>, offsets: &[Offset], background: Background) -> Result<Array4<u8>> {
    check_offsets(offsets)?;
    let shape = volume(labels.shape());
    let mut linked = Array4::zeros((offsets.len(), shape[0], shape[1], shape[2]));
    let channels = linked.axis_iter_mut(Axis(0)).into_par_iter();
    channels.zip(offsets).for_each(|(mut channel, offset)| {
        let here = overlap(shape, offset);
        let there = overlap(shape, &offset.map(|n| n.saturating_neg()));
        if here.iter().any(|range| range.is_empty()) {
            return;
        }
        channel.slice_each_axis_inplace(|axis| here[axis.axis.index()].clone().into());
        let (mut p, mut q) = (labels, labels);
        p.slice_each_axis_inplace(|axis| here[axis.axis.index()].clone().into());
        q.slice_each_axis_inplace(|axis| there[axis.axis.index()].clone().into());
        Zip::from(&mut channel)
            .and(&p)
            .and(&q)
            .for_each(|linked, &p, &q| *linked = u8::from(background.links(p, q)));
    });
    Ok(linked)
}
