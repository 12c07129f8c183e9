//! What commands share: where runs are, the engine, where output goes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs};

use dacapo::array::storage::{Access, Location};
use dacapo::nn::{CpuEngine, Engine, EngineConfig};
use dacapo::{LocalStore, find_options};

use crate::cli::Global;
use crate::credentials::Surroundings;
use crate::interrupt::Interrupt;
use crate::printer::Printer;
use crate::progress::Progress;

/// The circumstances of one call of the program.
#[derive(Debug)]
pub struct Context {
    /// Output.
    pub printer: Printer,
    /// The runs.
    pub store: LocalStore,
    endpoint: Option<String>,
    /// Whether `--base` was given.
    pub base_given: bool,
    /// What networks run on.
    pub compute: EngineConfig,
}

impl Context {
    /// Reads the options file; the command line beats it.
    pub fn new(global: &Global, printer: Printer) -> anyhow::Result<Self> {
        let variable = env::var_os("DACAPO_OPTIONS_FILE").map(PathBuf::from);
        let home = env::var_os("HOME").map(PathBuf::from);
        let (options, _) = find_options(variable.as_deref(), &env::current_dir()?, home.as_deref())?;
        let base = global
            .base
            .clone()
            .or(options.runs_base_dir)
            .unwrap_or_else(|| Path::new("runs").into());
        let compute = options.compute.engine();
        let surroundings = Surroundings {
            variable: &|name| env::var(name).ok(),
            file: &|path| fs::read_to_string(path).ok(),
            home,
        };
        let object_store = surroundings.object_store(global.endpoint.as_deref(), &options.object_store);
        let access = Access::default().with_object_store(object_store);
        Ok(Self {
            printer,
            store: LocalStore::open(&base, &access)?,
            endpoint: global.endpoint.clone(),
            base_given: global.base.is_some(),
            compute: EngineConfig {
                threads: global.threads.map(usize::from).or(compute.threads),
                device: global.device.unwrap_or(compute.device),
                precision: global.precision.unwrap_or(compute.precision),
                ..compute
            },
        })
    }

    /// The same with another base directory.
    pub fn with_base(self, base: &Location) -> anyhow::Result<Self> {
        Ok(Self {
            store: LocalStore::open(base, self.store.access())?,
            ..self
        })
    }

    /// The engine that networks run on.
    pub fn engine(&self) -> anyhow::Result<Box<dyn Engine>> {
        Ok(self.compute.start()?)
    }

    /// Bytes of memory that are free, where the system tells.
    pub fn free_memory(&self) -> anyhow::Result<Option<u64>> {
        Ok(CpuEngine::new(Some(1))?.free_memory())
    }

    /// Bars for a long job, which say what is done with blocks; and Ctrl-C to stop it.
    pub fn progress(&self, doing: &'static str) -> anyhow::Result<Arc<Progress>> {
        Ok(Arc::new(Progress::new(
            self.printer.clone(),
            Interrupt::listen(&self.printer)?,
            doing,
        )))
    }

    /// A command line that goes on where this one stopped.
    pub fn command(&self, rest: &str) -> String {
        let mut command = program();
        if self.base_given {
            command += &format!(" --base {}", quoted(&self.store.base().to_string()));
        }
        if let Some(endpoint) = &self.endpoint {
            command += &format!(" --endpoint {}", quoted(endpoint));
        }
        format!("{command} {rest}")
    }
}

/// This program, as it was typed.
pub fn program() -> String {
    quoted(&env::args().next().unwrap_or_else(|| "dacapo".to_owned()))
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
