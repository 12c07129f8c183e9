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
        let objects = self.objects();
        let is_affinities = objects.is_some();
        // Voxels that there are in memory at once, and bytes that each takes beside its values.
        let all = self.volume.shape.map(|length| length as u64);
        let in_memory = match self.request.method {
            SegmentMethod::Watershed if !is_affinities => true,
            _ => is_affinities && self.request.block.is_none(),
        };
        let name = self.volume.name();
        let (voxels, what, way_out) = if in_memory {
            let way_out = match is_affinities {
                true => "segment by blocks: --block 256",
                false => "segment a part of it: --roi",
            };
            (all, format!("segmenting all of {name} at once"), way_out)
        } else {
            let block = self.request.block.unwrap_or(BLOCK);
            let around = if is_affinities {
                AffinityBlocks::LEAST_BLOCK
            } else {
                1
            };
            let length = block.saturating_add(around) as u64;
            let what = format!("segmenting {name} in blocks of {block}");
            (
                all.map(|all| all.min(length)),
                what,
                "take smaller blocks: --block 256 or less",
            )
        };
        let at_once = match is_affinities && !in_memory {
            true => THREADS.min(rayon::current_num_threads()) as u64,
            false => 1,
        };
        let voxels = voxels.into_iter().fold(at_once, u64::saturating_mul);
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
