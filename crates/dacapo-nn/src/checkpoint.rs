//! Named tensors to bytes and back: safetensors, with strings beside them.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::{Error, NamedTensor, Result};

/// Writes tensors and `meta` as safetensors. The same tensors give the same bytes.
///
/// # Errors
/// [`Error::Write`] if `to` fails, [`Error::Checkpoint`] if two tensors have one name.
pub fn save_checkpoint(
    mut to: impl Write,
    tensors: &[NamedTensor],
    meta: &BTreeMap<String, String>,
) -> Result<()> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|t| t.data.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let mut views = Vec::with_capacity(tensors.len());
    for (tensor, bytes) in tensors.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)
            .map_err(|error| Error::Checkpoint(format!("`{}`: {error}", tensor.name)))?;
        views.push((tensor.name.as_str(), view));
    }
    // The format keeps metadata in a map without order: one entry, itself in order, keeps the bytes the same.
    let meta = serde_json::to_string(meta).map_err(|error| Error::Checkpoint(error.to_string()))?;
    let meta = HashMap::from([(META.to_owned(), meta)]);
    let file =
        safetensors::serialize(views, Some(meta)).map_err(|error| Error::Checkpoint(error.to_string()))?;
    to.write_all(&file).map_err(Error::Write)
}

/// The metadata entry that holds all of ours.
const META: &str = "dacapo";

/// Reads what [`save_checkpoint`] wrote: the tensors, sorted by name, and `meta`. Tensors of other programs
/// in f32 are read too, with an empty `meta`.
///
/// # Errors
/// [`Error::Checkpoint`] if bytes are missing or wrong, or a tensor is not f32.
pub fn load_checkpoint(bytes: &[u8]) -> Result<(Vec<NamedTensor>, BTreeMap<String, String>)> {
    let broken = |error: &dyn std::fmt::Display| Error::Checkpoint(error.to_string());
    let file = SafeTensors::deserialize(bytes).map_err(|error| broken(&error))?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| broken(&error))?;
    let meta = match header.metadata().as_ref().and_then(|meta| meta.get(META)) {
        Some(text) => serde_json::from_str(text).map_err(|error| broken(&error))?,
        None => BTreeMap::new(),
    };
    let mut tensors = Vec::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(Error::Checkpoint(format!(
                "`{name}` is {:?}, not F32",
                view.dtype()
            )));
        }
        let (values, _) = view.data().as_chunks::<4>();
        let data = values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        tensors.push(NamedTensor {
            name,
            shape: view.shape().to_vec(),
            data,
        });
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((tensors, meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Vec<NamedTensor>, BTreeMap<String, String>) {
        let tensors = vec![
            NamedTensor {
                name: "a".into(),
                shape: vec![2, 2],
                data: vec![1.0, -0.0, f32::MIN, 3.5],
            },
            NamedTensor {
                name: "b/step".into(),
                shape: vec![],
                data: vec![7.0],
            },
        ];
        let meta = [("iteration", "7"), ("seed", "3"), ("zeta", "ζ")];
        (tensors, meta.map(|(k, v)| (k.to_owned(), v.to_owned())).into())
    }

    #[test]
    fn goes_round_with_the_same_bytes() {
        let (tensors, meta) = example();
        let mut bytes = Vec::new();
        save_checkpoint(&mut bytes, &tensors, &meta).unwrap();
        let mut again = Vec::new();
        save_checkpoint(&mut again, &tensors, &meta).unwrap();
        assert_eq!(bytes, again);
        assert_eq!(load_checkpoint(&bytes).unwrap(), (tensors, meta));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let (tensors, meta) = example();
        let mut bytes = Vec::new();
        save_checkpoint(&mut bytes, &tensors, &meta).unwrap();
        for len in 0..bytes.len() {
            assert!(
                matches!(load_checkpoint(&bytes[..len]), Err(Error::Checkpoint(_))),
                "{len}"
            );
        }
    }
}
