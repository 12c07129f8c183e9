//! Whether there is the memory for what is asked for, such as training a network: before anything is built or written.

use dacapo_nn::{Engine, NetworkSpec};

use crate::{Error, Result};

/// Refuses a network that takes more than the engine's free memory to train on batches of so many crops.
///
/// # Errors
/// [`Error::Memory`], with the largest shape that fits, and whatever is wrong with the network.
pub(crate) fn check_memory(engine: &dyn Engine, spec: &NetworkSpec, batch: usize) -> Result<()> {
    let unet = &spec.architecture;
    let Some(free) = engine.free_memory() else {
        return Ok(());
    };
    let needed = engine.memory(spec, &unet.input_shape, batch)?.training;
    if needed <= free {
        return Ok(());
    }
    let longest = unet.input_shape.iter().copied().max().unwrap_or(1);
    let mut smaller = None;
    for (input, _) in unet.shapes(longest)? {
        if engine.memory(spec, &input, batch)?.training <= free {
            smaller = Some(input);
        }
    }
    Err(Error::Memory {
        input: unet.input_shape.clone(),
        batch,
        needed,
        free,
        smaller,
    })
}

/// Refuses to work on so many voxels at once, of so many bytes each, where less is free; nothing is refused where
/// nobody knows.
///
/// # Errors
/// [`Error::TooLarge`].
pub(crate) fn check_free(
    free: Option<u64>,
    voxels: u64,
    voxel_bytes: u64,
    what: String,
    way_out: &'static str,
) -> Result<()> {
    let needed = voxels.saturating_mul(voxel_bytes);
    match free {
        Some(free) if needed > free => Err(Error::TooLarge {
            what,
            needed,
            free,
            way_out,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dacapo_nn::{CpuEngine, Memory, Network, UNetConfig};

    /// The CPU engine on a machine with so much memory.
    struct Small(CpuEngine, u64);

    impl Engine for Small {
        fn build(&self, spec: &NetworkSpec) -> dacapo_nn::Result<Box<dyn Network>> {
            self.0.build(spec)
        }
        fn memory(&self, spec: &NetworkSpec, input: &[usize], batch: usize) -> dacapo_nn::Result<Memory> {
            self.0.memory(spec, input, batch)
        }
        fn free_memory(&self) -> Option<u64> {
            Some(self.1)
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_shape_that_does() {
        let engine = CpuEngine::new(Some(1)).unwrap();
        let spec = NetworkSpec::new(UNetConfig::default(), 3);
        let takes = |shape: &[usize]| engine.memory(&spec, shape, 2).unwrap().training;
        let free = takes(&[68; 3]);
        assert!(check_memory(&Small(engine.clone(), takes(&[92; 3])), &spec, 2).is_ok());
        let error = check_memory(&Small(engine.clone(), free), &spec, 2).unwrap_err();
        let Error::Memory { smaller, needed, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!((smaller, *needed), (&Some(vec![68; 3]), takes(&[92; 3])));
        assert!(error.to_string().contains("2 × [92, 92, 92] voxels"), "{error}");
        assert!(error.hint().unwrap().contains("[68, 68, 68]"));
        let error = check_memory(&Small(engine, 1000), &spec, 2).unwrap_err();
        assert!(error.hint().unwrap().starts_with("a smaller"), "{error}");
    }
}
