//! What arrives by the million, from addresses that nobody has.

use std::{format, string::String, vec, vec::Vec};

use lb_common::{Reason, limits};

use super::{BACK, BACKEND, CLIENT, NEW, ON, PROVED, VIP, back, one, same_half_set, to_vip};
use crate::{
    header::{ACK, FIN, RST, SYN},
    testing::{Act, Case, NIC_B, World, tcp},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        forged_by_strangers(),
        forged_by_more_than_places(),
        oldest_first(),
        over_is_not_evicted(),
        emptied_place(),
        bystander(),
    ]
}

/// Addresses of nobody.
fn strangers(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("198.18.{}.{}:4321", number >> 8, number & 255)).collect()
}

fn forged_by_strangers() -> Case {
    let mut case = Case::new("floods of SYN, ACK, RST, FIN and SYN-ACK leave every live flow as it was", one)
        .connects(CLIENT, VIP, BACKEND)
        .connects("192.0.2.8:4321", VIP, BACKEND)
        .then(Act::Remember);
    for (number, client) in strangers(100).iter().enumerate() {
        let flags = [SYN, ACK, RST, RST | ACK, FIN | ACK, SYN | ACK, 0][number % 7];
        let founds = matches!(flags, SYN | ACK | 0);
        let packet = tcp(client, VIP).flags(flags);
        case = case.sends(&packet, BACKEND, if founds { NEW } else { ON });
        if flags == SYN {
            // The backend answers those that it cannot tell from clients; nobody is there to acknowledge.
            let answer = tcp(BACKEND, client).by_backend().syn_ack();
            case = case.returns(&answer, VIP, BACK).sends(&tcp(client, VIP).numbers(1000, 77), BACKEND, ON);
        }
        if flags == ACK {
            // It knows nothing of those in mid-life.
            case = case.returns(&tcp(BACKEND, client).by_backend().rst(), VIP, BACK);
        }
    }
    case.then(Act::Unchanged).sends(&to_vip(), BACKEND, ON).returns(&back(), VIP, BACK)
}

fn forged_by_more_than_places() -> Case {
    let case = Case::new("more forged SYNs in a set than it has places leave the live table alone", one);
    let mut case = case.connects(CLIENT, VIP, BACKEND).then(Act::Remember);
    let evicts = [NEW, &[(Reason::HalfEvicted, 1)]].concat();
    for (number, client) in same_half_set(CLIENT, 40).iter().enumerate() {
        let counts = if number < limits::HALF_WAYS { NEW } else { &evicts };
        case = case.sends(&tcp(client, VIP).syn(), BACKEND, counts);
    }
    case.then(Act::Halves(limits::HALF_WAYS)).then(Act::Unchanged)
}

/// How a case sees that a handshake is there.
fn is_there(case: Case, client: &str) -> Case {
    case.returns(&tcp(BACKEND, client).by_backend().syn_ack(), VIP, BACK)
}

/// How it sees that it is not.
fn is_gone(case: Case, client: &str) -> Case {
    case.drops(tcp(BACKEND, client).by_backend().syn_ack().build(), NIC_B, Reason::OrphanReply)
}

fn oldest_first() -> Case {
    let clients = same_half_set(CLIENT, 2 * limits::HALF_WAYS + 1);
    let evicts = [NEW, &[(Reason::HalfEvicted, 1)]].concat();
    let mut case = Case::new("where the half-open table is full, the oldest handshake makes room", one);
    for (number, client) in clients.iter().enumerate() {
        if number < limits::HALF_WAYS {
            case = case.sends(&tcp(client, VIP).syn(), BACKEND, NEW);
            continue;
        }
        case = case.sends(&tcp(client, VIP).syn(), BACKEND, &evicts);
        case = is_gone(case, &clients[number - limits::HALF_WAYS]);
        case = is_there(case, &clients[number + 1 - limits::HALF_WAYS]);
    }
    case.then(Act::Halves(limits::HALF_WAYS))
}

fn over_is_not_evicted() -> Case {
    let clients = same_half_set(CLIENT, limits::HALF_WAYS + 1);
    let (last, first) = clients.split_last().expect("clients");
    let case = Case::new("a handshake that is over makes room, and nobody counts it as evicted", one);
    let case = first.iter().fold(case, |case, client| case.sends(&tcp(client, VIP).syn(), BACKEND, NEW));
    case.then(Act::Idle(World::TIMEOUTS.syn + 1000)).sends(&tcp(last, VIP).syn(), BACKEND, NEW)
}

fn emptied_place() -> Case {
    let clients = same_half_set(CLIENT, limits::HALF_WAYS + 2);
    let (first, later) = clients.split_at(limits::HALF_WAYS);
    let evicts = [NEW, &[(Reason::HalfEvicted, 1)]].concat();
    let case = Case::new("who takes the place of a handshake that succeeded is not the next to go", one);
    let case = first.iter().fold(case, |case, client| case.sends(&tcp(client, VIP).syn(), BACKEND, NEW));
    let case = is_there(case, &first[0])
        .sends(&tcp(&first[0], VIP), BACKEND, PROVED)
        .sends(&tcp(&later[0], VIP).syn(), BACKEND, NEW)
        .sends(&tcp(&later[1], VIP).syn(), BACKEND, &evicts);
    is_gone(is_there(case, &later[0]), &first[1])
}

fn bystander() -> Case {
    let clients = same_half_set(CLIENT, 3 * limits::HALF_WAYS);
    let evicts = [NEW, &[(Reason::HalfEvicted, 1)]].concat();
    let mut case = Case::new("a client connects in the middle of a flood of its own set", one);
    for (number, client) in clients.iter().enumerate() {
        case = case.sends(&tcp(client, VIP).syn(), BACKEND, if number < limits::HALF_WAYS { NEW } else { &evicts });
    }
    case = case.sends(&to_vip().syn(), BACKEND, &evicts).returns(&back().syn_ack(), VIP, BACK);
    for client in &same_half_set(CLIENT, 4 * limits::HALF_WAYS - 1)[3 * limits::HALF_WAYS..] {
        case = case.sends(&tcp(client, VIP).syn(), BACKEND, &evicts);
    }
    case.sends(&to_vip(), BACKEND, PROVED).then(Act::Halves(limits::HALF_WAYS - 1))
}
