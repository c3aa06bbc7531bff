use api::{Key, Kind, Resource, Row};
use serde_json::json;

use super::*;
use crate::Memory;

fn resource(kind: &str, name: &str, spec: serde_json::Value) -> Resource {
    let value = json!({
        "apiVersion": api::API_VERSION, "kind": kind, "metadata": { "name": name }, "spec": spec,
    });
    Resource::from_value(&value).expect("a resource")
}

fn pool(name: &str, cidr: &str) -> Resource {
    resource("IPPool", name, json!({ "cidr": cidr }))
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ResourceError>, words: &[&str]) {
    let text = result.expect_err("it breaks a rule").to_string();
    for word in words {
        assert!(text.contains(word), "`{text}` does not say `{word}`");
    }
}

#[test]
fn a_new_resource_gets_identity_time_and_defaults() {
    let store = Memory::new();
    let resources = Resources::new(&store);
    let mut given = pool("a", "10.0.0.0/16");
    given.metadata_mut().uid = Some("of another cluster".into());
    given.metadata_mut().resource_version = Some("99".into());
    let made = resources.create(given).unwrap();
    assert_eq!(made.metadata().uid.as_ref().map(String::len), Some(36));
    assert!(made.metadata().creation_timestamp.is_some());
    assert_eq!(made, resources.get(Kind::IPPool, None, "a").unwrap());
    assert_eq!(made.to_value()["spec"]["blockSize"], 26);
}

#[test]
fn an_update_keeps_identity_and_status_and_honours_the_revision() {
    let store = Memory::new();
    let resources = Resources::new(&store);
    let mut first = pool("a", "10.0.0.0/16");
    let Resource::IPPool(inner) = &mut first else { unreachable!() };
    inner.status = Some(api::IPPoolStatus::default());
    let first = resources.create(first).unwrap();
    let mut changed = resource("IPPool", "a", json!({ "cidr": "10.0.0.0/16", "disabled": true }));
    let second = resources.update(changed.clone()).unwrap();
    assert_eq!(second.metadata().uid, first.metadata().uid);
    assert_eq!(second.metadata().creation_timestamp, first.metadata().creation_timestamp);
    let Resource::IPPool(inner) = &second else { unreachable!() };
    assert!(inner.status.is_some(), "the status was lost");

    changed.metadata_mut().resource_version.clone_from(&first.metadata().resource_version);
    refused(resources.update(changed.clone()), &["IPPool a", "changed by someone else"]);
    refused(resources.apply(&changed), &["IPPool a", "changed by someone else"]);
    changed.metadata_mut().resource_version.clone_from(&second.metadata().resource_version);
    resources.update(changed).unwrap();
    refused(resources.update(pool("b", "10.1.0.0/16")), &["IPPool b", "does not exist"]);
}

#[test]
fn what_is_applied_again_unchanged_is_not_written() {
    let store = Memory::new();
    let resources = Resources::new(&store);
    assert_eq!(resources.apply(&pool("a", "10.0.0.0/16")).unwrap().1, Applied::Created);
    let before = resources.list(Kind::IPPool, None).unwrap().revision;
    assert_eq!(resources.apply(&pool("a", "10.0.0.0/16")).unwrap().1, Applied::Unchanged);
    assert_eq!(resources.list(Kind::IPPool, None).unwrap().revision, before);
    let disabled = resource("IPPool", "a", json!({ "cidr": "10.0.0.0/16", "disabled": true }));
    assert_eq!(resources.apply(&disabled).unwrap().1, Applied::Changed);
}

#[test]
fn a_pool_that_overlaps_another_is_refused_by_name() {
    let store = Memory::new();
    let resources = Resources::new(&store);
    resources.create(pool("wide", "10.0.0.0/8")).unwrap();
    refused(
        resources.create(pool("narrow", "10.1.0.0/16")),
        &["IPPool narrow", "spec.cidr", "10.0.0.0/8", "wide"],
    );
    refused(resources.apply(&pool("wider", "0.0.0.0/0")), &["IPPool wider", "IPPool wide"]);
    assert_eq!(resources.list(Kind::IPPool, None).unwrap().items.len(), 1);
}

#[test]
fn a_pool_over_blocks_of_another_size_is_refused() {
    let store = Memory::new();
    let resources = Resources::new(&store);
    let block = api::IpamBlock::new("10.0.0.0/28".parse().unwrap(), None);
    store.create(&Key::Block(block.cidr), &Row::Block(block.clone()).encode()).unwrap();
    refused(resources.create(pool("a", "10.0.0.0/16")), &["IPPool a", "spec.blockSize", "10.0.0.0/28"]);
    let fitting = resource("IPPool", "a", json!({ "cidr": "10.0.0.0/16", "blockSize": 28 }));
    resources.create(fitting).unwrap();
    resources.create(pool("elsewhere", "10.9.0.0/16")).unwrap();
}

#[test]
fn range_and_block_size_of_a_pool_stay() {
    let store = Memory::new();
    let resources = Resources::new(&store);
    resources.create(pool("a", "10.0.0.0/16")).unwrap();
    refused(resources.apply(&pool("a", "10.1.0.0/16")), &["spec.cidr", "cannot change"]);
    let other = resource("IPPool", "a", json!({ "cidr": "10.0.0.0/16", "blockSize": 28 }));
    refused(resources.update(other), &["spec.blockSize", "cannot change"]);
}

#[test]
fn policies_need_their_tier_and_hold_it() {
    let store = Memory::new();
    let resources = Resources::new(&store);
    let policy = resource("GlobalNetworkPolicy", "p", json!({ "tier": "security" }));
    refused(
        resources.create(policy.clone()),
        &["GlobalNetworkPolicy p", "spec.tier", "\"security\"", "create the Tier"],
    );
    resources.create(resource("Tier", "security", json!({ "order": 10 }))).unwrap();
    let made = resources.create(policy).unwrap();
    assert_eq!(made.metadata().labels["projectcalico.org/tier"], "security");
    let delete = || resources.delete(Kind::Tier, None, "security", None);
    refused(delete(), &["Tier security", "GlobalNetworkPolicy p"]);
    resources.delete(Kind::GlobalNetworkPolicy, None, "p", None).unwrap();
    delete().unwrap();
}

#[test]
fn what_is_built_in_stays() {
    let store = Memory::new();
    let resources = Resources::new(&store);
    for tier in api::built_in_tiers() {
        resources.create(tier.clone().into()).unwrap();
        refused(resources.delete(Kind::Tier, None, &tier.metadata.name, None), &["built in", "deleted"]);
    }
    refused(
        resources.apply(&resource("Tier", "default", json!({ "order": 5 }))),
        &["Tier default", "spec.order", "1000000"],
    );
    let profile =
        resource("Profile", "projectcalico-default-allow", json!({ "ingress": [{ "action": "Allow" }] }));
    refused(resources.create(profile.clone()), &["Profile projectcalico-default-allow", "built in"]);
    store.create(&profile.key(), &Row::Resource(profile.clone()).encode()).unwrap();
    refused(
        resources.delete(Kind::Profile, None, "projectcalico-default-allow", None),
        &["built in", "deleted"],
    );
    let denying = resource("Profile", "projectcalico-default-allow", json!({}));
    refused(resources.update(denying), &["built in", "changed"]);
    assert_eq!(resources.apply(&profile).unwrap().1, Applied::Unchanged);
}

#[test]
fn the_settings_of_ipam_are_kept_in_ipams_row() {
    let store = Memory::new();
    let resources = Resources::new(&store);
    assert!(resources.list(Kind::IPAMConfiguration, None).unwrap().items.is_empty());
    let strict =
        resource("IPAMConfiguration", "default", json!({ "strictAffinity": true, "maxBlocksPerHost": 3 }));
    resources.apply(&strict).unwrap();
    let Row::IpamConfig(row) = store.get(&Key::IpamConfig).unwrap().row().unwrap() else {
        panic!("no settings")
    };
    assert!(row.strict_affinity);
    assert_eq!(row.max_blocks_per_host, 3);
    let read = resources.get(Kind::IPAMConfiguration, None, "default").unwrap();
    assert_eq!(read.to_value()["spec"]["maxBlocksPerHost"], 3);
    let mut labelled = strict;
    labelled.metadata_mut().labels.insert("a".into(), "b".into());
    refused(resources.update(labelled), &["metadata.labels", "remove"]);
    resources.delete(Kind::IPAMConfiguration, None, "default", None).unwrap();
    assert!(store.get(&Key::IpamConfig).is_err());
}

#[test]
fn block_affinities_can_be_read_but_not_written() {
    let store = Memory::new();
    let resources = Resources::new(&store);
    let owner = api::AffinityOwner::Host("node-1".into());
    let cidr = "10.0.0.64/26".parse().unwrap();
    let affinity = api::IpamBlockAffinity::new(owner.clone(), cidr, api::BlockAffinityState::Confirmed);
    store.create(&Key::BlockAffinity { owner, cidr }, &Row::BlockAffinity(affinity).encode()).unwrap();
    let read = resources.get(Kind::BlockAffinity, None, "node-1-10-0-0-64-26").unwrap();
    assert_eq!(read.to_value()["spec"]["state"], "confirmed");
    refused(resources.create(read.clone()), &["BlockAffinity node-1-10-0-0-64-26", "IPAM"]);
    refused(resources.delete(Kind::BlockAffinity, None, "node-1-10-0-0-64-26", None), &["belongs to IPAM"]);
    assert!(resources.get(Kind::BlockAffinity, None, "other").unwrap_err().is_not_found());
}

#[test]
fn a_change_is_made_to_the_newest_state() {
    let store = Memory::new();
    let resources = Resources::new(&store);
    resources.create(pool("a", "10.0.0.0/16")).unwrap();
    let mut interfered = false;
    let (after, _) = resources
        .modify(Kind::IPPool, None, "a", |before| -> Result<_, ResourceError> {
            if !std::mem::replace(&mut interfered, true) {
                let mut other = pool("a", "10.0.0.0/16");
                other.metadata_mut().labels.insert("theirs".into(), "x".into());
                resources.update(other)?;
            }
            let mut after = before.clone();
            after.metadata_mut().labels.insert("ours".into(), "y".into());
            Ok(after)
        })
        .unwrap();
    assert_eq!(after.metadata().labels.len(), 2, "{:?}", after.metadata().labels);
}

#[test]
fn a_row_that_holds_something_else_is_reported_and_left_out() {
    let store = Memory::new();
    store.create(&Key::cluster(Kind::IPPool, "broken"), "[]").unwrap();
    let resources = Resources::new(&store);
    let list = resources.list(Kind::IPPool, None).unwrap();
    assert!(list.items.is_empty());
    assert!(list.unreadable[0].to_string().contains("IPPool broken"), "{:?}", list.unreadable);
}
