//! Affinities of labels: which voxels belong together, by the neighbourhood's offsets.

use ndarray::{Array4, ArrayView3, Axis};
use rayon::prelude::*;

use crate::offsets::{Offset, check_offsets, rows, volume};
use crate::{Label, Result};

/// Voxels that are narrowed as one piece.
const PIECE: usize = 1 << 16;

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
/// The shape is (offsets, z, y, x). A voxel of scratch takes 4 bytes.
///
/// # Errors
/// If the offsets mean nothing: see [`check_offsets`].
pub fn affinities(labels: ArrayView3<u64>, offsets: &[Offset], background: Background) -> Result<Array4<u8>> {
    check_offsets(offsets)?;
    let shape = volume(labels.shape());
    let mut linked = Array4::zeros((offsets.len(), shape[0], shape[1], shape[2]));
    let standard = labels.as_standard_layout();
    let values = standard.as_slice().unwrap_or_default();
    match narrow(values) {
        Some(values) => link_all(&values, shape, offsets, background, &mut linked),
        None => link_all(values, shape, offsets, background, &mut linked),
    }
    Ok(linked)
}

/// Labels in half of the bits, if none has more.
fn narrow(labels: &[u64]) -> Option<Vec<u32>> {
    let mut narrow = vec![0; labels.len()];
    let pieces = narrow.par_chunks_mut(PIECE).zip(labels.par_chunks(PIECE));
    let bits = pieces.map(|(narrow, labels)| {
        let mut bits = 0;
        for (narrow, &label) in narrow.iter_mut().zip(labels) {
            bits |= label;
            *narrow = label as u32;
        }
        bits
    });
    (bits.reduce(|| 0, |a, b| a | b) <= u64::from(u32::MAX)).then_some(narrow)
}

/// Fills the affinities plane by plane, all offsets of one before the next: what they read stays near.
fn link_all<T: Label>(
    labels: &[T],
    shape: [usize; 3],
    offsets: &[Offset],
    background: Background,
    linked: &mut Array4<u8>,
) {
    let planes = linked.axis_iter_mut(Axis(1)).into_par_iter();
    planes.enumerate().for_each(|(z, mut channels)| {
        let channels = channels.axis_iter_mut(Axis(0)).into_par_iter();
        channels.zip(offsets).for_each(|(mut channel, offset)| {
            let Some(channel) = channel.as_slice_mut() else {
                return;
            };
            let begin = z * channel.len();
            for (here, there) in rows(shape, offset, z..z + 1) {
                let (p, q) = (&labels[here.clone()], &labels[there..there + here.len()]);
                let linked = &mut channel[here.start - begin..here.end - begin];
                match background {
                    Background::Object => link(linked, p, q, |p, q| p == q),
                    Background::Nothing => link(linked, p, q, |p, q| (p == q) & (p != T::BACKGROUND)),
                }
            }
        });
    });
}

/// Which voxels of a row are linked. Without a branch a voxel the compiler compares several at once.
#[inline(always)]
fn link<T: Label>(linked: &mut [u8], p: &[T], q: &[T], belong: impl Fn(T, T) -> bool) {
    for ((linked, &p), &q) in linked.iter_mut().zip(p).zip(q) {
        *linked = u8::from(belong(p, q));
    }
}
