//! Which backend enforces a family's rules, and how one takes the place of another.
//!
//! Both judge while the new one is being brought up: a packet has to come past the old one until the new one is complete, and only
//! then is the old one taken away. A process does not know which backend the one before it had, so it takes away whatever is
//! there of those that it does not use, once its own is complete.

use std::sync::Arc;
use std::time::Instant;

use calc::contract::IpVersion;
use kernel::nft::Transport;

use crate::backend::{Backend, BackendError, RuleSink};
use crate::config::{NftablesMode, Parameters};
use crate::iptables::Iptables;
use crate::iptables::tools::Tools;
use crate::nft::NftRules;
use crate::table::Table;

/// A backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    /// nf_tables.
    #[default]
    Nft,
    /// iptables and ipset.
    Iptables,
}

impl Kind {
    /// The one that `NFTablesMode` asks for.
    pub(crate) fn wanted(parameters: &Parameters, nft_is_missing: bool) -> Self {
        match parameters.nftables_mode {
            NftablesMode::Disabled => Self::Iptables,
            NftablesMode::Auto if nft_is_missing => Self::Iptables,
            NftablesMode::Auto | NftablesMode::Enabled => Self::Nft,
        }
    }
}

/// Something that has a sink for rules.
pub(crate) trait HasSink {
    /// It.
    fn sink(&mut self) -> &mut dyn RuleSink;
}

/// Both backends of a family, one of which enforces.
#[derive(Debug)]
pub(crate) struct Backends<N> {
    nft: NftRules<Table<N>>,
    iptables: Iptables,
    active: Kind,
    /// Of the other one there may be something in the kernel.
    leftovers: bool,
}

impl<N: Transport> Backends<N> {
    pub(crate) fn new(version: IpVersion, table: Table<N>, tools: Arc<dyn Tools>) -> Self {
        let (nft, iptables) = (NftRules::new(version, table), Iptables::new(version, tools));
        Self { nft, iptables, active: Kind::default(), leftovers: true }
    }

    pub(crate) fn active(&self) -> Kind {
        self.active
    }

    /// From now on this one is written to. What the other one has stays in force until this one is complete.
    pub(crate) fn activate(&mut self, kind: Kind) {
        self.active = kind;
        self.leftovers = true;
    }

    pub(crate) fn backend(&mut self) -> &mut dyn Backend {
        match self.active {
            Kind::Nft => &mut self.nft,
            Kind::Iptables => &mut self.iptables,
        }
    }

    pub(crate) fn next_apply(&self) -> Option<Instant> {
        match self.active {
            Kind::Nft => self.nft.next_apply(),
            Kind::Iptables => self.iptables.next_apply(),
        }
    }

    /// Takes away what there is of the other one. The one in force is complete.
    pub(crate) fn clean(&mut self) -> Result<(), BackendError> {
        if self.leftovers {
            match self.active {
                Kind::Nft => self.iptables.withdraw()?,
                Kind::Iptables => self.nft.withdraw()?,
            }
            self.leftovers = false;
        }
        Ok(())
    }
}

impl<N: Transport> HasSink for Backends<N> {
    fn sink(&mut self) -> &mut dyn RuleSink {
        match self.active {
            Kind::Nft => &mut self.nft,
            Kind::Iptables => &mut self.iptables,
        }
    }
}
