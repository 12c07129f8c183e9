//! Test support: an operation's backward pass against central differences of its forward pass.

use std::collections::BTreeMap;

use super::{BackwardStep, Mode, Op, Pass, Shape, Site};
use crate::cpu::params::Params;

/// Values that are apart from each other and from 0, in an order that looks random, so that small
/// differences cross no kink of a maximum.
fn values(len: usize, salt: usize) -> Vec<f32> {
    let mut keys: Vec<(u64, usize)> = (0..len)
        .map(|i| (crate::init::mix((i * 8 + salt) as u64), i))
        .collect();
    keys.sort_unstable();
    let spread = 2.0 / len as f32;
    keys.into_iter()
        .map(|(_, i)| (i as f32 + 0.5) * spread - 1.0)
        .collect()
}

/// A forward pass of a training.
pub(crate) const TRAIN: Pass = Pass {
    mode: Mode::Train,
    stream: 5,
    again: false,
};

fn shapes(op: &dyn Op, inputs: &[(usize, [usize; 3])]) -> (Vec<Shape>, Shape) {
    let inputs: Vec<Shape> = inputs
        .iter()
        .map(|&(channels, voxels)| Shape { channels, voxels })
        .collect();
    let channels = op.channels(&inputs.iter().map(|s| s.channels).collect::<Vec<_>>());
    let length = |axis| {
        op.length(axis, &inputs.iter().map(|s| s.voxels[axis]).collect::<Vec<_>>())
            .unwrap()
    };
    let output = Shape {
        channels,
        voxels: std::array::from_fn(length),
    };
    (inputs, output)
}

struct Fixture<'a> {
    op: &'a dyn Op,
    batch: usize,
    shapes: Vec<Shape>,
    output: Shape,
    inputs: Vec<Vec<f32>>,
    params: Params,
}

impl<'a> Fixture<'a> {
    fn new(op: &'a dyn Op, inputs: &[(usize, [usize; 3])], batch: usize) -> Self {
        let (shapes, output) = shapes(op, inputs);
        let mut params = Params::initialise(&op.params(), 3);
        for (salt, param) in params.0.iter_mut().enumerate() {
            for (value, new) in param
                .value
                .clone()
                .iter_mut()
                .zip(values(param.value.len(), salt))
            {
                *value += new;
            }
        }
        let inputs = shapes
            .iter()
            .enumerate()
            .map(|(i, s)| values(batch * s.len(), i))
            .collect();
        Self {
            op,
            batch,
            shapes,
            output,
            inputs,
            params,
        }
    }

    fn kernel(&self) -> Box<dyn super::Kernel> {
        let site = Site {
            batch: self.batch,
            inputs: &self.shapes,
            output: self.output,
            first_param: 0,
            set: crate::simd::InstructionSet::detect(),
        };
        self.op.plan(&site).unwrap()
    }

    fn forward(&mut self) -> Vec<f32> {
        let mut output = vec![f32::NAN; self.batch * self.output.len()];
        let inputs: Vec<&[f32]> = self.inputs.iter().map(Vec::as_slice).collect();
        let mut kernel = self.kernel();
        kernel.forward(&inputs, &mut output, &mut self.params, TRAIN);
        output
    }

    /// Some linear function of the output.
    fn objective(&mut self) -> f64 {
        let output = self.forward();
        let weights = values(output.len(), 5);
        output
            .iter()
            .zip(weights)
            .map(|(&y, w)| f64::from(y) * f64::from(w))
            .sum()
    }
}

/// The output of one forward pass.
pub(crate) fn run(op: &dyn Op, inputs: &[(usize, [usize; 3])], batch: usize) -> Vec<f32> {
    Fixture::new(op, inputs, batch).forward()
}

/// All gradients of one forward and backward pass: of the inputs, then of the parameters (in `fixture`).
fn backward(fixture: &mut Fixture<'_>, gradient: &mut [f32]) -> (Vec<f32>, Vec<Vec<f32>>) {
    let mut kernel = fixture.kernel();
    let mut output = vec![f32::NAN; fixture.batch * fixture.output.len()];
    let slices: Vec<&[f32]> = fixture.inputs.iter().map(Vec::as_slice).collect();
    kernel.forward(&slices, &mut output, &mut fixture.params, TRAIN);
    let in_place = kernel.in_place();
    let mut input_gradients: Vec<Vec<f32>> = fixture.inputs.iter().map(|x| vec![f32::NAN; x.len()]).collect();
    let mut wanted: Vec<Option<&mut [f32]>> = input_gradients
        .iter_mut()
        .enumerate()
        .map(|(input, g)| (fixture.op.reads(input) && !(input == 0 && in_place)).then_some(g.as_mut_slice()))
        .collect();
    // Nothing is there that is not asked for.
    let needs = kernel.needs();
    let nothing: Vec<&[f32]> = vec![&[]; slices.len()];
    let step = BackwardStep {
        inputs: if needs.inputs { &slices } else { &nothing },
        output: if needs.output { &output } else { &[] },
        gradient,
        input_gradients: &mut wanted,
        add: false,
    };
    kernel.backward(step, &mut fixture.params);
    if in_place {
        input_gradients[0].copy_from_slice(gradient);
    }
    (output, input_gradients)
}

/// Compares all gradients of an operation with central differences.
pub(crate) fn check(op: &dyn Op, inputs: &[(usize, [usize; 3])], batch: usize) {
    let mut fixture = Fixture::new(op, inputs, batch);
    let mut gradient = values(batch * fixture.output.len(), 5);
    let (_, input_gradients) = backward(&mut fixture, &mut gradient);
    for (input, gradient) in input_gradients.iter().enumerate() {
        if op.reads(input) {
            compare(&mut fixture, gradient, &format!("input {input}"), |f| {
                &mut f.inputs[input]
            });
        }
    }
    for param in 0..fixture.params.0.len() {
        if fixture.params.0[param].spec.trainable {
            let gradient = fixture.params.0[param].gradient.clone();
            compare(&mut fixture, &gradient, &format!("parameter {param}"), |f| {
                &mut f.params.0[param].value
            });
        }
    }
}

/// Compares an operation of one input with what PyTorch made of the same: `tests/data/ops/make.py`. Parameters are in
/// the order in which the operation has them.
pub(crate) fn compare_with_peer(op: &dyn Op, name: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/ops/ops.json");
    let cases: BTreeMap<String, Peer> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let peer = &cases[name];
    let [batch, channels, z, y, x] = peer.x.shape[..] else {
        panic!("{name}: {:?}", peer.x.shape)
    };
    let mut fixture = Fixture::new(op, &[(channels, [z, y, x])], batch);
    fixture.inputs = vec![peer.x.data.clone()];
    for (param, value) in fixture.params.0.iter_mut().zip(&peer.parameters) {
        param.value.clone_from(&value.data);
    }
    let [out_z, out_y, out_x] = fixture.output.voxels;
    let shape = [batch, fixture.output.channels, out_z, out_y, out_x];
    assert_eq!(peer.y.shape, shape, "{name}");
    let (output, input_gradients) = backward(&mut fixture, &mut peer.gy.data.clone());
    let near = |what: &str, found: &[f32], expected: &[f32]| {
        let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!(
                (a - b).abs() <= 3e-6 * largest,
                "{name}: {what}[{i}]: {a} instead of {b}"
            );
        }
        assert_eq!(found.len(), expected.len(), "{name}: {what}");
    };
    near("output", &output, &peer.y.data);
    near("input's gradient", &input_gradients[0], &peer.gx.data);
    let trained = fixture.params.0.iter().filter(|param| param.spec.trainable);
    for (param, expected) in trained.zip(&peer.gradients) {
        near(&param.spec.name, &param.gradient, &expected.data);
    }
}

/// What PyTorch found.
#[derive(serde::Deserialize)]
struct Peer {
    x: Values,
    gy: Values,
    y: Values,
    gx: Values,
    parameters: Vec<Values>,
    gradients: Vec<Values>,
}

#[derive(serde::Deserialize)]
struct Values {
    shape: Vec<usize>,
    data: Vec<f32>,
}

fn compare(
    fixture: &mut Fixture<'_>,
    gradient: &[f32],
    what: &str,
    place: impl for<'f> Fn(&'f mut Fixture<'_>) -> &'f mut Vec<f32>,
) {
    let spread = 2.0 / gradient.len() as f32;
    let step = (spread / 4.0).min(2e-4);
    let scale = gradient.iter().fold(1e-3f32, |a, g| a.max(g.abs()));
    for i in (0..gradient.len()).step_by(gradient.len().div_ceil(40)) {
        let value = place(fixture)[i];
        place(fixture)[i] = value + step;
        let above = fixture.objective();
        place(fixture)[i] = value - step;
        let below = fixture.objective();
        place(fixture)[i] = value;
        let expected = (above - below) / (2.0 * f64::from(step));
        let error = (f64::from(gradient[i]) - expected).abs();
        assert!(
            error < 2e-2 * f64::from(scale),
            "{:?}: {what}[{i}]: {} instead of {expected}",
            fixture.op,
            gradient[i]
        );
    }
}
