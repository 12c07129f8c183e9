//! How the learning rate goes over a run: warm-up, then decay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Learning rate over a run, as a factor of the optimiser's own: a linear warm-up, then a decay to the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Iterations over which the rate rises linearly from nearly 0 to its full value.
    pub warmup: u64,
    /// How it falls afterwards.
    pub decay: Decay,
}

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// It stays.
    None,
    /// Half a cosine, to 0 at the last iteration.
    #[default]
    Cosine,
    /// A straight line, to 0 at the last iteration.
    Linear,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            warmup: 100,
            decay: Decay::Cosine,
        }
    }
}

impl Schedule {
    /// The factor for `iteration` (from 0) of a run of `total` iterations: in (0, 1] while warming up, in
    /// [0, 1] afterwards.
    ///
    /// ```
    /// use dacapo_nn::{Decay, Schedule};
    /// let schedule = Schedule { warmup: 10, decay: Decay::Linear };
    /// assert_eq!(schedule.factor(4, 110), 0.5);
    /// assert_eq!(schedule.factor(60, 110), 0.5);
    /// ```
    pub fn factor(&self, iteration: u64, total: u64) -> f64 {
        if iteration < self.warmup {
            return (iteration + 1) as f64 / self.warmup as f64;
        }
        let span = total.saturating_sub(self.warmup).max(1) as f64;
        let done = ((iteration - self.warmup) as f64 / span).min(1.0);
        match self.decay {
            Decay::None => 1.0,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Decay::Linear => 1.0 - done,
        }
    }
}
