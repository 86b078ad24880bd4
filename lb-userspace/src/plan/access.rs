//! Who may connect, as the packet path asks it: one trie, in which the longest prefix of a client counts.
//!
//! `deny` goes before `allow` whatever their lengths, so an allowed prefix inside a denied one is left out,
//! and where `allow` is there, everybody else is denied. A prefix that says no more than the one around it is
//! left out too.
//!
//! A change is many writes, and clients connect between them. Longer prefixes are written before shorter
//! ones, and what is stale goes in the opposite order: then every client is, at every moment, judged by the
//! old lists or by the new ones, and never by a mixture that lets in or keeps out whom neither names.

use std::{cmp::Reverse, collections::BTreeMap};

use ipnet::Ipv4Net;
use lb_common::Origin;

use super::Wanted;
use crate::{
    datapath::{Prefix, Snapshot, Step},
    model::Access,
};

/// What is said of prefixes: [`Origin::ALLOWED`] or [`Origin::DENIED`]. Who is in none may connect.
pub type Verdicts = BTreeMap<Ipv4Net, u32>;

/// What `allow` and `deny` say; nothing where everybody may connect.
pub fn verdicts(access: &Access) -> Verdicts {
    let mut all = Verdicts::new();
    if let Some(allow) = &access.allow {
        all.insert(Ipv4Net::default(), Origin::DENIED);
        all.extend(allow.iter().map(|prefix| (*prefix, Origin::ALLOWED)));
    }
    all.extend(access.deny.iter().map(|prefix| (*prefix, Origin::DENIED)));
    let mut said = Verdicts::new();
    // The prefixes around the one at hand, the innermost last, with what is said there and whether `deny` said
    // it: in the order of the map, whoever contains another comes before it.
    let mut around: Vec<(Ipv4Net, u32, bool)> = Vec::new();
    for (prefix, verdict) in all {
        while around.pop_if(|(outer, ..)| !outer.contains(&prefix)).is_some() {}
        let (outer, is_denied) = around.last().map_or((Origin::ALLOWED, false), |(_, outer, denied)| (*outer, *denied));
        let is_denied = is_denied || access.deny.binary_search(&prefix).is_ok();
        let verdict = if is_denied { Origin::DENIED } else { verdict };
        around.push((prefix, verdict, is_denied));
        if verdict != outer {
            said.insert(prefix, verdict);
        }
    }
    said
}

/// What is new, longer prefixes first.
pub(super) fn put(have: &Snapshot, want: &Wanted, steps: &mut Vec<Step>) {
    let wanted = want.services.iter().flat_map(|(id, service)| {
        service.access.iter().map(|(clients, verdict)| (Prefix { service: *id, clients: *clients }, *verdict))
    });
    let mut new: Vec<_> = wanted.filter(|(prefix, verdict)| have.access.get(prefix) != Some(verdict)).collect();
    new.sort_by_key(|(prefix, _)| Reverse(prefix.clients.prefix_len()));
    steps.extend(new.into_iter().map(|(prefix, verdict)| Step::PutAccess(prefix, verdict)));
}

/// What is stale, shorter prefixes first.
pub(super) fn remove(have: &Snapshot, want: &Wanted, steps: &mut Vec<Step>) {
    let is_wanted = |prefix: &Prefix| {
        want.services.get(&prefix.service).is_some_and(|service| service.access.contains_key(&prefix.clients))
    };
    let mut stale: Vec<_> = have.access.keys().copied().filter(|prefix| !is_wanted(prefix)).collect();
    stale.sort_by_key(|prefix| prefix.clients.prefix_len());
    steps.extend(stale.into_iter().map(Step::RemoveAccess));
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::plan::{Service, plan};

    fn access(allow: Option<Vec<Ipv4Net>>, mut deny: Vec<Ipv4Net>) -> Access {
        let sorted = |mut prefixes: Vec<Ipv4Net>| {
            prefixes.sort_unstable();
            prefixes.into()
        };
        deny.dedup();
        Access { allow: allow.map(sorted), deny: sorted(deny) }
    }

    /// What the file means for a client.
    fn meant(access: &Access, client: Ipv4Addr) -> u32 {
        let within = |prefixes: &[Ipv4Net]| prefixes.iter().any(|prefix| prefix.contains(&client));
        let is_allowed = access.allow.as_deref().is_none_or(within) && !within(&access.deny);
        if is_allowed { Origin::ALLOWED } else { Origin::DENIED }
    }

    /// What the packet path finds for a client: the longest prefix.
    fn found<'a>(said: impl Iterator<Item = (&'a Ipv4Net, &'a u32)>, client: Ipv4Addr) -> u32 {
        let longest = said.filter(|(prefix, _)| prefix.contains(&client)).max_by_key(|(prefix, _)| prefix.prefix_len());
        longest.map_or(Origin::ALLOWED, |(_, verdict)| *verdict)
    }

    /// Prefixes of a small world of sixteen clients, so that they meet.
    fn prefixes() -> impl Strategy<Value = Vec<Ipv4Net>> {
        let prefix = (0..16_u8, 28..=32_u8)
            .prop_map(|(client, length)| Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, client), length).trunc());
        let everybody = Just(Ipv4Net::default());
        prop::collection::vec(prop_oneof![9 => prefix, 1 => everybody], 0..6)
    }

    fn lists() -> impl Strategy<Value = Access> {
        (prop::option::of(prefixes()), prefixes()).prop_map(|(allow, deny)| access(allow, deny))
    }

    fn clients() -> impl Iterator<Item = Ipv4Addr> {
        (0..17).map(|client| Ipv4Addr::new(10, 0, 0, client))
    }

    fn wanted(access: &Access) -> Wanted {
        let service = Service {
            name: "web".into(),
            listen: Vec::new(),
            table: 0,
            slots: 0,
            ids: [].into(),
            flags: 0,
            limits: bytemuck::Zeroable::zeroed(),
            access: verdicts(access).into(),
        };
        Wanted { services: [(0, service)].into(), ..Wanted::default() }
    }

    #[test]
    fn deny_goes_before_allow_and_nothing_is_said_twice() {
        let net = |text: &str| text.parse::<Ipv4Net>().expect("a prefix");
        let lists = access(
            Some(vec![net("10.0.0.0/8"), net("10.1.0.0/16"), net("10.66.1.0/24"), net("192.0.2.7/32")]),
            vec![net("10.66.0.0/16"), net("10.66.2.0/24"), net("203.0.113.0/24")],
        );
        let said: Vec<(Ipv4Net, u32)> = verdicts(&lists).into_iter().collect();
        let (allowed, denied) = (Origin::ALLOWED, Origin::DENIED);
        assert_eq!(
            said,
            [
                (net("0.0.0.0/0"), denied),
                (net("10.0.0.0/8"), allowed),
                (net("10.66.0.0/16"), denied),
                (net("192.0.2.7/32"), allowed)
            ]
        );
        assert!(verdicts(&access(Some(vec![Ipv4Net::default()]), Vec::new())).is_empty(), "everybody");
    }

    proptest! {
        #[test]
        fn the_trie_says_what_the_file_means(lists in lists()) {
            let said = verdicts(&lists);
            for client in clients() {
                prop_assert_eq!(found(said.iter(), client), meant(&lists, client), "{}", client);
            }
        }

        #[test]
        fn between_two_writes_everybody_is_judged_by_the_old_lists_or_the_new(old in lists(), new in lists()) {
            let mut maps = Snapshot::default();
            plan(&maps.clone(), &wanted(&old)).iter().for_each(|step| maps.note(step));
            for step in plan(&maps.clone(), &wanted(&new)) {
                maps.note(&step);
                for client in clients() {
                    let found = found(maps.access.iter().map(|(prefix, verdict)| (&prefix.clients, verdict)), client);
                    let sides = [meant(&old, client), meant(&new, client)];
                    prop_assert!(sides.contains(&found), "{} after {:?}", client, step);
                }
            }
            let end: Verdicts = maps.access.iter().map(|(prefix, verdict)| (prefix.clients, *verdict)).collect();
            prop_assert_eq!(end, verdicts(&new));
        }
    }
}
