//! The real binary as tests start it, and places that fail it.
#![allow(
    dead_code,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "each test uses some of it, and may fail loudly"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The command, working in `dir`, and knowing nothing of this user's options.
pub fn dacapo(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dacapo"));
    command
        .current_dir(dir)
        .env_remove("DACAPO_OPTIONS_FILE")
        .env("HOME", dir);
    command
}

pub fn run(dir: &Path, arguments: &[&str]) -> Output {
    dacapo(dir).args(arguments).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What it prints, having succeeded.
pub fn succeed(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

/// A run that takes seconds: `name`, its iterations, and lines to add at the end.
pub fn config(dir: &Path, name: &str, iterations: u64, more: &str) -> PathBuf {
    let path = dir.join(format!("{name}.yaml"));
    let text = format!(
        "\
name: {name}
seed: 3
num_iterations: {iterations}
data:
  synthetic: {{container: cells.zarr, shape: [24, 48, 48], voxel_size: [8, 8, 8], cell_diameter: 120, seed: 1}}
  train:
    - {{name: a, raw: cells.zarr/raw, labels: cells.zarr/labels, roi: {{offset: [0, 0, 0], shape: [192, 384, 256]}}}}
  validate:
    - {{name: b, raw: cells.zarr/raw, labels: cells.zarr/labels, roi: {{offset: [0, 0, 256], shape: [192, 384, 128]}}}}
task: {{kind: affinities, neighborhood: [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]}}
architecture:
  {{kind: unet, input_shape: [16, 16, 16], num_fmaps: 4, fmap_inc_factor: 2, downsample_factors: [[2, 2, 2]],
    padding: same, norm: group}}
{more}"
    );
    fs::write(&path, text).unwrap();
    path
}

/// A disk of its own, as large as asked for; `None` where this user may not mount one.
#[cfg(target_os = "linux")]
pub struct Disk(pub PathBuf);

#[cfg(target_os = "linux")]
impl Disk {
    /// One of 64 KiB.
    pub fn new(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let disk = Self::mount(&at, "size=64k").then_some(Self(at));
        if disk.is_none() {
            eprintln!("skipped: to fill a disk, this test has to be allowed to mount one");
        }
        disk
    }

    fn mount(at: &Path, options: &str) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at);
        mount.output().is_ok_and(|output| output.status.success())
    }

    /// Makes it another: `size=1m`, `ro`.
    pub fn remount(&self, options: &str) {
        assert!(Self::mount(&self.0, &format!("remount,{options}")));
    }
}

#[cfg(target_os = "linux")]
impl Drop for Disk {
    fn drop(&mut self) {
        // What is left mounted, the test's directory cannot be removed with.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
