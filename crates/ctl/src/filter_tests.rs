//! The test cases that BGPFilters carry, checked before a filter is written.

use anyhow::{Result, bail};
use api::Resource;
use calc::bgp_plan::check_filter;

/// Refuses a filter that does not do what its test cases say. Other resources have none.
pub(crate) fn check(resource: &Resource) -> Result<()> {
    let Resource::BGPFilter(filter) = resource else { return Ok(()) };
    match check_filter(filter) {
        Ok(_) => Ok(()),
        Err(errors) => bail!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}
