//! What a method cannot take, and what would not fit in memory: refused before anything is written.

use dacapo_array::DType;
use dacapo_tasks::{AffinityBlocks, PostProcessorParameters};

use super::objects::THREADS;
use super::{BLOCK, Scene, SegmentMethod};
use crate::memory::check_free;
use crate::{Error, Result};

impl Scene<'_> {
    /// Refuses what the method cannot take, and what would not fit in memory.
    pub(super) fn check(&self) -> Result<()> {
        let level = match self.request.method {
            SegmentMethod::Threshold(level) => Some(level),
            SegmentMethod::Components { threshold, .. } => threshold,
            _ => None,
        };
        match level {
            // What other values mean is not known.
            Some(threshold) if self.volume.dtype() == DType::U8 => {
                PostProcessorParameters::Threshold { threshold }.check(self.request.range)?;
            }
            None if matches!(self.request.method, SegmentMethod::Components { .. }) => {
                self.volume.check_labels()?;
            }
            _ => {}
        }
        if let Some((config, parameters)) = self.objects() {
            config.by_blocks(self.dims, parameters)?;
            let (channels, named) = (self.volume.channels(), config.neighborhood.len());
            if channels < named || self.is_labels {
                return Err(Error::Shape {
                    what: "the prediction".to_owned(),
                    reason: format!("affinities in {channels} channels, of {named} offsets"),
                });
            }
            let least = AffinityBlocks::LEAST_BLOCK;
            if let Some(block) = self.request.block.filter(|&block| block < least) {
                return Err(Error::SmallBlock { block, least });
            }
        }
        self.check_memory()
    }

    fn check_memory(&self) -> Result<()> {
        let of_affinities = self.objects().is_some();
        let grows = matches!(self.request.method, SegmentMethod::Watershed) && !of_affinities;
        let all = self.volume.shape.map(|length| length as u64);
        let name = self.volume.name();
        let (at_once, lengths, what, way_out) = if grows || of_affinities && self.request.block.is_none() {
            let way_out = match grows {
                true => "segment a part of it: --roi",
                false => "segment by blocks: --block 256",
            };
            (1, all, format!("segmenting all of {name} at once"), way_out)
        } else {
            let block = self.request.block.unwrap_or(BLOCK);
            let (threads, around) = match of_affinities {
                true => (
                    THREADS.min(rayon::current_num_threads()),
                    AffinityBlocks::LEAST_BLOCK,
                ),
                false => (1, 1),
            };
            let at_once = threads.min(self.blocks()?.grid.len()) as u64;
            let length = block.saturating_add(around) as u64;
            (
                at_once,
                all.map(|all| all.min(length)),
                format!("segmenting {name} in blocks of {block} voxels"),
                "take smaller blocks: --block 256 or less",
            )
        };
        let voxels = lengths.into_iter().fold(at_once, u64::saturating_mul);
        check_free(self.request.memory, voxels, self.voxel_bytes(), what, way_out)
    }

    /// Bytes that a voxel takes while it is worked on: measured, and rounded up. Mutex watersheds sort every affinity.
    fn voxel_bytes(&self) -> u64 {
        let work = match self.request.method {
            SegmentMethod::Threshold(_) | SegmentMethod::Argmax | SegmentMethod::Components { .. } => 16,
            SegmentMethod::Watershed if self.seeds.is_some() => 24,
            SegmentMethod::MutexWatershed { .. } => 40 + 4 * self.volume.channels() as u64,
            SegmentMethod::Watershed | SegmentMethod::Agglomerate(_) => 48,
        };
        self.volume.values_bytes() + work
    }
}
