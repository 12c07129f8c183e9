//! What every engine promises, tried on the CPU engine: exactness at any number of threads, continuing from
//! exported tensors, and clear refusals.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use common::{batch, everything, noise, stem, variants};
use dacapo_nn::{
    Batch, CpuEngine, Engine, Error, InstructionSet, NamedTensor, Network, NetworkSpec, Padding, Tensor,
    UNetConfig, Upsampling, load_checkpoint, save_checkpoint,
};

/// As people train it, on one level more.
fn deep() -> UNetConfig {
    UNetConfig {
        input_shape: vec![96; 3],
        num_fmaps: 16,
        downsample_factors: vec![vec![2; 3]; 3],
        stem_factors: None,
        ..stem()
    }
}

fn build(architecture: &UNetConfig, channels: usize, threads: usize) -> Box<dyn Network> {
    build_with(architecture, channels, threads, InstructionSet::detect())
}

fn build_with(
    architecture: &UNetConfig,
    channels: usize,
    threads: usize,
    set: InstructionSet,
) -> Box<dyn Network> {
    let spec = NetworkSpec {
        clip_gradient_norm: Some(1.0),
        ..NetworkSpec::new(architecture.clone(), channels)
    };
    let engine = CpuEngine::with_instructions(Some(threads), set).unwrap();
    engine.build(&spec).unwrap()
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let sets = InstructionSet::available();
    for ((name, architecture), &set) in variants().iter().flat_map(|v| sets.iter().map(move |s| (v, s))) {
        let run = |threads| {
            let mut network = build_with(architecture, 2, threads, set);
            let steps: Vec<_> = (0..2)
                .map(|i| network.train_step(&batch(architecture, 2, 2, i), 1e-2).unwrap())
                .collect();
            let mut output = Tensor::default();
            network
                .forward(&batch(architecture, 2, 1, 9).input, &mut output)
                .unwrap();
            (steps, network.export().unwrap(), output)
        };
        let one = run(1);
        assert!(one.2.data.iter().all(|p| (0.0..=1.0).contains(p)), "{name}");
        for threads in [2, 3, 8] {
            assert!(
                run(threads) == one,
                "{name} differs with {threads} threads and {set:?}"
            );
        }
    }
}

#[test]
fn every_variant_learns_its_batch() {
    for (name, architecture) in variants() {
        let mut network = build(&architecture, 2, 2);
        let batch = batch(&architecture, 2, 1, 0);
        let losses: Vec<f64> = (0..12)
            .map(|_| network.train_step(&batch, 3e-3).unwrap().loss)
            .collect();
        assert!(losses[11] < losses[0], "{name}: {losses:?}");
    }
}

/// With all that has a state: running statistics, dropout, several batches a step, an average of the weights.
#[test]
fn training_goes_on_from_a_checkpoint_bit_for_bit() {
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
    let build = || CpuEngine::new(Some(2)).unwrap().build(&spec).unwrap();
    let step = |network: &mut dyn Network, i: usize| {
        for k in 0..2 {
            network
                .accumulate(&batch(&spec.architecture, 2, 1, 2 * i + k))
                .unwrap();
        }
        network.update(1e-2).unwrap()
    };
    let mut whole = build();
    for i in 0..3 {
        step(whole.as_mut(), i);
    }
    let mut bytes = Vec::new();
    save_checkpoint(&mut bytes, &whole.export().unwrap(), &Default::default()).unwrap();
    let mut resumed = build();
    resumed.import(&load_checkpoint(&bytes).unwrap().0).unwrap();
    for i in 3..6 {
        assert_eq!(step(whole.as_mut(), i), step(resumed.as_mut(), i));
    }
    assert!(whole.export().unwrap() == resumed.export().unwrap());
    let input = batch(&spec.architecture, 2, 1, 9).input;
    let (mut a, mut b) = (Tensor::default(), Tensor::default());
    whole.forward(&input, &mut a).unwrap();
    resumed.forward(&input, &mut b).unwrap();
    assert!(a == b);
}

fn tensors_of(network: &dyn Network, prefix: &str) -> Vec<NamedTensor> {
    let tensors = network.export().unwrap().into_iter();
    tensors.filter(|tensor| tensor.name.starts_with(prefix)).collect()
}

/// Values computed twice are the same values, running statistics and dropout included.
#[test]
fn recomputing_changes_no_bit() {
    let mut variants = variants();
    variants.push(("everything", everything()));
    for (name, architecture) in variants {
        let run = |recompute| {
            let spec = NetworkSpec {
                recompute,
                ..NetworkSpec::new(architecture.clone(), 2)
            };
            let mut network = CpuEngine::new(Some(2)).unwrap().build(&spec).unwrap();
            let steps: Vec<_> = (0..2)
                .map(|i| network.train_step(&batch(&architecture, 2, 2, i), 1e-2).unwrap())
                .collect();
            (steps, network.export().unwrap())
        };
        assert!(run(true) == run(false), "{name}");
    }
}

#[test]
fn accumulated_batches_are_one_large_batch() {
    let architecture = variants()[1].1.clone();
    let mut whole = batch(&architecture, 2, 3, 0);
    whole.weight.data.fill(1.0);
    let part = |tensor: &Tensor, i: usize| {
        let len = tensor.data.len() / 3;
        let mut shape = tensor.shape.clone();
        shape[0] = 1;
        Tensor::from_vec(&shape, tensor.data[i * len..(i + 1) * len].to_vec()).unwrap()
    };
    let mut at_once = build(&architecture, 2, 2);
    let mut in_parts = build(&architecture, 2, 2);
    for _ in 0..2 {
        let step = at_once.train_step(&whole, 1e-3).unwrap();
        for i in 0..3 {
            in_parts
                .accumulate(&Batch {
                    input: part(&whole.input, i),
                    target: part(&whole.target, i),
                    weight: part(&whole.weight, i),
                })
                .unwrap();
        }
        let parts = in_parts.update(1e-3).unwrap();
        assert!(
            (step.loss - parts.loss).abs() < 1e-6 * step.loss,
            "{step:?} {parts:?}"
        );
        let norms = (step.gradient_norm, parts.gradient_norm);
        assert!((norms.0 - norms.1).abs() < 1e-4 * norms.0, "{step:?} {parts:?}");
    }
    // The optimiser's first moments are the gradients, but for a factor.
    let (a, b) = (
        tensors_of(at_once.as_ref(), "optimizer/exp_avg/"),
        tensors_of(in_parts.as_ref(), "optimizer/exp_avg/"),
    );
    let largest = a.iter().flat_map(|t| &t.data).fold(0f32, |m, v| m.max(v.abs()));
    for (a, b) in a.iter().zip(&b) {
        let pairs = a.data.iter().zip(&b.data);
        pairs.for_each(|(x, y)| assert!((x - y).abs() < 1e-4 * largest, "{}: {x} {y}", a.name));
    }
    assert!(matches!(in_parts.update(1e-3), Err(Error::NoGradients)));
}

#[test]
fn predictions_are_made_with_the_averaged_weights() {
    for batch_norm in [false, true] {
        let architecture = UNetConfig {
            batch_norm,
            ..variants()[1].1.clone()
        };
        let spec = NetworkSpec {
            ema: Some(0.5),
            ..NetworkSpec::new(architecture.clone(), 2)
        };
        let engine = CpuEngine::new(Some(2)).unwrap();
        let mut averaged = engine.build(&spec).unwrap();
        let (mut before, mut found, mut expected) = Default::default();
        let input = batch(&architecture, 2, 1, 9).input;
        averaged.forward(&input, &mut before).unwrap();
        for i in 0..3 {
            averaged.train_step(&batch(&architecture, 2, 1, i), 1e-2).unwrap();
        }
        averaged.forward(&input, &mut found).unwrap();
        assert!(found != before, "an old average was used");
        // A network whose weights are the average.
        let mut tensors = tensors_of(averaged.as_ref(), "average/");
        for tensor in &mut tensors {
            tensor.name = tensor.name.replacen("average", "model", 1);
        }
        assert!(tensors != tensors_of(averaged.as_ref(), "model/"));
        let mut plain = engine.build(&NetworkSpec::new(architecture, 2)).unwrap();
        plain.import(&tensors).unwrap();
        plain.forward(&input, &mut expected).unwrap();
        assert!(found == expected, "batch norm {batch_norm}");
        // Weights without an average begin one.
        averaged.import(&tensors).unwrap();
        averaged.forward(&input, &mut found).unwrap();
        assert!(found == expected, "batch norm {batch_norm}");
    }
}

/// What is random depends on the seed and the step, and is not there when predicting.
#[test]
fn dropout_is_a_function_of_seed_and_step() {
    let architecture = UNetConfig {
        dropout: 0.5,
        ..variants()[1].1.clone()
    };
    let training = batch(&architecture, 1, 1, 0);
    let predicted = |seed, steps| {
        let spec = NetworkSpec {
            seed,
            ..NetworkSpec::new(architecture.clone(), 1)
        };
        let mut network = CpuEngine::new(Some(2)).unwrap().build(&spec).unwrap();
        let weights = build(&architecture, 1, 1).export().unwrap();
        network.import(&weights).unwrap();
        for _ in 0..steps {
            // Steps of no length: the weights stay.
            network.train_step(&training, 0.0).unwrap();
        }
        network.train_step(&training, 0.0).unwrap();
        let (mut a, mut b) = (Tensor::default(), Tensor::default());
        network.forward(&training.input, &mut a).unwrap();
        network.forward(&training.input, &mut b).unwrap();
        assert!(a == b);
        (network.prediction().clone(), a)
    };
    let (first, evaluated) = predicted(0, 0);
    assert!((first.clone(), evaluated.clone()) == predicted(0, 0));
    for (seed, steps) in [(1, 0), (0, 1)] {
        let (other, evaluated_too) = predicted(seed, steps);
        assert!(other != first, "{seed} {steps}");
        assert!(evaluated_too == evaluated);
    }
}

/// The coarse heads see the target of what they cover: where it is a gradient along x, so is what they learn. Their
/// loss is seen through the whole one, since the fine head's is measured from its prediction.
#[test]
fn deep_supervision_trains_the_coarse_heads_on_the_target() {
    for padding in [Padding::Valid, Padding::Same] {
        let architecture = UNetConfig {
            input_shape: vec![if padding == Padding::Valid { 60 } else { 24 }; 2],
            downsample_factors: vec![vec![2, 2]; 2],
            num_fmaps: 6,
            padding,
            deep_supervision: true,
            ..UNetConfig::default()
        };
        let spec = NetworkSpec {
            outputs: vec![dacapo_nn::OutputGroup {
                channels: 1,
                activation: dacapo_nn::Activation::None,
                losses: vec![(dacapo_nn::Loss::Mse, 1.0)],
            }],
            ..NetworkSpec::new(architecture.clone(), 1)
        };
        let mut network = CpuEngine::new(Some(2)).unwrap().build(&spec).unwrap();
        let head = |name: &str| network.export().unwrap().iter().any(|tensor| tensor.name == name);
        assert!(head("model/deep_supervision.1.weight") && !head("model/deep_supervision.2.weight"));
        let mut data = batch(&architecture, 1, 1, 0);
        data.weight.data.fill(1.0);
        // The input is what is to be predicted: positions, in strides of the coarse level, centred.
        let input = architecture.input_shape[1];
        let output = *data.target.shape.last().unwrap();
        let place = |x: usize, len: usize| (2 * (x / 2)) as f32 / 8.0 - (len as f32 - 2.0) / 16.0;
        for (x, value) in data.input.data.iter_mut().enumerate() {
            *value = place(x % input, input);
        }
        for (x, value) in data.target.data.iter_mut().enumerate() {
            *value = place(x % output, output);
        }
        let mut losses = Vec::new();
        for _ in 0..300 {
            let step = network.train_step(&data, 3e-3).unwrap();
            let fine: f64 = network
                .prediction()
                .data
                .iter()
                .zip(&data.target.data)
                .map(|(p, t)| f64::from(p - t).powi(2))
                .sum::<f64>()
                / data.target.data.len() as f64;
            // Shares 2/3 and 1/3.
            losses.push(3.0 * step.loss - 2.0 * fine);
        }
        let last = losses[losses.len() - 1];
        assert!(
            last >= 0.0 && last < 0.05 * losses[0],
            "{padding:?}: {} to {last}",
            losses[0]
        );
    }
}

/// The estimate of the buffers is the sum of all that was allocated; here it is seen from outside, as a whole.
#[test]
fn memory_is_estimated_for_every_variant() {
    let engine = CpuEngine::new(Some(1)).unwrap();
    for (name, architecture) in variants() {
        let spec = NetworkSpec::new(architecture.clone(), 2);
        let shape = &architecture.input_shape;
        let one = engine.memory(&spec, shape, 1).unwrap();
        let two = engine.memory(&spec, shape, 2).unwrap();
        let with_ema = NetworkSpec {
            ema: Some(0.9),
            ..spec.clone()
        };
        assert!(
            one.parameters < one.prediction && one.prediction < one.training,
            "{name}: {one:?}"
        );
        assert!(
            two.training > one.training && two.parameters == one.parameters,
            "{name}"
        );
        assert!(
            engine.memory(&with_ema, shape, 1).unwrap().parameters > one.parameters,
            "{name}"
        );
        let weights: usize = engine
            .build(&spec)
            .unwrap()
            .export()
            .unwrap()
            .iter()
            .map(|t| t.data.len())
            .sum();
        assert!(one.parameters as usize >= 4 * weights, "{name}");
    }
    let spec = NetworkSpec::new(UNetConfig::default(), 2);
    for (architecture, most) in [(UNetConfig::default(), 0.8), (deep(), 0.65)] {
        let spec = NetworkSpec::new(architecture.clone(), 2);
        let less = NetworkSpec {
            recompute: true,
            ..spec.clone()
        };
        let [all, less] =
            [spec, less].map(|s| engine.memory(&s, &architecture.input_shape, 1).unwrap().training);
        assert!((less as f64) < most * all as f64, "{less} of {all}");
    }
    // A volume that no machine holds is answered, not allocated.
    let huge = engine.memory(&spec, &[16_000 + 92; 3], 1).unwrap();
    assert!(huge.training > 1 << 45);
    assert!(engine.memory(&spec, &[93, 92, 92], 1).is_err());
}

#[test]
fn other_shapes_than_the_training_shape_predict() {
    let architecture = stem();
    let mut network = build(&architecture, 3, 2);
    let mut output = Tensor::default();
    for spatial in [[32, 32, 32], [16, 32, 48], [64, 16, 16]] {
        network
            .forward(
                &noise(&[1, 1, spatial[0], spatial[1], spatial[2]], 0),
                &mut output,
            )
            .unwrap();
        assert_eq!(output.shape[2..], spatial);
    }
}

#[test]
fn a_valid_network_moves_with_its_input() {
    for upsampling in [Upsampling::Nearest, Upsampling::Transposed, Upsampling::Trilinear] {
        let architecture = UNetConfig {
            num_fmaps: 3,
            upsampling: Some(upsampling),
            ..UNetConfig::default()
        };
        let mut network = build(&architecture, 1, 2);
        let whole = noise(&[1, 1, 52, 52, 56], 1);
        let mut moved = Tensor::zeros(&[1, 1, 52, 52, 52]);
        for (to, from) in moved.data.chunks_mut(52).zip(whole.data.chunks(56)) {
            to.copy_from_slice(&from[4..]);
        }
        let (mut a, mut b) = (Tensor::default(), Tensor::default());
        network.forward(&whole, &mut a).unwrap();
        network.forward(&moved, &mut b).unwrap();
        let (wide, narrow) = (a.shape[4], b.shape[4]);
        assert_eq!(wide, narrow + 4, "{upsampling:?}");
        for (wide, narrow) in a.data.chunks(wide).zip(b.data.chunks(narrow)) {
            wide[4..]
                .iter()
                .zip(narrow)
                .for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{upsampling:?}: {a} {b}"));
        }
    }
}

#[test]
fn a_shape_that_does_not_fit_names_the_nearest() {
    let mut network = build(&stem(), 1, 1);
    let error = network
        .forward(&noise(&[1, 1, 32, 30, 32], 0), &mut Tensor::default())
        .unwrap_err();
    let Error::InputShape { nearest, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(nearest.as_deref(), Some(&[32, 32, 32][..]));
    assert!(error.to_string().contains("in y"), "{error}");

    let valid = UNetConfig::default();
    for (shape, nearest) in [([56, 56, 57], [56, 56, 56]), ([10, 92, 92], [44, 92, 92])] {
        let Error::InputShape {
            nearest: Some(found), ..
        } = valid.output_shape(&shape).unwrap_err()
        else {
            panic!()
        };
        assert_eq!(found, nearest);
        valid.output_shape(&found).unwrap();
    }
}

#[test]
fn wrong_tensors_are_refused() {
    let architecture = stem();
    let mut network = build(&architecture, 2, 1);
    let error = network
        .forward(&noise(&[1, 2, 32, 32, 32], 0), &mut Tensor::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the input has shape [1, 2, 32, 32, 32], expected [1, 1, 32, 32, 32]"
    );
    let mut bad = batch(&architecture, 2, 1, 0);
    bad.target = noise(&[1, 2, 32, 32, 31], 0);
    let error = network.train_step(&bad, 1e-3).unwrap_err();
    assert!(error.to_string().starts_with("the target has shape"), "{error}");

    let before = network.export().unwrap();
    let mut tensors = before.clone();
    tensors[0].shape.push(1);
    let error = network.import(&tensors).unwrap_err();
    assert!(error.to_string().contains("model/stem.weight"), "{error}");
    tensors = before.clone();
    tensors[1].name = "model/other".into();
    assert!(
        network
            .import(&tensors)
            .unwrap_err()
            .to_string()
            .contains("model/stem.bias")
    );
    assert!(network.export().unwrap() == before);
}

#[test]
fn what_is_not_finite_is_named() {
    let architecture = stem();
    let mut network = build(&architecture, 2, 2);
    let clean = batch(&architecture, 2, 1, 0).input;
    let mut output = Tensor::default();
    for (bad, shown) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let mut input = clean.clone();
        input.data[77] = bad;
        let error = network.forward(&input, &mut output).unwrap_err();
        assert_eq!(error.to_string(), format!("the input is {shown} (not finite)"));
    }
    let mut huge = clean.clone();
    huge.data.iter_mut().for_each(|v| *v *= 1e38);
    let error = network.forward(&huge, &mut output).unwrap_err();
    assert!(
        matches!(
            error,
            Error::NotFinite {
                what: "prediction",
                ..
            }
        ),
        "{error}"
    );
    let before = network.export().unwrap();
    let mut tensors = before.clone();
    tensors[0].data[5] = f32::NAN;
    let error = network.import(&tensors).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`model/stem.weight` holds NaN, at place 5"),
        "{error}"
    );
    assert!(network.export().unwrap() == before);
    network.forward(&clean, &mut output).unwrap();
}

#[test]
fn a_loss_that_is_not_finite_leaves_the_weights_alone() {
    let architecture = stem();
    let mut network = build(&architecture, 2, 2);
    let before = network.export().unwrap();
    let mut bad = batch(&architecture, 2, 1, 0);
    bad.input.data[77] = f32::NAN;
    let error = network.train_step(&bad, 1e-3).unwrap_err();
    assert!(matches!(error, Error::NotFinite { what: "loss", .. }), "{error}");
    assert!(network.prediction().data.iter().any(|p| p.is_nan()));
    assert!(network.export().unwrap() == before);
    network.train_step(&batch(&architecture, 2, 1, 0), 1e-3).unwrap();
}

#[test]
fn configs_that_make_no_sense_name_the_field() {
    let cases: Vec<(&str, UNetConfig)> = vec![
        (
            "input_shape",
            UNetConfig {
                input_shape: vec![0, 1, 2],
                ..stem()
            },
        ),
        (
            "num_fmaps",
            UNetConfig {
                num_fmaps: 0,
                ..stem()
            },
        ),
        (
            "fmap_inc_factor",
            UNetConfig {
                fmap_inc_factor: 4000,
                ..stem()
            },
        ),
        (
            "downsample_factors",
            UNetConfig {
                downsample_factors: vec![vec![2, 2]],
                ..stem()
            },
        ),
        (
            "kernel_size_down",
            UNetConfig {
                kernel_size_down: Some(vec![]),
                ..stem()
            },
        ),
        (
            "kernel_size_up",
            UNetConfig {
                kernel_size_up: Some(vec![vec![vec![2; 3]]; 2]),
                ..stem()
            },
        ),
        (
            "stem_factors",
            UNetConfig {
                stem_factors: Some(vec![3; 3]),
                ..stem()
            },
        ),
        (
            "batch_norm",
            UNetConfig {
                batch_norm: true,
                ..stem()
            },
        ),
        (
            "dropout",
            UNetConfig {
                dropout: 1.0,
                ..stem()
            },
        ),
        (
            "deep_supervision",
            UNetConfig {
                deep_supervision: true,
                downsample_factors: vec![vec![2; 3]],
                ..stem()
            },
        ),
        (
            "eval_shape_increase",
            UNetConfig {
                eval_shape_increase: Some(vec![1]),
                ..stem()
            },
        ),
    ];
    for (field, architecture) in cases {
        let Err(error) = CpuEngine::new(Some(1))
            .unwrap()
            .build(&NetworkSpec::new(architecture, 1))
        else {
            panic!("{field} was accepted")
        };
        assert!(
            error.to_string().starts_with(&format!("`{field}`")),
            "{field}: {error}"
        );
    }
}

#[test]
fn instruction_sets_differ_by_rounding_only() {
    let sets = InstructionSet::available();
    assert_eq!(sets.first().map(|set| set.name()), Some("plain"));
    assert_eq!(sets.last(), Some(&InstructionSet::detect()));
    for (name, architecture) in variants() {
        let run = |&set| {
            let mut network = build_with(&architecture, 2, 2, set);
            let batch = batch(&architecture, 2, 1, 0);
            let step = network.train_step(&batch, 1e-3).unwrap();
            (step, network.prediction().clone())
        };
        let results: Vec<_> = sets.iter().map(run).collect();
        let (step, output) = &results[0];
        for (other_step, other_output) in &results[1..] {
            let near = |a: f64, b: f64| (a - b).abs() < 1e-4 * a.abs();
            assert!(
                near(step.loss, other_step.loss),
                "{name}: {step:?} {other_step:?}"
            );
            assert!(
                near(step.gradient_norm, other_step.gradient_norm),
                "{name}: {step:?} {other_step:?}"
            );
            let pairs = output.data.iter().zip(&other_output.data);
            pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{name}: {a} {b}"));
        }
    }
}
