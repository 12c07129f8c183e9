//! What tests of engines share: batches that are the same everywhere, and networks with every option.
#![allow(dead_code, reason = "each test file uses a part")]

use dacapo_nn::{Batch, Nonlinearity, Norm, Padding, Tensor, UNetConfig, Upsampling};

/// Values in -1..1 that look random.
pub fn noise(shape: &[usize], salt: usize) -> Tensor {
    let value = |i: usize| ((i * 7919 + salt * 104_729) % 2003) as f32 / 1001.5 - 1.0;
    Tensor::from_vec(shape, (0..shape.iter().product()).map(value).collect()).unwrap()
}

/// Noise, what to make of it, and weights.
pub fn batch(architecture: &UNetConfig, channels: usize, size: usize, salt: usize) -> Batch {
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
pub fn stem() -> UNetConfig {
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

/// The options that do not exclude each other, all in one network.
pub fn everything() -> UNetConfig {
    UNetConfig {
        batch_norm: true,
        dropout: 0.2,
        use_attention: true,
        residual: true,
        deep_supervision: true,
        activation: Nonlinearity::Gelu,
        ..variants()[1].1.clone()
    }
}

/// Networks that have every option among them.
pub fn variants() -> Vec<(&'static str, UNetConfig)> {
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
            "instance norm, leaky ReLU, dropout",
            UNetConfig {
                norm: Norm::Instance,
                activation: Nonlinearity::LeakyRelu,
                dropout: 0.2,
                ..stem()
            },
        ),
        (
            "GELU, trilinear, deep supervision",
            UNetConfig {
                activation: Nonlinearity::Gelu,
                upsampling: Some(Upsampling::Trilinear),
                deep_supervision: true,
                input_shape: vec![52; 3],
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
        (
            "2D, trilinear, batch norm, deep supervision",
            UNetConfig {
                upsampling: Some(Upsampling::Trilinear),
                padding: Padding::Same,
                batch_norm: true,
                deep_supervision: true,
                ..flat.clone()
            },
        ),
        ("2D", flat),
    ]
}
