//! A network on the CPU: its parameters, what trains them, and the plans for the shapes that it has met.

use std::sync::Arc;

use crate::cpu::graph::Graph;
use crate::cpu::params::Params;
use crate::cpu::plan::{Plan, add_to};
use crate::engine::{clipping, expect_input, expect_shape, finite};
use crate::head::activate_to;
use crate::loss::loss_and_gradient;
use crate::ops::Mode;
use crate::optimizer::Optimizer;
use crate::simd::InstructionSet;
use crate::state::{State, stream};
use crate::unet::Purpose;
use crate::{Batch, Error, NamedTensor, Network, NetworkSpec, Norm, Result, Step, Tensor};

/// Plans that a network keeps: one to train, and a few shapes to predict.
const PLANS: usize = 4;

pub(super) struct CpuNetwork {
    spec: NetworkSpec,
    pool: Arc<rayon::ThreadPool>,
    set: InstructionSet,
    training: Graph,
    predicting: Graph,
    state: State,
    /// What predictions are made with, where that is not what is trained; empty until it is needed.
    predicting_params: Option<Params>,
    /// What the plans run in, one after another: fresh memory costs several times a pass over it.
    slab: Vec<f32>,
    /// The one used last comes last.
    plans: Vec<Plan>,
    prediction: Tensor,
    /// Losses of the batches since the last update, and the sum of their gradients but for those of the last.
    losses: Vec<f64>,
    sums: Vec<Vec<f32>>,
}

impl CpuNetwork {
    pub(super) fn new(spec: &NetworkSpec, pool: Arc<rayon::ThreadPool>, set: InstructionSet) -> Result<Self> {
        let graph = |purpose| spec.architecture.graph(Some(spec.out_channels()), purpose);
        let training = graph(Purpose::Train)?;
        spec.architecture.output_shape(&spec.architecture.input_shape)?;
        Ok(Self {
            state: State::new(spec, &training)?,
            spec: spec.clone(),
            pool,
            set,
            predicting: graph(Purpose::Predict)?,
            training,
            predicting_params: None,
            slab: Vec::new(),
            plans: Vec::new(),
            prediction: Tensor::default(),
            losses: Vec::new(),
            sums: Vec::new(),
        })
    }

    /// Takes the plan for an input out of `plans`, or makes it.
    fn plan(&mut self, input: &Tensor, mode: Mode) -> Result<Plan> {
        let architecture = &self.spec.architecture;
        expect_input(architecture, input)?;
        let voxels = architecture.zyx(&input.shape[2..]);
        let matches =
            |plan: &Plan| plan.batch == input.shape[0] && plan.mode == mode && plan.input().voxels == voxels;
        if let Some(i) = self.plans.iter().position(matches) {
            return Ok(self.plans.remove(i));
        }
        self.new_plan(&input.shape[2..], input.shape[0], mode)
    }

    /// A plan for spatial inputs of `shape`.
    fn new_plan(&self, shape: &[usize], batch: usize, mode: Mode) -> Result<Plan> {
        let graph = match mode {
            Mode::Train => &self.training,
            Mode::Predict => &self.predicting,
        };
        let shapes = self.spec.architecture.buffer_shapes(graph, shape)?;
        Plan::new(graph, shapes, batch, mode, self.set, self.spec.recompute)
    }

    fn keep(&mut self, plan: Plan) {
        if self.plans.len() == PLANS {
            self.plans.remove(0);
        }
        self.plans.push(plan);
    }

    /// Shape of a plan's output as tensors have it.
    fn tensor_shape(&self, plan: &Plan) -> Vec<usize> {
        let output = plan.output();
        let mut shape = vec![plan.batch, output.channels];
        shape.extend_from_slice(&output.voxels[3 - self.spec.architecture.dims()..]);
        shape
    }

    /// Whether predictions are made with other parameters than those that are trained.
    fn predicts_with_others(&self) -> bool {
        self.state.average.is_some() || self.spec.architecture.effective_norm() == Norm::Batch
    }

    /// Forward and backward: the batch's loss, its gradients in `params`.
    fn gradients(&mut self, plan: &mut Plan, batch: &Batch) -> Result<f64> {
        let shape = self.tensor_shape(plan);
        expect_shape("the target", &batch.target, &shape)?;
        expect_shape("the weight", &batch.weight, &shape)?;
        let stream = stream(self.spec.seed, self.state.optimizer.steps(), self.losses.len());
        self.make_slab(plan);
        let (graph, params, slab) = (&self.training, &mut self.state.params, &mut self.slab[..]);
        let input = &batch.input.data;
        plan.forward(params, slab, input, stream);
        self.prediction.reshape_uninit(&shape);
        self.prediction
            .data
            .copy_from_slice(plan.value(slab, graph.output));
        let auxiliary = graph.auxiliary.iter().map(|a| (a.buffer, a.share));
        let mut loss = 0.0;
        for (buffer, share) in std::iter::once((graph.output, graph.share)).chain(auxiliary) {
            let Some((values, gradient)) = plan.value_and_gradient(slab, buffer) else {
                continue;
            };
            let (target, weight) = (&batch.target.data, &batch.weight.data);
            let outputs = &self.spec.outputs;
            loss += share * loss_and_gradient(outputs, shape[0], values, target, weight, gradient);
            if share != 1.0 {
                gradient.iter_mut().for_each(|g| *g *= share as f32);
            }
        }
        if !loss.is_finite() {
            return Err(Error::NotFinite {
                what: "loss",
                value: loss,
            });
        }
        plan.backward(params, slab, input, stream);
        Ok(loss)
    }

    /// Makes the slab long enough for a plan.
    fn make_slab(&mut self, plan: &Plan) {
        if self.slab.len() < plan.slab() {
            // Not `resize`: what it holds is not needed, and the old one may go first.
            self.slab = Vec::new();
            self.slab = vec![0.0; plan.slab()];
        }
    }

    /// Adds the gradients in `params` to the sums, where a batch has left some before.
    fn make_room(&mut self) {
        self.sums
            .resize_with(self.state.params.trained().count(), Vec::new);
        let trained = self
            .state
            .params
            .0
            .iter_mut()
            .filter(|param| param.spec.trainable);
        match self.losses.len() {
            0 => {}
            1 => {
                for (sum, param) in self.sums.iter_mut().zip(trained) {
                    sum.resize(param.gradient.len(), 0.0);
                    std::mem::swap(sum, &mut param.gradient);
                }
            }
            _ => {
                for (sum, param) in self.sums.iter_mut().zip(trained) {
                    add_to(sum, &param.gradient);
                }
            }
        }
    }

    fn apply(&mut self, learning_rate: f64) -> Result<Step> {
        let count = self.losses.len();
        if count > 1 {
            let trained = self
                .state
                .params
                .0
                .iter_mut()
                .filter(|param| param.spec.trainable);
            for (sum, param) in self.sums.iter().zip(trained) {
                // In the order of the batches.
                let last = param.gradient.iter_mut().zip(sum);
                last.for_each(|(gradient, sum)| *gradient = (sum + *gradient) / count as f32);
            }
        }
        let loss = self.losses.iter().sum::<f64>() / count.max(1) as f64;
        self.losses.clear();
        let gradient_norm = Optimizer::gradient_norm(&self.state.params);
        let scale = clipping(&self.spec, gradient_norm)?;
        self.state
            .optimizer
            .update(&mut self.state.params, learning_rate, scale);
        if let Some(average) = &mut self.state.average {
            average.update(&self.state.params, self.state.optimizer.steps());
        }
        Ok(Step { loss, gradient_norm })
    }
}

impl Network for CpuNetwork {
    fn spec(&self) -> &NetworkSpec {
        &self.spec
    }

    fn forward(&mut self, input: &Tensor, output: &mut Tensor) -> Result<()> {
        let pool = Arc::clone(&self.pool);
        pool.install(|| {
            let mut plan = self.plan(input, Mode::Predict)?;
            if self.predicts_with_others() && self.predicting_params.is_none() {
                self.predicting_params = Some(self.state.to_predict_with(&self.predicting));
            }
            output.reshape_uninit(&self.tensor_shape(&plan));
            self.make_slab(&plan);
            finite("input", &input.data)?;
            let params = self.predicting_params.as_mut().unwrap_or(&mut self.state.params);
            plan.forward(params, &mut self.slab, &input.data, 0);
            let values = plan.value(&mut self.slab, self.predicting.output);
            // Tiles spread what is not finite to their other voxels, where a sum would not.
            let checked = finite("prediction", values);
            activate_to(&self.spec.outputs, plan.batch, values, &mut output.data);
            self.keep(plan);
            checked
        })
    }

    fn accumulate(&mut self, batch: &Batch) -> Result<f64> {
        let pool = Arc::clone(&self.pool);
        pool.install(|| {
            let mut plan = self.plan(&batch.input, Mode::Train)?;
            self.predicting_params = None;
            self.make_room();
            let result = self.gradients(&mut plan, batch);
            self.keep(plan);
            match result {
                Ok(loss) => {
                    self.losses.push(loss);
                    Ok(loss)
                }
                Err(error) => {
                    self.losses.clear();
                    Err(error)
                }
            }
        })
    }

    fn update(&mut self, learning_rate: f64) -> Result<Step> {
        if self.losses.is_empty() {
            return Err(Error::NoGradients);
        }
        self.predicting_params = None;
        let pool = Arc::clone(&self.pool);
        pool.install(|| self.apply(learning_rate))
    }

    fn prediction(&self) -> &Tensor {
        &self.prediction
    }

    fn export(&self) -> Result<Vec<NamedTensor>> {
        Ok(self.state.export())
    }

    fn import(&mut self, tensors: &[NamedTensor]) -> Result<()> {
        self.state.import(&self.spec, tensors)?;
        self.predicting_params = None;
        self.losses.clear();
        Ok(())
    }
}
