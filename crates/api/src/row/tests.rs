use serde_json::{Value, json};

use super::*;
use crate::{AffinityOwner, Kind};

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_block_is_read_and_written_as_calico_keeps_it() {
    let text = r#"{"cidr":"10.65.0.0/30","affinity":"host:node-1","allocations":[0,null,0,null],
        "unallocated":[1,3],"attributes":[{"handle_id":"h","secondary":{"pod":"a"}}],"sequenceNumber":7,
        "sequenceNumberForAllocation":{"0":5,"2":7},"deleted":false,"strictAffinity":false}"#;
    let key = Key::Block("10.65.0.0/30".parse().unwrap());
    let row = Row::decode(&key, text).unwrap();
    let Row::Block(block) = &row else { panic!("{row:?}") };
    assert_eq!(block.affinity, Some(AffinityOwner::Host("node-1".to_owned())));
    assert_eq!(block.allocations, [Some(0), None, Some(0), None]);
    assert_eq!(block.sequence_number_for_allocation.get(&2), Some(&7));
    assert_eq!(value(&row.encode()), value(text));
    assert_eq!(row.key(), key);
}

#[test]
fn lists_that_go_wrote_as_null_are_empty() {
    let text = r#"{"cidr":"10.65.0.0/32","affinity":null,"allocations":[null],"unallocated":null,
        "attributes":null,"sequenceNumberForAllocation":null,"fromTheFuture":1}"#;
    let row = Row::decode(&Key::Block("10.65.0.0/32".parse().unwrap()), text).unwrap();
    let Row::Block(block) = row else { panic!("{row:?}") };
    assert_eq!((block.affinity, block.unallocated, block.attributes), (None, vec![], vec![]));
}

#[test]
fn an_affinity_takes_its_identity_from_the_key_and_an_empty_state_is_confirmed() {
    let owner = AffinityOwner::Host("n".to_owned());
    let cidr = "10.65.0.0/26".parse().unwrap();
    let key = Key::BlockAffinity { owner: owner.clone(), cidr };
    for (text, state) in [
        ("", BlockAffinityState::Confirmed),
        ("{}", BlockAffinityState::Confirmed),
        (r#"{"state":""}"#, BlockAffinityState::Confirmed),
        (r#"{"state":"pendingDeletion","deleted":false}"#, BlockAffinityState::PendingDeletion),
    ] {
        let row = Row::decode(&key, text).unwrap();
        assert_eq!(row, Row::BlockAffinity(IpamBlockAffinity::new(owner.clone(), cidr, state)), "{text}");
        assert_eq!(Row::decode(&key, &row.encode()).unwrap(), row);
    }
}

#[test]
fn handles_and_the_configuration_have_calicos_names() {
    let mut handle = IpamHandle::new("h");
    handle.blocks.insert("10.65.0.0/26".parse().unwrap(), 2);
    let text = Row::Handle(handle).encode();
    assert_eq!(value(&text), json!({"block": {"10.65.0.0/26": 2}, "deleted": false}));
    let config = Row::IpamConfig(IpamConfig { max_blocks_per_host: 4, ..IpamConfig::default() }).encode();
    assert_eq!(
        value(&config),
        json!({"strict_affinity": false, "auto_allocate_blocks": true, "maxBlocksPerHost": 4})
    );
}

#[test]
fn auto_allocation_that_calico_left_out_is_off_only_together_with_strict_affinity() {
    let read = |text: &str| match Row::decode(&Key::IpamConfig, text).unwrap() {
        Row::IpamConfig(config) => config.auto_allocate_blocks,
        other => panic!("{other:?}"),
    };
    assert!(read("{}"));
    assert!(!read(r#"{"strict_affinity":true}"#));
    assert!(read(r#"{"strictAffinity":true,"autoAllocateBlocks":true}"#));
}

#[test]
fn a_resource_is_named_by_its_key_and_unknown_fields_are_skipped() {
    let text = r#"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"other",
        "creationTimestamp":null,"labels":null},"spec":{"cidr":"10.0.0.0/16","ipipMode":"Never","newField":{"a":1}}}"#;
    let row = Row::decode(&Key::cluster(Kind::IPPool, "pool"), text).unwrap();
    let Row::Resource(Resource::IPPool(pool)) = row else { panic!("{row:?}") };
    assert_eq!(pool.metadata.name, "pool");
    assert_eq!(pool.spec.cidr.to_string(), "10.0.0.0/16");
}

#[test]
fn the_revision_is_not_stored() {
    let mut pool = crate::IPPool::new(
        crate::Metadata::named("pool"),
        crate::IPPoolSpec::new("10.0.0.0/16".parse().unwrap()),
    );
    pool.metadata.resource_version = Some("7".to_owned());
    assert!(!Row::Resource(pool.into()).encode().contains("resourceVersion"));
}

#[test]
fn a_bad_row_says_which_it_is_and_which_field_is_bad() {
    let text = r#"{"metadata":{},"spec":{"cidr":"10.0.0.0/16","blockSize":"big"}}"#;
    let error = Row::decode(&Key::cluster(Kind::IPPool, "pool"), text).unwrap_err();
    assert_eq!(
        error.to_string(),
        "IPPool pool in the datastore cannot be read: spec.blockSize: \"big\" is a string, but has to be a whole \
         number without quotes"
    );
    let error = Row::decode(&Key::cluster(Kind::IPPool, "pool"), "{").unwrap_err();
    assert!(error.to_string().contains("EOF"), "{error}");
}
