//! A network on the CPU: its parameters, what trains them, and the plans for the shapes that it has met.

use std::sync::Arc;

use crate::cpu::average::{self, Average};
use crate::cpu::graph::Graph;
use crate::cpu::params::{Param, Params, find_all};
use crate::cpu::plan::{Plan, add_to};
use crate::engine::expect_shape;
use crate::head::activate_to;
use crate::loss::loss_and_gradient;
use crate::ops::{Mode, fold_batch_norm};
use crate::optimizer::Optimizer;
use crate::simd::InstructionSet;
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
    params: Params,
    /// Those that predictions are made with, where they are not `params`; empty until they are needed.
    predicting_params: Option<Params>,
    optimizer: Optimizer,
    average: Option<Average>,
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
        spec.optimizer.validate()?;
        spec.ema.map_or(Ok(()), average::validate)?;
        let graph = |purpose| spec.architecture.graph(Some(spec.out_channels()), purpose);
        let training = graph(Purpose::Train)?;
        spec.architecture.output_shape(&spec.architecture.input_shape)?;
        let params = Params::initialise(&training.params, spec.seed);
        Ok(Self {
            optimizer: Optimizer::new(spec.optimizer.clone(), &params),
            average: spec.ema.map(|decay| Average::new(decay, &params)),
            spec: spec.clone(),
            pool,
            set,
            predicting: graph(Purpose::Predict)?,
            training,
            params,
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
        let dims = architecture.dims();
        let mut expected = vec![
            input.shape.first().copied().unwrap_or(1).max(1),
            architecture.fmaps_in,
        ];
        expected.extend(input.shape.get(2..).unwrap_or_default());
        expected.resize(2 + dims, 1);
        expect_shape("the input", input, &expected)?;
        let voxels = [
            if dims == 2 { 1 } else { input.shape[2] },
            input.shape[dims],
            input.shape[dims + 1],
        ];
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
        self.average.is_some() || self.spec.architecture.effective_norm() == Norm::Batch
    }

    /// The parameters that predictions are made with: averaged, and with normalisations folded into convolutions.
    fn params_to_predict_with(&self) -> Params {
        let own = |i: usize| match &self.average {
            Some(average) => &average.values()[i],
            None => &self.params.0[i].value,
        };
        let place = |name: &str| self.params.0.iter().position(|param| param.spec.name == name);
        let value = |name: &str| place(name).map_or(&[][..], |i| own(i));
        let param = |spec: &crate::cpu::params::ParamSpec| Param {
            value: value(&spec.name).to_vec(),
            gradient: Vec::new(),
            spec: spec.clone(),
        };
        let mut params = Params(self.predicting.params.iter().map(param).collect());
        for fold in &self.predicting.folds {
            let [weight, bias] = ["weight", "bias"].map(|suffix| format!("{}.{suffix}", fold.conv));
            let norm = ["weight", "bias", "running_mean", "running_var"]
                .map(|suffix| value(&format!("{}.{suffix}", fold.norm)));
            let conv = params
                .0
                .iter_mut()
                .filter(|param| param.spec.name == weight || param.spec.name == bias);
            if let [weight, bias] = &mut conv.collect::<Vec<_>>()[..] {
                fold_batch_norm(&mut weight.value, &mut bias.value, norm);
            }
        }
        params
    }

    /// Tells the batches of this training apart.
    fn stream(&self) -> u64 {
        use crate::init::mix;
        mix(mix(self.spec.seed).wrapping_add(self.optimizer.steps()))
            .wrapping_add(mix(self.losses.len() as u64))
    }

    /// Forward and backward: the batch's loss, its gradients in `params`.
    fn gradients(&mut self, plan: &mut Plan, batch: &Batch) -> Result<f64> {
        let shape = self.tensor_shape(plan);
        expect_shape("the target", &batch.target, &shape)?;
        expect_shape("the weight", &batch.weight, &shape)?;
        let stream = self.stream();
        self.make_slab(plan);
        let (graph, params, slab) = (&self.training, &mut self.params, &mut self.slab[..]);
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
        self.sums.resize_with(self.params.trained().count(), Vec::new);
        let trained = self.params.0.iter_mut().filter(|param| param.spec.trainable);
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
            let trained = self.params.0.iter_mut().filter(|param| param.spec.trainable);
            for (sum, param) in self.sums.iter().zip(trained) {
                // In the order of the batches.
                let last = param.gradient.iter_mut().zip(sum);
                last.for_each(|(gradient, sum)| *gradient = (sum + *gradient) / count as f32);
            }
        }
        let loss = self.losses.iter().sum::<f64>() / count.max(1) as f64;
        self.losses.clear();
        let gradient_norm = Optimizer::gradient_norm(&self.params);
        if !gradient_norm.is_finite() {
            return Err(Error::NotFinite {
                what: "gradient norm",
                value: gradient_norm,
            });
        }
        let scale = match self.spec.clip_gradient_norm {
            Some(limit) if gradient_norm > limit => limit / gradient_norm,
            _ => 1.0,
        };
        self.optimizer.update(&mut self.params, learning_rate, scale);
        if let Some(average) = &mut self.average {
            average.update(&self.params, self.optimizer.steps());
        }
        Ok(Step { loss, gradient_norm })
    }
}

/// Refuses values that are NaN or infinite.
fn finite(what: &'static str, values: &[f32]) -> Result<()> {
    use rayon::prelude::*;
    // Bit by bit without a branch, which the compiler makes vectors of; looking at each value by itself was a fifth
    // of a prediction's time.
    let all_finite = |values: &&[f32]| {
        let bad = values
            .iter()
            .fold(0, |bad, value| bad | u32::from(!value.is_finite()));
        bad == 0
    };
    let chunk = values.par_chunks(1 << 14).find_first(|chunk| !all_finite(chunk));
    match chunk.and_then(|chunk| chunk.iter().find(|value| !value.is_finite())) {
        None => Ok(()),
        Some(&value) => Err(Error::NotFinite {
            what,
            value: f64::from(value),
        }),
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
                self.predicting_params = Some(self.params_to_predict_with());
            }
            output.reshape_uninit(&self.tensor_shape(&plan));
            self.make_slab(&plan);
            finite("input", &input.data)?;
            let params = self.predicting_params.as_mut().unwrap_or(&mut self.params);
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

    fn export(&self) -> Vec<NamedTensor> {
        let mut tensors = self.params.export("model/");
        tensors.extend(self.optimizer.export(&self.params));
        tensors.extend(
            self.average
                .iter()
                .flat_map(|average| average.export(&self.params)),
        );
        tensors
    }

    fn import(&mut self, tensors: &[NamedTensor]) -> Result<()> {
        let values = find_all(self.params.0.iter().map(|param| &param.spec), "model/", tensors)?;
        let known = |name: &str| self.params.0.iter().any(|param| param.spec.name == name);
        let unknown = tensors
            .iter()
            .filter_map(|t| t.name.strip_prefix("model/"))
            .find(|name| !known(name));
        if let Some(name) = unknown {
            return Err(Error::Weights(format!(
                "`model/{name}` is unknown to the network"
            )));
        }
        let weights = self.params.0.iter().map(|param| &param.spec.name);
        for (name, values) in weights.zip(&values) {
            if let Some((place, value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                return Err(Error::Weights(format!(
                    "`model/{name}` holds {value}, at place {place}"
                )));
            }
        }
        let optimizer = Optimizer::import(self.spec.optimizer.clone(), &self.params, tensors)?;
        let found = |prefix: &str| tensors.iter().any(|tensor| tensor.name.starts_with(prefix));
        let averaged = match self.spec.ema {
            Some(decay) if found(average::PREFIX) => Some(Average::import(decay, &self.params, tensors)?),
            _ => None,
        };
        let values: Vec<Vec<f32>> = values.into_iter().map(<[f32]>::to_vec).collect();
        self.params
            .0
            .iter_mut()
            .zip(values)
            .for_each(|(param, value)| param.value = value);
        self.optimizer = optimizer;
        self.average = self
            .spec
            .ema
            .map(|decay| averaged.unwrap_or_else(|| Average::new(decay, &self.params)));
        self.predicting_params = None;
        self.losses.clear();
        Ok(())
    }
}
