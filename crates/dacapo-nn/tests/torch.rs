//! The engine on libtorch beside the CPU engine, on libtorch's CPU: the same predictions, losses, checkpoints and
//! refusals. `.ci/run` runs them; by hand, see docs/gpu.md. `DACAPO_DEVICE=cuda` runs them on a GPU.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use common::{batch, everything, noise, stem, variants};
use dacapo_nn::{
    Activation, Batch, CpuEngine, Device, Engine, EngineConfig, Error, Loss, NamedTensor, Network,
    NetworkSpec, Norm, OptimizerConfig, OptimizerKind, OutputGroup, Padding, Precision, Tensor, UNetConfig,
};

fn device() -> Device {
    match std::env::var("DACAPO_DEVICE") {
        Ok(name) => name.parse().unwrap(),
        Err(_) => Device::TorchCpu,
    }
}

fn torch_with(config: EngineConfig) -> Box<dyn Engine> {
    EngineConfig {
        device: device(),
        ..config
    }
    .start()
    .unwrap()
}

fn torch() -> Box<dyn Engine> {
    torch_with(EngineConfig::default())
}

fn cpu() -> CpuEngine {
    CpuEngine::new(None).unwrap()
}

/// All activations and losses in one head of six channels.
fn spec(architecture: &UNetConfig) -> NetworkSpec {
    let group = |channels, activation, loss| OutputGroup {
        channels,
        activation,
        losses: vec![(loss, 1.0)],
    };
    NetworkSpec {
        outputs: vec![
            group(2, Activation::Sigmoid, Loss::BceWithLogits),
            group(2, Activation::Softmax, Loss::CrossEntropy),
            group(1, Activation::None, Loss::Mse),
            group(1, Activation::Sigmoid, Loss::MseOfSigmoid),
        ],
        clip_gradient_norm: Some(1.0),
        ..NetworkSpec::new(architecture.clone(), 6)
    }
}

const CHANNELS: usize = 6;

/// Those of all engines, and shapes where axes are not alike.
fn architectures() -> Vec<(&'static str, UNetConfig)> {
    let mut all = variants();
    all.push((
        "anisotropic",
        UNetConfig {
            input_shape: vec![20, 64, 60],
            num_fmaps: 4,
            fmap_inc_factor: 2,
            downsample_factors: vec![vec![1, 3, 2], vec![1, 2, 2]],
            kernel_size_down: Some(vec![
                vec![vec![1, 3, 3]; 2],
                vec![vec![3; 3]; 2],
                vec![vec![3; 3]; 2],
            ]),
            kernel_size_up: Some(vec![vec![vec![1, 3, 3]; 2], vec![vec![3; 3]; 2]]),
            ..UNetConfig::default()
        },
    ));
    all.push((
        "everything",
        UNetConfig {
            input_shape: vec![60; 3],
            ..everything()
        },
    ));
    all
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

/// Tensors that are alike, but for rounding. What is small beside all others is rounding alone: a bias in front of a
/// normalisation has no gradient.
fn compare(name: &str, ours: &[NamedTensor], theirs: &[NamedTensor]) {
    let largest = |tensor: &NamedTensor| tensor.data.iter().fold(0f32, |most, v| most.max(v.abs()));
    let most = ours.iter().map(largest).fold(0.0, f32::max);
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(theirs) {
        let difference = largest_difference(&a.data, &b.data);
        assert_eq!(a.name, b.name);
        assert!(
            difference < 2e-3 * largest(a) + 1e-4 * most,
            "{name}: {} by {difference} of {} and {most}",
            a.name,
            largest(a)
        );
    }
}

fn predicted(network: &mut dyn Network, input: &Tensor) -> Tensor {
    let mut output = Tensor::default();
    network.forward(input, &mut output).unwrap();
    output
}

fn tensors_of(network: &dyn Network, prefix: &str) -> Vec<NamedTensor> {
    let tensors = network.export().unwrap().into_iter();
    tensors.filter(|tensor| tensor.name.starts_with(prefix)).collect()
}

/// Initial values, a training step (what it predicts, its loss, its gradients, so dropout too) and a prediction
/// afterwards from the same weights.
#[test]
fn every_architecture_computes_what_the_cpu_engine_does() {
    for (name, architecture) in architectures() {
        let spec = spec(&architecture);
        let (mut ours, mut theirs) = (cpu().build(&spec).unwrap(), torch().build(&spec).unwrap());
        assert!(
            ours.export().unwrap() == theirs.export().unwrap(),
            "{name}: initial values"
        );
        let batch = batch(&architecture, CHANNELS, 2, 0);
        let (a, b) = (
            ours.train_step(&batch, 1e-3).unwrap(),
            theirs.train_step(&batch, 1e-3).unwrap(),
        );
        let (p, q) = (ours.prediction(), theirs.prediction());
        let scale = p.data.iter().fold(1f32, |most, v| most.max(v.abs()));
        assert_eq!(p.shape, q.shape);
        let difference = largest_difference(&p.data, &q.data);
        assert!(
            difference < 1e-4 * scale,
            "{name}: {difference} of {scale} in training"
        );
        assert!((a.loss - b.loss).abs() < 1e-5 * a.loss, "{name}: {a:?} {b:?}");
        assert!(
            (a.gradient_norm - b.gradient_norm).abs() < 1e-3 * a.gradient_norm,
            "{name}: {a:?} {b:?}"
        );
        // First moments are the gradients, but for a factor.
        let gradients = |network: &dyn Network| tensors_of(network, "optimizer/exp_avg/");
        compare(name, &gradients(ours.as_ref()), &gradients(theirs.as_ref()));
        // Running statistics among them.
        theirs.import(&ours.export().unwrap()).unwrap();
        let (p, q) = (
            predicted(ours.as_mut(), &batch.input),
            predicted(theirs.as_mut(), &batch.input),
        );
        assert_eq!(p.shape, q.shape);
        let difference = largest_difference(&p.data, &q.data);
        assert!(difference < 1e-4, "{name}: {difference} in prediction");
    }
}

/// Batches that can be learnt from: whether the raw values around a voxel are large.
fn learnable(architecture: &UNetConfig, channels: usize, salt: usize) -> Batch {
    let mut batch = batch(architecture, channels, 1, salt);
    let (input, output) = (batch.input.shape.clone(), batch.target.shape.clone());
    let dims = input.len() - 2;
    let volume = |shape: &[usize]| shape[2..].iter().product::<usize>();
    // Waves of a length and a phase of their own.
    let length = 5.0 + (salt % 7) as f32;
    let wave = |at: &[usize]| {
        let sum: f32 = at
            .iter()
            .enumerate()
            .map(|(axis, &n)| ((n * (axis + 1) + salt) as f32 / length).sin())
            .sum();
        sum / at.len() as f32
    };
    let place = |mut i: usize, shape: &[usize]| -> Vec<usize> {
        let mut at = vec![0; dims];
        for axis in (0..dims).rev() {
            at[axis] = i % shape[2 + axis];
            i /= shape[2 + axis];
        }
        at
    };
    for i in 0..batch.input.data.len() {
        batch.input.data[i] = 0.3 * batch.input.data[i] + wave(&place(i % volume(&input), &input));
    }
    for i in 0..batch.target.data.len() {
        let mut at = place(i % volume(&output), &output);
        (0..dims).for_each(|axis| at[axis] += (input[2 + axis] - output[2 + axis]) / 2);
        batch.target.data[i] = f32::from(wave(&at) > 0.0);
        batch.weight.data[i] = 1.0;
    }
    batch
}

fn losses(network: &mut dyn Network, channels: usize, steps: std::ops::Range<usize>) -> Vec<f64> {
    let architecture = network.spec().architecture.clone();
    let step = |i| {
        network
            .train_step(&learnable(&architecture, channels, i), 1e-3)
            .unwrap()
            .loss
    };
    steps.map(step).collect()
}

/// Relative difference of what two series sum to.
fn relative(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (a.iter().sum::<f64>(), b.iter().sum::<f64>());
    (a - b).abs() / a
}

#[test]
fn fifty_steps_have_the_losses_of_the_cpu_engine() {
    let dropout = UNetConfig {
        dropout: 0.2,
        ..stem()
    };
    let flat = UNetConfig {
        batch_norm: true,
        ..variants().pop().unwrap().1
    };
    for (name, architecture) in [("group norm, dropout", dropout), ("2D, batch norm", flat)] {
        let spec = NetworkSpec::new(architecture, 2);
        let ours = losses(cpu().build(&spec).unwrap().as_mut(), 2, 0..50);
        let theirs = losses(torch().build(&spec).unwrap().as_mut(), 2, 0..50);
        for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            assert!((a - b).abs() < 0.01 * a, "{name}, step {i}: {a} {b}");
        }
        let sum = |losses: &[f64]| losses.iter().sum::<f64>();
        assert!(
            sum(&ours[40..]) < 0.95 * sum(&ours[..10]),
            "{name} learns: {ours:?}"
        );
    }
}

/// From the same weights and batches the loss falls as libtorch's does: averages of 20 steps differ by at most 1 %.
///
/// The network has a normalisation. Without one, training is chaotic: after 200 steps a plain U-Net's losses differ by
/// 18 % from libtorch's, and by 21 % between two instruction sets of our own engine (measured at 44³, 8/16/32 channels).
#[test]
fn two_hundred_steps_of_the_cpu_engine_track_libtorch() {
    let optimizer = OptimizerConfig {
        kind: OptimizerKind::RAdam,
        ..OptimizerConfig::default()
    };
    let spec = NetworkSpec {
        optimizer,
        ..NetworkSpec::new(stem(), 2)
    };
    let ours = losses(cpu().build(&spec).unwrap().as_mut(), 2, 0..200);
    let theirs = losses(torch().build(&spec).unwrap().as_mut(), 2, 0..200);
    for (i, (a, b)) in ours.windows(20).zip(theirs.windows(20)).enumerate() {
        assert!(relative(a, b) < 0.01, "steps from {i}: {a:?} {b:?}");
    }
    let sum = |losses: &[f64]| losses.iter().sum::<f64>();
    assert!(sum(&ours[180..]) < 0.7 * sum(&ours[..20]), "{ours:?}");
}

/// With all that has a state (moments, running statistics, an average, dropout by the step), a run goes on in the other
/// engine as it would have in its own.
#[test]
fn checkpoints_move_either_way_while_training() {
    let spec = NetworkSpec {
        ema: Some(0.9),
        ..NetworkSpec::new(
            UNetConfig {
                batch_norm: true,
                dropout: 0.3,
                ..variants()[1].1.clone()
            },
            2,
        )
    };
    let engines: [Box<dyn Engine>; 2] = [Box::new(cpu()), torch()];
    let step = |network: &mut dyn Network, i: usize| {
        for k in 0..2 {
            network
                .accumulate(&batch(&spec.architecture, 2, 1, 2 * i + k))
                .unwrap();
        }
        network.update(1e-3).unwrap().loss
    };
    let input = batch(&spec.architecture, 2, 1, 9).input;
    for (from, to) in [(0, 1), (1, 0), (1, 1)] {
        let mut stays = engines[from].build(&spec).unwrap();
        for i in 0..3 {
            step(stays.as_mut(), i);
        }
        let tensors = stays.export().unwrap();
        let mut moved = engines[to].build(&spec).unwrap();
        moved.import(&tensors).unwrap();
        assert!(moved.export().unwrap() == tensors, "a checkpoint changes nothing");
        let outputs = [stays.as_mut(), moved.as_mut()].map(|network| predicted(network, &input));
        let difference = largest_difference(&outputs[0].data, &outputs[1].data);
        assert!(difference < 1e-4, "{from} to {to}: {difference}");
        for i in 3..6 {
            let (a, b) = (step(stays.as_mut(), i), step(moved.as_mut(), i));
            assert!((a - b).abs() < 1e-3 * a, "{from} to {to}, step {i}: {a} {b}");
        }
    }
}

/// Values computed twice are the same values, running statistics and dropout included; in any layout.
#[test]
fn recomputing_and_layouts_change_nothing() {
    for (name, architecture) in architectures() {
        let run = |recompute, channels_last| {
            let spec = NetworkSpec {
                recompute,
                ..spec(&architecture)
            };
            let engine = torch_with(EngineConfig {
                channels_last,
                ..EngineConfig::default()
            });
            let mut network = engine.build(&spec).unwrap();
            let batch = batch(&architecture, CHANNELS, 2, 0);
            let step = network.train_step(&batch, 0.0).unwrap();
            (
                step,
                network.export().unwrap(),
                predicted(network.as_mut(), &batch.input),
            )
        };
        let (step, tensors, prediction) = run(false, false);
        for (recompute, channels_last) in [(true, false), (false, true)] {
            let (found, found_tensors, found_prediction) = run(recompute, channels_last);
            let norm = (step.gradient_norm - found.gradient_norm).abs();
            assert!(norm < 1e-4 * step.gradient_norm, "{name}: {step:?} {found:?}");
            assert!(
                (step.loss - found.loss).abs() < 1e-5 * step.loss,
                "{name}: {step:?} {found:?}"
            );
            let gradients = |tensors: &[NamedTensor]| -> Vec<NamedTensor> {
                let moments = tensors
                    .iter()
                    .filter(|tensor| tensor.name.starts_with("optimizer/exp_avg/"));
                moments.cloned().collect()
            };
            compare(name, &gradients(&tensors), &gradients(&found_tensors));
            let statistics = |tensors: &[NamedTensor]| -> Vec<NamedTensor> {
                let model = tensors.iter().filter(|tensor| tensor.name.starts_with("model/"));
                model.cloned().collect()
            };
            compare(name, &statistics(&tensors), &statistics(&found_tensors));
            let difference = largest_difference(&prediction.data, &found_prediction.data);
            assert!(difference < 1e-4, "{name}: {difference}");
        }
    }
}

/// 16 bits are near to 32, and learn.
#[test]
fn mixed_precision_is_near_and_learns() {
    for precision in [Precision::Bf16, Precision::F16] {
        let mixed = torch_with(EngineConfig {
            precision,
            ..EngineConfig::default()
        });
        for architecture in [stem(), variants()[1].1.clone()] {
            let spec = NetworkSpec::new(architecture.clone(), 2);
            let (mut ours, mut theirs) = (cpu().build(&spec).unwrap(), mixed.build(&spec).unwrap());
            let input = learnable(&architecture, 2, 0).input;
            let (a, b) = (
                predicted(ours.as_mut(), &input),
                predicted(theirs.as_mut(), &input),
            );
            let difference = largest_difference(&a.data, &b.data);
            assert!(
                difference > 0.0 && difference < 0.05,
                "{precision:?}: {difference}"
            );
            let (a, b) = (losses(ours.as_mut(), 2, 0..20), losses(theirs.as_mut(), 2, 0..20));
            assert!(relative(&a, &b) < 0.02, "{precision:?}: {a:?} {b:?}");
            // What is kept has 32 bits.
            let kept = theirs.export().unwrap();
            let wide = |value: &f32| value.to_bits() & 0xff != 0;
            assert!(kept.iter().any(|tensor| tensor.data.iter().any(wide)));
        }
    }
}

/// A loss whose gradients are beyond what 16 bits hold when they are scaled: the scale gives way, not the batch.
#[test]
fn overflowing_gradients_lower_the_scale() {
    let group = OutputGroup {
        channels: 1,
        activation: Activation::None,
        losses: vec![(Loss::Mse, 30.0)],
    };
    let spec = NetworkSpec {
        outputs: vec![group],
        ..NetworkSpec::new(variants()[1].1.clone(), 1)
    };
    let mut batch = batch(&spec.architecture, 1, 1, 0);
    batch.weight.data.fill(1.0);
    let norm = |precision| {
        let engine = torch_with(EngineConfig {
            precision,
            ..EngineConfig::default()
        });
        let mut network = engine.build(&spec).unwrap();
        network.train_step(&batch, 1e-3).unwrap().gradient_norm
    };
    let (wide, narrow) = (norm(Precision::F32), norm(Precision::F16));
    assert!((wide - narrow).abs() < 0.05 * wide, "{wide} {narrow}");
}

#[test]
fn what_cannot_be_is_refused() {
    let refusal = |device| {
        let config = EngineConfig {
            device,
            ..EngineConfig::default()
        };
        config.start().err().unwrap().to_string()
    };
    let refused = refusal(Device::Cuda(99));
    assert!(
        refused.contains("no CUDA device") || refused.contains("there is no `cuda:99`"),
        "{refused}"
    );
    let architecture = variants()[1].1.clone();
    let mut network = torch().build(&NetworkSpec::new(architecture.clone(), 2)).unwrap();
    assert!(matches!(network.update(1e-3), Err(Error::NoGradients)));
    let mut output = Tensor::default();
    let shape = network
        .forward(&noise(&[1, 1, 45, 44, 44], 0), &mut output)
        .unwrap_err();
    assert!(
        matches!(shape, Error::InputShape { nearest: Some(_), .. }),
        "{shape}"
    );
    let axes = network
        .forward(&noise(&[1, 2, 44, 44, 44], 0), &mut output)
        .unwrap_err();
    assert!(matches!(axes, Error::TensorShape { .. }), "{axes}");
    let mut input = noise(&[1, 1, 44, 44, 44], 0);
    input.data[7] = f32::NAN;
    let broken = network.forward(&input, &mut output).unwrap_err();
    assert!(
        matches!(broken, Error::NotFinite { what: "input", .. }),
        "{broken}"
    );
    let before = network.export().unwrap();
    let mut poisoned = batch(&architecture, 2, 1, 0);
    poisoned.input.data[7] = f32::NAN;
    let loss = network.accumulate(&poisoned).unwrap_err();
    assert!(matches!(loss, Error::NotFinite { what: "loss", .. }), "{loss}");
    assert!(network.prediction().data.iter().any(|value| value.is_nan()));
    assert!(matches!(network.update(1e-3), Err(Error::NoGradients)));
    poisoned = batch(&architecture, 2, 1, 0);
    poisoned.target.shape[1] = 1;
    assert!(matches!(
        network.accumulate(&poisoned),
        Err(Error::TensorShape { .. })
    ));
    let mut wrong = before.clone();
    wrong[0].data[0] = f32::INFINITY;
    assert!(matches!(network.import(&wrong), Err(Error::Weights(_))));
    assert!(matches!(network.import(&before[1..]), Err(Error::Weights(_))));
    assert!(network.export().unwrap() == before);
    // Weights that overflow: a prediction that is not finite is told.
    let mut huge = before;
    huge.iter_mut()
        .filter(|t| t.name.ends_with("weight"))
        .for_each(|t| t.data.iter_mut().for_each(|w| *w *= 1e20));
    network.import(&huge).unwrap();
    let broken = network
        .forward(&noise(&[1, 1, 44, 44, 44], 0), &mut output)
        .unwrap_err();
    assert!(
        matches!(
            broken,
            Error::NotFinite {
                what: "prediction",
                ..
            }
        ),
        "{broken}"
    );
}

/// Estimates grow with the shape and the batch; what is computed again is not kept, and 16 bits are half of 32.
#[test]
fn memory_is_estimated() {
    let architecture = UNetConfig {
        num_fmaps: 16,
        norm: Norm::Group,
        padding: Padding::Same,
        input_shape: vec![64; 3],
        ..UNetConfig::default()
    };
    let spec = NetworkSpec::new(architecture, 3);
    let of = |spec: &NetworkSpec, precision, length: usize, batch| {
        let engine = torch_with(EngineConfig {
            precision,
            ..EngineConfig::default()
        });
        engine.memory(spec, &[length; 3], batch).unwrap()
    };
    let one = of(&spec, Precision::F32, 64, 1);
    assert!(
        one.parameters < one.prediction && one.prediction < one.training,
        "{one:?}"
    );
    let four = of(&spec, Precision::F32, 64, 4);
    let share = (four.training - four.parameters) as f64 / (one.training - one.parameters) as f64;
    assert!((share - 4.0).abs() < 0.01, "{one:?} {four:?}");
    assert!(of(&spec, Precision::F32, 96, 1).training > 3 * one.training);
    assert!(of(&spec, Precision::Bf16, 64, 1).prediction < one.prediction * 2 / 3);
    let recomputed = NetworkSpec {
        recompute: true,
        ..spec
    };
    let recomputed = of(&recomputed, Precision::F32, 64, 1);
    assert!(
        recomputed.training < one.training * 9 / 10,
        "{recomputed:?} {one:?}"
    );
}
