//! What made an array. It stands in the attributes of the array itself, so that it stays true when a run is
//! moved.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, InputIdentity, PROGRAM, Result, time};

/// The attribute that holds it.
pub const ATTRIBUTE: &str = "dacapo";

/// What made an array. What does not apply is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The run, of what a run makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The iteration whose weights were used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iteration: Option<u64>,
    /// The validation dataset that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Hash of the run's config ([`hash`] of its text).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,
    /// Hash of the weights ([`hash`] of the checkpoint).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_hash: Option<String>,
    /// What it was made from, as it was named: where that may be too large to be read for the hash of an `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What it was computed from, or copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<InputIdentity>,
    /// The parameters that it was made with, as they print: of post-processing, or of what else made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
    /// Program and version.
    pub program: String,
    /// When, in UTC.
    pub time: String,
}

impl Provenance {
    /// Of an array that this program makes now for `run`.
    pub fn new(run: impl Into<String>) -> Self {
        Self {
            run: Some(run.into()),
            source: None,
            ..Self::of(String::new())
        }
    }

    /// Of an array that this program makes now from another one, or from a file, for no run.
    pub fn of(source: impl Into<String>) -> Self {
        Self {
            run: None,
            source: Some(source.into()),
            iteration: None,
            dataset: None,
            config_hash: None,
            weights_hash: None,
            input: None,
            parameters: None,
            program: PROGRAM.to_owned(),
            time: time::now(),
        }
    }

    /// As attributes of an array.
    pub fn attributes(&self) -> Map<String, Value> {
        // A struct of texts and numbers always makes a value.
        let value = serde_json::to_value(self).unwrap_or_default();
        Map::from_iter([(ATTRIBUTE.to_owned(), value)])
    }

    /// From the attributes of an array; nothing where another program wrote it.
    ///
    /// # Errors
    /// [`Error::Provenance`] if there is some that does not read.
    pub fn from_attributes(attributes: &Map<String, Value>) -> Result<Option<Self>> {
        let value = attributes.get(ATTRIBUTE);
        value
            .map(Self::deserialize)
            .transpose()
            .map_err(Error::Provenance)
    }
}

/// The hash that provenance names contents by: BLAKE3, hexadecimal.
pub fn hash(content: &[u8]) -> String {
    blake3::hash(content).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_from_the_attributes_of_an_array() {
        let mut provenance = Provenance::new("run");
        provenance.iteration = Some(1000);
        provenance.weights_hash = Some(hash(b"weights"));
        provenance.parameters = Some("agglomerate(threshold=0.6)".to_owned());
        let mut attributes = provenance.attributes();
        attributes.insert("offset".to_owned(), Value::from(vec![0, 0, 0]));
        assert_eq!(
            Provenance::from_attributes(&attributes).unwrap(),
            Some(provenance)
        );

        let attribute = attributes["dacapo"].as_object().unwrap();
        let keys: Vec<&str> = attribute.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "run",
                "iteration",
                "weights_hash",
                "parameters",
                "program",
                "time"
            ]
        );
    }

    #[test]
    fn arrays_of_other_programs_have_none_and_damaged_ones_say_so() {
        assert_eq!(Provenance::from_attributes(&Map::new()).unwrap(), None);
        let damaged = Map::from_iter([(ATTRIBUTE.to_owned(), Value::from("text"))]);
        assert!(matches!(
            Provenance::from_attributes(&damaged),
            Err(Error::Provenance(_))
        ));
    }
}
