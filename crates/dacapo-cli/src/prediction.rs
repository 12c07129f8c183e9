//! Arrays of any format as they are named on the command line, with what a prediction says of itself.

use std::path::Path;
use std::sync::Arc;

use dacapo::NamedArray;
use dacapo::array::storage::Location;
use dacapo::array::{ArrayAddress, ArrayRead, Roi, ZarrArray, open_source};
use dacapo::tasks::{ValueRange, neighborhood_of};
use serde_json::{Map, Value};

use crate::context::Context;
use crate::placing::{Placing, says_nothing};
use crate::report::misused;

/// An array and its name.
pub struct Opened {
    name: String,
    array: Arc<dyn ArrayRead>,
    /// The attributes, if it is a Zarr array.
    said: Map<String, Value>,
}

impl Opened {
    /// Opens Zarr, N5, TIFF, a folder of PNG, NumPy or HDF5, where it is placed.
    pub fn new(path: &Path, placing: &Placing, context: &Context) -> anyhow::Result<Self> {
        let access = context.store.access();
        let name = path.display().to_string();
        let address = name.parse::<ArrayAddress>().ok();
        let zarr = address.and_then(|address| ZarrArray::open(&address, access).ok());
        Ok(Self {
            array: open_source(path, &placing.placement(), access)?,
            said: zarr.map(|array| array.attributes().clone()).unwrap_or_default(),
            name,
        })
    }

    /// The same where its file says where it lies; else where it is placed.
    pub fn beside(path: &Path, placing: &Placing, context: &Context) -> anyhow::Result<Self> {
        let opened = Self::new(path, &Placing::default(), context)?;
        if placing.says_something() && says_nothing(&*opened.array) {
            return Self::new(path, placing, context);
        }
        Ok(opened)
    }

    /// For the library.
    pub fn named(&self) -> NamedArray<'_> {
        NamedArray {
            name: &self.name,
            array: &*self.array,
        }
    }

    /// What its bytes stand for: 0 to 1, unless it says otherwise.
    pub fn range(&self) -> anyhow::Result<ValueRange> {
        match self.said.get("value_range") {
            None => Ok(ValueRange::UNIT),
            Some(range) => {
                let [min, max]: [f32; 2] = serde_json::from_value(range.clone())?;
                Ok(ValueRange::new(min, max)?)
            }
        }
    }

    /// Its spatial axes.
    pub fn dims(&self) -> usize {
        self.array.spec().spatial_dims()
    }

    /// Where it lies, in world units.
    pub fn roi(&self) -> &Roi {
        &self.array.spec().roi
    }

    /// Refuses to be replaced by what is made of it.
    pub fn check_apart(&self, output: &ArrayAddress) -> anyhow::Result<()> {
        let Ok(address) = self.name.parse::<ArrayAddress>() else {
            return Ok(());
        };
        let (input_at, output_at) = (address.location(), output.location());
        let real = |location: &Location| location.path()?.canonicalize().ok();
        let is_same =
            input_at == output_at || real(&input_at).is_some_and(|path| real(&output_at) == Some(path));
        if is_same {
            misused!("{output} is read, and would be replaced by its own segmentation: name another output");
        }
        Ok(())
    }

    /// The offsets of its channels, if they are affinities: as it says, unless some are given, as many as it says.
    pub fn neighborhood(&self, given: &[Vec<i64>], context: &Context) -> anyhow::Result<Vec<Vec<i64>>> {
        let name = &self.name;
        match neighborhood_of(&self.channel_names()) {
            Some(named) if !given.is_empty() && given.len() != named.len() => misused!(
                "{name} has {} channels of affinities, and --offsets names {}: name one for each, or none, as {name} \
                 says them itself",
                named.len(),
                given.len()
            ),
            Some(named) if given.is_empty() => Ok(named),
            None if given.is_empty() => misused!(
                "{name} does not say which offsets its channels have; say them: --offsets=-1,0,0/0,-1,0/0,0,-1"
            ),
            named => {
                // Shape descriptors stand behind affinities, and nothing says so here.
                let channels: usize = self.array.spec().channels.iter().product();
                if named.is_none() && given.len() < channels {
                    context.printer.note(format!(
                        "of the {channels} channels of {name}, the first {} are taken as affinities: --offsets names as many",
                        given.len()
                    ));
                }
                Ok(given.to_vec())
            }
        }
    }

    /// What its channels are called; nothing if it does not say so.
    pub fn channel_names(&self) -> Vec<String> {
        let names = self.said.get("channel_names").cloned().unwrap_or_default();
        serde_json::from_value(names).unwrap_or_default()
    }
}
