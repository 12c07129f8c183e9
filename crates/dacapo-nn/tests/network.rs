//! What every engine promises, tried on the CPU engine: exactness at any number of threads, continuing from
//! exported tensors, and clear refusals.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use dacapo_nn::{
    Batch, CpuEngine, Engine, Error, InstructionSet, Network, NetworkSpec, Norm, Padding, Tensor, UNetConfig,
    load_checkpoint, save_checkpoint,
};

/// Values in -1..1 that look random.
fn noise(shape: &[usize], salt: usize) -> Tensor {
    let value = |i: usize| ((i * 7919 + salt * 104_729) % 2003) as f32 / 1001.5 - 1.0;
    Tensor::from_vec(shape, (0..shape.iter().product()).map(value).collect()).unwrap()
}

fn batch(architecture: &UNetConfig, channels: usize, size: usize, salt: usize) -> Batch {
    let input = &architecture.input_shape;
    let shape = |channels, spatial: &[usize]| [&[size, channels], spatial].concat();
    let out = shape(channels, &architecture.output_shape(input).unwrap());
    let mut target = noise(&out, salt + 1);
    target.data.iter_mut().for_each(|t| *t = f32::from(*t > 0.0));
    let mut weight = noise(&out, salt + 2);
    weight.data.iter_mut().for_each(|w| *w = w.abs());
    Batch {
        input: noise(&shape(architecture.fmaps_in, input), salt),
        target,
        weight,
    }
}

/// The recipe's network, smaller.
fn stem() -> UNetConfig {
    UNetConfig {
        input_shape: vec![32; 3],
        num_fmaps: 8,
        fmap_inc_factor: 2,
        padding: Padding::Same,
        norm: Norm::Group,
        residual: true,
        narrow_upsampling: true,
        stem_factors: Some(vec![2; 3]),
        ..UNetConfig::default()
    }
}

fn variants() -> Vec<(&'static str, UNetConfig)> {
    let small = UNetConfig {
        input_shape: vec![44; 3],
        num_fmaps: 3,
        ..UNetConfig::default()
    };
    let flat = UNetConfig {
        input_shape: vec![44, 60],
        downsample_factors: vec![vec![2, 2]; 2],
        num_fmaps: 5,
        fmap_inc_factor: 2,
        ..UNetConfig::default()
    };
    vec![
        ("stem", stem()),
        ("valid", small.clone()),
        (
            "batch norm, transposed",
            UNetConfig {
                batch_norm: true,
                constant_upsample: false,
                ..small.clone()
            },
        ),
        (
            "attention",
            UNetConfig {
                use_attention: true,
                ..small.clone()
            },
        ),
        (
            "valid residual",
            UNetConfig {
                residual: true,
                norm: Norm::Group,
                ..small.clone()
            },
        ),
        (
            "upsampled",
            UNetConfig {
                upsample_factors: vec![vec![2; 3]],
                ..small
            },
        ),
        ("2D", flat),
    ]
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
            (steps, network.export(), output)
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

#[test]
fn training_goes_on_from_a_checkpoint_bit_for_bit() {
    let architecture = UNetConfig {
        batch_norm: true,
        ..variants()[1].1.clone()
    };
    let step =
        |network: &mut dyn Network, i| network.train_step(&batch(&architecture, 2, 1, i), 1e-2).unwrap();
    let mut whole = build(&architecture, 2, 2);
    for i in 0..3 {
        step(whole.as_mut(), i);
    }
    let mut bytes = Vec::new();
    save_checkpoint(&mut bytes, &whole.export(), &Default::default()).unwrap();
    let mut resumed = build(&architecture, 2, 2);
    resumed.import(&load_checkpoint(&bytes).unwrap().0).unwrap();
    for i in 3..6 {
        assert_eq!(step(whole.as_mut(), i), step(resumed.as_mut(), i));
    }
    assert!(whole.export() == resumed.export());
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
    let architecture = UNetConfig {
        num_fmaps: 3,
        ..UNetConfig::default()
    };
    let mut network = build(&architecture, 1, 2);
    let whole = noise(&[1, 1, 44, 44, 48], 1);
    let mut moved = Tensor::zeros(&[1, 1, 44, 44, 44]);
    for (to, from) in moved.data.chunks_mut(44).zip(whole.data.chunks(48)) {
        to.copy_from_slice(&from[4..]);
    }
    let (mut a, mut b) = (Tensor::default(), Tensor::default());
    network.forward(&whole, &mut a).unwrap();
    network.forward(&moved, &mut b).unwrap();
    let (wide, narrow) = (a.shape[4], b.shape[4]);
    assert_eq!(wide, narrow + 4);
    for (wide, narrow) in a.data.chunks(wide).zip(b.data.chunks(narrow)) {
        wide[4..]
            .iter()
            .zip(narrow)
            .for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{a} {b}"));
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

    let before = network.export();
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
    assert!(network.export() == before);
}

#[test]
fn a_loss_that_is_not_finite_leaves_the_weights_alone() {
    let architecture = stem();
    let mut network = build(&architecture, 2, 2);
    let before = network.export();
    let mut bad = batch(&architecture, 2, 1, 0);
    bad.input.data[77] = f32::NAN;
    let error = network.train_step(&bad, 1e-3).unwrap_err();
    assert!(matches!(error, Error::NotFinite { what: "loss", .. }), "{error}");
    assert!(network.prediction().data.iter().any(|p| p.is_nan()));
    assert!(network.export() == before);
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
