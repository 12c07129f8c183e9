//! What a training step minimises, and its gradient.

mod dice;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::{OutputGroup, groups};
use crate::math::{exp_negative, ln_1p_unit, sigmoid};
use crate::ops::statistics::sum;
use crate::simd::{InstructionSet, Loop};

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
    /// 1 - (2 Σ w·p·target + 1) / (Σ w·(p² + target²) + 1) of each channel, with p the group's activation of the
    /// prediction and the sums over the batch (Milletari et al., V-Net, 2016); the mean over the channels that have any
    /// weight. How rare a class is does not matter to it.
    Dice,
}

impl Loss {
    /// Whether it is of voxels with all their channels, not of single values.
    fn is_of_voxels(self) -> bool {
        matches!(self, Self::CrossEntropy | Self::Dice)
    }
}

/// Values that one task works on; sums are taken a chunk at a time, in order.
const CHUNK: usize = 1 << 13;

/// The loss of a prediction of groups of channels (samples, channels, voxels): the sum of theirs. In
/// `gradient` its derivative.
pub(crate) fn loss_and_gradient(
    outputs: &[OutputGroup],
    samples: usize,
    prediction: &[f32],
    target: &[f32],
    weight: &[f32],
    gradient: &mut [f32],
) -> f64 {
    gradient.fill(0.0);
    // The values of a single group are all side by side.
    if let [group] = outputs
        && (samples == 1 || !group.losses.iter().any(|(loss, _)| loss.is_of_voxels()))
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

/// The sum of a group's losses by weight; their derivatives are added to the gradient.
fn group_loss(group: &OutputGroup, mut parts: Vec<Part>) -> f64 {
    let each = group.losses.iter().map(|&(loss, weight)| match loss {
        Loss::CrossEntropy => cross_entropy(group, weight, &mut parts),
        Loss::Dice => dice::dice(group, weight, &mut parts),
        _ => mean_loss(loss, weight, &mut parts),
    });
    each.sum()
}

fn mean_loss(loss: Loss, weight: f32, parts: &mut [Part]) -> f64 {
    let total: f64 = match loss {
        Loss::Mse => parts.iter().map(|part| part.prediction.len() as f64).sum(),
        _ => parts
            .iter()
            .map(|part| chunk_sums(part.weight.par_chunks(CHUNK).map(sum)))
            .sum(),
    };
    if total == 0.0 {
        return 0.0;
    }
    let scale = f64::from(weight) / total;
    let losses: f64 = parts
        .iter_mut()
        .map(|part| part_loss(loss, scale as f32, part))
        .sum();
    losses * scale
}

fn part_loss(loss: Loss, factor: f32, part: &mut Part) -> f64 {
    let chunks = part
        .prediction
        .par_chunks(CHUNK)
        .zip(part.target.par_chunks(CHUNK))
        .zip(part.weight.par_chunks(CHUNK))
        .zip(part.gradient.par_chunks_mut(CHUNK));
    chunk_sums(chunks.map(|(((prediction, target), weight), gradient)| {
        let mut losses = [0f32; CHUNK];
        InstructionSet::detect().run_loop(Values {
            loss,
            factor,
            prediction,
            target,
            weight,
            gradient,
            losses: &mut losses,
        });
        sum(&losses[..prediction.len()])
    }))
}

/// A mean's losses of single values, before they are divided, and their derivatives times `factor`, added up.
struct Values<'a> {
    loss: Loss,
    factor: f32,
    prediction: &'a [f32],
    target: &'a [f32],
    weight: &'a [f32],
    gradient: &'a mut [f32],
    losses: &'a mut [f32],
}

impl Loop for Values<'_> {
    #[inline(always)]
    fn run(self) {
        match self.loss {
            Loss::Mse => self.each(|x, t, w| {
                let difference = w * (x - t);
                (difference * difference, 2.0 * w * difference)
            }),
            Loss::MseOfSigmoid => self.each(|x, t, w| {
                let s = sigmoid(x);
                (w * (s - t) * (s - t), 2.0 * w * (s - t) * s * (1.0 - s))
            }),
            _ => self.each(|x, t, w| {
                let (value, slope) = bce_with_logits(x, t);
                (w * value, w * slope)
            }),
        }
    }
}

impl Values<'_> {
    /// `f` gives the loss and its slope of a prediction, target and weight.
    #[inline(always)]
    fn each(self, f: impl Fn(f32, f32, f32) -> (f32, f32)) {
        let values = self.prediction.iter().zip(self.target).zip(self.weight);
        for ((((&x, &t), &w), gradient), loss) in values.zip(self.gradient).zip(self.losses) {
            let (value, slope) = f(x, t, w);
            // A masked value must not turn an infinite prediction's loss into NaN.
            *gradient += if w == 0.0 { 0.0 } else { slope * self.factor };
            *loss = if w == 0.0 { 0.0 } else { value };
        }
    }
}

/// The cross-entropy of classes, one sample after the other: their voxels are few beside what a network does.
fn cross_entropy(group: &OutputGroup, weight: f32, parts: &mut [Part]) -> f64 {
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
        return 0.0;
    }
    let scale = f64::from(weight) / total;
    let mut losses = 0.0;
    for part in parts {
        let count = part.prediction.len() / channels;
        for voxel in voxels(part) {
            let weight = of_voxel(part, voxel);
            let at = || (0..channels).map(|c| c * count + voxel);
            if weight == 0.0 {
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
                part.gradient[i] += (scale * weight * (certain * log.exp() - target)) as f32;
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
            losses: vec![(loss, loss_weight)],
        }
    }

    /// Of one channel.
    fn alone(loss: Loss, x: &[f32], t: &[f32], w: &[f32], g: &mut [f32]) -> f64 {
        loss_and_gradient(&[group(loss, 1, 1.0)], 1, x, t, w, g)
    }

    #[test]
    fn losses_have_the_same_bits_with_any_instructions() {
        let values = |seed: u64| -> Vec<f32> {
            (0..1003)
                .map(|i| (crate::init::mix(seed * 4096 + i) >> 40) as f32 / (1u64 << 21) as f32 - 4.0)
                .collect()
        };
        let (x, t, mut w) = (values(1), values(2), values(3));
        w.iter_mut().step_by(7).for_each(|w| *w = 0.0);
        for loss in [Loss::Mse, Loss::MseOfSigmoid, Loss::BceWithLogits] {
            let results = InstructionSet::available().into_iter().map(|set| {
                let (mut gradient, mut losses) = (values(4), vec![0.0; x.len()]);
                set.run_loop(Values {
                    loss,
                    factor: 0.3,
                    prediction: &x,
                    target: &t,
                    weight: &w,
                    gradient: &mut gradient,
                    losses: &mut losses,
                });
                (gradient, losses)
            });
            let results: Vec<_> = results.collect();
            assert!(results[0].1.iter().any(|l| *l != 0.0));
            assert!(results[1..].iter().all(|r| *r == results[0]), "{loss:?}");
        }
    }

    /// The definition, in double precision.
    fn naive(outputs: &[OutputGroup], samples: usize, x: &[f64], t: &[f32], w: &[f32]) -> f64 {
        let channels: usize = outputs.iter().map(|group| group.channels).sum();
        let voxels = x.len() / (samples * channels);
        let (mut result, mut first) = (0.0, 0);
        for group in outputs {
            let at = |sample: usize, c: usize, voxel: usize| (sample * channels + first + c) * voxels + voxel;
            let places = || (0..samples).flat_map(|sample| (0..voxels).map(move |voxel| (sample, voxel)));
            let softmax = |s: usize, c: usize, v: usize| {
                let all: f64 = (0..group.channels).map(|c| x[at(s, c, v)].exp()).sum();
                x[at(s, c, v)].exp() / all
            };
            let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
            for &(loss, factor) in &group.losses {
                let (mut sum, mut total) = (0.0, 0.0);
                for c in 0..group.channels {
                    let (mut shared, mut both, mut any) = (0.0, 0.0, 0.0);
                    for (s, v) in places() {
                        let i = at(s, c, v);
                        let (x, t, w) = (x[i], f64::from(t[i]), f64::from(w[i]));
                        let (value, weight) = match loss {
                            Loss::BceWithLogits => {
                                let s = sigmoid(x);
                                (-w * (t * s.ln() + (1.0 - t) * (1.0 - s).ln()), w)
                            }
                            Loss::CrossEntropy => (-w * t * softmax(s, c, v).ln(), w * t),
                            Loss::MseOfSigmoid => (w * (sigmoid(x) - t).powi(2), w),
                            Loss::Mse => ((w * (x - t)).powi(2), 1.0),
                            Loss::Dice => {
                                let p = match group.activation {
                                    Activation::None => x,
                                    Activation::Sigmoid => sigmoid(x),
                                    Activation::Softmax => softmax(s, c, v),
                                };
                                shared += w * p * t;
                                both += w * (p * p + t * t);
                                any += w;
                                continue;
                            }
                        };
                        sum += value;
                        total += weight;
                    }
                    if any > 0.0 {
                        sum += 1.0 - (2.0 * shared + 1.0) / (both + 1.0);
                        total += 1.0;
                    }
                }
                result += sum / total * f64::from(factor);
            }
            first += group.channels;
        }
        result
    }

    /// Predictions, targets and weights without sense; some weights are 0, all those of `masked` among them. Targets of
    /// `classes` are one of them.
    fn noise(
        [samples, channels, voxels]: [usize; 3],
        masked: usize,
        classes: std::ops::Range<usize>,
    ) -> [Vec<f32>; 3] {
        let len = samples * channels * voxels;
        let noise = |i: usize, seed: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0;
        let x = (0..len).map(|i| 4.0 * noise(i, 1) - 2.0).collect();
        let mut t: Vec<f32> = (0..len).map(|i| noise(i, 2)).collect();
        let mut w: Vec<f32> = (0..len)
            .map(|i| if i % 4 == 0 { 0.0 } else { noise(i, 3) + 0.1 })
            .collect();
        for sample in 0..samples {
            for voxel in 0..voxels {
                let at = |channel: usize| (sample * channels + channel) * voxels + voxel;
                for channel in classes.clone() {
                    let class = classes.start + (sample + voxel) % classes.len();
                    t[at(channel)] = f32::from(u8::from(channel == class));
                    w[at(channel)] = if voxel == 2 { 0.0 } else { 0.5 + voxel as f32 };
                }
                if masked < channels {
                    w[at(masked)] = 0.0;
                }
            }
        }
        [x, t, w]
    }

    /// Loss and gradient against the definition and its central differences, all in double precision.
    fn compare(outputs: &[OutputGroup], [samples, voxels]: [usize; 2], [x, t, w]: &[Vec<f32>; 3]) {
        assert_eq!(x.len() % (samples * voxels), 0);
        let mut g = vec![f32::NAN; x.len()];
        let loss = loss_and_gradient(outputs, samples, x, t, w, &mut g);
        let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let expected = naive(outputs, samples, &exact, t, w);
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
        let step = 1e-5;
        for i in 0..x.len() {
            let at = |by: f64| {
                let mut x = exact.clone();
                x[i] += by;
                naive(outputs, samples, &x, t, w)
            };
            let slope = (at(step) - at(-step)) / (2.0 * step);
            assert!(
                (slope - f64::from(g[i])).abs() < 1e-6,
                "{i}: {} for {slope}",
                g[i]
            );
            if w[i] == 0.0
                && outputs
                    .iter()
                    .all(|group| group.activation != Activation::Softmax)
            {
                assert_eq!(g[i], 0.0);
            }
        }
    }

    #[test]
    fn gradients_are_differences_of_losses_group_by_group() {
        let outputs = [
            group(Loss::BceWithLogits, 1, 1.0),
            group(Loss::CrossEntropy, 3, 0.5),
            group(Loss::MseOfSigmoid, 2, 2.0),
            group(Loss::Mse, 1, 0.25),
        ];
        compare(&outputs, [2, 5], &noise([2, 7, 5], 7, 1..4));
    }

    #[test]
    fn losses_are_added_up_by_weight() {
        let combined = |activation, channels, losses: &[(Loss, f32)]| OutputGroup {
            channels,
            activation,
            losses: losses.to_vec(),
        };
        let dice = (Loss::Dice, 0.5);
        // By samples or by all of them, alone and beside others, and one channel that is all masked.
        for samples in [1, 3] {
            let single = [combined(
                Activation::Sigmoid,
                3,
                &[(Loss::BceWithLogits, 1.5), dice, (Loss::MseOfSigmoid, 0.25)],
            )];
            compare(&single, [samples, 7], &noise([samples, 3, 7], 1, 0..0));
            let several = [
                combined(Activation::Softmax, 3, &[(Loss::CrossEntropy, 1.0), dice]),
                combined(Activation::Sigmoid, 1, &[dice]),
                combined(Activation::None, 2, &[dice, (Loss::Mse, 2.0)]),
            ];
            compare(&several, [samples, 7], &noise([samples, 6, 7], 4, 0..3));
        }
    }

    #[test]
    fn dice_is_that_of_any_number_of_voxels() {
        let of = |activation, samples: usize, voxels: usize| {
            let outputs = [OutputGroup {
                channels: 2,
                activation,
                losses: vec![(Loss::Dice, 2.0)],
            }];
            let [x, t, w] = noise([samples, 2, voxels], 9, 0..0);
            let mut g = vec![f32::NAN; x.len()];
            let loss = loss_and_gradient(&outputs, samples, &x, &t, &w, &mut g);
            let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let expected = naive(&outputs, samples, &exact, &t, &w);
            assert!((loss - expected).abs() < 1e-5, "{loss} {expected}");
            assert!(g.iter().all(|g| g.is_finite()));
        };
        for activation in [Activation::Sigmoid, Activation::Softmax] {
            for voxels in [1, (1 << 12) - 1, 1 << 12, (1 << 13) + 3] {
                of(activation, 2, voxels);
            }
        }
    }

    #[test]
    fn dice_of_masked_or_diverged_predictions_is_no_surprise() {
        let dice = |activation| {
            [OutputGroup {
                channels: 2,
                activation,
                losses: vec![(Loss::Dice, 1.0)],
            }]
        };
        let mut g = [f32::NAN; 2];
        let sigmoid = dice(Activation::Sigmoid);
        let loss = loss_and_gradient(&sigmoid, 1, &[f32::NAN, 80.0], &[0.0, 1.0], &[0.0, 1.0], &mut g);
        assert_eq!((loss, g), (0.0, [0.0; 2]));
        let loss = loss_and_gradient(&sigmoid, 1, &[f32::NAN, 1.0], &[0.0, 1.0], &[1.0; 2], &mut g);
        assert!(loss.is_nan());
        let softmax = dice(Activation::Softmax);
        let loss = loss_and_gradient(&softmax, 1, &[f32::NAN, 1.0], &[0.0, 1.0], &[0.0; 2], &mut g);
        assert_eq!((loss, g), (0.0, [0.0; 2]));
        let loss = loss_and_gradient(&softmax, 1, &[f32::NAN, 1.0], &[0.0, 1.0], &[0.0, 1.0], &mut g);
        assert!(loss.is_nan());
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
