//! What a training step minimises, in libtorch: [`Loss`] says what each is.

use tch::{Kind, Reduction, Result, Tensor};

use crate::{Activation, Loss, OutputGroup};

/// The loss of a prediction of groups of channels: the sum of theirs by weight, as a scalar of 64 bits.
pub(super) fn loss(
    outputs: &[OutputGroup],
    prediction: &Tensor,
    target: &Tensor,
    weight: &Tensor,
) -> Result<Tensor> {
    let mut sum = Tensor::f_zeros([0i64; 0], (Kind::Double, prediction.device()))?;
    let mut first = 0;
    for group in outputs {
        let channels = group.channels as i64;
        let [x, t, w] = [prediction, target, weight].map(|tensor| tensor.f_narrow(1, first, channels));
        let (x, t, w) = (x?, t?, w?);
        for &(loss, factor) in &group.losses {
            let loss = match loss {
                Loss::Dice => dice(group.activation, &x, &t, &w)?,
                _ => mean(loss, &x, &t, &w)?,
            };
            sum = sum.f_add(&loss.f_mul_scalar(f64::from(factor))?)?;
        }
        first += channels;
    }
    Ok(sum)
}

/// The losses that are means over values or voxels.
fn mean(loss: Loss, x: &Tensor, t: &Tensor, w: &Tensor) -> Result<Tensor> {
    if loss == Loss::CrossEntropy {
        let w = w
            .f_mul(t)?
            .f_sum_dim_intlist([1].as_slice(), true, None::<Kind>)?;
        let log = unmasked(x, &w)?.f_log_softmax(1, None::<Kind>)?;
        return weighted_mean(&w, &t.f_mul(&log)?.f_neg()?);
    }
    let x = unmasked(x, w)?;
    match loss {
        Loss::Mse => {
            let count = x.numel().max(1) as f64;
            let squares = w.f_mul(&x.f_sub(t)?)?.f_square()?;
            squares.f_sum(Kind::Double)?.f_div_scalar(count)
        }
        Loss::MseOfSigmoid => weighted_mean(w, &x.f_sigmoid()?.f_sub(t)?.f_square()?),
        Loss::BceWithLogits | Loss::CrossEntropy | Loss::Dice => {
            let none = None::<&Tensor>;
            let losses = x.f_binary_cross_entropy_with_logits(t, none, none, Reduction::None)?;
            weighted_mean(w, &losses)
        }
    }
}

/// The mean over the channels that have any weight.
fn dice(activation: Activation, x: &Tensor, t: &Tensor, w: &Tensor) -> Result<Tensor> {
    let p = match activation {
        Activation::None => x.shallow_clone(),
        Activation::Sigmoid => x.f_sigmoid()?,
        Activation::Softmax => x.f_softmax(1, None::<Kind>)?,
    };
    let p = unmasked(&p, w)?;
    // Over all axes but that of the channels.
    let sum = |values: Tensor| {
        let axes: Vec<i64> = (0..values.dim() as i64).filter(|&axis| axis != 1).collect();
        values.f_sum_dim_intlist(&axes[..], false, Kind::Double)
    };
    let shared = sum(w.f_mul(&p)?.f_mul(t)?)?;
    let both = sum(w.f_mul(&p.f_square()?.f_add(&t.f_square()?)?)?)?;
    let overlap = shared
        .f_mul_scalar(2.0)?
        .f_add_scalar(1.0)?
        .f_div(&both.f_add_scalar(1.0)?)?;
    let counted = sum(w.shallow_clone())?.f_gt(0.0)?.f_to_kind(Kind::Double)?;
    let count = counted.f_sum(Kind::Double)?.f_clamp_min(1.0)?;
    let losses = overlap.f_neg()?.f_add_scalar(1.0)?.f_mul(&counted)?;
    losses.f_sum(Kind::Double)?.f_div(&count)
}

/// The same with 0 where the weight is: a masked value must not turn an infinite prediction's loss into NaN.
fn unmasked(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    x.f_masked_fill(&w.f_eq(0.0)?, 0.0)
}

/// Σ w·l / Σ w, and 0 where all weights are 0.
fn weighted_mean(w: &Tensor, losses: &Tensor) -> Result<Tensor> {
    let total = w.f_sum(Kind::Double)?;
    let total = total.f_masked_fill(&total.f_eq(0.0)?, 1.0)?;
    w.f_mul(losses)?.f_sum(Kind::Double)?.f_div(&total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::loss_and_gradient;

    /// Several groups, samples, masked values (one of them infinite) and all losses: as on the CPU.
    #[test]
    fn losses_and_gradients_are_those_of_the_cpu_engine() {
        let group = |losses: &[(Loss, f32)], channels, activation| OutputGroup {
            channels,
            activation,
            losses: losses.to_vec(),
        };
        let (bce, dice) = (Loss::BceWithLogits, Loss::Dice);
        let outputs = [
            group(&[(bce, 1.0), (dice, 0.5)], 1, Activation::Sigmoid),
            group(&[(Loss::CrossEntropy, 0.5), (dice, 2.0)], 3, Activation::Softmax),
            group(&[(Loss::MseOfSigmoid, 2.0)], 2, Activation::Sigmoid),
            group(&[(Loss::Mse, 0.25)], 1, Activation::None),
        ];
        let (samples, voxels) = (2, 5);
        let len = samples * 7 * voxels;
        let noise = |i: usize, salt: usize| ((i * 7919 + salt * 104_729) % 1009) as f32 / 1009.0;
        let mut x: Vec<f32> = (0..len).map(|i| 4.0 * noise(i, 1) - 2.0).collect();
        let t: Vec<f32> = (0..len).map(|i| noise(i, 2)).collect();
        let mut w: Vec<f32> = (0..len)
            .map(|i| if i % 4 == 0 { 0.0 } else { noise(i, 3) + 0.1 })
            .collect();
        (x[0], w[0]) = (f32::INFINITY, 0.0);
        // The classes of one voxel are all masked.
        (1..4).for_each(|channel| w[channel * voxels + 2] = 0.0);
        let compare = |w: &[f32]| {
            let mut expected = vec![f32::NAN; len];
            let expected_loss = loss_and_gradient(&outputs, samples, &x, &t, w, &mut expected);
            let tensor =
                |values: &[f32]| Tensor::from_slice(values).reshape([samples as i64, 7, 1, voxels as i64]);
            let prediction = tensor(&x).set_requires_grad(true);
            let found = loss(&outputs, &prediction, &tensor(&t), &tensor(w)).unwrap();
            let gradient = Tensor::run_backward(&[&found], &[&prediction], false, false);
            let gradient = Vec::<f32>::try_from(gradient[0].reshape([-1])).unwrap();
            assert!(
                (found.double_value(&[]) - expected_loss).abs() < 1e-6,
                "{found:?} {expected_loss}"
            );
            for (i, (found, expected)) in gradient.iter().zip(&expected).enumerate() {
                assert!((found - expected).abs() < 1e-6, "{i}: {found} {expected}");
            }
        };
        compare(&w);
        compare(&vec![0.0; len]);
    }
}
