//! The settings of IPAM.

use api::{IpamConfig, Key, Row};
use datastore::{Revision, StoreError};

use crate::IpamError;
use crate::ipam::Ipam;
use crate::rows::{Write, retry};

/// Most blocks per host that can be configured.
const MAX_BLOCKS_PER_HOST: u32 = 1_000_000;
/// Longest rest of a released address, in seconds.
const MAX_COOLDOWN_SECONDS: u32 = 1_200;

impl Ipam {
    /// The settings; the defaults if none are stored.
    ///
    /// # Errors
    /// When the store fails, or the row cannot be read.
    pub fn config(&self) -> Result<IpamConfig, IpamError> {
        self.config_row()
    }

    pub(crate) fn config_row(&self) -> Result<IpamConfig, IpamError> {
        Ok(self.read_config()?.map(|(config, _)| config).unwrap_or_default())
    }

    fn read_config(&self) -> Result<Option<(IpamConfig, Revision)>, IpamError> {
        match self.rows.store().get(&Key::IpamConfig) {
            Ok(entry) => {
                let Row::IpamConfig(config) = entry.row()? else { return Ok(None) };
                Ok(Some((config, entry.revision)))
            }
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes the settings. Blocks and addresses that exist stay as they are.
    ///
    /// # Errors
    /// [`IpamError::InvalidConfig`], or the store fails.
    pub fn set_config(&self, config: &IpamConfig) -> Result<(), IpamError> {
        check_config(config)?;
        retry(
            || Key::IpamConfig,
            || {
                let stored = self.read_config()?;
                if stored.as_ref().is_some_and(|(stored, _)| stored == config) {
                    return Ok(Some(()));
                }
                let expected = stored.map(|(_, revision)| revision);
                let written = self.rows.write(&Row::IpamConfig(config.clone()), expected.as_ref())?;
                Ok((written != Write::Lost).then_some(()))
            },
        )
    }
}

/// Whether settings go together (control-plane.md 1.3).
///
/// # Errors
/// [`IpamError::InvalidConfig`].
pub fn check_config(config: &IpamConfig) -> Result<(), IpamError> {
    let invalid = |field, reason| Err(IpamError::InvalidConfig { field, reason });
    if !config.strict_affinity && !config.auto_allocate_blocks {
        return invalid("autoAllocateBlocks", "false needs strictAffinity: true");
    }
    if config.max_blocks_per_host > 0 && !config.strict_affinity {
        return invalid("maxBlocksPerHost", "more than 0 needs strictAffinity: true");
    }
    if config.max_blocks_per_host > MAX_BLOCKS_PER_HOST {
        return invalid("maxBlocksPerHost", "must be 0 to 1000000");
    }
    if config.ip_cooldown_seconds > MAX_COOLDOWN_SECONDS {
        return invalid("ipCooldownSeconds", "must be 0 to 1200");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datastore::{Memory, Scope, Store};

    use super::*;

    #[test]
    fn settings_that_contradict_each_other_are_refused_and_not_written() {
        let store = Memory::new();
        let ipam = Ipam::new(Arc::new(store.clone()));
        let cases = [
            (IpamConfig { auto_allocate_blocks: false, ..IpamConfig::default() }, "autoAllocateBlocks"),
            (IpamConfig { max_blocks_per_host: 1, ..IpamConfig::default() }, "maxBlocksPerHost"),
            (
                IpamConfig { strict_affinity: true, max_blocks_per_host: 1_000_001, ..IpamConfig::default() },
                "maxBlocksPerHost",
            ),
            (IpamConfig { ip_cooldown_seconds: 1_201, ..IpamConfig::default() }, "ipCooldownSeconds"),
        ];
        for (config, bad) in cases {
            let error = ipam.set_config(&config).unwrap_err();
            assert!(matches!(error, IpamError::InvalidConfig { field, .. } if field == bad), "{error}");
        }
        assert!(store.list(&Scope::IpamConfig).unwrap().entries.is_empty());
    }

    #[test]
    fn settings_are_replaced_and_equal_ones_not_written_again() {
        let store = Memory::new();
        let ipam = Ipam::new(Arc::new(store.clone()));
        let strict = IpamConfig { strict_affinity: true, max_blocks_per_host: 3, ..IpamConfig::default() };
        ipam.set_config(&IpamConfig::default()).unwrap();
        ipam.set_config(&strict).unwrap();
        let revision = store.get(&Key::IpamConfig).unwrap().revision;
        ipam.set_config(&strict).unwrap();
        assert_eq!(store.get(&Key::IpamConfig).unwrap().revision, revision);
        assert_eq!(ipam.config().unwrap(), strict);
    }
}
