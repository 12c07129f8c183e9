//! Where an array lies whose file does not say it, as options of commands.

use clap::Args;
use dacapo::array::{ArrayRead, Coordinate, Decimal, Placement};
use dacapo::config::{ArraySource, MadeArray};

use crate::typed;

/// What is said of an array in place of what its file says.
#[derive(Debug, Clone, Default, Args)]
pub struct Placing {
    /// Size of a voxel in world units; one number holds along every axis [default: as the file says, else 1].
    #[arg(long, value_name = "Z,Y,X", value_parser = typed::voxel_size, allow_hyphen_values = true)]
    voxel_size: Option<Coordinate>,
    /// First corner in world units [default: as the file says, else 0].
    #[arg(long, value_name = "Z,Y,X", value_parser = typed::coordinate, allow_hyphen_values = true)]
    offset: Option<Coordinate>,
    /// Unit of the spatial axes, or one for each [default: as the file says, else none].
    #[arg(long, value_name = "UNIT", value_delimiter = ',')]
    units: Option<Vec<String>>,
    /// Names of the spatial axes, or of all; those of channels end in ^ and stand in front [default: as the file
    /// says, else the last three are z,y,x].
    #[arg(long, value_name = "Z,Y,X", value_delimiter = ',')]
    axes: Option<Vec<String>>,
}

impl Placing {
    /// For opening a file.
    pub fn placement(&self) -> Placement {
        self.made().placement()
    }

    /// The array at `path`, as a config would name it.
    pub fn source(&self, path: &str) -> ArraySource {
        if !self.says_something() {
            return path.into();
        }
        MadeArray {
            source: Some(path.into()),
            ..self.made()
        }
        .into()
    }

    /// Whether any of the options is there.
    pub fn says_something(&self) -> bool {
        self.placement() != Placement::default()
    }

    /// What a config would say beside the array's name.
    fn made(&self) -> MadeArray {
        MadeArray {
            voxel_size: self.voxel_size.clone(),
            offset: self.offset.clone(),
            units: self.units.clone(),
            axes: self.axes.clone(),
            ..MadeArray::default()
        }
    }

    /// Whether axes of an array that was opened with this are channels for no other reason than that fewer numbers were given.
    pub fn makes_channels_of(&self, array: &dyn ArrayRead) -> bool {
        let channels = array.spec().channels.len();
        let dims = array.spec().spatial_dims();
        self.axes.is_none() && channels > 0 && dims < 3 && self.says_something()
    }

    /// Whether nobody says how large the voxels of an array are that was opened with this.
    pub fn is_missing_for(&self, array: &dyn ArrayRead) -> bool {
        self.voxel_size.is_none() && says_nothing(array)
    }
}

/// Whether an array has what is taken where nothing is said: voxels of 1, no units.
pub fn says_nothing(array: &dyn ArrayRead) -> bool {
    let spec = array.spec();
    let is_one = spec.voxel_size.iter().all(|&size| size == Decimal::ONE);
    is_one && spec.units.iter().all(String::is_empty)
}
