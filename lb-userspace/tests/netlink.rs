//! Routes, neighbours and their changes, over a wire between two namespaces. Needs root.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod space;

use std::{
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::Duration,
};

use lb_userspace::net::{Address, Netlink, NextHop, remove_marked_now};
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{neighbour::NeighbourState, route::RouteScope},
};
use space::{Elsewhere, Space, add_address, link, netlink, run, set_mac, set_up, veth};
use tokio::{sync::mpsc::Receiver, time::timeout};

/// A gateway with 10.0.0.1 on `eth0` and a neighbour at 10.0.0.2.
fn wire() -> (Space, Elsewhere) {
    let space = Space::enter();
    let neighbour = Elsewhere::new();
    veth("eth0", "peer0");
    neighbour.take("peer0");
    neighbour.within(|| {
        set_up("peer0");
        add_address("peer0", "10.0.0.2", 24);
    });
    add_address("eth0", "10.0.0.1", 24);
    (space, neighbour)
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// Asks until the answer is as wanted, or five seconds are over.
async fn becomes(netlink: &Netlink, to: &str, wanted: NextHop) {
    for _ in 0..500 {
        if netlink.next_hop(address(to)).await.unwrap() == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{to}: {:?}, not {wanted:?}", netlink.next_hop(address(to)).await.unwrap());
}

/// What the kernel says of a neighbour that it checks, said by us.
fn check(ifindex: u32, mac: [u8; 6], state: NeighbourState) {
    let act = move || {
        netlink(|handle| async move {
            let entry = handle.neighbours().add(ifindex, address("10.0.0.2").into());
            entry.link_layer_address(&mac).state(state).replace().execute().await
        });
    };
    thread::spawn(act).join().unwrap();
}

async fn quiet(changes: &mut Receiver<()>) {
    // The kernel tells of a link's state up to a second later (linkwatch).
    while timeout(Duration::from_millis(1200), changes.recv()).await.is_ok() {}
}

#[test]
fn a_next_hop_is_unresolved_until_the_kernel_asked_for_it() {
    let (_space, neighbour) = wire();
    let (ifindex, mac) = (link("eth0").ifindex, neighbour.within(|| link("peer0").mac));
    let far = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address("10.9.0.0"), 16);
    let far = far.gateway(address("10.0.0.2")).build();
    netlink(|handle| async move { handle.route().add(far).execute().await });
    run(async {
        let netlink = Netlink::new().unwrap();
        let hop = netlink.next_hop(address("10.0.0.2")).await.unwrap();
        assert_eq!(hop, NextHop::Unresolved { ifindex, neighbour: address("10.0.0.2") });
        let hop = netlink.next_hop(address("10.9.1.1")).await.unwrap();
        assert_eq!(hop, NextHop::Unresolved { ifindex, neighbour: address("10.0.0.2") });

        netlink.resolve(ifindex, address("10.0.0.2")).await.unwrap();
        becomes(&netlink, "10.0.0.2", NextHop::Known { ifindex, mac }).await;
        becomes(&netlink, "10.9.1.1", NextHop::Known { ifindex, mac }).await;
        netlink.resolve(ifindex, address("10.0.0.2")).await.unwrap();
        becomes(&netlink, "10.0.0.2", NextHop::Known { ifindex, mac }).await;

        netlink.resolve(ifindex, address("10.0.0.77")).await.unwrap();
        let hop = netlink.next_hop(address("10.0.0.77")).await.unwrap();
        assert_eq!(hop, NextHop::Unresolved { ifindex, neighbour: address("10.0.0.77") });
    });
}

#[test]
fn no_route_and_the_gateway_itself_are_no_next_hop() {
    let (_space, _neighbour) = wire();
    run(async {
        let netlink = Netlink::new().unwrap();
        for nowhere in ["198.51.100.1", "10.0.0.1", "10.0.0.255", "127.0.0.1"] {
            assert_eq!(netlink.next_hop(address(nowhere)).await.unwrap(), NextHop::NoRoute, "{nowhere}");
        }
        let own = netlink.addresses().await.unwrap();
        let own: Vec<_> = own.iter().filter(|at| !at.address.is_loopback()).collect();
        let subnet = (address("10.0.0.1"), 24);
        let ifindex = link("eth0").ifindex;
        assert_eq!(own, [&Address { address: address("10.0.0.1"), ifindex, subnet, is_marked: false }]);
    });
}

#[test]
fn a_vip_is_added_and_taken_away_and_never_spoken_with() {
    let (_space, _neighbour) = wire();
    let vip = address("203.0.113.10");
    // A NIC that has no other address, and a network behind it.
    veth("eth1", "peer1");
    let (eth0, eth1) = (link("eth0").ifindex, link("eth1").ifindex);
    let behind = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address("198.51.100.0"), 24);
    let behind = behind.output_interface(eth1).scope(RouteScope::Link).build();
    let route = || {
        let behind = behind.clone();
        netlink(|handle| async move { handle.route().add(behind).execute().await });
    };
    route();
    let chosen = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr()).unwrap().ip()
    };
    run(async {
        let netlink = Netlink::new().unwrap();
        for ifindex in [eth1, 1] {
            netlink.add_address(vip, ifindex).await.unwrap();
            netlink.add_address(vip, ifindex).await.unwrap();
        }
        let seats = async || {
            let all = netlink.addresses().await.unwrap();
            all.into_iter().filter(|at| at.address == vip).map(|at| (at.ifindex, at.is_marked)).collect::<Vec<_>>()
        };
        assert_eq!(seats().await, [(1, true), (eth1, true)]);
        assert_eq!(chosen(), address("10.0.0.1"), "an address of another NIC, and not the VIP of this one");
        // Somebody else's address stays, whatever it is asked for.
        netlink.add_address(address("10.0.0.1"), eth0).await.unwrap();
        remove_marked_now(&[vip, address("10.0.0.2")].into()).unwrap();
        remove_marked_now(&[vip].into()).unwrap();
        assert_eq!(seats().await, []);
        netlink.remove_address(vip, eth1).await.unwrap();
        netlink.remove_address(vip, 0x7fff_ffff).await.unwrap();
        assert!(netlink.add_address(vip, 0x7fff_ffff).await.is_err());
        assert!(netlink.addresses().await.unwrap().iter().any(|at| at.address == address("10.0.0.1") && !at.is_marked));
    });
    // The mark is why: without it, the kernel does speak with it. (The last address took the routes along.)
    add_address("eth1", "203.0.113.10", 32);
    route();
    assert_eq!(chosen(), vip);
}

#[test]
fn changes_are_told_and_mere_checks_are_not() {
    let (_space, neighbour) = wire();
    let ifindex = link("eth0").ifindex;
    run(async {
        let netlink = Netlink::new().unwrap();
        let mut changes = netlink.changes();
        netlink.resolve(ifindex, address("10.0.0.2")).await.unwrap();
        changes.recv().await.unwrap();
        quiet(&mut changes).await;

        // The neighbour gets another Ethernet address and answers with it.
        let mac = [2, 0, 0, 0, 0, 9];
        thread::scope(|scope| {
            scope.spawn(|| neighbour.within(|| set_mac("peer0", mac)));
        });
        quiet(&mut changes).await;
        thread::scope(|scope| {
            scope.spawn(|| neighbour.within(|| UdpSocket::bind("10.0.0.2:0").unwrap().send_to(b"x", "10.0.0.1:9")));
        });
        timeout(Duration::from_secs(15), changes.recv()).await.expect("a word of the new MAC").unwrap();
        becomes(&netlink, "10.0.0.2", NextHop::Known { ifindex, mac }).await;
        quiet(&mut changes).await;

        // The kernel checks a neighbour that it knows: nothing changes.
        for state in [NeighbourState::Reachable, NeighbourState::Stale] {
            check(ifindex, mac, state);
        }
        assert!(timeout(Duration::from_secs(1), changes.recv()).await.is_err(), "a check is no news");

        thread::spawn(|| add_address("lo", "203.0.113.10", 32)).join().unwrap();
        timeout(Duration::from_secs(5), changes.recv()).await.expect("a word of the address").unwrap();
        let own = netlink.addresses().await.unwrap();
        assert!(own.iter().any(|at| at.address == address("203.0.113.10") && !at.is_marked));
    });
}
