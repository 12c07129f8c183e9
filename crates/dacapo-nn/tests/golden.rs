//! Parity with the Python original: the same weights give the same outputs, gradients and training steps;
//! the same configs give the same shapes and parameters.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use dacapo_nn::{
    Activation, Batch, CpuEngine, Engine, InstructionSet, Loss, NamedTensor, Network, NetworkSpec,
    OptimizerConfig, OptimizerKind, OutputGroup, Tensor, UNetConfig,
};
use ndarray::{ArrayD, IxDyn};
use ndarray_npy::NpzReader;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// All f32 and f64 arrays of a file, by name.
fn load(name: &str) -> BTreeMap<String, ArrayD<f64>> {
    let mut file = NpzReader::new(File::open(data(name)).unwrap()).unwrap();
    let mut arrays = BTreeMap::new();
    for name in file.names().unwrap() {
        if let Ok(array) = file.by_name::<ndarray::OwnedRepr<f32>, IxDyn>(&name) {
            arrays.insert(name.trim_end_matches(".npy").to_owned(), array.mapv(f64::from));
        } else if let Ok(array) = file.by_name::<ndarray::OwnedRepr<f64>, IxDyn>(&name) {
            arrays.insert(name.trim_end_matches(".npy").to_owned(), array);
        }
    }
    arrays
}

fn tensor(array: &ArrayD<f64>) -> Tensor {
    Tensor::from_vec(array.shape(), array.iter().map(|&x| x as f32).collect()).unwrap()
}

/// A state dict of the original (under `prefix`) as tensors of ours.
fn state(arrays: &BTreeMap<String, ArrayD<f64>>, prefix: &str) -> Vec<NamedTensor> {
    let ours = |(name, array): (&String, &ArrayD<f64>)| {
        let name = name.strip_prefix(prefix)?;
        // The head stands there twice: as itself, and behind the architecture in `chain`.
        let name = match name.strip_prefix("chain.0.") {
            Some(name) => name,
            None if name.starts_with("chain.") => return None,
            None => name,
        };
        let data = array.iter().map(|&x| x as f32).collect();
        Some(NamedTensor {
            name: format!("model/{name}"),
            shape: array.shape().to_vec(),
            data,
        })
    };
    arrays.iter().filter_map(ours).collect()
}

fn assert_near(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= tolerance, "{what}[{i}]: {found} instead of {expected}");
    }
}

fn assert_weights(
    what: &str,
    network: &dyn Network,
    arrays: &BTreeMap<String, ArrayD<f64>>,
    prefix: &str,
    tolerance: f64,
) {
    let found: BTreeMap<String, NamedTensor> = network
        .export()
        .unwrap()
        .into_iter()
        .map(|tensor| (tensor.name.clone(), tensor))
        .collect();
    for expected in state(arrays, prefix) {
        let values: Vec<f64> = expected.data.iter().map(|&x| f64::from(x)).collect();
        // A bias in front of a batch normalisation changes nothing: its gradient is rounding alone, which
        // the optimiser then blows up.
        let norm = expected
            .name
            .strip_suffix("0.bias")
            .or(expected.name.strip_suffix("3.bias"));
        let idle = norm.is_some_and(|pass| found.contains_key(&format!("{pass}1.running_mean")));
        let tolerance = if idle { 10.0 * tolerance } else { tolerance };
        assert_near(
            &format!("{what}, {}", expected.name),
            &found[&expected.name].data,
            &values,
            tolerance,
        );
    }
}

struct Case {
    file: &'static str,
    architecture: UNetConfig,
    activation: Activation,
    loss: Loss,
    channels: usize,
    /// The original computed the outputs before the steps, so its running statistics are one batch ahead.
    statistics_moved: bool,
}

fn small(input: usize) -> UNetConfig {
    UNetConfig {
        input_shape: vec![input; 3],
        num_fmaps: 2,
        fmaps_out: Some(3),
        fmap_inc_factor: 2,
        downsample_factors: vec![vec![2; 3]],
        ..UNetConfig::default()
    }
}

fn check(case: Case) {
    for set in InstructionSet::available() {
        check_with(&case, set);
    }
}

fn check_with(case: &Case, set: InstructionSet) {
    let arrays = load(case.file);
    let spec = NetworkSpec {
        outputs: vec![OutputGroup {
            channels: case.channels,
            activation: case.activation,
            losses: vec![(case.loss, 1.0)],
        }],
        optimizer: OptimizerConfig {
            kind: OptimizerKind::RAdam,
            learning_rate: 1e-2,
            weight_decay: 0.0,
            ..OptimizerConfig::default()
        },
        ..NetworkSpec::new(case.architecture.clone(), case.channels)
    };
    let engine = CpuEngine::with_instructions(Some(2), set).unwrap();
    let mut network = engine.build(&spec).unwrap();
    network.import(&state(&arrays, "w0/")).unwrap();

    let input = tensor(&arrays["input"]);
    let mut output = Tensor::default();
    network.forward(&input, &mut output).unwrap();
    assert_near(
        "evaluation",
        &output.data,
        arrays["eval_output"].as_slice().unwrap(),
        1e-5,
    );

    let target = tensor(&arrays["target"]);
    // The original's affinity loss ignores its weights.
    let weight = match case.loss {
        Loss::BceWithLogits => Tensor::from_vec(&target.shape, vec![1.0; target.data.len()]).unwrap(),
        _ => tensor(&arrays["weight"]),
    };
    let batch = Batch {
        input,
        target,
        weight,
    };
    if case.statistics_moved {
        // One training pass that changes the running statistics only.
        network.train_step(&batch, 0.0).unwrap();
        network
            .import(
                &network
                    .export()
                    .unwrap()
                    .into_iter()
                    .filter(|t| t.name.starts_with("model/"))
                    .collect::<Vec<_>>(),
            )
            .unwrap();
    }
    let losses = arrays["losses"].as_slice().unwrap().to_vec();
    for (i, expected) in losses.iter().enumerate() {
        let step = network.train_step(&batch, 1e-2).unwrap();
        if i == 0 {
            let train_output = arrays["train_output"].as_slice().unwrap();
            assert_near("training output", &network.prediction().data, train_output, 1e-5);
            assert_gradients(network.as_ref(), &arrays);
            assert_weights(
                &format!("after step 1, {set:?}"),
                network.as_ref(),
                &arrays,
                "w1/",
                1e-4,
            );
        }
        assert!(
            (step.loss - expected).abs() < 1e-4,
            "loss {i}: {} instead of {expected}",
            step.loss
        );
    }
    // Without fused multiplication and addition every product is rounded once more.
    let tolerance = if set.name() == "plain" { 3e-4 } else { 1e-4 };
    assert_weights(
        &format!("after step 8, {set:?}"),
        network.as_ref(),
        &arrays,
        "w8/",
        tolerance,
    );
}

/// The first step's gradients, seen through the optimiser's state: its running mean is a tenth of them.
fn assert_gradients(network: &dyn Network, arrays: &BTreeMap<String, ArrayD<f64>>) {
    let expected = state(arrays, "grad0/");
    let largest = expected
        .iter()
        .flat_map(|t| &t.data)
        .fold(0f32, |a, &b| a.max(b.abs()));
    let exported = network.export().unwrap();
    for tensor in expected {
        let name = tensor.name.replacen("model/", "optimizer/exp_avg/", 1);
        let mean = exported.iter().find(|t| t.name == name).unwrap();
        let gradient: Vec<f32> = mean.data.iter().map(|m| m / 0.1).collect();
        let values: Vec<f64> = tensor.data.iter().map(|&x| f64::from(x)).collect();
        assert_near(
            &format!("gradient of {name}"),
            &gradient,
            &values,
            1e-4 * f64::from(largest),
        );
    }
}

#[test]
fn constant_upsampling_trains_as_the_original() {
    check(Case {
        file: "train_affs_constant_upsample.npz",
        architecture: small(32),
        activation: Activation::Sigmoid,
        loss: Loss::BceWithLogits,
        channels: 3,
        statistics_moved: false,
    });
}

#[test]
fn transposed_convolutions_train_as_the_original() {
    check(Case {
        file: "train_affs_transposed.npz",
        architecture: UNetConfig {
            constant_upsample: false,
            ..small(32)
        },
        activation: Activation::Sigmoid,
        loss: Loss::BceWithLogits,
        channels: 3,
        statistics_moved: false,
    });
}

#[test]
fn batch_norm_and_same_padding_train_as_the_original() {
    check(Case {
        file: "train_distance_same_bn.npz",
        architecture: UNetConfig {
            padding: dacapo_nn::Padding::Same,
            batch_norm: true,
            ..small(16)
        },
        activation: Activation::None,
        loss: Loss::Mse,
        channels: 1,
        statistics_moved: true,
    });
}

/// "(2, 2, 2)" or "[(1, 3, 3), (1, 3, 3)]" to numbers.
fn numbers(text: &str) -> Vec<usize> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter(|n| !n.is_empty())
        .map(|n| n.parse().unwrap())
        .collect()
}

#[test]
fn shapes_and_parameters_are_those_of_the_original() {
    let cases: serde_json::Map<String, serde_json::Value> =
        serde_json::from_reader(File::open(data("unets.json")).unwrap()).unwrap();
    assert_eq!(cases.len(), 12);
    for (name, case) in &cases {
        let config = &case["config"];
        let list = |value: &serde_json::Value| -> Vec<Vec<usize>> {
            value
                .as_array()
                .unwrap()
                .iter()
                .map(|item| numbers(item.as_str().unwrap()))
                .collect()
        };
        let flat = |value: &serde_json::Value| list(value).concat();
        let count = |key: &str| config[key].as_u64().unwrap() as usize;
        let input_shape = flat(&config["input_shape"]);
        let dims = input_shape.len();
        let kernels = |key: &str| {
            let levels = config.get(key)?;
            Some(
                list(levels)
                    .iter()
                    .map(|level| level.chunks(dims).map(<[usize]>::to_vec).collect())
                    .collect(),
            )
        };
        let flag = |key: &str, default| config.get(key).map_or(default, |value| value.as_bool().unwrap());
        let architecture = UNetConfig {
            input_shape: input_shape.clone(),
            eval_shape_increase: config.get("eval_shape_increase").map(flat),
            fmaps_in: count("fmaps_in"),
            fmaps_out: Some(count("fmaps_out")),
            num_fmaps: count("num_fmaps"),
            fmap_inc_factor: count("fmap_inc_factor"),
            downsample_factors: list(&config["downsample_factors"]),
            kernel_size_down: kernels("kernel_size_down"),
            kernel_size_up: kernels("kernel_size_up"),
            padding: serde_json::from_value(config.get("padding").cloned().unwrap_or("valid".into()))
                .unwrap(),
            upsample_factors: config.get("upsample_factors").map(list).unwrap_or_default(),
            constant_upsample: flag("constant_upsample", name != "valid_2down_transposed"),
            batch_norm: flag("batch_norm", false),
            use_attention: flag("use_attention", false),
            ..UNetConfig::default()
        };
        let shape = |key: &str| -> Vec<usize> { serde_json::from_value(case[key].clone()).unwrap() };
        assert_eq!(input_shape, shape("input_shape"), "{name}");
        assert_eq!(
            architecture.output_shape(&input_shape).unwrap(),
            shape("output_shape"),
            "{name}"
        );
        let eval = architecture.eval_input_shape();
        assert_eq!(eval, shape("eval_input_shape"), "{name}");
        assert_eq!(
            architecture.output_shape(&eval).unwrap(),
            shape("eval_output_shape"),
            "{name}"
        );
        let voxel_size: Vec<usize> = architecture
            .output_scale()
            .iter()
            .map(|scale| 8 / scale)
            .collect();
        assert_eq!(voxel_size, shape("scale(8,8,8)"), "{name}");

        let head_channels = case["head_channels"].as_u64().unwrap() as usize;
        let network = CpuEngine::new(Some(1))
            .unwrap()
            .build(&NetworkSpec::new(architecture, head_channels))
            .unwrap();
        let mut ours: BTreeMap<String, Vec<usize>> = network
            .export()
            .unwrap()
            .into_iter()
            .filter_map(|t| Some((t.name.strip_prefix("model/")?.to_owned(), t.shape)))
            .collect();
        let trained: usize = ours
            .iter()
            .filter(|(name, _)| !name.contains("running_"))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        assert_eq!(trained as u64, case["params_total"].as_u64().unwrap(), "{name}");
        for (key, value) in case["state_dict"].as_object().unwrap() {
            // A network with `upsample_factors` is a list there: the U-Net, then pairs of layers.
            let key = key
                .replace("chain.0.0.l_conv", "l_conv")
                .replace("chain.0.0.r_", "r_");
            let key = key.replace("chain.0.1.up.", "upsample.0.up.");
            let key = key.replace("chain.0.2.conv_pass", "upsample.0.conv_pass");
            let key = key.trim_start_matches("chain.0.");
            if key.starts_with("chain.") || key.ends_with("num_batches_tracked") {
                continue;
            }
            let shape: Vec<usize> = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(ours.remove(key), Some(shape), "{name}: {key}");
        }
        assert!(ours.is_empty(), "{name}: {ours:?} are not the original's");
    }
}
