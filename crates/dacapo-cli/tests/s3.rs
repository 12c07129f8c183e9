//! The stores and the binary over S3, as moto (github.com/getmoto/moto) and s3s-fs (github.com/s3s-project/s3s) play it
//! on this machine. Ignored by default: `.ci/run` installs them and says where they are in `DACAPO_PEERS`.
#![cfg(feature = "object-store")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use dacapo::LocalStore;
use dacapo::array::storage::{
    Access, Credentials, Durability, LocalStorage, ObjectStoreOptions, StorageExt, conformance,
};
use dacapo::array::{
    ArrayAddress, ArrayRead, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, DraftArray, NdData,
    Placement, Roi, ZarrArray, ZarrFormat, open_source,
};
use dacapo::store::{ArrayStore, StatsStore, WeightsStore};
use ndarray::ArrayD;

/// Who plays S3.
#[derive(Clone, Copy, Debug)]
enum Program {
    Moto,
    /// It keeps objects as files, answers 500 where a key is a folder of them, and looks at the condition of a write before it
    /// writes, and not while: it is no place for a whole store.
    S3sFs,
}

/// A server of its own, which goes with this value.
struct Server {
    process: Child,
    port: u16,
    /// Where one that keeps files keeps them.
    _files: tempfile::TempDir,
}

impl Server {
    fn start(program: Program) -> Self {
        let peers =
            std::env::var_os("DACAPO_PEERS").expect("DACAPO_PEERS: where `.ci/run` installs other programs");
        let peers = PathBuf::from(peers);
        let files = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut command = match program {
            Program::Moto => {
                let mut command = Command::new(peers.join("moto/bin/moto_server"));
                command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
                command
            }
            Program::S3sFs => {
                // Its buckets are folders.
                std::fs::create_dir(files.path().join("lab")).unwrap();
                let mut command = Command::new(peers.join("s3s/bin/s3s-fs"));
                command
                    .args(["--host", "127.0.0.1", "--port", &port.to_string()])
                    .args(["--access-key", "test", "--secret-key", "test"])
                    .arg(files.path());
                command
            }
        };
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Self {
            process: process.unwrap(),
            port,
            _files: files,
        };
        let is_ready = || match program {
            Program::Moto => server.makes_bucket(),
            Program::S3sFs => TcpStream::connect(("127.0.0.1", port)).is_ok(),
        };
        let begun = Instant::now();
        while !is_ready() {
            let is_late = begun.elapsed() > Duration::from_secs(60);
            assert!(!is_late, "{program:?} does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Asks for the bucket `lab`.
    fn makes_bucket(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let request =
            "PUT /lab HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let mut answer = String::new();
        stream.write_all(request.as_bytes()).is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
    }

    fn access(&self) -> Access {
        Access::default().with_object_store(ObjectStoreOptions {
            endpoint: Some(self.endpoint()),
            allow_http: true,
            credentials: Credentials::Key {
                id: "test".to_owned(),
                secret: "test".to_owned(),
                token: None,
            },
            ..ObjectStoreOptions::default()
        })
    }

    fn store(&self, base: &str) -> LocalStore {
        LocalStore::open(&base.parse().unwrap(), &self.access()).unwrap()
    }

    fn command(&self, dir: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dacapo"));
        command
            .current_dir(dir)
            .env_remove("DACAPO_OPTIONS_FILE")
            .env("HOME", dir)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .args(["--base", "s3://lab/runs", "--endpoint", &self.endpoint()])
            .args(arguments);
        command
    }

    fn run(&self, dir: &Path, arguments: &[&str]) -> Output {
        let output = self.command(dir, arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        output
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "needs the programs that .ci/run installs"]
fn storage_and_stores_conform() {
    let server = Server::start(Program::Moto);
    let access = server.access();
    conformance::storage(&*access.storage(&"s3://lab".parse().unwrap()).unwrap());
    conformance::storage(&*access.storage(&"s3://lab/a/prefix".parse().unwrap()).unwrap());
    dacapo::store::conformance::stores(&|name| server.store(&format!("s3://lab/stores/{name}")));
    let store = server.store("s3://lab/leases");
    let lease = store.lease("run").unwrap();
    assert!(matches!(
        store.lease("run"),
        Err(dacapo::store::Error::Held { .. })
    ));
    assert_eq!(store.holder("run").unwrap().unwrap().pid, std::process::id());
    drop(lease);
    assert_eq!(store.holder("run").unwrap(), None);
    store.lease("run").unwrap();
}

#[test]
#[ignore = "needs the programs that .ci/run installs"]
fn a_run_is_trained_killed_resumed_shown_and_predicted_with() {
    let server = Server::start(Program::Moto);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let config = |name: &str| {
        let text = format!(
            "\
name: {name}
seed: 3
num_iterations: 24
data:
  synthetic: {{container: 's3://lab/cells.zarr', shape: [24, 48, 48], voxel_size: [8, 8, 8], cell_diameter: 120, seed: 1}}
  train:
    - {{name: a, raw: 's3://lab/cells.zarr/raw', labels: 's3://lab/cells.zarr/labels', roi: {{offset: [0, 0, 0], shape: [192, 384, 256]}}}}
  validate:
    - {{name: b, raw: 's3://lab/cells.zarr/raw', labels: 's3://lab/cells.zarr/labels', roi: {{offset: [0, 0, 256], shape: [192, 384, 128]}}}}
task: {{kind: affinities, neighborhood: [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]}}
architecture:
  {{kind: unet, input_shape: [16, 16, 16], num_fmaps: 4, fmap_inc_factor: 2, downsample_factors: [[2, 2, 2]],
    padding: same, norm: group}}
trainer: {{checkpoint_interval: 5}}
validation: {{interval: 12}}
"
        );
        std::fs::write(dir.join(format!("{name}.yaml")), text).unwrap();
    };
    let store = server.store("s3://lab/runs");
    let losses = |run: &str| -> BTreeMap<u64, u64> {
        let stats = store.stats.training(run).unwrap();
        stats
            .iter()
            .map(|stat| (stat.iteration, stat.loss.to_bits()))
            .collect()
    };

    config("whole");
    server.run(dir, &["train", "whole.yaml"]);
    assert_eq!(losses("whole").len(), 24);

    // Killed in the middle: the lease of the dead holds for a minute at most.
    config("broken");
    let mut child = server
        .command(dir, &["train", "broken.yaml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while losses("broken").len() < 7 && begun.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let held = server.command(dir, &["train", "broken"]).output().unwrap();
    let errors = String::from_utf8_lossy(&held.stderr).into_owned();
    assert!(errors.contains(&format!("process {}", child.id())), "{errors}");
    while store.holder("broken").unwrap().is_some() {
        assert!(
            begun.elapsed() < Duration::from_secs(240),
            "the dead holder is not forgotten"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    server.run(dir, &["train", "broken"]);
    assert_eq!(losses("broken"), losses("whole"), "as if it had never stopped");
    assert_eq!(store.weights.iterations("broken").unwrap().last(), Some(&24));

    let prediction = store
        .arrays
        .validation_prediction_array("broken", 24, "b")
        .unwrap();
    assert!(store.arrays.exists(&prediction).unwrap());
    server.run(dir, &["validate", "broken"]);
    server.run(dir, &["runs", "--json"]);
    server.run(dir, &["show", "broken"]);
    assert!(dir.join("broken-figures/curves.svg").is_file());
    let predict = [
        "predict",
        "broken",
        "--input",
        "s3://lab/cells.zarr/raw",
        "--iteration",
        "latest",
    ];
    server.run(
        dir,
        &[&predict[..], &["--output", "s3://lab/out.zarr/affs"]].concat(),
    );
    server.run(dir, &[&predict[..], &["--output", "out.zarr/affs"]].concat());
    let (remote, local) = (
        "s3://lab/out.zarr/affs",
        dir.join("out.zarr/affs").display().to_string(),
    );
    let read = |text: &str| {
        use dacapo::array::ArrayReadExt;
        let address = text.parse().unwrap();
        let array = dacapo::array::ZarrArray::open(&address, &server.access()).unwrap();
        array.read_all().unwrap()
    };
    assert_eq!(read(remote), read(&local));
    // Nothing unfinished is left anywhere.
    let bucket = server.access().storage(&"s3://lab".parse().unwrap()).unwrap();
    for prefix in [
        "",
        "out.zarr",
        "cells.zarr",
        "runs/broken/validation.zarr",
        "runs/broken/validation.zarr/24/b",
    ] {
        assert!(
            !bucket
                .exists(&dacapo::array::storage::join(prefix, ".unfinished-tree"))
                .unwrap()
        );
    }
}

#[test]
#[ignore = "needs the programs that .ci/run installs"]
fn an_array_is_copied_there_and_back_and_a_killed_copy_goes_on() {
    copies_go_on(Program::Moto);
}

#[test]
#[ignore = "needs the programs that .ci/run installs"]
fn an_array_is_copied_over_files_and_a_killed_copy_goes_on() {
    copies_go_on(Program::S3sFs);
}

fn copies_go_on(program: Program) {
    let server = Server::start(program);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let voxel_size = Coordinate::splat(3, 8);
    let roi = Roi::from_voxels(&[0; 3], &[64; 3], &voxel_size);
    let spec = ArraySpec::new(roi.clone(), voxel_size, DType::U8);
    let options = CreateOptions {
        chunk_shape: Some(vec![8; 3]),
        format: ZarrFormat::V3,
        ..CreateOptions::default()
    };
    let address: ArrayAddress = dir.join("a.zarr/x").display().to_string().parse().unwrap();
    let draft = DraftArray::new(&address, &Access::default(), &spec, &options).unwrap();
    let values = ArrayD::from_shape_fn(vec![64; 3], |at| (at[0] + at[1] * at[2]) as u8);
    draft.write(&roi, &NdData::U8(values)).unwrap();
    draft.publish().unwrap();

    let copy = ["arrays", "cp", "a.zarr/x", "s3://lab/c.zarr/x", "--json"];
    let mut child = server
        .command(dir, &copy)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let bucket = server.access().storage(&"s3://lab".parse().unwrap()).unwrap();
    let begun = Instant::now();
    let copied = || -> usize {
        let mut objects = 0;
        for name in bucket.unfinished("c.zarr").unwrap() {
            let count = &mut |_: &str, _| {
                objects += 1;
                Ok(())
            };
            bucket.walk(&format!("c.zarr/{name}"), count).unwrap();
        }
        objects
    };
    while copied() < 50 && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(bucket.kind("c.zarr/x").unwrap(), None, "half a copy is no array");
    let output = server.run(dir, &copy);
    let done: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done["objects"], 513);
    assert!(done["resumed"].as_u64().unwrap() >= 40, "{done}");
    assert!(bucket.unfinished("c.zarr").unwrap().is_empty());
    server.run(dir, &["arrays", "verify", "s3://lab/c.zarr"]);

    server.run(dir, &["arrays", "cp", "s3://lab/c.zarr/x", "back.zarr/x"]);
    for file in ["zarr.json", "c/0/0/0", "c/7/7/7"] {
        let read = |container: &str| std::fs::read(dir.join(container).join("x").join(file)).unwrap();
        assert_eq!(read("back.zarr"), read("a.zarr"), "{file}");
    }
    server.run(dir, &["arrays", "verify", "back.zarr"]);
}

#[test]
#[ignore = "needs the programs that .ci/run installs"]
fn n5_is_read_there_and_brought_back() {
    n5_comes_back(Program::Moto);
}

#[test]
#[ignore = "needs the programs that .ci/run installs"]
fn n5_is_read_over_files_and_brought_back() {
    n5_comes_back(Program::S3sFs);
}

fn n5_comes_back(program: Program) {
    let server = Server::start(program);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let voxel_size = Coordinate::splat(3, 8);
    let roi = Roi::from_voxels(&[4, 0, 2], &[20, 33, 47], &voxel_size);
    let spec = ArraySpec::new(roi.clone(), voxel_size, DType::U16);
    let address: ArrayAddress = dir.join("a.zarr/x").display().to_string().parse().unwrap();
    let draft = DraftArray::new(&address, &Access::default(), &spec, &CreateOptions::default()).unwrap();
    let values = NdData::U16(ArrayD::from_shape_fn(vec![20, 33, 47], |at| {
        (at[0] * 1500 + at[1] * at[2]) as u16
    }));
    draft.write(&roi, &values).unwrap();
    draft.publish().unwrap();

    let remote = "s3://lab/a.n5/group/x";
    // Other formats are written here only, and not into a folder called `s3:`.
    let refused = server
        .command(dir, &["arrays", "export", "a.zarr/x", remote])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        errors.contains("only Zarr arrays are written to a URL"),
        "{errors}"
    );
    assert!(!dir.join("s3:").exists());
    server.run(dir, &["arrays", "export", "a.zarr/x", "a.n5/group/x"]);
    let here = LocalStorage::new(dir);
    let bucket = server.access().storage(&"s3://lab".parse().unwrap()).unwrap();
    let mut files = Vec::new();
    here.walk("a.n5", &mut |key, _| {
        files.push(key.to_owned());
        Ok(())
    })
    .unwrap();
    for file in files {
        let bytes = std::fs::read(dir.join(&file)).unwrap();
        bucket.write(&file, &bytes, Durability::Synced).unwrap();
    }
    let there = open_source(remote.as_ref(), &Placement::default(), &server.access()).unwrap();
    assert_eq!(there.spec().roi, roi);
    assert_eq!(there.read(&roi).unwrap(), values);
    server.run(dir, &["arrays", "import", remote, "back.zarr/x"]);
    let back: ArrayAddress = dir.join("back.zarr/x").display().to_string().parse().unwrap();
    let back = ZarrArray::open(&back, &Access::default()).unwrap();
    assert_eq!(back.spec().roi, roi);
    assert_eq!(back.read(&roi).unwrap(), values);
}
