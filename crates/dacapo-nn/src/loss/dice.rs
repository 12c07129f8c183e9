//! The dice loss: how little the probabilities and the targets of a channel overlap.

use rayon::prelude::*;

use super::{Part, chunk_sums};
use crate::Activation;
use crate::engine::OutputGroup;
use crate::head::activate_to;
use crate::ops::statistics::sum;

/// Voxels that one task works on.
const CHUNK: usize = 1 << 12;

/// The sums of a channel over all samples.
#[derive(Clone, Copy, Default)]
struct Overlap {
    /// Σ w·p·t.
    shared: f64,
    /// Σ w·(p² + t²).
    both: f64,
    /// Σ w.
    weight: f64,
}

impl Overlap {
    /// From 0 to 1. A voxel that is right everywhere stands in for those of a channel without any.
    fn dice(self) -> f64 {
        (2.0 * self.shared + 1.0) / (self.both + 1.0)
    }
}

/// The mean over channels of 1 - dice, times `factor`, over parts that are a sample each; its derivative is added to
/// their gradients. Channels of which all weights are 0 do not count.
pub(super) fn dice(group: &OutputGroup, factor: f32, parts: &mut [Part]) -> f64 {
    let mut overlaps = vec![Overlap::default(); group.channels];
    for part in parts.iter() {
        for (overlap, found) in overlaps.iter_mut().zip(overlaps_of(group, part)) {
            overlap.shared += found.shared;
            overlap.both += found.both;
            overlap.weight += found.weight;
        }
    }
    let counted = overlaps.iter().filter(|overlap| overlap.weight > 0.0).count();
    if counted == 0 {
        return 0.0;
    }
    let scale = f64::from(factor) / counted as f64;
    // The derivative by p of a voxel is w·(slope·p - pull·t).
    let slopes: Vec<[f32; 2]> = overlaps
        .iter()
        .map(|overlap| {
            let pull = 2.0 * scale / (overlap.both + 1.0);
            [(pull * overlap.dice()) as f32, pull as f32]
        })
        .collect();
    for part in parts {
        add_gradient(group, &slopes, part);
    }
    let losses = overlaps.iter().filter(|overlap| overlap.weight > 0.0);
    losses.map(|overlap| 1.0 - overlap.dice()).sum::<f64>() * scale
}

/// Some voxels of a sample, channel after channel.
struct Chunk {
    probability: Vec<f32>,
    target: Vec<f32>,
    weight: Vec<f32>,
    voxels: usize,
}

impl Chunk {
    fn read(group: &OutputGroup, [prediction, target, weight]: [&[f32]; 3], index: usize) -> Self {
        let volume = prediction.len() / group.channels;
        let begin = index * CHUNK;
        let voxels = CHUNK.min(volume - begin);
        let gather = |values: &[f32]| -> Vec<f32> {
            let channels = values.chunks_exact(volume);
            channels
                .flat_map(|channel| &channel[begin..begin + voxels])
                .copied()
                .collect()
        };
        let prediction = gather(prediction);
        let mut probability = vec![0.0; prediction.len()];
        activate_to(std::slice::from_ref(group), 1, &prediction, &mut probability);
        let weight = gather(weight);
        // A masked value must not turn an infinite prediction's loss into NaN.
        let masked = probability.iter_mut().zip(&weight).filter(|(_, w)| **w == 0.0);
        match group.activation {
            // Its part in the probabilities of the other channels stays.
            Activation::Softmax => masked.for_each(|(p, _)| *p = if p.is_nan() { 0.0 } else { *p }),
            _ => masked.for_each(|(p, _)| *p = 0.0),
        }
        Self {
            probability,
            target: gather(target),
            weight,
            voxels,
        }
    }

    /// Probabilities, targets and weights, channel by channel.
    fn channels(&self) -> impl Iterator<Item = (&[f32], &[f32], &[f32])> {
        let p = self.probability.chunks_exact(self.voxels);
        let others = self
            .target
            .chunks_exact(self.voxels)
            .zip(self.weight.chunks_exact(self.voxels));
        p.zip(others).map(|(p, (t, w))| (p, t, w))
    }
}

fn chunks(group: &OutputGroup, part: &Part) -> usize {
    (part.prediction.len() / group.channels.max(1)).div_ceil(CHUNK)
}

fn overlaps_of(group: &OutputGroup, part: &Part) -> Vec<Overlap> {
    let of_chunks: Vec<Vec<Overlap>> = (0..chunks(group, part))
        .into_par_iter()
        .map(|index| {
            let chunk = Chunk::read(group, [part.prediction, part.target, part.weight], index);
            let mut buffer = vec![0.0; chunk.voxels];
            let overlaps = chunk.channels().map(|(p, t, w)| {
                let mut sum_of = |term: fn(f32, f32) -> f32| {
                    let values = p.iter().zip(t).zip(w);
                    for (to, ((&p, &t), &w)) in buffer.iter_mut().zip(values) {
                        *to = w * term(p, t);
                    }
                    sum(&buffer)
                };
                Overlap {
                    shared: sum_of(|p, t| p * t),
                    both: sum_of(|p, t| p * p + t * t),
                    weight: sum(w),
                }
            });
            overlaps.collect()
        })
        .collect();
    let of_channel = |channel: usize, what: fn(&Overlap) -> f64| {
        let each = of_chunks.par_iter().map(|chunk| what(&chunk[channel]));
        chunk_sums(each)
    };
    (0..group.channels)
        .map(|channel| Overlap {
            shared: of_channel(channel, |overlap| overlap.shared),
            both: of_channel(channel, |overlap| overlap.both),
            weight: of_channel(channel, |overlap| overlap.weight),
        })
        .collect()
}

fn add_gradient(group: &OutputGroup, slopes: &[[f32; 2]], part: &mut Part) {
    let volume = part.prediction.len() / group.channels;
    let mut pieces: Vec<Vec<&mut [f32]>> = (0..chunks(group, part)).map(|_| Vec::new()).collect();
    for channel in part.gradient.chunks_exact_mut(volume) {
        for (pieces, piece) in pieces.iter_mut().zip(channel.chunks_mut(CHUNK)) {
            pieces.push(piece);
        }
    }
    let values = [part.prediction, part.target, part.weight];
    pieces.par_iter_mut().enumerate().for_each(|(index, pieces)| {
        let chunk = Chunk::read(group, values, index);
        // By the probability, then by the prediction.
        let by_probability = |channel: usize, p: f32, t: f32, w: f32| {
            let [slope, pull] = slopes[channel];
            w * (slope * p - pull * t)
        };
        // Of a softmax: the mean of the derivatives over the channels, by probability.
        let mut means = vec![0.0; chunk.voxels];
        if group.activation == Activation::Softmax {
            for (channel, (p, t, w)) in chunk.channels().enumerate() {
                let values = p.iter().zip(t).zip(w);
                for (mean, ((&p, &t), &w)) in means.iter_mut().zip(values) {
                    *mean += p * by_probability(channel, p, t, w);
                }
            }
        }
        for ((channel, (p, t, w)), piece) in chunk.channels().enumerate().zip(pieces) {
            let values = p.iter().zip(t).zip(w).zip(&means);
            for (to, (((&p, &t), &w), &mean)) in piece.iter_mut().zip(values) {
                let slope = by_probability(channel, p, t, w);
                *to += match group.activation {
                    Activation::None => slope,
                    Activation::Sigmoid => slope * p * (1.0 - p),
                    Activation::Softmax => (slope - mean) * p,
                };
            }
        }
    });
}
