//! What a training step minimises, and its gradient.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::{OutputGroup, groups};
use crate::math::{exp_negative, ln_1p_unit, sigmoid};
use crate::ops::statistics::sum;

/// Loss kinds, over all values of a group of channels. Where the weight w is 0 a value is masked: it counts nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Binary cross-entropy l of the sigmoid of the prediction, for targets in 0..=1: the weighted mean
    /// Σ w·l / Σ w, and 0 where all weights are 0.
    BceWithLogits,
    /// Mean of (w·(prediction - target))², as the original has it.
    Mse,
    /// The weighted mean Σ w·(s - target)² / Σ w, with s the sigmoid of the prediction; 0 where all weights are 0.
    MseOfSigmoid,
    /// Cross-entropy of the softmax over the group's channels: the weighted mean over voxels Σ w·l / Σ w with
    /// l = -Σ target·ln softmax. A voxel's weight is that of its target: Σ w·target over its channels.
    CrossEntropy,
}

/// Values that one task works on; sums are taken a chunk at a time, in order.
const CHUNK: usize = 1 << 13;

/// The loss of a prediction of groups of channels (samples, channels, voxels): the sum of theirs by weight. In
/// `gradient` its derivative.
pub(crate) fn loss_and_gradient(
    outputs: &[OutputGroup],
    samples: usize,
    prediction: &[f32],
    target: &[f32],
    weight: &[f32],
    gradient: &mut [f32],
) -> f64 {
    // The values of a single group are all side by side.
    if let [group] = outputs
        && (group.loss != Loss::CrossEntropy || samples == 1)
    {
        let part = Part {
            prediction,
            target,
            weight,
            gradient,
        };
        return group_loss(group, vec![part]);
    }
    let mut parts: Vec<Vec<Part>> = outputs.iter().map(|_| Vec::new()).collect();
    let mut rest = gradient;
    let places = groups(outputs, samples, prediction.len());
    for ((_, begin, len), index) in places.zip((0..outputs.len()).cycle()) {
        let (gradient, behind) = rest.split_at_mut(len);
        rest = behind;
        parts[index].push(Part {
            prediction: &prediction[begin..begin + len],
            target: &target[begin..begin + len],
            weight: &weight[begin..begin + len],
            gradient,
        });
    }
    outputs
        .iter()
        .zip(parts)
        .map(|(group, parts)| group_loss(group, parts))
        .sum()
}

/// A group's values in one sample, or in all.
struct Part<'a> {
    prediction: &'a [f32],
    target: &'a [f32],
    weight: &'a [f32],
    gradient: &'a mut [f32],
}

fn group_loss(group: &OutputGroup, mut parts: Vec<Part>) -> f64 {
    let loss = group.loss;
    if loss == Loss::CrossEntropy {
        return cross_entropy(group, &mut parts);
    }
    let total: f64 = match loss {
        Loss::Mse => parts.iter().map(|part| part.prediction.len() as f64).sum(),
        _ => parts
            .iter()
            .map(|part| chunk_sums(part.weight.par_chunks(CHUNK).map(sum)))
            .sum(),
    };
    if total == 0.0 {
        parts.iter_mut().for_each(|part| part.gradient.fill(0.0));
        return 0.0;
    }
    let scale = f64::from(group.loss_weight) / total;
    let losses: f64 = parts
        .into_iter()
        .map(|part| part_loss(loss, scale as f32, part))
        .sum();
    losses * scale
}

fn part_loss(loss: Loss, factor: f32, part: Part) -> f64 {
    let chunks = part
        .prediction
        .par_chunks(CHUNK)
        .zip(part.target.par_chunks(CHUNK))
        .zip(part.weight.par_chunks(CHUNK))
        .zip(part.gradient.par_chunks_mut(CHUNK));
    chunk_sums(chunks.map(|(((prediction, target), weight), gradient)| {
        let mut losses = [0f32; CHUNK];
        let values = prediction.iter().zip(target).zip(weight);
        for ((((&x, &t), &w), gradient), loss_value) in values.zip(gradient).zip(&mut losses) {
            let (value, slope) = match loss {
                Loss::Mse => {
                    let difference = w * (x - t);
                    (difference * difference, 2.0 * w * difference)
                }
                Loss::MseOfSigmoid => {
                    let s = sigmoid(x);
                    (w * (s - t) * (s - t), 2.0 * w * (s - t) * s * (1.0 - s))
                }
                _ => {
                    let (value, slope) = bce_with_logits(x, t);
                    (w * value, w * slope)
                }
            };
            // A masked value must not turn an infinite prediction's loss into NaN.
            *gradient = if w == 0.0 { 0.0 } else { slope * factor };
            *loss_value = if w == 0.0 { 0.0 } else { value };
        }
        sum(&losses[..prediction.len()])
    }))
}

/// The cross-entropy of classes, one sample after the other: their voxels are few beside what a network does.
fn cross_entropy(group: &OutputGroup, parts: &mut [Part]) -> f64 {
    let channels = group.channels;
    let of_voxel = |part: &Part, voxel: usize| {
        let voxels = part.prediction.len() / channels;
        let at = (0..channels).map(|c| c * voxels + voxel);
        at.map(|i| f64::from(part.weight[i] * part.target[i]))
            .sum::<f64>()
    };
    let voxels = |part: &Part| 0..part.prediction.len() / channels.max(1);
    let total: f64 = parts
        .iter()
        .map(|part| voxels(part).map(|voxel| of_voxel(part, voxel)).sum::<f64>())
        .sum();
    if total == 0.0 {
        parts.iter_mut().for_each(|part| part.gradient.fill(0.0));
        return 0.0;
    }
    let scale = f64::from(group.loss_weight) / total;
    let mut losses = 0.0;
    for part in parts {
        let count = part.prediction.len() / channels;
        for voxel in voxels(part) {
            let weight = of_voxel(part, voxel);
            let at = || (0..channels).map(|c| c * count + voxel);
            if weight == 0.0 {
                at().for_each(|i| part.gradient[i] = 0.0);
                continue;
            }
            let x = |i: usize| f64::from(part.prediction[i]);
            let most = at().map(x).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = at().map(|i| (x(i) - most).exp()).sum();
            let certain: f64 = at().map(|i| f64::from(part.target[i])).sum();
            for i in at() {
                let target = f64::from(part.target[i]);
                let log = x(i) - most - sum.ln();
                if target != 0.0 {
                    losses -= weight * target * log;
                }
                part.gradient[i] = (scale * weight * (certain * log.exp() - target)) as f32;
            }
        }
    }
    losses * scale
}

/// Sums in the order of the chunks, whatever thread took each.
fn chunk_sums(sums: impl IndexedParallelIterator<Item = f64>) -> f64 {
    sums.collect::<Vec<f64>>().into_iter().sum()
}

/// -t·ln s(x) - (1 - t)·ln(1 - s(x)) with s the sigmoid, in the form that cannot overflow, and its slope.
#[inline(always)]
fn bce_with_logits(x: f32, t: f32) -> (f32, f32) {
    let e = exp_negative(-x.abs());
    let sigmoid = (if x < 0.0 { e } else { 1.0 }) / (1.0 + e);
    let positive = if x < 0.0 { 0.0 } else { x };
    (positive - x * t + ln_1p_unit(e), sigmoid - t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Activation;

    fn group(loss: Loss, channels: usize, loss_weight: f32) -> OutputGroup {
        OutputGroup {
            channels,
            activation: Activation::None,
            loss,
            loss_weight,
        }
    }

    /// Of one channel.
    fn alone(loss: Loss, x: &[f32], t: &[f32], w: &[f32], g: &mut [f32]) -> f64 {
        loss_and_gradient(&[group(loss, 1, 1.0)], 1, x, t, w, g)
    }

    #[test]
    fn gradients_are_differences_of_losses_group_by_group() {
        let outputs = [
            group(Loss::BceWithLogits, 1, 1.0),
            group(Loss::CrossEntropy, 3, 0.5),
            group(Loss::MseOfSigmoid, 2, 2.0),
            group(Loss::Mse, 1, 0.25),
        ];
        let (samples, voxels) = (2, 5);
        let len = samples * 7 * voxels;
        let noise = |i: usize, seed: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0;
        let x: Vec<f32> = (0..len).map(|i| 4.0 * noise(i, 1) - 2.0).collect();
        let mut t: Vec<f32> = (0..len).map(|i| noise(i, 2)).collect();
        let mut w: Vec<f32> = (0..len)
            .map(|i| if i % 4 == 0 { 0.0 } else { noise(i, 3) + 0.1 })
            .collect();
        for sample in 0..samples {
            for voxel in 0..voxels {
                for channel in 1..4 {
                    let i = (sample * 7 + channel) * voxels + voxel;
                    t[i] = f32::from(u8::from(channel == 1 + (sample + voxel) % 3));
                    w[i] = if voxel == 2 { 0.0 } else { 0.5 + voxel as f32 };
                }
            }
        }
        let mut g = vec![f32::NAN; len];
        let loss = loss_and_gradient(&outputs, samples, &x, &t, &w, &mut g);
        let mut unused = vec![0.0; len];
        for i in 0..len {
            let step = 1.0 / 64.0;
            let mut at = |by: f32| {
                let mut x = x.clone();
                x[i] += by;
                loss_and_gradient(&outputs, samples, &x, &t, &w, &mut unused)
            };
            let slope = (at(step) - at(-step)) / f64::from(2.0 * step);
            assert!(
                (slope - f64::from(g[i])).abs() < 1e-4,
                "{i}: {} for {slope}",
                g[i]
            );
        }
        // The same by hand, channel by channel.
        let mut expected = 0.0;
        for (first, group) in [(0, outputs[0]), (1, outputs[1]), (4, outputs[2]), (6, outputs[3])] {
            let (mut sum, mut total) = (0.0, 0.0);
            for sample in 0..samples {
                for voxel in 0..voxels {
                    let at = |c: usize| (sample * 7 + first + c) * voxels + voxel;
                    let of = |values: &[f32], c: usize| f64::from(values[at(c)]);
                    let all: f64 = (0..group.channels).map(|c| of(&x, c).exp()).sum();
                    for c in 0..group.channels {
                        let (x, t, w) = (of(&x, c), of(&t, c), of(&w, c));
                        let s = 1.0 / (1.0 + (-x).exp());
                        let (loss, weight) = match group.loss {
                            Loss::BceWithLogits => (-w * (t * s.ln() + (1.0 - t) * (1.0 - s).ln()), w),
                            Loss::CrossEntropy => (-w * t * (x.exp() / all).ln(), w * t),
                            Loss::MseOfSigmoid => (w * (s - t).powi(2), w),
                            Loss::Mse => ((w * (x - t)).powi(2), 1.0),
                        };
                        sum += loss;
                        total += weight;
                    }
                }
            }
            expected += sum / total * f64::from(group.loss_weight);
        }
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
    }

    #[test]
    fn classes_that_are_all_masked_or_diverged_are_no_surprise() {
        let classes = [group(Loss::CrossEntropy, 2, 1.0)];
        let mut g = [f32::NAN; 2];
        let nothing = loss_and_gradient(&classes, 1, &[f32::NAN, 1.0], &[1.0, 0.0], &[0.0; 2], &mut g);
        assert_eq!((nothing, g), (0.0, [0.0; 2]));
        assert!(loss_and_gradient(&classes, 1, &[f32::NAN, 1.0], &[1.0, 0.0], &[1.0; 2], &mut g).is_nan());
        let sure = loss_and_gradient(&classes, 1, &[500.0, -500.0], &[1.0, 0.0], &[1.0; 2], &mut g);
        assert_eq!((sure, g), (0.0, [0.0; 2]));
    }

    #[test]
    fn matches_the_definition() {
        let x = [-3.0f32, 0.0, 2.0, 40.0, -80.0];
        let t = [0.0f32, 1.0, 0.25, 1.0, 1.0];
        let w = [1.0f32, 2.0, 0.5, 1.0, 0.0];
        let mut g = [f32::NAN; 5];
        let loss = alone(Loss::BceWithLogits, &x, &t, &w, &mut g);
        let (mut expected, mut total) = (0.0, 0.0);
        for i in 0..4 {
            let (x, t, w) = (f64::from(x[i]), f64::from(t[i]), f64::from(w[i]));
            let s = 1.0 / (1.0 + (-x).exp());
            expected -= w * (t * s.ln() + (1.0 - t) * (1.0 - s).max(1e-300).ln());
            total += w;
        }
        assert!(
            (loss - expected / total).abs() < 1e-6,
            "{loss} {}",
            expected / total
        );
        assert!((f64::from(g[1]) + 0.5 * 2.0 / total).abs() < 1e-7);
        assert_eq!(g[4], 0.0);
        let loss = alone(Loss::Mse, &x[..2], &t[..2], &w[..2], &mut g[..2]);
        assert!((loss - (9.0 + 4.0) / 2.0).abs() < 1e-6);
        assert_eq!(g[..2], [-3.0, -4.0]);
    }

    #[test]
    fn masked_values_count_nowhere_even_if_they_are_infinite() {
        let mut g = [f32::NAN; 2];
        let loss = alone(Loss::Mse, &[f32::INFINITY, 1.0], &[0.0, 0.0], &[0.0, 1.0], &mut g);
        assert_eq!((loss, g), (0.5, [0.0, 1.0]));
        assert_eq!(
            alone(Loss::Mse, &[f32::NAN, 1.0], &[0.0; 2], &[0.0; 2], &mut g),
            0.0
        );
        let nothing = alone(Loss::BceWithLogits, &[1.0], &[0.0], &[0.0], &mut g[..1]);
        assert_eq!(nothing, 0.0);
        assert!(alone(Loss::BceWithLogits, &[f32::NAN], &[0.0], &[1.0], &mut g[..1]).is_nan());
    }
}
