//! What TensorBoard shows of a run: files of events beside our own records, which stay what counts. Losses come in a
//! file for the steps between two checkpoints, scores in one for each validation; each is written whole, and one that
//! is written again after a resumption replaces itself.
//!
//! A file is a list of records (length, its checksum, an `Event` message, its checksum: TensorFlow's TFRecord), of
//! which the first names the version. TensorBoard reads the files of a folder in the order of their names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dacapo_array::storage::{Durability, join};
use dacapo_nn::protobuf::Message;
use dacapo_store::LocalStore;

use crate::Result;

/// A number that TensorBoard draws.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    /// Its curve: parts between slashes are groups.
    pub tag: String,
    /// Steps done.
    pub iteration: u64,
    /// The value.
    pub value: f64,
    /// Seconds since 1970.
    pub time: f64,
}

/// The folder in a run's.
const FOLDER: &str = "tensorboard";

/// Now, as TensorBoard counts it.
pub(crate) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// Keeps the losses of the steps up to `iteration`, or the scores of it: `what` is the end of the file's name.
///
/// # Errors
/// [`crate::Error::Array`] if it cannot be written; then it is not there at all.
pub(crate) fn write(
    store: &LocalStore,
    run: &str,
    iteration: u64,
    what: &str,
    scalars: &[Scalar],
) -> Result<()> {
    let key = join(&folder(run)?, &name(iteration, what));
    Ok(store.storage().write(&key, &file(scalars), Durability::Whole)?)
}

/// Removes the files of iterations past `iteration`, which a run that resumes there makes again, and what a kill left
/// unfinished.
///
/// # Errors
/// [`crate::Error::Array`] if they cannot be listed or removed.
pub(crate) fn truncate_after(store: &LocalStore, run: &str, iteration: u64) -> Result<()> {
    let folder = folder(run)?;
    let storage = store.storage();
    for entry in storage.list(&folder)? {
        let number = entry
            .name
            .split('.')
            .nth(3)
            .and_then(|part| part.parse::<u64>().ok());
        if number.is_some_and(|number| number > iteration) {
            storage.delete(&join(&folder, &entry.name))?;
        }
    }
    // What a killed writer left half written; whoever asks for this holds the run.
    Ok(storage.sweep(&folder, Duration::ZERO)?)
}

fn folder(run: &str) -> Result<String> {
    Ok(join(dacapo_store::RunName::new(run)?.component(), FOLDER))
}

fn name(iteration: u64, what: &str) -> String {
    format!("events.out.tfevents.{iteration:010}.{what}")
}

/// The bytes of a file of events.
fn file(scalars: &[Scalar]) -> Vec<u8> {
    let first = scalars.first().map_or(0.0, |scalar| scalar.time);
    // Fields of tensorflow.Event: wall_time 1, step 2, file_version 3, summary 5.
    let version = Message::new().double(1, first).text(3, "brain.Event:2");
    let mut bytes = record(&version.into_bytes());
    for scalar in scalars {
        // Of tensorflow.Summary: value 1; of its Value: tag 1, simple_value 2.
        let value = Message::new().text(1, &scalar.tag).float(2, scalar.value as f32);
        let event = Message::new()
            .double(1, scalar.time)
            .integer(2, scalar.iteration as i64)
            .message(5, &Message::new().message(1, &value));
        bytes.extend(record(&event.into_bytes()));
    }
    bytes
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let checksum = |bytes: &[u8]| masked(crc32c::crc32c(bytes)).to_le_bytes();
    [&length[..], &checksum(&length), data, &checksum(data)].concat()
}

/// Checksums are stored changed, so that one of data that holds checksums is none of them.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_their_length_and_masked_checksums() {
        let bytes = record(b"abc");
        assert_eq!(bytes.len(), 8 + 4 + 3 + 4);
        assert_eq!(bytes[..8], 3_u64.to_le_bytes());
        // As TensorFlow's writer gives them.
        assert_eq!(masked(0), 0xa282_ead8);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn files_of_later_iterations_go_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::new(dir.path());
        let scalar = |iteration| Scalar {
            tag: "training/loss".to_owned(),
            iteration,
            value: 0.5,
            time: 1.0,
        };
        for iteration in [5, 10, 15] {
            write(&store, "a", iteration, "training", &[scalar(iteration)]).unwrap();
        }
        write(&store, "a", 10, "validation", &[scalar(10)]).unwrap();
        truncate_after(&store, "a", 10).unwrap();
        let mut names: Vec<String> = std::fs::read_dir(dir.path().join("a/tensorboard"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "events.out.tfevents.0000000005.training",
                "events.out.tfevents.0000000010.training",
                "events.out.tfevents.0000000010.validation",
            ]
        );
    }
}
