//! Which VIPs the controller puts on the gateway and takes away again, over memory: the host is a list of
//! addresses, and the test carries out what is posted.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod stage;

use lb_userspace::{
    control::{Errand, Posting, Running},
    datapath::{Attached, Step},
};
use stage::{FAR, NEAR, OTHER, Stage, ip, marked, model, own, start};

#[test]
fn the_flag_comes_before_the_address_and_ready_after_it() {
    let mut stage = Stage::new(&[NEAR, FAR]);
    stage.turn();
    assert!(stage.errands().is_empty(), "nothing is known of the host yet");
    stage.look();
    let steps = &stage.controller.datapath().applied;
    let place = |wanted: fn(&Step) -> bool| steps.iter().position(wanted).unwrap();
    assert!(place(|step| matches!(step, Step::PublishService(..))) < place(|step| matches!(step, Step::Announce(_))));
    assert_eq!(stage.errands(), ["+ 192.0.2.200 2", "+ 203.0.113.10 1"]);
    assert!(!stage.controller.is_ready());
    stage.carry_out();
    assert!(stage.controller.is_ready() && stage.errands().is_empty());
    assert_eq!(stage.flagged(), [ip(NEAR), ip(FAR)].into());
    // They are for others: the packet path does not take them for the gateway's own.
    assert_eq!(stage.controller.datapath().maps.locals, [ip("192.0.2.1"), ip("198.51.100.1")].into());
    let announced: Vec<_> = stage.status().announced.into_iter().map(|line| (line.address, line.interface)).collect();
    let pairs = [(NEAR, "eth0"), (FAR, "lo")].map(|(vip, nic)| (vip.to_owned(), nic.to_owned()));
    assert_eq!(announced, pairs);
    // Neighbours hear of what is on a NIC.
    assert_eq!(stage.posted.told.keys().map(|seat| seat.ifindex).collect::<Vec<_>>(), [2]);
}

#[test]
fn whichever_step_fails_nothing_is_put_on_the_host_that_is_not_flagged() {
    for good in 0.. {
        let mut stage = Stage::new(&[NEAR, FAR]);
        stage.controller.datapath_mut().failing_after = Some(good);
        stage.look();
        let has_failed = stage.controller.datapath().failing_after == Some(0);
        for errand in &stage.posted.errands {
            let Errand::Add(seat) = errand else { panic!("{errand:?}") };
            assert!(stage.flagged().contains(&seat.vip), "{seat:?} after {good} steps");
        }
        stage.carry_out();
        stage.controller.datapath_mut().failing_after = None;
        stage.wait(1);
        stage.carry_out();
        assert!(stage.controller.is_ready() && stage.flagged().len() == 2, "after {good} steps");
        if !has_failed {
            assert!(good > 8, "only {good} steps");
            return;
        }
    }
}

#[test]
fn the_subnet_of_a_nic_that_is_not_attached_is_none() {
    let mut stage = Stage::new(&["198.51.100.200"]);
    stage.look();
    assert_eq!(stage.errands(), ["+ 198.51.100.200 1"]);
    let warnings = stage.status().warnings;
    assert!(
        warnings[0].starts_with("198.51.100.200: its subnet is on eth1 too") && warnings.len() == 1,
        "{warnings:?}"
    );
}

#[test]
fn the_smaller_of_two_subnets_counts() {
    let mut stage = Stage::new(&[NEAR]);
    stage.controller.datapath_mut().attached.push(Attached {
        name: "eth1".into(),
        ifindex: 3,
        nic: 1,
        mac: [0; 6],
        mode: "native",
    });
    stage.found.addresses.insert(own("192.0.2.193", 26, 3));
    stage.look();
    assert_eq!(stage.errands(), ["+ 192.0.2.200 3"]);
}

#[test]
fn an_address_that_the_host_has_is_left_alone() {
    let mut stage = Stage::new(&[NEAR, FAR]);
    // Even one that looks like ours, as that of another balancer on the same gateway does.
    stage.found.addresses.extend([own(NEAR, 24, 2), marked(FAR, 1)]);
    stage.look();
    assert!(stage.errands().is_empty() && stage.flagged().is_empty() && stage.controller.is_ready());
    assert!(stage.controller.datapath().maps.locals.contains(&ip(FAR)));
    stage.reload(model(&[OTHER], ""));
    stage.quiet(&[NEAR, FAR]);
    assert!(stage.errands().iter().all(|errand| errand.contains("203.0.113.99")), "{:?}", stage.errands());
    // It goes, and the VIP is ours.
    stage.reload(model(&[NEAR], ""));
    stage.found.addresses.remove(&own(NEAR, 24, 2));
    stage.look();
    assert!(stage.errands().contains(&"+ 192.0.2.200 2".to_owned()), "{:?}", stage.errands());
}

#[test]
fn an_address_that_somebody_makes_his_own_is_given_up() {
    let mut stage = Stage::settled(&[NEAR]);
    // `ip address replace` takes our mark from it.
    stage.found.addresses.remove(&marked(NEAR, 2));
    stage.found.addresses.insert(own(NEAR, 32, 2));
    stage.look();
    stage.wait(2);
    assert!(stage.errands().is_empty() && stage.flagged().is_empty());

    let mut stage = Stage::settled(&[NEAR]);
    stage.found.addresses.insert(own(NEAR, 24, 3));
    stage.look();
    assert_eq!(stage.errands(), ["- 192.0.2.200 2"]);
    assert_eq!(stage.flagged(), [ip(NEAR)].into(), "as long as ours is there");
    stage.carry_out();
    stage.wait(2);
    assert!(stage.flagged().is_empty());
    assert!(stage.found.addresses.contains(&own(NEAR, 24, 3)));
}

#[test]
fn a_withdrawn_vip_stays_until_its_last_connection_is_over() {
    let mut stage = Stage::settled(&[NEAR]);
    stage.reload(model(&[OTHER], "node: {announce_vips: true}"));
    stage.carry_out();
    stage.wait(60);
    assert!(stage.found.addresses.contains(&marked(NEAR, 2)), "connections live");
    // It comes back, and what was said of it before is forgotten when it goes again.
    stage.reload(model(&[NEAR], ""));
    stage.quiet(&[NEAR]);
    assert!(stage.errands().is_empty(), "it is served");
    stage.controller.datapath_mut().flows.quiet.clear();
    stage.reload(model(&[OTHER], ""));
    stage.wait(1);
    assert!(!stage.errands().contains(&"- 192.0.2.200 2".to_owned()));
    stage.quiet(&[NEAR]);
    assert_eq!(stage.errands(), ["- 192.0.2.200 2"]);
    assert!(stage.flagged().contains(&ip(NEAR)), "refused as long as it is there");
    stage.carry_out();
    stage.wait(2);
    assert!(!stage.flagged().contains(&ip(NEAR)));
}

#[test]
fn a_flag_rests_until_no_errand_can_still_put_the_address_there() {
    let mut stage = Stage::new(&[NEAR]);
    stage.look();
    assert_eq!(stage.errands(), ["+ 192.0.2.200 2"]);
    // Not wanted any more before it is done.
    stage.is_stuck = true;
    stage.reload(model(&[OTHER], "node: {announce_vips: false}"));
    stage.wait(30);
    assert_eq!(stage.flagged(), [ip(NEAR)].into(), "nobody has said that it is not being done");
    stage.found.addresses.insert(marked(NEAR, 2));
    stage.is_stuck = false;
    stage.answer(Ok(()));
    stage.look();
    assert_eq!(stage.errands(), ["- 192.0.2.200 2"]);
    stage.carry_out();
    stage.wait(2);
    assert!(stage.flagged().is_empty() && stage.errands().is_empty());
}

#[test]
fn what_cannot_be_done_is_a_fault_that_is_tried_again_and_holds_nothing_up() {
    let mut stage = Stage::new(&[NEAR]);
    stage.look();
    stage.answer(Err("cannot add 192.0.2.200/32: no buffer space".into()));
    assert!(stage.controller.is_ready(), "what can be served is served");
    let faults = stage.status().faults;
    assert_eq!(faults, ["cannot add 192.0.2.200/32: no buffer space; it is tried again"]);
    let mut numbers = Vec::new();
    for _ in 0..40 {
        stage.wait(1);
        if !stage.errands().is_empty() {
            numbers.push(stage.posted.number);
            stage.answer(Err("cannot add 192.0.2.200/32: no buffer space".into()));
        }
    }
    assert!((4..9).contains(&numbers.len()), "pauses grow up to ten seconds: {numbers:?}");
    stage.reload(model(&[NEAR, FAR], ""));
    assert!(stage.controller.datapath().maps.services.len() == 2, "a reload goes on");
    stage.carry_out();
    assert!(stage.status().faults.is_empty());
}

#[test]
fn an_address_that_somebody_takes_away_is_put_back() {
    let mut stage = Stage::settled(&[NEAR]);
    for _ in 0..3 {
        stage.found.addresses.remove(&marked(NEAR, 2));
        stage.look();
        assert_eq!(stage.errands(), ["+ 192.0.2.200 2"]);
        stage.carry_out();
        assert!(stage.found.addresses.contains(&marked(NEAR, 2)));
    }
    // Too fast for two looks to see a difference.
    stage.found.addresses.remove(&marked(NEAR, 2));
    stage.look();
    stage.answer(Ok(()));
    assert!(stage.errands().is_empty());
    stage.wait(2);
    assert_eq!(stage.errands(), ["+ 192.0.2.200 2"]);
    assert!(stage.status().faults[0].contains("does somebody else manage them?"));
    stage.carry_out();
    assert!(stage.status().faults.is_empty());
}

#[test]
fn the_next_controller_knows_whose_addresses_are_there() {
    let mut stage = Stage::settled(&[NEAR, FAR]);
    *stage.file.lock().unwrap() = model(&[NEAR], "");
    let datapath = std::mem::take(stage.controller.datapath_mut());
    stage.controller = start(datapath, &stage.file, stage.now);
    (stage.posted, stage.answered) = (Posting::default(), 0);
    stage.look();
    assert!(stage.errands().is_empty() && stage.flagged().len() == 2);
    stage.quiet(&[FAR]);
    assert_eq!(stage.errands(), ["- 203.0.113.10 1"]);
    stage.carry_out();
    // The file says that it shall not be announced: whoever writes that has another way for it.
    stage.reload(model(&[NEAR], "node: {announce_vips: false}"));
    assert_eq!(stage.errands(), ["- 192.0.2.200 2"]);
    stage.carry_out();
    stage.wait(2);
    assert!(stage.flagged().is_empty());
}

#[test]
fn a_vip_moves_with_its_subnet_and_is_never_without_a_place() {
    let mut stage = Stage::settled(&[NEAR]);
    // The NIC vanishes with all its addresses.
    stage.found.addresses.retain(|at| at.ifindex != 2);
    stage.found.names.remove(&2);
    stage.look();
    assert_eq!(stage.errands(), ["+ 192.0.2.200 1"]);
    stage.carry_out();
    // The subnet is back.
    stage.found.names.insert(2, "eth0".into());
    stage.found.addresses.insert(own("192.0.2.1", 24, 2));
    stage.look();
    assert_eq!(stage.errands(), ["+ 192.0.2.200 2"]);
    stage.carry_out();
    assert_eq!(stage.errands(), ["- 192.0.2.200 1"]);
    stage.carry_out();
    assert!(stage.errands().is_empty());
}

#[test]
fn neighbours_hear_of_it_again_when_a_nic_is_up_again() {
    let mut stage = Stage::settled(&[NEAR]);
    assert_eq!(stage.posted.told.len(), 1);
    stage.found.running.remove(&2);
    stage.look();
    assert!(stage.posted.told.is_empty());
    let running = Running { mac: [2; 6], ups: 2 };
    stage.found.running.insert(2, running);
    stage.look();
    assert_eq!(stage.posted.told.values().collect::<Vec<_>>(), [&running]);
}
