//! `dacapo arrays verify`: whether arrays are what was written.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;
use dacapo::array::storage::Location;
use dacapo::array::{ArrayAddress, list_arrays};
use dacapo::store::{ArrayEntry, LocalArrayIdentifier, Pattern, Verified, verify};
use serde_json::json;

use super::job::Job;
use super::select::{Select, is_there, plural};
use crate::bar::Counted;
use crate::context::Context;
use crate::printer::bytes;
use crate::report;

/// Check that arrays are what was written.
#[derive(Debug, Args)]
#[command(after_help = "\
Every chunk is decoded and its checksum, where it has one (crc32c in Zarr 3, Zstandard's own), has to hold; no chunk that was \
written may be missing; metadata has to read, and to agree with the path. What writers are making now, or left when \
they were killed, is named as in flight and is no damage. Nothing is changed.

Exit code: 0 all is sound, 1 something is damaged.

Examples:
  dacapo arrays verify                                  all arrays of all runs
  dacapo arrays verify my-run --kind prediction,output
  dacapo arrays verify data/volume.zarr                 a container outside of the base directory
  dacapo arrays verify --json | jq '.arrays[] | select(.damage != [])'")]
pub struct Verify {
    /// Arrays, groups or runs by glob; containers and arrays elsewhere by path [default: all of the base directory].
    #[arg(value_name = "PATTERN|PATH")]
    patterns: Vec<Pattern>,
    #[command(flatten)]
    select: Select,
}

/// What is verified.
struct Work {
    address: ArrayAddress,
    entry: Option<ArrayEntry>,
}

impl Verify {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let (work, in_flight) = self.work(context)?;
        if work.is_empty() && !context.printer.json {
            context
                .printer
                .note(format!("no such arrays in {}", context.store.base()));
        }
        let job = Job::new(context, "verifying arrays", Counted::Things, work.len() as u64)?;
        let mut found: Vec<Verified> = Vec::with_capacity(work.len());
        for Work { address, entry } in &work {
            let verified = verify(address, context.store.access(), entry.as_ref(), &|_| job.tick(0));
            found.push(verified?);
            job.tick(1);
        }
        drop(job);
        let is_sound = found.iter().all(Verified::is_sound);
        let code = if is_sound {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
        report::found(show(context, &found, &in_flight), code)
    }

    /// The arrays that are meant, and what is in flight among them.
    fn work(&self, context: &Context) -> anyhow::Result<(Vec<Work>, Vec<String>)> {
        let arrays = &context.store.arrays;
        let base = context.store.base();
        if self.patterns.is_empty() && !is_there(context, base)? {
            anyhow::bail!("there is no {base}: --base says where runs are kept");
        }
        let mut work = Vec::new();
        let mut patterns = Vec::new();
        for pattern in &self.patterns {
            let is_here = !arrays
                .list(&self.select.filter(std::slice::from_ref(pattern)))?
                .is_empty();
            let place = pattern.as_str().parse::<Location>();
            let is_elsewhere = match &place {
                Ok(place) if !is_here => is_there(context, place).unwrap_or(false),
                _ => false,
            };
            if !is_elsewhere {
                patterns.push(pattern.clone());
                continue;
            }
            for address in elsewhere(context, pattern.as_str())? {
                work.push(Work { address, entry: None });
            }
        }
        let mut in_flight = Vec::new();
        if self.patterns.is_empty() || !patterns.is_empty() {
            let filter = self.select.filter(&patterns);
            let entries = arrays.list(&filter)?;
            for pattern in &patterns {
                let is_met = |entry: &ArrayEntry| {
                    let path = arrays.path_of(&entry.identifier).unwrap_or_default();
                    pattern.matches_path(&path) || pattern.matches_path(&entry.identifier.to_string())
                };
                if !entries.iter().any(is_met) {
                    anyhow::bail!(
                        "{pattern} names no array, neither in {} nor as a path",
                        context.store.base()
                    );
                }
            }
            let runs: BTreeSet<&String> = entries.iter().map(|entry| &entry.run).collect();
            for run in runs {
                in_flight.extend(arrays.unfinished(run)?);
            }
            work.extend(entries.into_iter().map(|entry| Work {
                address: entry.identifier.address(),
                entry: Some(entry),
            }));
        }
        Ok((work, in_flight))
    }
}

/// The arrays at a place outside of the base: one, or those of a container or group.
fn elsewhere(context: &Context, text: &str) -> anyhow::Result<Vec<ArrayAddress>> {
    let access = context.store.access();
    let id = text.parse::<LocalArrayIdentifier>().ok();
    let container = match &id {
        Some(id) => id.container().clone(),
        None => text.parse()?,
    };
    let inside = list_arrays(&container, access)?;
    let is_meant = |dataset: &String| {
        id.as_ref().is_none_or(|id| {
            let below = dataset.strip_prefix(id.dataset());
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    let address = |dataset| ArrayAddress {
        container: container.clone(),
        dataset,
    };
    let meant: Vec<ArrayAddress> = inside.into_iter().filter(is_meant).map(address).collect();
    Ok(match id {
        // Opening it says what is there instead.
        Some(id) if meant.is_empty() => vec![id.address()],
        _ => meant,
    })
}

fn show(context: &Context, found: &[Verified], in_flight: &[String]) -> anyhow::Result<()> {
    let damaged = found.iter().filter(|array| !array.is_sound()).count();
    if context.printer.json {
        context.printer.value(&json!({
            "sound": damaged == 0, "damaged": damaged, "arrays": found, "in_flight": in_flight,
        }))?;
        return Ok(());
    }
    for array in found.iter().filter(|array| !array.is_sound()) {
        context.printer.line(format!("damaged: {}", array.array))?;
        for damage in &array.damage {
            let place = match (&damage.chunk, &damage.roi) {
                (Some(chunk), Some(roi)) => format!("at {roi}, chunk {chunk:?}: "),
                _ => String::new(),
            };
            context.printer.line(format!("  {place}{}", damage.what))?;
        }
    }
    let inside = found
        .iter()
        .flat_map(|array| array.in_flight.iter().map(|key| format!("{}/{key}", array.array)));
    for path in in_flight.iter().cloned().chain(inside) {
        context.printer.line(format!("in flight: {path}"))?;
    }
    let remarks: usize = found.iter().map(|array| array.remarks.len()).sum();
    if remarks > 0 {
        context
            .printer
            .note(format!("{}; --json shows them", plural(remarks, "remark")));
    }
    let is_unchecked = |array: &&Verified| !array.checksums && array.damage.is_empty();
    let unchecked = found.iter().filter(is_unchecked).count();
    let chunks: u64 = found.iter().map(|array| array.chunks).sum();
    let size: u64 = found.iter().map(|array| array.bytes).sum();
    let of = format!(
        "{} with {} ({})",
        plural(found.len(), "array"),
        plural(chunks as usize, "chunk"),
        bytes(size)
    );
    context.printer.line(if damaged == 0 {
        format!("{of}: sound")
    } else {
        format!("{of}: {damaged} damaged")
    })?;
    if unchecked > 0 {
        context.printer.note(format!(
            "{} in a format without checksums (Zarr 2): there, a changed byte that still decodes may go unnoticed",
            plural(unchecked, "array")
        ));
    }
    Ok(())
}
