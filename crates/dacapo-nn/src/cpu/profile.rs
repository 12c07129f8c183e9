//! Where the time of a training step goes: each operation's seconds and multiplications.

use std::time::Instant;

use crate::cpu::graph::Graph;
use crate::cpu::params::Params;
use crate::cpu::plan::Plan;
use crate::ops::Mode;
use crate::simd::InstructionSet;
use crate::unet::Purpose;
use crate::{NetworkSpec, Result};

/// One operation of a training step.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerProfile {
    /// What it is, by the names of its parameters where it has some.
    pub name: String,
    /// Seconds forward and backward: the least of all repetitions.
    pub seconds: [f64; 2],
    /// Multiplications done in inner products forward and backward, those for padding and rounded channels included;
    /// 0 for what is no convolution.
    pub multiplications: [u64; 2],
}

/// A graph to train, planned for inputs of a shape.
fn planned(spec: &NetworkSpec, shape: &[usize], batch: usize, set: InstructionSet) -> Result<(Graph, Plan)> {
    let graph = spec
        .architecture
        .graph(Some(spec.out_channels()), Purpose::Train)?;
    let shapes = spec.architecture.buffer_shapes(&graph, shape)?;
    let plan = Plan::new(&graph, shapes, batch, Mode::Train, set, spec.recompute)?;
    Ok((graph, plan))
}

/// Multiplications in inner products of a training step, forward and backward.
pub(super) fn multiplications(
    spec: &NetworkSpec,
    shape: &[usize],
    batch: usize,
    set: InstructionSet,
) -> Result<[u64; 2]> {
    let (_, plan) = planned(spec, shape, batch, set)?;
    let counts = plan.multiplications();
    Ok([0, 1].map(|way| counts.iter().map(|count| count[way]).sum()))
}

/// Times `repetitions` training steps of a network of `spec`, operation by operation, without loss and update.
pub(super) fn profile(
    spec: &NetworkSpec,
    shape: &[usize],
    batch: usize,
    repetitions: usize,
    set: InstructionSet,
) -> Result<Vec<LayerProfile>> {
    let (graph, mut plan) = planned(spec, shape, batch, set)?;
    let mut params = Params::initialise(&graph.params, spec.seed);
    let mut slab = vec![0.0; plan.slab()];
    let input: Vec<f32> = (0..batch * plan.input().len())
        .map(|i| (i * 7919 % 1000) as f32 / 1000.0 - 0.5)
        .collect();
    let multiplications = plan.multiplications();
    let mut layers: Vec<LayerProfile> = graph
        .nodes
        .iter()
        .zip(multiplications)
        .map(|(node, multiplications)| LayerProfile {
            name: node.op.name(),
            seconds: [f64::INFINITY; 2],
            multiplications,
        })
        .collect();
    // One more, which finds its memory.
    for _ in 0..=repetitions {
        let mut seconds = vec![[0.0; 2]; layers.len()];
        let mut since = Instant::now();
        plan.forward_with(&mut params, &mut slab, &input, 0, |node| {
            seconds[node][0] += since.elapsed().as_secs_f64();
            since = Instant::now();
        });
        for output in graph.outputs() {
            if let Some((values, gradient)) = plan.value_and_gradient(&mut slab, output) {
                let pairs = gradient.iter_mut().zip(values);
                pairs.for_each(|(gradient, value)| *gradient = 1e-3 * value);
            }
        }
        since = Instant::now();
        plan.backward_with(&mut params, &mut slab, &input, 0, |node| {
            seconds[node][1] += since.elapsed().as_secs_f64();
            since = Instant::now();
        });
        for (layer, seconds) in layers.iter_mut().zip(seconds) {
            for (least, now) in layer.seconds.iter_mut().zip(seconds) {
                *least = least.min(now);
            }
        }
    }
    Ok(layers)
}
