use super::*;

fn now(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn block(cidr: &str) -> Block {
    Block::create(cidr.parse().unwrap(), Some(AffinityOwner::Host("h".to_owned())), now(0), 100, None)
}

fn attribute(handle: &str) -> IpamAllocationAttribute {
    IpamAllocationAttribute { handle_id: Some(handle.to_owned()), ..IpamAllocationAttribute::default() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn take(block: &mut Block, count: usize, handle: &str) -> Vec<String> {
    let taken = block.auto_assign(count, &attribute(handle), &Reservations::default());
    taken.iter().map(ToString::to_string).collect()
}

/// Writes and reads it.
fn stored(block: Block) -> Block {
    Block::from(block.into_row())
}

#[test]
fn ordinals_and_addresses_map_to_each_other_in_both_families() {
    for cidr in ["10.0.0.64/26", "fd00::ff00/120", "10.0.0.7/32"] {
        let block = block(cidr);
        for ordinal in 0..block.size() {
            assert_eq!(block.ordinal(block.address(ordinal)), Some(ordinal));
        }
        let last = block.address(block.size() - 1);
        assert_eq!(last, block.cidr().broadcast());
    }
    for outside in ["10.0.0.63", "10.0.0.128", "fd00::"] {
        assert_eq!(block("10.0.0.64/26").ordinal(ip(outside)), None, "{outside}");
    }
}

#[test]
fn the_address_that_has_been_free_longest_is_next() {
    let mut block = block("10.0.0.0/30");
    assert_eq!(take(&mut block, 2, "a"), ["10.0.0.0", "10.0.0.1"]);
    assert!(block.release(ip("10.0.0.1"), now(1)));
    assert!(block.release(ip("10.0.0.0"), now(2)));
    block.collect(now(2), 0);
    assert_eq!(take(&mut block, 9, "b"), ["10.0.0.2", "10.0.0.3", "10.0.0.1", "10.0.0.0"]);
    assert_eq!(take(&mut block, 1, "c"), [""; 0]);
}

#[test]
fn reserved_addresses_are_passed_over_and_keep_their_place() {
    let mut block = block("10.0.0.0/30");
    let reserved = Reservations::new(["10.0.0.0/31".parse().unwrap()]);
    let taken = block.auto_assign(4, &attribute("a"), &reserved);
    assert_eq!(taken, [ip("10.0.0.2"), ip("10.0.0.3")]);
    assert_eq!(take(&mut block, 1, "b"), ["10.0.0.0"], "the reservation is gone");
    assert!(block.assign(ip("10.0.0.1"), &attribute("c")), "who names a reserved address gets it");
    assert!(!block.assign(ip("10.0.0.1"), &attribute("d")));
    assert!(!block.assign(ip("10.0.0.4"), &attribute("d")), "outside of the block");
}

#[test]
fn equal_owners_share_an_attribute_and_unused_ones_go() {
    let mut block = block("10.0.0.0/29");
    take(&mut block, 2, "a");
    take(&mut block, 1, "b");
    take(&mut block, 1, "a");
    assert_eq!(block.row().attributes, [attribute("a"), attribute("b")]);
    for address in block.addresses_of("a") {
        block.release(address, now(1));
    }
    block.collect(now(1), 0);
    assert_eq!(block.row().attributes, [attribute("b")]);
    assert_eq!(block.addresses_of("b"), [ip("10.0.0.2")], "pointers have moved along");
    assert_eq!(block.in_use(), 1);
}

#[test]
fn a_write_has_one_sequence_number_and_an_allocation_remembers_its_own() {
    let mut first = block("10.0.0.0/29");
    take(&mut first, 1, "a");
    take(&mut first, 1, "b");
    let mut second = stored(first);
    take(&mut second, 1, "c");
    let numbers: Vec<u64> = second.allocations().map(|allocation| allocation.sequence).collect();
    assert_eq!(numbers, [101, 101, 102]);

    let mut third = stored(second);
    third.release(ip("10.0.0.0"), now(1));
    third.collect(now(1), 0);
    assert_eq!(third.row().sequence_number, 103);
    assert!(!third.row().sequence_number_for_allocation.contains_key(&0));
}

#[test]
fn a_released_address_rests_for_the_whole_cool_down() {
    let mut block = block("10.0.0.0/31");
    take(&mut block, 2, "a");
    block.release(ip("10.0.0.0"), now(10));
    assert!(!block.release(ip("10.0.0.0"), now(11)), "it is not assigned any more");
    assert_eq!(block.state(ip("10.0.0.0")), State::Resting(now(10)));
    assert_eq!(block.allocations().count(), 1);
    assert!(!block.assign(ip("10.0.0.0"), &attribute("b")));

    assert_eq!(block.collect(now(39), 30), 0);
    assert_eq!(block.in_use(), 2, "what rests keeps the block from being empty");
    assert_eq!(block.collect(now(40), 30), 1);
    assert_eq!(block.state(ip("10.0.0.0")), State::Free);
}

#[test]
fn what_a_host_keeps_back_is_taken_but_does_not_fill_the_block() {
    let reserved = HostReserved { start_of_block: 3, end_of_block: 1, note: "windows host rsvd".to_owned() };
    let cidr = "10.0.0.0/29".parse().unwrap();
    let mut block = Block::create(cidr, None, now(0), 0, Some(&reserved));
    assert!(block.is_empty());
    assert_eq!(take(&mut block, 8, "a"), ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    assert_eq!(block.addresses_of(HostReserved::HANDLE).len(), 4);
    assert_eq!(block.in_use(), 4);

    let tiny = Block::create("10.0.0.0/31".parse().unwrap(), None, now(0), 0, Some(&reserved));
    assert_eq!(tiny.free(), 0, "both ends meet");
}

#[test]
fn a_new_owner_of_an_address_keeps_handle_neighbours_and_sequence_number() {
    let mut block = block("10.0.0.0/31");
    take(&mut block, 2, "vm");
    let moved = IpamAllocationAttribute {
        secondary: Attributes::from([("pod".to_owned(), "p2".to_owned())]),
        ..attribute("vm")
    };
    assert!(block.describe(ip("10.0.0.1"), moved.clone()));
    assert_eq!(block.state(ip("10.0.0.0")), State::Assigned { attribute: &attribute("vm"), sequence: 101 });
    assert_eq!(block.state(ip("10.0.0.1")), State::Assigned { attribute: &moved, sequence: 101 });
}

#[test]
fn a_damaged_row_costs_addresses_but_no_panic() {
    let mut row = IpamBlock::new("10.0.0.0/30".parse().unwrap(), None);
    row.allocations[1] = Some(7); // points nowhere, and is in the queue as well
    row.allocations[2] = None;
    row.unallocated = vec![1, 2, 2];
    let mut block = Block::from(row);
    assert_eq!(take(&mut block, 4, "a"), ["10.0.0.2"]);
    assert!(matches!(block.state(ip("10.0.0.1")), State::Assigned { .. }));
    block.release(ip("10.0.0.2"), now(0));
    block.collect(now(0), 0);
    assert_eq!(block.row().allocations[2], None);
}
