//! Segments of affinities by blocks: what a block has to see, what it has to tell, and how all become one volume's
//! segments. Reading, writing and scheduling are the caller's; `dacapo_kernels` says what is exact about it.

use std::ops::Range;

use ndarray::{Array3, ArrayView3, ArrayView4};

use dacapo_kernels::{ContactGraph, MeanAffinity, MergeHistory, MergeLimits, Remap, ValueRange};

use crate::parameters::PostProcessorParameters;
use crate::segmenter::Segmenter;
use crate::{Error, Result};

/// Voxels around a block that its fragments are made with, along each axis: what a watershed of smoothed distances looks
/// at, and enough of what two blocks share to tell which fragments are the same.
const CONTEXT: usize = 12;
/// Contacts of fewer links say nothing: one voxel never merges two objects.
const LEAST_LINKS: u64 = 4;

/// A segmentation of affinities, as the work that each block and the whole have to do.
pub struct AffinityBlocks {
    segmenter: Segmenter,
    parameters: Option<PostProcessorParameters>,
    dims: usize,
}

impl AffinityBlocks {
    /// Of the segmenter's affinities; without parameters fragments stay what they are.
    pub(crate) fn new(
        segmenter: Segmenter,
        dims: usize,
        parameters: Option<PostProcessorParameters>,
    ) -> Result<Self> {
        if let Some(parameters) = parameters {
            parameters.check(ValueRange::UNIT)?;
            if !matches!(
                parameters,
                PostProcessorParameters::Agglomerate { .. } | PostProcessorParameters::MutexWatershed { .. }
            ) {
                return Err(Error::Method { parameters });
            }
        }
        Ok(Self {
            segmenter,
            parameters,
            dims,
        })
    }

    /// Voxels (z, y, x) around a block that [`fragments`](Self::fragments) has to see.
    pub fn context(&self) -> [usize; 3] {
        std::array::from_fn(|axis| if axis < 3 - self.dims { 0 } else { CONTEXT })
    }

    /// Voxels that a block has at least along each axis: one with fewer would see past its neighbours, and what
    /// waits for being compared would be many times the volume.
    pub const LEAST_BLOCK: usize = 2 * CONTEXT;

    /// Voxels (z, y, x) around a block that [`contacts`](Self::contacts) has to see.
    pub fn reach(&self) -> [usize; 3] {
        self.segmenter.reach()
    }

    /// The fragments of a block and what is around it (channels, z, y, x), from 1.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn fragments(
        &self,
        prediction: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
    ) -> Result<Array3<u64>> {
        match self.parameters.and_then(|parameters| parameters.biases()) {
            Some(biases) => self.segmenter.mutex(prediction, mask, &biases),
            None => self.segmenter.fragments(prediction, mask),
        }
    }

    /// The contacts of fragments that begin in a part of a block: parts of a volume add up to the volume's.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn contacts(
        &self,
        fragments: ArrayView3<u64>,
        prediction: ArrayView4<f32>,
        inner: [Range<usize>; 3],
    ) -> Result<ContactGraph<MeanAffinity>> {
        self.segmenter.contacts(fragments, prediction, inner)
    }

    /// The segments of the whole, by the contacts of all fragments. Segments of mutex watersheds stay what they are:
    /// longer affinities than those of their contacts have kept them apart.
    ///
    /// # Errors
    /// From 2³² fragments on.
    pub fn solve(&self, graph: &ContactGraph<MeanAffinity>) -> Result<Remap> {
        let threshold = match self.parameters {
            Some(PostProcessorParameters::Agglomerate { threshold }) => f64::from(threshold),
            _ => return Ok(Remap::joining(&[])?),
        };
        let limits = MergeLimits {
            least_links: LEAST_LINKS,
            ..MergeLimits::default()
        };
        Ok(MergeHistory::new(graph, MeanAffinity::mean, limits)?.segments(threshold)?)
    }
}
