//! What stands in the place of the engine on libtorch where the feature `torch` is off.

use crate::{Engine, EngineConfig, Error, Result};

/// Every operation, since nobody asks for its function in libtorch.
pub(crate) trait ToTorch {}

impl<T> ToTorch for T {}

/// Refuses.
///
/// # Errors
/// [`Error::Engine`], with what has to be built.
pub(crate) fn start(config: &EngineConfig) -> Result<Box<dyn Engine>> {
    Err(Error::Engine(format!(
        "`{}` needs libtorch, which this program was built without: install PyTorch 2.13 and build with \
         `--features torch` (docs/gpu.md)",
        config.device
    )))
}

#[cfg(test)]
mod tests {
    use crate::{Device, EngineConfig};

    #[test]
    fn says_what_to_build() {
        let config = EngineConfig {
            device: Device::Cuda(1),
            ..EngineConfig::default()
        };
        let refusal = config.start().err().unwrap().to_string();
        assert!(refusal.contains("`cuda:1` needs libtorch"), "{refusal}");
        assert!(refusal.contains("--features torch"), "{refusal}");
    }
}
