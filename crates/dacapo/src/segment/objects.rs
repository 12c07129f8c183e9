//! Objects of affinities by blocks. Fragments of each block and what is around it are kept aside; what two blocks agree
//! on where both have seen it is one fragment, the contacts of all fragments make one graph, and its solution is
//! applied block by block. Nothing depends on the order of blocks, nor on the number of threads.

use std::collections::HashMap;
use std::sync::Mutex;

use ndarray::{Array3, s};

use dacapo_array::{ArrayRead, DraftArray};
use dacapo_kernels::{ContactGraph, MeanAffinity, Remap, Unlisted, number_block, same_fragments};
use dacapo_tasks::AffinityBlocks;

use super::Scene;
use crate::Result;
use crate::observer::Observer;
use crate::volume::{NamedArray, Ranges, Volume, common, for_each_block, lock, within};

/// Blocks that are worked on at once: each is a volume with its context.
pub(super) const THREADS: usize = 4;

/// Segments a scene block by block into `output`.
pub(super) fn by_blocks(
    scene: &Scene,
    work: &AffinityBlocks,
    channels: usize,
    output: &DraftArray,
    observer: &dyn Observer,
) -> Result<()> {
    let blocks = scene.blocks()?;
    let (context, reach) = (work.context(), work.reach());
    let outer = |inner: &Ranges| blocks.around(inner, context, context);
    let outers: Vec<Ranges> = blocks
        .grid
        .iter()
        .map(|block| outer(&blocks.inner(&block)))
        .collect();
    let largest = outers.iter().map(voxels).max().unwrap_or(0) as u64;
    let threads = THREADS.min(rayon::current_num_threads());

    // What a block saw where another looks too, until that one has compared it with its own: by both.
    let seen: Mutex<HashMap<(usize, usize), Array3<u64>>> = Mutex::default();
    let pairs: Mutex<Vec<(u64, u64)>> = Mutex::default();
    let counts: Mutex<Vec<u64>> = Mutex::new(vec![0; outers.len()]);
    let neighbours = neighbours(&outers);
    for_each_block(&blocks.grid, threads, observer, |block| {
        let (index, inner) = (block.index, blocks.inner(block));
        let outer = &outers[index];
        let values = scene.affinities(outer, channels)?;
        let mask = scene.mask(outer)?;
        let mask = mask.as_ref().map(|mask| mask.view());
        let mut found = work.fragments(values.view(), mask)?;
        lock(&counts)[index] = number_block(found.view_mut(), index as u64, largest)?;
        let own = |ranges: &Ranges| {
            let [z, y, x] = within(ranges, outer);
            found.slice(s![z, y, x]).to_owned()
        };
        scene.volume.write(output, &inner, own(&inner))?;
        for &other in &neighbours[index] {
            let Some(both) = common(outer, &outers[other]) else {
                continue;
            };
            let mine = own(&both);
            // Whoever comes second compares.
            let theirs = {
                let mut seen = lock(&seen);
                let theirs = seen.remove(&(other, index));
                if theirs.is_none() {
                    seen.insert((index, other), mine);
                    continue;
                }
                theirs
            };
            if let Some(theirs) = theirs {
                lock(&pairs).extend(same_fragments(mine.view(), theirs.view())?);
            }
        }
        Ok(())
    })?;
    let same = Remap::joining(&lock(&pairs))?;

    let fragments = NamedArray {
        name: "the fragments",
        array: output as &dyn ArrayRead,
    };
    let fragments = Volume::new(fragments, &scene.volume.roi(&scene.volume.all()))?;
    let graph: Mutex<ContactGraph<MeanAffinity>> = Mutex::default();
    for_each_block(&blocks.grid, threads, observer, |block| {
        let inner = blocks.inner(block);
        let outer = blocks.around(&inner, reach, reach);
        let (ids, values) = (fragments.labels(&outer)?, scene.affinities(&outer, channels)?);
        let part = work.contacts(ids.view(), values.view(), within(&inner, &outer))?;
        *lock(&graph) += &part;
        Ok(())
    })?;
    let graph = lock(&graph).joined(&same);
    let segments = numbered(&same.then(&work.solve(&graph)?), &lock(&counts), largest);
    for_each_block(&blocks.grid, threads, observer, |block| {
        let inner = blocks.inner(block);
        let mut labels = fragments.labels(&inner)?;
        segments.apply(labels.view_mut())?;
        scene.volume.write(output, &inner, labels)
    })
}

/// From the fragments of all blocks to their segments, these numbered from 1 in the order of their first fragments.
fn numbered(segments: &Remap, counts: &[u64], capacity: u64) -> Remap {
    let mut numbers: HashMap<u64, u64> = HashMap::new();
    let ids = counts
        .iter()
        .zip(0..)
        .flat_map(|(&count, block)| (1..=count).map(move |id| block * capacity + id));
    let pairs: Vec<(u64, u64)> = ids
        .map(|id| {
            let next = numbers.len() as u64 + 1;
            (id, *numbers.entry(segments.get(id).unwrap_or(id)).or_insert(next))
        })
        .collect();
    Remap::new(pairs, Unlisted::Keep)
}

fn voxels(ranges: &Ranges) -> usize {
    ranges.iter().map(ExactSizeIterator::len).product()
}

/// For each of some boxes the others that it has voxels in common with.
fn neighbours(boxes: &[Ranges]) -> Vec<Vec<usize>> {
    let mut found = vec![Vec::new(); boxes.len()];
    for (a, b) in touching(&boxes.iter().collect::<Vec<_>>()) {
        found[a].push(b);
        found[b].push(a);
    }
    found
}

/// The pairs of boxes, in the order of arrays, that have voxels in common.
pub(super) fn touching(boxes: &[&Ranges]) -> Vec<(usize, usize)> {
    // Those that begin behind the end of one along z do so for all that follow.
    let mut pairs = Vec::new();
    for (a, first) in boxes.iter().enumerate() {
        let others = boxes.iter().enumerate().skip(a + 1);
        let near = others.take_while(|(_, other)| other[0].start < first[0].end);
        pairs.extend(
            near.filter(|(_, other)| common(first, other).is_some())
                .map(|(b, _)| (a, b)),
        );
    }
    pairs
}
