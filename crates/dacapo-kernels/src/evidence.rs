//! What is known of a contact between fragments: its affinities, summed up so that parts add up exactly, in any order.

use std::fmt::Debug;

/// The affinities of the links across a contact. Evidence of parts of a contact joins to that of the whole, to the last
/// bit, whatever the parts and their order.
pub trait Evidence: Clone + Default + Debug + PartialEq + Send + Sync {
    /// Adds a link. The affinity is not NaN.
    fn add(&mut self, affinity: f32);

    /// Adds the links of `other`.
    fn join(&mut self, other: &Self);

    /// How many links there are.
    fn links(&self) -> u64;
}

/// The sum of the affinities, for their mean. It is a whole number of steps of 2⁻³²: affinities lose what is smaller,
/// 2 × 10⁻¹⁰ at most, and are clipped to ±2³¹.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MeanAffinity {
    steps: i128,
    links: u64,
}

const STEPS: f64 = (1u64 << 32) as f64;
const CLIP: f32 = (1u32 << 31) as f32;

impl MeanAffinity {
    /// The mean affinity; NaN where there is no link.
    pub fn mean(&self) -> f64 {
        self.steps as f64 / (STEPS * self.links as f64)
    }
}

impl Evidence for MeanAffinity {
    #[inline]
    fn add(&mut self, affinity: f32) {
        // 64 bits hold any affinity; many of them need more.
        self.steps += i128::from((f64::from(affinity.clamp(-CLIP, CLIP)) * STEPS) as i64);
        self.links += 1;
    }

    fn join(&mut self, other: &Self) {
        self.steps += other.steps;
        self.links += other.links;
    }

    fn links(&self) -> u64 {
        self.links
    }
}

/// The largest affinity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaximumAffinity {
    most: f32,
    links: u64,
}

impl Default for MaximumAffinity {
    fn default() -> Self {
        Self {
            most: f32::NEG_INFINITY,
            links: 0,
        }
    }
}

impl MaximumAffinity {
    /// The largest affinity; -∞ where there is no link.
    pub fn maximum(&self) -> f64 {
        f64::from(self.most)
    }
}

impl Evidence for MaximumAffinity {
    #[inline]
    fn add(&mut self, affinity: f32) {
        self.most = self.most.max(affinity);
        self.links += 1;
    }

    fn join(&mut self, other: &Self) {
        self.most = self.most.max(other.most);
        self.links += other.links;
    }

    fn links(&self) -> u64 {
        self.links
    }
}

/// How many links have which affinity, for quantiles: affinities are clipped to 0 to 1 and rounded to a 255th, so those
/// of bytes are exact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AffinityHistogram {
    /// Levels that occur and their links, ascending.
    counts: Vec<(u8, u64)>,
    links: u64,
}

impl AffinityHistogram {
    /// The least affinity that a share of at least `share` (0 to 1) of the links is not above: of 0 the least of all, of
    /// 0.5 the lower median, of 1 the largest. NaN where there is no link.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = ((share * self.links as f64).ceil() as u64).clamp(1, self.links.max(1));
        let mut below = 0;
        let level = self.counts.iter().find(|&&(_, links)| {
            below += links;
            below >= rank
        });
        level.map_or(f64::NAN, |&(level, _)| f64::from(level) / 255.0)
    }

    fn count(&mut self, level: u8, links: u64) {
        match self.counts.binary_search_by_key(&level, |&(level, _)| level) {
            Ok(at) => self.counts[at].1 += links,
            Err(at) => self.counts.insert(at, (level, links)),
        }
        self.links += links;
    }
}

impl Evidence for AffinityHistogram {
    #[inline]
    fn add(&mut self, affinity: f32) {
        self.count((affinity.clamp(0.0, 1.0) * 255.0 + 0.5) as u8, 1);
    }

    fn join(&mut self, other: &Self) {
        for &(level, links) in &other.counts {
            self.count(level, links);
        }
    }

    fn links(&self) -> u64 {
        self.links
    }
}
