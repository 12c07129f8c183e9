//! The CPU engine: networks as lists of operations over planar f32 buffers, run on a pool of threads, the
//! same bits at any number of them.

use std::sync::Arc;

use crate::simd::InstructionSet;
use crate::{Engine, Error, Memory, Network, NetworkSpec, Result};
use network::CpuNetwork;
pub use profile::LayerProfile;

pub(crate) mod average;
pub(crate) mod free;
pub(crate) mod graph;
pub(crate) mod memory;
mod network;
pub(crate) mod params;
mod plan;
mod profile;
mod slab;

/// Builds networks that run on this machine's CPU.
#[derive(Debug, Clone)]
pub struct CpuEngine {
    pool: Arc<rayon::ThreadPool>,
    set: InstructionSet,
}

impl CpuEngine {
    /// An engine with its own threads: as many as asked for, by default one a core. It computes with the best
    /// instructions that the CPU has.
    ///
    /// # Errors
    /// [`Error::Engine`] if the threads cannot be started.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        Self::with_instructions(threads, InstructionSet::detect())
    }

    /// The same with an instruction set of choice.
    ///
    /// # Errors
    /// [`Error::Engine`] if the threads cannot be started.
    pub fn with_instructions(threads: Option<usize>, set: InstructionSet) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.unwrap_or(0))
            .thread_name(|i| format!("dacapo-nn-{i}"))
            .build()
            .map_err(|error| Error::Engine(error.to_string()))?;
        Ok(Self {
            pool: Arc::new(pool),
            set,
        })
    }
}

impl CpuEngine {
    /// The instructions that it computes with.
    pub fn instructions(&self) -> InstructionSet {
        self.set
    }

    /// Its threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Multiplications with addition a second that its threads do at most: measured for `time`.
    pub fn peak(&self, time: std::time::Duration) -> f64 {
        self.pool.install(|| crate::simd::peak(self.set, time))
    }

    /// Multiplications in inner products of a training step on `batch` inputs of a spatial shape, forward and backward:
    /// those that are done, with what is rounded up.
    ///
    /// # Errors
    /// As [`Engine::build`], for this input shape.
    pub fn multiplications(&self, spec: &NetworkSpec, input: &[usize], batch: usize) -> Result<[u64; 2]> {
        profile::multiplications(spec, input, batch, self.set)
    }

    /// Where the time of training steps on `batch` inputs of a spatial shape goes, operation by operation; loss and
    /// update are left out.
    ///
    /// # Errors
    /// As [`Engine::build`], for this input shape.
    pub fn profile(
        &self,
        spec: &NetworkSpec,
        input: &[usize],
        batch: usize,
        repetitions: usize,
    ) -> Result<Vec<LayerProfile>> {
        let run = || profile::profile(spec, input, batch, repetitions, self.set);
        self.pool.install(run)
    }
}

impl Engine for CpuEngine {
    fn build(&self, spec: &NetworkSpec) -> Result<Box<dyn Network>> {
        Ok(Box::new(CpuNetwork::new(spec, Arc::clone(&self.pool), self.set)?))
    }

    fn memory(&self, spec: &NetworkSpec, input: &[usize], batch: usize) -> Result<Memory> {
        memory::estimate(spec, input, batch, self.pool.current_num_threads(), self.set)
    }

    fn free_memory(&self) -> Option<u64> {
        free::free()
    }
}
