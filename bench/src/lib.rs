//! What the measurements share: networks to measure, and the process's own clocks.

use dacapo::nn::{Norm, Padding, UNetConfig};

/// As the program's.
#[global_allocator]
static ALLOCATOR: dacapo::array::HugePages = dacapo::array::HugePages;

/// A network to measure.
pub struct Measured {
    /// The layers.
    pub architecture: UNetConfig,
    /// Channels of the head.
    pub channels: usize,
    /// Samples at once.
    pub batch: usize,
}

/// The networks, by name; `torch_unet.py` has the same.
pub fn network(name: &str) -> Option<Measured> {
    let valid = UNetConfig::default();
    let residual = UNetConfig {
        padding: Padding::Same,
        norm: Norm::Group,
        residual: true,
        fmap_inc_factor: 2,
        ..UNetConfig::default()
    };
    let kernels = vec![vec![vec![1, 3, 3], vec![3, 3, 3]]; 3];
    let (architecture, channels, batch) = match name {
        "valid" => (valid, 2, 1),
        "batch" => {
            let input_shape = vec![60; 3];
            (UNetConfig { input_shape, ..valid }, 2, 4)
        }
        "residual" => (
            UNetConfig {
                input_shape: vec![64; 3],
                num_fmaps: 16,
                downsample_factors: vec![vec![2; 3]; 3],
                ..residual
            },
            9,
            1,
        ),
        "stem" => (
            UNetConfig {
                input_shape: vec![80; 3],
                num_fmaps: 24,
                narrow_upsampling: true,
                stem_factors: Some(vec![2; 3]),
                ..residual
            },
            9,
            1,
        ),
        "anisotropic" => (
            UNetConfig {
                input_shape: vec![28, 116, 116],
                downsample_factors: vec![vec![1, 2, 2]; 2],
                kernel_size_up: Some(kernels[..2].to_vec()),
                kernel_size_down: Some(kernels),
                ..valid
            },
            3,
            1,
        ),
        "plane" => (
            UNetConfig {
                input_shape: vec![512; 2],
                num_fmaps: 32,
                fmap_inc_factor: 2,
                downsample_factors: vec![vec![2; 2]; 3],
                padding: Padding::Same,
                ..valid
            },
            2,
            1,
        ),
        _ => return None,
    };
    Some(Measured {
        architecture,
        channels,
        batch,
    })
}

/// CPU seconds of this process so far, of all its threads.
pub fn cpu_seconds() -> f64 {
    /// Ticks a second in /proc, on every Linux.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields are counted from behind the command's name, which may hold anything.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |i: usize| {
        fields
            .get(i)
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / TICKS
}

/// A line of /proc/self/status in MiB: `VmRSS` (now), `VmHWM` (the most so far).
pub fn memory(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1024.0
}

/// A small generator: the same numbers everywhere, from a seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    /// The next number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}
