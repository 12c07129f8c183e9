//! From affinities to segments, with the work that parameter sets share done once.

use std::ops::Range;

use ndarray::{Array3, ArrayView3, ArrayView4, Axis};
use rayon::prelude::*;

use dacapo_kernels::{
    ContactGraph, FragmentParameters, MeanAffinity, MergeHistory, MergeLimits, MutexEdges, Offset, fragments,
};

use crate::parameters::PostProcessorParameters;
use crate::{Error, Result};

/// Offsets of at most so many voxels along each axis are short: what they link is in contact.
const SHORT: u64 = 3;

/// Makes segments of the affinities of a neighbourhood.
pub(crate) struct Segmenter {
    offsets: Vec<Offset>,
    /// Channels of the short offsets; where none is, those of the shortest.
    short: Vec<usize>,
}

impl Segmenter {
    /// For a neighbourhood that is not empty.
    pub fn new(offsets: Vec<Offset>) -> Self {
        let length = |offset: &Offset| offset.iter().map(|n| n.unsigned_abs()).max().unwrap_or(0);
        let shortest = offsets.iter().map(length).min().unwrap_or(0);
        let is_short = |&channel: &usize| length(&offsets[channel]) <= SHORT.max(shortest);
        let short = (0..offsets.len()).filter(is_short).collect();
        Self { offsets, short }
    }

    /// Hands over the segmentation of each parameter set, in their order.
    pub fn sweep(
        &self,
        prediction: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
        parameters: &[PostProcessorParameters],
        each: &mut dyn FnMut(&PostProcessorParameters, &mut Array3<u64>) -> Result<()>,
    ) -> Result<()> {
        self.check(prediction, mask)?;
        let is_other = |set: &&PostProcessorParameters| {
            set.biases().is_none() && !matches!(set, PostProcessorParameters::Agglomerate { .. })
        };
        if let Some(&parameters) = parameters.iter().find(is_other) {
            return Err(Error::Method { parameters });
        }
        let mut merging: Option<Merging> = None;
        let mut edges: Option<MutexEdges> = None;
        // Mutex watersheds are sequential: several run side by side, as many as there are threads.
        let width = rayon::current_num_threads().max(1);
        let methods = parameters.chunk_by(|a, b| a.biases().is_some() && b.biases().is_some());
        for sets in methods.flat_map(|sets| sets.chunks(width)) {
            let segmentations: Vec<Array3<u64>> =
                if let [PostProcessorParameters::Agglomerate { threshold }] = sets {
                    let merging = match &mut merging {
                        Some(merging) => merging,
                        none => none.insert(self.merging(prediction, mask)?),
                    };
                    vec![merging.segment(*threshold)?]
                } else {
                    let edges = match &mut edges {
                        Some(edges) => edges,
                        none => none.insert(self.edges(prediction, mask)?),
                    };
                    let biases = sets.par_iter().filter_map(PostProcessorParameters::biases);
                    biases
                        .map(|biases| edges.segment(&biases))
                        .collect::<Result<_, _>>()?
                };
            for (set, mut segmentation) in sets.iter().zip(segmentations) {
                each(set, &mut segmentation)?;
            }
        }
        Ok(())
    }

    fn check(&self, prediction: ArrayView4<f32>, mask: Option<ArrayView3<bool>>) -> Result<()> {
        let shape = |what, found: &[usize], expected| {
            let found = found.to_vec();
            Err(Error::Shape {
                what,
                found,
                expected,
            })
        };
        if prediction.shape()[0] != self.offsets.len() {
            return shape(
                "prediction",
                prediction.shape(),
                format!("{} channels", self.offsets.len()),
            );
        }
        match mask {
            Some(mask) if mask.shape() != &prediction.shape()[1..] => {
                shape("mask", mask.shape(), format!("{:?}", &prediction.shape()[1..]))
            }
            _ => Ok(()),
        }
    }

    /// The longest that a short offset is along z, y and x.
    pub fn reach(&self) -> [usize; 3] {
        let short = self.short_offsets();
        let along = |axis: usize| {
            short
                .iter()
                .map(|offset| offset[axis].unsigned_abs() as usize)
                .max()
        };
        std::array::from_fn(|axis| along(axis).unwrap_or(0))
    }

    fn short_offsets(&self) -> Vec<Offset> {
        self.short.iter().map(|&channel| self.offsets[channel]).collect()
    }

    /// Watershed fragments of the short affinities.
    pub fn fragments(
        &self,
        prediction: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
    ) -> Result<Array3<u64>> {
        self.check(prediction, mask)?;
        let short = prediction.select(Axis(0), &self.short);
        let parameters = FragmentParameters::default();
        Ok(fragments(short.view(), &self.short_offsets(), mask, &parameters)?)
    }

    /// The mutex watershed of all affinities.
    pub fn mutex(
        &self,
        prediction: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
        biases: &[f32; 2],
    ) -> Result<Array3<u64>> {
        self.check(prediction, mask)?;
        Ok(self.edges(prediction, mask)?.segment(biases)?)
    }

    /// How fragments touch, by the short affinities of the links that begin in `inner`.
    pub fn contacts(
        &self,
        fragments: ArrayView3<u64>,
        prediction: ArrayView4<f32>,
        inner: [Range<usize>; 3],
    ) -> Result<ContactGraph<MeanAffinity>> {
        let short = prediction.select(Axis(0), &self.short);
        let offsets = self.short_offsets();
        Ok(ContactGraph::of_block(fragments, short.view(), &offsets, inner)?)
    }

    fn merging(&self, prediction: ArrayView4<f32>, mask: Option<ArrayView3<bool>>) -> Result<Merging> {
        let fragments = self.fragments(prediction, mask)?;
        let (depth, height, width) = fragments.dim();
        let graph = self.contacts(fragments.view(), prediction, [0..depth, 0..height, 0..width])?;
        let history = MergeHistory::new(&graph, MeanAffinity::mean, MergeLimits::default())?;
        tracing::debug!(merges = history.merges().len(), "merged fragments");
        Ok(Merging { fragments, history })
    }

    fn edges(&self, prediction: ArrayView4<f32>, mask: Option<ArrayView3<bool>>) -> Result<MutexEdges> {
        let groups: Vec<usize> = (0..self.offsets.len())
            .map(|channel| usize::from(!self.short.contains(&channel)))
            .collect();
        Ok(MutexEdges::new(prediction, &self.offsets, &groups, None, mask)?)
    }
}

/// Fragments, and how they merge.
struct Merging {
    fragments: Array3<u64>,
    history: MergeHistory,
}

impl Merging {
    fn segment(&self, threshold: f32) -> Result<Array3<u64>> {
        Ok(self
            .history
            .segment(self.fragments.view(), f64::from(threshold))?)
    }
}
