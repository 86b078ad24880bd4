//! The ground under XDP: what a program in the driver sends arrives, whole and all of it.

use std::{net::SocketAddrV4, time::Duration};

use testkit::{Connection, Topology, Wire};

use crate::{topology, web};

/// One instruction of the kernel's `struct bpf_insn`.
const fn instruction(code: u8, target: u8, source: u8, offset: i16, number: u32) -> u64 {
    let ([o0, o1], [n0, n1, n2, n3]) = (offset.to_le_bytes(), number.to_le_bytes());
    u64::from_le_bytes([code, source << 4 | target, o0, o1, n0, n1, n2, n3])
}

/// `return bpf_redirect(to, 0)`.
fn redirect(to: u32) -> [u64; 4] {
    [
        instruction(0xb7, 1, 0, 0, to),
        instruction(0xb7, 2, 0, 0, 0),
        instruction(0x85, 0, 0, 0, 23),
        instruction(0x95, 0, 0, 0, 0),
    ]
}

/// Swaps the Ethernet addresses and returns `XDP_TX`; what is too short passes.
fn reflect() -> [u64; 16] {
    [
        instruction(0x61, 2, 1, 0, 0),  // r2 = data
        instruction(0x61, 3, 1, 4, 0),  // r3 = data_end
        instruction(0xbf, 4, 2, 0, 0),  // r4 = r2
        instruction(0x07, 4, 0, 0, 14), // r4 += 14
        instruction(0xb7, 0, 0, 0, 2),  // r0 = XDP_PASS
        instruction(0x2d, 4, 3, 9, 0),  // if r4 > r3 goto the end
        instruction(0x61, 5, 2, 0, 0),  // r5 = the first four octets of the target
        instruction(0x69, 6, 2, 4, 0),  // r6 = its last two
        instruction(0x61, 7, 2, 6, 0),  // r7 = the first four octets of the source
        instruction(0x69, 8, 2, 10, 0), // r8 = its last two
        instruction(0x63, 2, 7, 0, 0),
        instruction(0x6b, 2, 8, 4, 0),
        instruction(0x63, 2, 5, 6, 0),
        instruction(0x6b, 2, 6, 10, 0),
        instruction(0xb7, 0, 0, 0, 3), // r0 = XDP_TX
        instruction(0x95, 0, 0, 0, 0),
    ]
}

#[test]
fn what_is_redirected_in_the_driver_arrives_whole() {
    let (topology, _servers) = topology(Topology::two_arms, 1);
    let (client, gateway, backend) = (&topology.client, &topology.gateway.host, &topology.backends[0]);
    // Each end addresses the other's NIC, so that the gateway's programs need not change a frame.
    let (near, far) = (Topology::GATEWAY_OF_CLIENTS, Topology::GATEWAY_OF_BACKENDS);
    client.neighbour("eth0", near, backend.mac("eth0").unwrap()).unwrap();
    backend.neighbour("eth0", far, client.mac("eth0").unwrap()).unwrap();
    gateway.attach_xdp("eth0", &redirect(gateway.index("eth1").unwrap())).unwrap();
    gateway.attach_xdp("eth1", &redirect(gateway.index("eth0").unwrap())).unwrap();
    let source = SocketAddrV4::new(Topology::sources()[0], 0);
    let connection = Connection::open(client, source, web(0)).unwrap();
    connection.download(3_000_000).unwrap();
    connection.upload(3_000_000).unwrap();
}

#[test]
fn what_is_sent_back_in_the_driver_arrives_and_nothing_sticks() {
    let (topology, _servers) = topology(Topology::one_arm, 1);
    let (client, gateway) = (&topology.client, &topology.gateway.host);
    let wire = Wire::open(client, "eth0").unwrap();
    let header = [gateway.mac("eth0").unwrap(), client.mac("eth0").unwrap()].concat();
    gateway.attach_xdp("eth0", &reflect()).unwrap();
    for number in 0..1000u16 {
        wire.send(&[&header[..], &[0x88, 0xb5], &number.to_be_bytes(), &[7; 60]].concat()).unwrap();
        let back =
            wire.next(Duration::from_secs(2), |frame| frame[12..16] == [0x88, 0xb5, (number >> 8) as u8, number as u8]);
        assert!(back.unwrap().is_some(), "frame {number} did not come back");
    }
}
