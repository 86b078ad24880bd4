//! Golden sizes and offsets: the layout of the pinned maps, which a later version must find unchanged.

use std::mem::{offset_of, size_of};

use lb_common::{
    Backend, Endpoint, Flow, Half, Limits, Nic, Origin, Service, ServiceName, Settings, Source, Tags, Timeouts, Times,
    Traffic, Vip,
};

#[test]
fn sizes_of_map_values_are_what_pins_hold() {
    assert_eq!(size_of::<Endpoint>(), 8);
    assert_eq!(size_of::<Service>(), 12);
    assert_eq!(size_of::<Vip>(), 4);
    assert_eq!(size_of::<ServiceName>(), 64);
    assert_eq!(size_of::<Backend>(), 32);
    assert_eq!(size_of::<Nic>(), 12);
    assert_eq!(size_of::<Traffic>(), 32);
    assert_eq!(size_of::<Settings>(), 16);
    assert_eq!(size_of::<Tags>(), 16);
    assert_eq!(size_of::<Flow>(), 64);
    assert_eq!(size_of::<Half>(), 64);
    assert_eq!(size_of::<Timeouts>(), 12);
    assert_eq!(size_of::<Times>(), 16);
    assert_eq!(size_of::<Limits>(), 24);
    assert_eq!(size_of::<Origin>(), 8);
    assert_eq!(size_of::<Source>(), 8);
}

#[test]
fn a_flow_has_its_fields_where_pins_have_them() {
    assert_eq!(offset_of!(Flow, client_port), 4);
    assert_eq!(offset_of!(Flow, vip_port), 6);
    assert_eq!(offset_of!(Flow, vip), 8);
    assert_eq!(offset_of!(Flow, backend), 12);
    assert_eq!(offset_of!(Flow, backend_port), 16);
    assert_eq!(offset_of!(Flow, backend_id), 18);
    assert_eq!(offset_of!(Flow, protocol), 20);
    assert_eq!(offset_of!(Flow, kind), 21);
    assert_eq!(offset_of!(Flow, state), 22);
    assert_eq!(offset_of!(Flow, nic), 24);
    assert_eq!(offset_of!(Flow, client_mac), 26);
    assert_eq!(offset_of!(Flow, seen), 32);
    assert_eq!(offset_of!(Flow, packets), 40);
    assert_eq!(offset_of!(Flow, bytes), 48);
}

#[test]
fn a_handshake_starts_as_a_flow_does() {
    assert_eq!(offset_of!(Half, client_mac), offset_of!(Flow, client_mac));
    assert_eq!(offset_of!(Half, created), 32);
    assert_eq!(offset_of!(Half, isns), 40);
    assert_eq!(offset_of!(Half, bytes), 60);
}

#[test]
fn hashes_are_the_same_for_ever() {
    use lb_common::{Address4, Port, client_hash, filter_index, flow_hash};
    let client = Address4([192, 0, 2, 7]);
    assert_eq!((client_hash(client), flow_hash(client, Port([0x12, 0x34]), 6, 42), filter_index(client)), HASHES);
}

/// Computed once; a change of these strands every pinned flow and moves every client.
const HASHES: (u32, u64, usize) = (2_689_413_972, 4_562_843_442_173_314_107, 29_693);
