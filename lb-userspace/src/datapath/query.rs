//! A look into the flow tables: which connections are wanted, and the first of them in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use lb_common::{Address4, BackendId, Port};

use super::entry::Entry;

/// Which connections are wanted; all where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Of these backends.
    pub backends: Option<BTreeSet<BackendId>>,
    /// Of this client.
    pub client: Option<Ipv4Addr>,
    /// Of this port of the client.
    pub port: Option<u16>,
    /// Those that have ended or were opened directly, too.
    pub all: bool,
    /// So many at most: the first in order.
    pub limit: usize,
}

/// The connections that were wanted, in the order of client, its port, and VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// No more than were asked for.
    pub entries: Vec<Entry>,
    /// Whether there are more.
    pub truncated: bool,
}

/// Client, its port, VIP, its port: what the order is, and nothing that changes.
type Key = (Address4, Port, Address4, Port);

/// The first so many of what was offered: a million flows pass by, and a few are kept.
#[derive(Debug)]
pub(super) struct Shortlist<'a> {
    query: &'a Query,
    kept: BTreeMap<Key, Entry>,
    truncated: bool,
}

impl<'a> Shortlist<'a> {
    pub(super) fn new(query: &'a Query) -> Self {
        Self { query, kept: BTreeMap::new(), truncated: false }
    }

    /// Offers a connection, which is made only if it may be kept. What stands under the same key before it stays.
    pub(super) fn offer(&mut self, key: Key, id: BackendId, make: impl FnOnce() -> Entry) {
        let query = self.query;
        let (client, port, ..) = key;
        let is_wanted = query.client.is_none_or(|wanted| Address4::from(wanted) == client)
            && query.port.is_none_or(|wanted| Port::from(wanted) == port)
            && query.backends.as_ref().is_none_or(|wanted| wanted.contains(&id));
        if !is_wanted {
            return;
        }
        let is_full = self.kept.len() >= query.limit;
        if is_full && self.truncated && self.kept.last_key_value().is_none_or(|(last, _)| *last <= key) {
            return;
        }
        let entry = make();
        if !query.all && !entry.state.is_counted() {
            return;
        }
        self.kept.entry(key).or_insert(entry);
        if self.kept.len() > query.limit {
            self.kept.pop_last();
            self.truncated = true;
        }
    }

    pub(super) fn listing(self) -> Listing {
        Listing { entries: self.kept.into_values().collect(), truncated: self.truncated }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddrV4, time::Duration};

    use super::*;
    use crate::datapath::entry::State;

    fn entry(client: u8, port: u16, id: BackendId, state: State) -> (Key, BackendId, Entry) {
        let socket = |last, port| SocketAddrV4::new([10, 0, 0, last].into(), port);
        let (client, vip) = (socket(client, port), socket(200, 80));
        let key = (Address4::from(*client.ip()), port.into(), Address4::from(*vip.ip()), 80.into());
        let (age, idle) = (Duration::ZERO, Duration::ZERO);
        let entry =
            Entry { client, vip, backend: socket(100, 80), id, state, age, idle, packets: [0; 2], bytes: [0; 2] };
        (key, id, entry)
    }

    fn listed(query: &Query, entries: &[(u8, u16, BackendId, State)]) -> (Vec<(u8, u16)>, bool) {
        let mut list = Shortlist::new(query);
        for (client, port, id, state) in entries {
            let (key, id, entry) = entry(*client, *port, *id, *state);
            list.offer(key, id, || entry);
        }
        let Listing { entries, truncated } = list.listing();
        (entries.iter().map(|entry| (entry.client.ip().octets()[3], entry.client.port())).collect(), truncated)
    }

    const ESTABLISHED: State = State::Established;

    #[test]
    fn the_first_in_order_are_kept_whatever_the_order_they_come_in() {
        let all = [(3, 1, 1, ESTABLISHED), (1, 9, 1, ESTABLISHED), (2, 1, 1, ESTABLISHED), (1, 300, 1, ESTABLISHED)];
        let query = |limit| Query { limit, ..Query::default() };
        assert_eq!(listed(&query(9), &all), (vec![(1, 9), (1, 300), (2, 1), (3, 1)], false));
        assert!(!listed(&query(4), &all).1);
        for turn in 0..4 {
            let mut turned = all;
            turned.rotate_left(turn);
            assert_eq!(listed(&query(2), &turned), (vec![(1, 9), (1, 300)], true));
        }
        assert_eq!(listed(&query(0), &all), (vec![], true));
    }

    #[test]
    fn only_what_is_wanted_counts() {
        let all = [
            (1, 1, 1, ESTABLISHED),
            (1, 2, 2, State::Handshake),
            (2, 1, 2, ESTABLISHED),
            (1, 4, 1, State::Reset),
            (1, 5, 0, State::Direct),
        ];
        let client = Query { client: Some([10, 0, 0, 1].into()), limit: 2, ..Query::default() };
        assert_eq!(listed(&client, &all), (vec![(1, 1), (1, 2)], false));
        assert_eq!(listed(&Query { port: Some(2), ..client.clone() }, &all), (vec![(1, 2)], false));
        assert_eq!(listed(&Query { all: true, limit: 9, ..client.clone() }, &all).0.len(), 4);
        let backends = Query { backends: Some([2].into()), limit: 9, ..Query::default() };
        assert_eq!(listed(&backends, &all).0, [(1, 2), (2, 1)]);
    }
}
