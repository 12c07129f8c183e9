//! Whether arrays are what was written: every chunk decodes, checksums hold, nothing that was written is missing,
//! and the metadata agrees with the path. Nothing is repaired here.
//!
//! What can be found depends on what the array carries. A Zarr 3 array of ours has a CRC-32C behind each chunk, so
//! that no changed byte goes unnoticed. Zarr 2 has none, but our frames of Zstandard end with one over what was
//! compressed, so that no changed value does; of other chunks, what no longer decodes to as many bytes as it should
//! is found. Which chunks were there when an array
//! was published stands in its attribute `dacapo_chunks`, written with the array in one step; since writing never
//! takes a chunk away, one that is named there and is gone was lost.

use dacapo_array::storage::{Access, Kind, Storage, StorageExt, join};
use dacapo_array::{ArrayAddress, ArrayRead, Roi, ZarrArray};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use crate::{ArrayEntry, ArrayKind, Error, Provenance, Result, Tick};

/// Something that is wrong with an array.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Damage {
    /// What, as a sentence without its subject.
    pub what: String,
    /// Where it is, in world units; none where it concerns the whole array.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roi: Option<Roi>,
    /// The chunk (shard) that is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<Vec<u64>>,
}

impl Damage {
    fn whole(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            roi: None,
            chunk: None,
        }
    }

    fn at(array: &ZarrArray, chunk: &[u64], what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            roi: Some(array.chunk_roi(chunk)),
            chunk: Some(chunk.to_vec()),
        }
    }
}

/// What was found of an array.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verified {
    /// The array.
    pub array: String,
    /// Chunks that were decoded.
    pub chunks: u64,
    /// Their bytes as stored.
    pub bytes: u64,
    /// Whether the format has a checksum for each chunk, so that no changed byte goes unnoticed.
    pub checksums: bool,
    /// What is wrong; nothing if the array is sound.
    pub damage: Vec<Damage>,
    /// What writers are making now, or left when they were killed: no damage.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub in_flight: Vec<String>,
    /// What is unusual and does no harm.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

impl Verified {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
}

/// Verifies an array. With its entry, its provenance has to agree with its path, the run aside: that an array was
/// copied from another, alone or with the whole run, is a remark. `tick` is told of bytes.
///
/// # Errors
/// [`Error::Stopped`]; [`Error::Array`] if there is no such array, or the system refuses to read. What is wrong
/// with the array is no error.
pub fn verify(
    address: &ArrayAddress,
    access: &Access,
    entry: Option<&ArrayEntry>,
    tick: Tick,
) -> Result<Verified> {
    let mut found = Verified {
        array: address.to_string(),
        ..Verified::default()
    };
    let container = access.storage(&address.container)?;
    let array = match ZarrArray::open(address, access) {
        Ok(array) => array,
        Err(error @ dacapo_array::Error::Metadata { .. }) => {
            found.damage.push(Damage::whole(error.to_string()));
            return Ok(found);
        }
        Err(dacapo_array::Error::NoArray { .. })
            if entry.is_some() && container.kind(&address.dataset)? == Some(Kind::Prefix) =>
        {
            found.damage.push(Damage::whole("its metadata is missing"));
            return Ok(found);
        }
        Err(other) => return Err(other.into()),
    };
    check_groups(&*container, address, &mut found)?;
    check_provenance(&array, entry, &mut found);
    let stored = array.stored()?;
    found.checksums = has_checksums(&array.codecs()?);
    found.in_flight.clone_from(&stored.unfinished);
    for key in &stored.strange {
        found.remarks.push(format!("{key} is no chunk of it"));
    }
    match array.missing_chunks(&stored) {
        Err(error) => found.damage.push(Damage::whole(error.to_string())),
        Ok(missing) => {
            let gone = |chunk: &Vec<u64>| Damage::at(&array, chunk, "the chunk was written and is gone");
            found.damage.extend(missing.chunks.iter().map(gone));
            if missing.others > 0 {
                let what = format!("{} more chunks were written and are gone", missing.others);
                found.damage.push(Damage::whole(what));
            }
        }
    }
    found.chunks = stored.chunks.len() as u64;
    found.bytes = stored.chunk_bytes();
    let damage: Vec<Vec<Damage>> = stored
        .chunks
        .par_iter()
        .map(|(chunk, bytes)| {
            let damage = match array.check_chunk(chunk) {
                // One that went between listing and reading is of an array that was removed or replaced.
                Ok(damaged) => damaged
                    .into_iter()
                    .map(|damaged| Damage {
                        what: damaged.reason,
                        roi: Some(damaged.roi),
                        chunk: Some(damaged.chunk),
                    })
                    .collect(),
                Err(dacapo_array::Error::Io { source, .. }) => {
                    vec![Damage::at(&array, chunk, format!("it cannot be read: {source}"))]
                }
                Err(other) => return Err(other.into()),
            };
            if tick(*bytes) {
                Ok(damage)
            } else {
                Err(Error::Stopped)
            }
        })
        .collect::<Result<_>>()?;
    found.damage.extend(damage.into_iter().flatten());
    Ok(found)
}

/// Whether a chunk ends with a checksum, or each part of a shard and the shard's index does.
fn has_checksums(codecs: &[Value]) -> bool {
    let name = |codec: &Value| {
        codec
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let Some(last) = codecs.last() else { return false };
    match name(last).as_str() {
        "crc32c" => true,
        "sharding_indexed" => ["codecs", "index_codecs"].iter().all(|part| {
            let inner = last.get("configuration").and_then(|shard| shard.get(part));
            inner
                .and_then(Value::as_array)
                .is_some_and(|codecs| has_checksums(codecs))
        }),
        _ => false,
    }
}

/// The metadata of the groups above an array has to be metadata, if it is there.
fn check_groups(container: &dyn Storage, address: &ArrayAddress, found: &mut Verified) -> Result<()> {
    let mut group = address.dataset.as_str();
    while !group.is_empty() {
        group = group.rsplit_once('/').map_or("", |(above, _)| above);
        let mut is_group = false;
        for name in [".zgroup", ".zattrs", "zarr.json"] {
            let key = join(group, name);
            let Some(text) = container.read(&key)? else {
                continue;
            };
            is_group |= name != ".zattrs";
            if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(&text) {
                let what = format!("{} does not read: {error}", container.describe(&key));
                found.damage.push(Damage::whole(what));
            }
        }
        if !is_group {
            let place = container.describe(group);
            found.remarks.push(format!("{place} has no group metadata"));
        }
    }
    Ok(())
}

fn check_provenance(array: &ZarrArray, entry: Option<&ArrayEntry>, found: &mut Verified) {
    let provenance = match Provenance::from_attributes(array.attributes()) {
        Ok(Some(provenance)) => provenance,
        Ok(None) => return,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            let what = format!("{error}{}", cause.unwrap_or_default());
            return found.damage.push(Damage::whole(what));
        }
    };
    let Some(entry) = entry.filter(|entry| entry.kind != ArrayKind::Other) else {
        return;
    };
    if let Some(input) = &provenance.input
        && entry.kind == ArrayKind::Input
        && !input.dtype.is_empty()
        && entry.identifier.dataset().ends_with("/raw")
        && input.dtype != array.spec().dtype.to_string()
    {
        let (said, is) = (&input.dtype, array.spec().dtype);
        found.damage.push(Damage::whole(format!(
            "its provenance says {said}, and it is {is}"
        )));
    }
    let mut compare = |what: &str, said: Option<String>, path: Option<String>| {
        if let (Some(said), Some(path)) = (said, path)
            && said != path
        {
            let what = format!("its provenance says {what} {said:?}, its path {path:?}");
            found.damage.push(Damage::whole(what));
        }
    };
    let text = |number: u64| number.to_string();
    compare(
        "iteration",
        provenance.iteration.map(text),
        entry.iteration.map(text),
    );
    compare("dataset", provenance.dataset.clone(), entry.dataset.clone());
    compare(
        "parameters",
        provenance.parameters.clone(),
        entry.parameters.clone(),
    );
    if let Some(run) = provenance.run.filter(|run| *run != entry.run) {
        let remark = format!("run {run:?} made it, and it was copied here");
        found.remarks.push(remark);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use dacapo_array::{ArraySpec, ArrayWrite, Codec, Coordinate, CreateOptions, DType, NdData, ZarrFormat};
    use ndarray::ArrayD;

    use super::*;
    use crate::{ArrayStore, LocalArrayStore};

    fn spec() -> ArraySpec {
        let voxel_size = Coordinate::new([8, 4, 4]);
        ArraySpec::new(
            Roi::from_voxels(&[2, 0, 0], &[12, 8, 8], &voxel_size),
            voxel_size,
            DType::U16,
        )
    }

    fn values() -> NdData {
        let value = |at: ndarray::IxDyn| (at[0] * 31 + at[1] * 7 + at[2]) as u16;
        NdData::U16(ArrayD::from_shape_fn(vec![12, 8, 8], value))
    }

    fn entry(dir: &Path) -> ArrayEntry {
        let store = LocalArrayStore::new(dir);
        ArrayEntry::of(store.validation_output_array("run", 10, "t=1", "crop").unwrap())
    }

    /// An output of three chunks, whose provenance is that of its path.
    fn written(dir: &Path, format: ZarrFormat, codec: Codec) -> ArrayEntry {
        let mut provenance = Provenance::new("run");
        provenance.iteration = Some(10);
        provenance.dataset = Some("crop".to_owned());
        provenance.parameters = Some("t=1".to_owned());
        let options = CreateOptions {
            chunk_shape: Some(vec![4, 8, 8]),
            format,
            codec: Some(codec),
            attributes: provenance.attributes(),
            overwrite: true,
            ..CreateOptions::default()
        };
        let entry = entry(dir);
        let draft = LocalArrayStore::new(dir)
            .draft(&entry.identifier, &spec(), &options)
            .unwrap();
        draft.write(&spec().roi, &values()).unwrap();
        draft.publish().unwrap();
        entry
    }

    fn path_of(entry: &ArrayEntry) -> PathBuf {
        entry.identifier.location().path().unwrap().to_owned()
    }

    fn check(entry: &ArrayEntry) -> Verified {
        verify(
            &entry.identifier.address(),
            &Access::default(),
            Some(entry),
            &|_| true,
        )
        .unwrap()
    }

    fn chunks(entry: &ArrayEntry) -> Vec<PathBuf> {
        let array = ZarrArray::open(&entry.identifier.address(), &Access::default()).unwrap();
        let prefix = if array.format() == ZarrFormat::V3 {
            "c/"
        } else {
            ""
        };
        let path = |(at, _): &(Vec<u64>, u64)| {
            let key: Vec<String> = at.iter().map(u64::to_string).collect();
            path_of(entry).join(format!("{prefix}{}", key.join("/")))
        };
        array.stored().unwrap().chunks.iter().map(path).collect()
    }

    #[test]
    fn any_changed_byte_of_a_chunk_with_checksum_is_found_and_placed() {
        let dir = tempfile::tempdir().unwrap();
        for codec in [
            Codec::None,
            Codec::Zstd { level: 1 },
            Codec::Blosc { level: 1 },
            Codec::Gzip { level: 1 },
        ] {
            let entry = written(dir.path(), ZarrFormat::V3, codec);
            let sound = check(&entry);
            assert!(
                sound.is_sound() && sound.checksums && sound.remarks.is_empty(),
                "{sound:?}"
            );
            assert_eq!(sound.chunks, 3);
            for (number, path) in chunks(&entry).iter().enumerate() {
                let bytes = fs::read(path).unwrap();
                // Every byte, and of each another bit.
                for at in 0..bytes.len() {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= 1 << (at % 8);
                    fs::write(path, &flipped).unwrap();
                    let found = check(&entry);
                    assert_eq!(found.damage.len(), 1, "{codec:?}, byte {at}");
                    assert_eq!(found.damage[0].chunk, Some(vec![number as u64, 0, 0]));
                    let roi =
                        Roi::from_voxels(&[2 + 4 * number as i64, 0, 0], &[4, 8, 8], &spec().voxel_size);
                    assert_eq!(found.damage[0].roi, Some(roi));
                }
                for length in [0, 1, 4, bytes.len() - 1] {
                    fs::write(path, &bytes[..length]).unwrap();
                    assert_eq!(check(&entry).damage.len(), 1, "{codec:?}, cut to {length}");
                }
                fs::write(path, [bytes.as_slice(), b"x"].concat()).unwrap();
                assert_eq!(check(&entry).damage.len(), 1, "{codec:?}, one byte more");
                fs::write(path, &bytes).unwrap();
            }
        }
    }

    #[test]
    fn damage_in_a_shard_is_placed_in_its_chunk() {
        let dir = tempfile::tempdir().unwrap();
        let options = CreateOptions {
            chunk_shape: Some(vec![4, 4, 4]),
            shard_shape: Some(vec![4, 8, 8]),
            format: ZarrFormat::V3,
            ..CreateOptions::default()
        };
        let entry = entry(dir.path());
        let draft = LocalArrayStore::new(dir.path())
            .draft(&entry.identifier, &spec(), &options)
            .unwrap();
        draft.write(&spec().roi, &values()).unwrap();
        draft.publish().unwrap();
        let sound = check(&entry);
        assert!(sound.is_sound() && sound.checksums, "{sound:?}");
        for (number, path) in chunks(&entry).iter().enumerate() {
            let shard = Roi::from_voxels(&[2 + 4 * number as i64, 0, 0], &[4, 8, 8], &spec().voxel_size);
            let bytes = fs::read(path).unwrap();
            let mut smaller = 0;
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                fs::write(path, &flipped).unwrap();
                let found = check(&entry);
                assert_eq!(found.damage.len(), 1, "byte {at}");
                let roi = found.damage[0].roi.as_ref().unwrap();
                assert!(shard.contains(roi));
                smaller += usize::from(*roi != shard);
            }
            assert!(smaller > bytes.len() / 3, "{smaller} of {}", bytes.len());
            fs::write(path, &bytes).unwrap();
            fs::remove_file(path).unwrap();
            assert_eq!(check(&entry).damage[0].roi, Some(shard));
            fs::write(path, &bytes).unwrap();
        }
    }

    #[test]
    fn a_changed_byte_of_our_version_2_changes_no_value_unnoticed() {
        let dir = tempfile::tempdir().unwrap();
        let entry = written(dir.path(), ZarrFormat::V2, Codec::Zstd { level: 1 });
        let path = &chunks(&entry)[0];
        let bytes = fs::read(path).unwrap();
        let mut found = 0;
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(path, &flipped).unwrap();
            if check(&entry).is_sound() {
                let array = ZarrArray::open(&entry.identifier.address(), &Access::default()).unwrap();
                assert_eq!(array.read(&spec().roi).unwrap(), values(), "byte {at}");
            } else {
                found += 1;
            }
        }
        assert!(found >= bytes.len() - 4, "{found} of {}", bytes.len());
    }

    #[test]
    fn chunks_that_were_written_and_are_gone_are_found_in_both_formats() {
        let dir = tempfile::tempdir().unwrap();
        for format in [ZarrFormat::V2, ZarrFormat::V3] {
            let entry = written(dir.path(), format, Codec::Zstd { level: 1 });
            assert!(check(&entry).is_sound());
            fs::remove_file(&chunks(&entry)[1]).unwrap();
            let found = check(&entry);
            let roi = Roi::from_voxels(&[6, 0, 0], &[4, 8, 8], &spec().voxel_size);
            let gone = Damage {
                what: "the chunk was written and is gone".to_owned(),
                roi: Some(roi),
                chunk: Some(vec![1, 0, 0]),
            };
            assert_eq!(found.damage, [gone]);
        }
    }

    #[test]
    fn what_was_never_written_is_not_missed() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalArrayStore::new(dir.path());
        let entry = entry(dir.path());
        let options = CreateOptions {
            chunk_shape: Some(vec![4, 8, 8]),
            ..CreateOptions::default()
        };
        let draft = store.draft(&entry.identifier, &spec(), &options).unwrap();
        let part = Roi::from_voxels(&[10, 0, 0], &[4, 8, 8], &spec().voxel_size);
        draft
            .write(&part, &NdData::U16(ArrayD::ones(vec![4, 8, 8])))
            .unwrap();
        let array = draft.publish().unwrap();
        assert!(check(&entry).is_sound());
        // Nor what is written later; what was there stays known.
        let later = Roi::from_voxels(&[2, 0, 0], &[4, 8, 8], &spec().voxel_size);
        array
            .write(&later, &NdData::U16(ArrayD::ones(vec![4, 8, 8])))
            .unwrap();
        assert!(check(&entry).is_sound());
        fs::remove_file(&chunks(&entry)[1]).unwrap();
        assert_eq!(check(&entry).damage[0].roi, Some(part));
    }

    #[test]
    fn metadata_has_to_read_and_to_agree_with_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let entry = written(dir.path(), ZarrFormat::V2, Codec::Zstd { level: 1 });
        let attributes = path_of(&entry).join(".zattrs");
        let text = fs::read_to_string(&attributes).unwrap();
        for (from, to, what) in [
            (
                "\"iteration\": 10",
                "\"iteration\": 11",
                "says iteration \"11\", its path \"10\"",
            ),
            (
                "\"dataset\": \"crop\"",
                "\"dataset\": \"c\"",
                "says dataset \"c\"",
            ),
            (
                "\"parameters\": \"t=1\"",
                "\"parameters\": \"t=2\"",
                "says parameters \"t=2\"",
            ),
            ("\"run\": \"run\"", "\"run\": 5", "does not read: invalid type"),
            (
                "\"written\": 3",
                "\"written\": 4",
                "has 4 chunks, and the array 3",
            ),
            ("\"written\": 3", "\"written\": \"x\"", "does not read"),
        ] {
            assert!(text.contains(from), "{text}");
            fs::write(&attributes, text.replace(from, to)).unwrap();
            let found = check(&entry);
            assert_eq!(found.damage.len(), 1, "{to}: {found:?}");
            assert!(found.damage[0].what.contains(what), "{found:?}");
        }
        fs::write(
            &attributes,
            text.replace("\"run\": \"run\"", "\"run\": \"other\""),
        )
        .unwrap();
        let found = check(&entry);
        assert!(found.is_sound(), "{found:?}");
        assert_eq!(found.remarks, ["run \"other\" made it, and it was copied here"]);
        fs::write(&attributes, "{").unwrap();
        assert!(check(&entry).damage[0].what.contains(".zattrs"));
        fs::write(&attributes, &text).unwrap();

        let group = entry.identifier.container().path().unwrap().join("10/.zgroup");
        fs::write(&group, "{\"zarr").unwrap();
        assert!(check(&entry).damage[0].what.contains("10/.zgroup does not read"));
        fs::remove_file(&group).unwrap();
        let found = check(&entry);
        assert!(found.is_sound() && found.remarks.len() == 1, "{found:?}");

        fs::remove_file(path_of(&entry).join(".zarray")).unwrap();
        assert_eq!(check(&entry).damage[0].what, "its metadata is missing");
    }

    #[test]
    fn leftovers_are_in_flight_and_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let entry = written(dir.path(), ZarrFormat::V2, Codec::None);
        let path = path_of(&entry);
        fs::write(path.join("0/0/.unfinished-1-2-3"), "half").unwrap();
        fs::write(path.join("notes.txt"), "mine").unwrap();
        fs::write(path.join("0/0/7"), "outside of the grid").unwrap();
        let found = check(&entry);
        assert!(found.is_sound());
        assert_eq!(found.in_flight, ["0/0/.unfinished-1-2-3"]);
        assert_eq!(
            found.remarks,
            ["0/0/7 is no chunk of it", "notes.txt is no chunk of it"]
        );
        assert!(matches!(
            verify(
                &entry.identifier.address(),
                &Access::default(),
                Some(&entry),
                &|_| false
            ),
            Err(Error::Stopped)
        ));
    }
}
