//! What a training step minimises, and its gradient.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::math::{exp_negative, ln_1p_unit};
use crate::ops::statistics::sum;

/// Loss kinds, over all values of a batch. Where the weight w is 0 a value is masked: it counts nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Binary cross-entropy l of the sigmoid of the prediction, for targets in 0..=1: the weighted mean
    /// Σ w·l / Σ w, and 0 where all weights are 0.
    BceWithLogits,
    /// Mean of (w·(prediction - target))², as the original has it.
    Mse,
}

/// Values that one task works on; sums are taken a chunk at a time, in order.
const CHUNK: usize = 1 << 13;

/// The loss of a prediction, and in `gradient` its derivative.
pub(crate) fn loss_and_gradient(
    loss: Loss,
    prediction: &[f32],
    target: &[f32],
    weight: &[f32],
    gradient: &mut [f32],
) -> f64 {
    let total = match loss {
        Loss::BceWithLogits => chunk_sums(weight.par_chunks(CHUNK).map(sum)),
        Loss::Mse => prediction.len() as f64,
    };
    if total == 0.0 {
        gradient.fill(0.0);
        return 0.0;
    }
    let factor = (1.0 / total) as f32;
    let chunks = prediction
        .par_chunks(CHUNK)
        .zip(target.par_chunks(CHUNK))
        .zip(weight.par_chunks(CHUNK))
        .zip(gradient.par_chunks_mut(CHUNK));
    let losses = chunk_sums(chunks.map(|(((prediction, target), weight), gradient)| {
        let mut losses = [0f32; CHUNK];
        let values = prediction.iter().zip(target).zip(weight);
        for ((((&x, &t), &w), gradient), loss_value) in values.zip(gradient).zip(&mut losses) {
            let (value, slope) = match loss {
                Loss::BceWithLogits => {
                    let (value, slope) = bce_with_logits(x, t);
                    (w * value, w * slope)
                }
                Loss::Mse => {
                    let difference = w * (x - t);
                    (difference * difference, 2.0 * w * difference)
                }
            };
            // A masked value must not turn an infinite prediction's loss into NaN.
            *gradient = if w == 0.0 { 0.0 } else { slope * factor };
            *loss_value = if w == 0.0 { 0.0 } else { value };
        }
        sum(&losses[..prediction.len()])
    }));
    losses / total
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

    #[test]
    fn matches_the_definition() {
        let x = [-3.0f32, 0.0, 2.0, 40.0, -80.0];
        let t = [0.0f32, 1.0, 0.25, 1.0, 1.0];
        let w = [1.0f32, 2.0, 0.5, 1.0, 0.0];
        let mut g = [f32::NAN; 5];
        let loss = loss_and_gradient(Loss::BceWithLogits, &x, &t, &w, &mut g);
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
        let loss = loss_and_gradient(Loss::Mse, &x[..2], &t[..2], &w[..2], &mut g[..2]);
        assert!((loss - (9.0 + 4.0) / 2.0).abs() < 1e-6);
        assert_eq!(g[..2], [-3.0, -4.0]);
    }

    #[test]
    fn masked_values_count_nowhere_even_if_they_are_infinite() {
        let mut g = [f32::NAN; 2];
        let loss = loss_and_gradient(Loss::Mse, &[f32::INFINITY, 1.0], &[0.0, 0.0], &[0.0, 1.0], &mut g);
        assert_eq!((loss, g), (0.5, [0.0, 1.0]));
        assert_eq!(
            loss_and_gradient(Loss::Mse, &[f32::NAN, 1.0], &[0.0; 2], &[0.0; 2], &mut g),
            0.0
        );
        let nothing = loss_and_gradient(Loss::BceWithLogits, &[1.0], &[0.0], &[0.0], &mut g[..1]);
        assert_eq!(nothing, 0.0);
        assert!(loss_and_gradient(Loss::BceWithLogits, &[f32::NAN], &[0.0], &[1.0], &mut g[..1]).is_nan());
    }
}
