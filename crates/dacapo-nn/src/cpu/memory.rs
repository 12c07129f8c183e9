//! How much memory a network takes, before it is built: from its graph and its plans, without any values. How much there
//! is, is found elsewhere.

use crate::cpu::graph::Graph;
use crate::cpu::plan::Plan;
use crate::ops::Mode;
use crate::simd::InstructionSet;
use crate::unet::Purpose;
use crate::{Memory, NetworkSpec, Result};

/// Bytes of a value.
const VALUE: usize = size_of::<f32>();

/// The memory of networks of `spec` for inputs of `shape`, with so many threads.
pub(super) fn estimate(
    spec: &NetworkSpec,
    shape: &[usize],
    batch: usize,
    threads: usize,
    set: InstructionSet,
) -> Result<Memory> {
    let graph = |purpose| spec.architecture.graph(Some(spec.out_channels()), purpose);
    let training = graph(Purpose::Train)?;
    let weights = |trained: bool| -> usize {
        let specs = training.params.iter().filter(|param| param.trainable || !trained);
        specs.map(|param| param.shape.iter().product::<usize>()).sum()
    };
    // Values; gradient and two moments; the average and the weights that predictions are made with.
    let copies = if spec.ema.is_some() { 2 } else { 0 };
    let parameters = weights(false) * (1 + copies) + weights(true) * 3;
    let run = |graph: &Graph, mode| values(spec, graph, mode, shape, batch, threads, set);
    let (train, predict) = (
        run(&training, Mode::Train)?,
        run(&graph(Purpose::Predict)?, Mode::Predict)?,
    );
    let bytes = |values: usize| ((parameters + values) * VALUE) as u64;
    Ok(Memory {
        parameters: bytes(0),
        training: bytes(train),
        prediction: bytes(predict),
    })
}

/// Values of a pass: the tensors that go in and come out, the buffers between, and working memory.
fn values(
    spec: &NetworkSpec,
    graph: &Graph,
    mode: Mode,
    shape: &[usize],
    batch: usize,
    threads: usize,
    set: InstructionSet,
) -> Result<usize> {
    let shapes = spec.architecture.buffer_shapes(graph, shape)?;
    let plan = Plan::new(graph, shapes, batch, mode, set, spec.recompute)?;
    // In training the prediction, the target and the weight.
    let outputs = if mode == Mode::Train { 3 } else { 1 };
    let tensors = batch * (plan.input().len() + outputs * plan.output().len());
    Ok(tensors + plan.slab() + plan.working_memory(threads))
}
