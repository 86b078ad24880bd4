//! What a table promises, and the tables that must never change.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    time::Instant,
};

use lb_common::slots::{LARGE, SMALL};

use super::*;

fn share(number: u16, weight: u16) -> Share {
    let [high, low] = number.to_be_bytes();
    Share { endpoint: SocketAddrV4::new(Ipv4Addr::new(10, 0, high, low), 8080).into(), weight, id: number }
}

fn equal(count: u16) -> Vec<Share> {
    (1..=count).map(|number| share(number, 1)).collect()
}

fn weighted(weights: &[u16]) -> Vec<Share> {
    (1..).zip(weights).map(|(number, weight)| share(number, *weight)).collect()
}

fn counts(table: &[BackendId]) -> BTreeMap<BackendId, usize> {
    table.iter().fold(BTreeMap::new(), |mut counts, id| {
        *counts.entry(*id).or_default() += 1;
        counts
    })
}

/// Maglev as the paper writes it, with a look at every slot.
fn by_the_book(shares: &[Share], slots: u32) -> Vec<BackendId> {
    let mut shares = shares.to_vec();
    shares.sort_unstable();
    let mut table = vec![0; slots as usize];
    let mut orders: Vec<_> = shares
        .iter()
        .map(|share| {
            let mut seen = BTreeSet::new();
            let (start, skip) = Permutation::new(share.endpoint, slots).start_and_skip();
            let order: Vec<u32> = (0..slots).map(|turn| (start + turn * skip) % slots).collect();
            assert!(order.iter().all(|slot| seen.insert(*slot)), "no permutation");
            order.into_iter()
        })
        .collect();
    for turn in 0..slots as usize {
        let backend = turn % shares.len();
        let slot = orders[backend].find(|slot| table[*slot as usize] == 0).unwrap();
        table[slot as usize] = shares[backend].id;
    }
    table
}

#[test]
fn is_maglev_as_the_paper_has_it() {
    for (count, slots) in [(1, 7), (3, 7), (3, 251), (10, SMALL), (100, SMALL), (300, 251)] {
        assert_eq!(maglev(&equal(count), slots), by_the_book(&equal(count), slots), "{count} over {slots}");
    }
}

/// FNV-1a over the ids, low octet first.
fn digest(table: &[BackendId]) -> u64 {
    table
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[test]
fn tables_never_change_between_versions() {
    assert_eq!(maglev(&equal(3), 31), GOLDEN_SMALLEST);
    assert_eq!(digest(&maglev(&equal(10), SMALL)), 0x26ce_5a5c_d314_a686);
    assert_eq!(digest(&maglev(&weighted(&[2, 13, 111, 10]), SMALL)), 0xb386_6679_9dfb_ae9b);
    assert_eq!(digest(&maglev(&equal(100), LARGE)), 0xcabf_a19f_c66d_4ca0);
}

const GOLDEN_SMALLEST: [BackendId; 31] =
    [3, 3, 3, 2, 3, 1, 1, 3, 2, 1, 3, 2, 1, 2, 1, 2, 1, 1, 2, 3, 1, 2, 3, 2, 1, 1, 2, 3, 1, 2, 3];

#[test]
fn the_order_of_the_file_and_the_ids_play_no_part() {
    let table = maglev(&equal(20), SMALL);
    let mut turned = equal(20);
    turned.reverse();
    assert_eq!(table, maglev(&turned, SMALL));
    let renumbered: Vec<Share> = equal(20).into_iter().map(|share| Share { id: share.id + 100, ..share }).collect();
    let back: Vec<BackendId> = maglev(&renumbered, SMALL).into_iter().map(|id| id - 100).collect();
    assert_eq!(table, back);
}

#[test]
fn weights_take_proportional_turns() {
    let table = maglev(&weighted(&[2, 13, 111, 10]), 1021);
    assert_eq!(counts(&table), BTreeMap::from([(1, 15), (2, 98), (3, 833), (4, 75)]));
}

#[test]
fn weights_are_honoured_within_one_percent_in_a_large_table() {
    let weights = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 1, 1, 100, 100, 7];
    let total: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
    let counts = counts(&maglev(&weighted(&weights), LARGE));
    for (number, weight) in (1..).zip(weights) {
        let ideal = f64::from(LARGE) * f64::from(weight) / f64::from(total);
        let error = (counts[&number] as f64 - ideal).abs() / ideal;
        assert!(error < 0.01, "weight {weight}: {} slots for {ideal:.1}", counts[&number]);
    }
}

#[test]
fn nobody_and_weight_zero_get_nothing() {
    assert_eq!(maglev(&[], 251), vec![0; 251]);
    assert_eq!(maglev(&weighted(&[0, 0]), 251), vec![0; 251]);
    assert_eq!(counts(&maglev(&weighted(&[0, 1]), 251)), BTreeMap::from([(2, 251)]));
}

#[test]
fn a_small_weight_beside_a_huge_one_still_gets_a_slot() {
    let counts = counts(&maglev(&weighted(&[1, u16::MAX]), SMALL));
    assert_eq!(counts, BTreeMap::from([(1, 1), (2, 4092)]));
}

#[test]
fn more_backends_than_slots_fill_the_table() {
    let table = maglev(&equal(300), 251);
    assert!(!table.contains(&0));
    assert_eq!(counts(&table).len(), 251);
}

#[test]
fn removing_one_of_a_hundred_moves_less_than_one_percent_of_the_others() {
    let before = maglev(&equal(100), LARGE);
    for gone in [1, 37, 100] {
        let left: Vec<Share> = equal(100).into_iter().filter(|share| share.id != gone).collect();
        let moved = before.iter().zip(maglev(&left, LARGE)).filter(|(old, new)| **old != gone && **old != *new).count();
        let percent = moved as f64 * 100.0 / f64::from(LARGE);
        println!("removing {gone}: {percent:.2}% moved beyond its share");
        assert!(percent < 1.0, "removing {gone} moved {percent:.2}% beyond its share");
    }
}

/// Timed in release only: `cargo test --release -p lb-userspace balance -- --nocapture`.
#[test]
fn a_large_table_over_a_hundred_backends_takes_under_a_millisecond() {
    let shares = equal(100);
    let best = (0..50)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(maglev(std::hint::black_box(&shares), LARGE));
            start.elapsed()
        })
        .min()
        .unwrap();
    let small = Instant::now();
    std::hint::black_box(maglev(std::hint::black_box(&equal(10)), SMALL));
    println!("65,537 slots over 100 backends: {best:?}; 4,093 over 10: {:?}", small.elapsed());
    if !cfg!(debug_assertions) {
        assert!(best.as_micros() < 1000, "{best:?}");
    }
}
